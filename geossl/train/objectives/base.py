"""The base of what a run minimizes: an objective turns a batch into a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from geossl import geo
from geossl.models.moco import MoCo
from geossl.utils.validate import check_fields


@dataclass(frozen=True)
class View:
    """One of the views of a pair that an objective asks for.

    Args:
        chip: which chip it shows: the query, its key, or another key, which the sampler draws for
            the same query independently.
        augmented: whether it is colored, blurred, flipped and turned; False: cropped only.
    """

    chip: Literal["query", "key", "other key"]
    augmented: bool = True

    def __post_init__(self) -> None:
        check_fields(self)


PAIR = (View("query"), View("key"))


@dataclass(frozen=True)
class Batch:
    """One process's n of the N pairs of a batch; n = N in a process alone.

    Attributes:
        part: which of the batches of an optimizer step this is, from 0.
        size: N.
        mine: which of the N queries are this process's own.
        views: ``(n, C, H, W)`` normalized views of the queries and, with pairs, of their keys; or
            those that an objective asks for.
        key_order: ``(N,)`` the queries whose keys the second views are, process after process,
            where BatchNorm normalizes parts of the batch; None if row i is the key of query i.
        location: ``(N,)`` int64 codes of the locations of all queries.
        targets: ``(N, ...)`` by objective, what its `Objective.prepare` returned, of all queries.
        embedding: ``(n, E)`` of the queries, with gradient.
        projection: ``(n, D)`` of the queries, with gradient.
    """

    part: int
    size: int
    mine: slice
    views: tuple[Tensor, ...]
    key_order: Tensor | None
    location: Tensor
    targets: Mapping[str, Tensor]
    embedding: Tensor
    projection: Tensor


class Objective:
    """A term of the loss that a run minimizes. Subclass it, give it a name, and write `loss`.

    An objective that is an `nn.Module` too is moved, trained and saved with the model.

    Attributes:
        name: identifier; its metrics are logged as ``NAME_loss`` and ``NAME_METRIC``.
        weight: factor of its loss in the sum.
        views: 1 if it needs the query view only, 2 if it needs a positive pair; or each `View` of
            the pairs, that of the query first, which the other objectives of the run then get too.
        allows_shuffled_keys: whether the second views of a batch may come in ``batch.key_order``
            in place of the queries' order, which BatchNorm over parts of the batch needs.
        settings: what else makes a run with it differ from others, as JSON can hold it.

    Example:
        >>> class Alignment(Objective):
        ...     name, views = "alignment", 2
        ...
        ...     def loss(self, model, batch):
        ...         _, positive = model.query(batch.views[1])
        ...         return 1 - torch.cosine_similarity(batch.projection, positive).mean(), {}
    """

    name: str = ""
    weight: float = 1.0
    views: int | tuple[View, ...] = 1
    allows_shuffled_keys: bool = False
    settings: Mapping[str, Any] = {}

    def prepare(self, table: pd.DataFrame) -> Tensor | None:
        """Return a target ``(M, ...)`` for each row of the training table, or None.

        Those of a batch's queries are ``batch.targets[name]``.
        """
        return None

    def setup(self, model: MoCo) -> None:
        """Build what depends on the model's sizes, before the optimizer is made."""

    def loss(self, model: MoCo, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean loss of this process's pairs, and metrics to log.

        Args:
            model: the encoders and heads.
            batch: views, embeddings and projections of the queries, locations and targets.

        Returns:
            A scalar with gradient, and scalars by name.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method `loss`.")

    def after_backward(self, model: MoCo, batch: Batch) -> None:
        """Update what the loss must not see yet, such as a queue."""


def plan_views(objectives: Sequence[Objective]) -> tuple[View, ...]:
    """Return the views of each pair that some objectives need.

    Raises:
        ValueError: two of them ask for different ones.
    """
    asked = {o.name: o.views for o in objectives if isinstance(o.views, tuple)}
    if len(set(asked.values())) > 1:
        raise ValueError(
            f"`objectives` must agree on the views, but {list(asked)} ask for different ones. "
            "Train with one of them."
        )
    if asked:
        return next(iter(asked.values()))
    return PAIR[: max((o.views for o in objectives if isinstance(o.views, int)), default=1)]


def needs_pairs(objective: Objective) -> bool:
    """Return whether an objective needs a positive pair."""
    views = PAIR[: objective.views] if isinstance(objective.views, int) else objective.views
    return any(view.chip != "query" for view in views)


def check_result(objective: Objective, result: Any) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Check what the loss of an objective returned: a scalar to minimize, and metrics.

    Raises:
        TypeError: it is something else, or has no gradient.
    """
    name = type(objective).__name__
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            f"`{name}.loss` must return (loss, metrics), got {type(result).__name__}. "
            "Return e.g. `value, {}`."
        )
    value, metrics = result
    if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
        raise TypeError(f"`{name}.loss` must return a scalar tensor with gradient as its loss.")
    if not isinstance(metrics, Mapping) or not all(
        isinstance(m, Tensor) and not m.ndim for m in metrics.values()
    ):
        raise TypeError(f"`{name}.loss` must return scalar tensors as its metrics.")
    return value, metrics


def describe_objectives(objectives: Sequence[Objective]) -> dict[str, Any]:
    """Return the settings of objectives by name, as JSON can hold them."""
    return {
        f"objective.{objective.name}": {"weight": objective.weight, **objective.settings}
        for objective in objectives
    }


def modules_of(objectives: Sequence[Objective]) -> nn.ModuleDict:
    """Return the objectives that are modules by name, to be trained with the model."""
    return nn.ModuleDict({o.name: o for o in objectives if isinstance(o, nn.Module)})


def training_positions(table: pd.DataFrame, objective: str) -> Tensor:
    """Return the positions of the training chips as unit vectors ``(M, 3)`` float32.

    Raises:
        ValueError: a chip has none.
    """
    lon, lat = (table[name].to_numpy(float) for name in ("lon", "lat"))
    missing = int((np.isnan(lon) | np.isnan(lat)).sum())
    if missing:
        raise ValueError(
            f"The objective {objective!r} needs positions, but {missing} of {len(table)} training "
            "chips have none. Leave them out, or train without it."
        )
    return torch.as_tensor(geo.unit_vectors(lon, lat), dtype=torch.float32)


def check_extent(positions: Tensor, name: str, km: float) -> None:
    """Check that some of the positions ``(M, 3)`` are farther apart than ``km``.

    Raises:
        ValueError: they are not: nothing would be learned.
    """
    far = great_circle_km(positions[:1], positions).argmax()
    extent = float(great_circle_km(positions[far : far + 1], positions).max())
    if km > extent:
        raise ValueError(
            f"`{name}` must be at most the extent of the training locations, {extent:,.0f} km, got "
            f"{km:g}: no image would be far enough from another."
        )


def great_circle_km(a: Tensor, b: Tensor) -> Tensor:
    """Return the distances ``(N, M)`` in km along the sphere of unit vectors ``(N, 3), (M, 3)``."""
    chord = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")  # exact for near ones
    return 2 * geo.EARTH_RADIUS_KM * torch.asin((chord / 2).clamp(max=1))
