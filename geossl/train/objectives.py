"""What a run minimizes: the contrastive loss, geo clusters, labels, or a loss of one's own.

An objective turns a batch into a loss. `Contrastive`, `GeoClassification` and `LabelClassification`
are what ``pairs=``, ``geo=`` and ``label=`` of `geossl.pretrain` stand for; any other one is a
subclass of `Objective`, passed as ``objectives=[...]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from geossl import losses
from geossl.clusters import GeoClusters
from geossl.data import scenes
from geossl.models.moco import MoCo
from geossl.pairs import PairSampler
from geossl.train.config import PretrainConfig
from geossl.utils import dist
from geossl.utils.io import digest
from geossl.utils.validate import NonNegative, Positive, check, validated


@dataclass(frozen=True)
class Batch:
    """One process's n of the N pairs of a batch; n = N in a process alone.

    Attributes:
        part: which of the batches of an optimizer step this is, from 0.
        size: N.
        mine: which of the N queries are this process's own.
        views: ``(n, C, H, W)`` normalized views of the queries and, with pairs, of their keys.
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
        views: 1 if it needs the query view only, 2 if it needs a positive pair.
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
    views: int = 1
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


class Contrastive(Objective):
    """InfoNCE of each query against its key and a queue of negatives.

    Args:
        temperature: of the softmax.
        mask_same_location: queue entries of the query's own location are no negatives.
        weight: alpha of the paper.

    Source:
        MoCo-v2, arXiv 2003.04297; the mask is ours.
    """

    name, views, allows_shuffled_keys = "contrastive", 2, True

    @validated
    def __init__(
        self,
        *,
        temperature: Positive = 0.2,
        mask_same_location: bool = True,
        weight: NonNegative = 1.0,
    ):
        self.temperature, self.mask_same_location = temperature, mask_same_location
        self.weight = weight
        self.settings = {"temperature": temperature, "mask_same_location": mask_same_location}

    def loss(self, model: MoCo, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return InfoNCE, and the share of queries whose key is nearer than every negative."""
        if batch.part == 0:
            model.update_key()
        keys = dist.all_gather(model.key(batch.views[1]), batch.size)  # (N, D)
        if batch.key_order is not None:
            keys = torch.empty_like(keys).index_copy_(0, batch.key_order, keys)
        self._keys = keys
        mask = None
        if self.mask_same_location:
            own = batch.location[batch.mine]
            mask = losses.same_location(own, model.queue_location)  # (n, K)
        logits = losses.contrastive_logits(
            batch.projection,
            keys[batch.mine],
            model.queue,
            temperature=self.temperature,
            mask=mask,
        )  # (n, 1 + K)
        hit = logits[:, 0] > logits[:, 1:].amax(1)
        return losses.info_nce_from_logits(logits), {"accuracy": hit.float().mean()}

    def after_backward(self, model: MoCo, batch: Batch) -> None:
        """Put the keys in place of the oldest ones of the queue."""
        model.enqueue(self._keys, batch.location)


class Classification(Objective):
    """Cross-entropy of a class of each query, by a head of the model.

    Attributes:
        num_classes: known after `prepare`.
        on: where the head sits, see `geossl.models.MoCo`.
    """

    num_classes: int = 0
    on: Literal["projection", "embedding"] = "embedding"

    def loss(self, model: MoCo, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the cross-entropy and the accuracy over the queries of known class."""
        logits = model.classify(self.name, batch.embedding, batch.projection)  # (n, G)
        target = batch.targets[self.name]  # (N,)
        mine, known = target[batch.mine], target >= 0
        # each process counts by its share of the queries of known class
        share = dist.world_size() * known[batch.mine].sum() / known.sum().clamp(min=1)
        hit = (logits.argmax(1) == mine).sum() / known[batch.mine].sum().clamp(min=1)
        return losses.geo_cross_entropy(logits, mine) * share, {"accuracy": hit * share}


class GeoClassification(Classification):
    """Predict the geo cluster of each query.

    Args:
        clusters: the clusters.
        on: where the head sits: "projection" as released, or "embedding".
        weight: beta of the paper.

    Source:
        Ayush et al., arXiv 2011.09980, Eq. 3 and the released code.
    """

    name = "geo"

    @validated
    def __init__(
        self,
        clusters: GeoClusters,
        *,
        on: Literal["projection", "embedding"] = "projection",
        weight: NonNegative = 1.0,
    ):
        self.clusters, self.on, self.weight = clusters, on, weight
        self.num_classes = clusters.k
        self.settings = {
            "on": on,
            "k": clusters.k,
            "space": clusters.on,
            "centers": digest(clusters.centers.tobytes()),
        }

    def prepare(self, table: pd.DataFrame) -> Tensor:
        """Return the cluster ``(M,)`` of each row."""
        cluster = self.clusters.assign(table["lon"].to_numpy(), table["lat"].to_numpy())
        return torch.from_numpy(np.asarray(cluster, np.int64))


class LabelClassification(Classification):
    """Predict a label of each query: supervised training.

    Args:
        label: column of the scene table; rows without a label are left out of the loss.
        weight: factor of the loss.
    """

    name = "label"

    @validated
    def __init__(self, label: str, *, weight: NonNegative = 1.0):
        self.label, self.weight = label, weight
        self.settings = {"column": label}

    def prepare(self, table: pd.DataFrame) -> Tensor:
        """Return the class ``(M,)`` of each row, -1 where it has no label."""
        if self.label not in table:
            raise ValueError(
                f"`label` must be a column of the scene table, got {self.label!r}. Its columns are "
                f"{list(table.columns)}."
            )
        codes, names = scenes.label_codes(table[self.label])
        if len(names) < 2:
            raise ValueError(f"`label` needs two classes or more, {self.label!r} has {len(names)}.")
        self.num_classes = len(names)
        self.settings = {"column": self.label, "codes": digest(codes.tobytes())}
        return torch.from_numpy(codes)


def build_objectives(
    pairs: PairSampler | None,
    geo: GeoClusters | None,
    label: str | None,
    objectives: Sequence[Objective] | None,
    config: PretrainConfig,
) -> list[Objective]:
    """Return the objectives of `geossl.train.pretrain`'s arguments; those it is given come first.

    Raises:
        TypeError: one is no `Objective`.
        ValueError: there is none, two have the same name, or pairs are missing or not used.
    """
    terms = list(objectives or [])
    if objectives is None and pairs is not None:
        terms = [
            Contrastive(
                temperature=config.temperature,
                mask_same_location=config.mask_same_location,
                weight=config.contrastive_weight,
            )
        ]
    if geo is not None:
        terms.append(GeoClassification(geo, on=config.geo_on, weight=config.geo_weight))
    if label is not None:
        terms.append(LabelClassification(label))
    _check_objectives(terms, has_pairs=pairs is not None)
    return terms


def _check_objectives(objectives: Sequence[Objective], *, has_pairs: bool) -> None:
    for objective in objectives:
        if not isinstance(objective, Objective):
            raise TypeError(
                f"`objectives` must hold geossl.train.Objective, got {type(objective).__name__}."
            )
    if not objectives:
        raise ValueError("No objective given. Pass at least one of `pairs`, `geo` or `label`.")
    names = [objective.name for objective in objectives]
    for objective in objectives:
        check(f"weight of {objective.name}", objective.weight, NonNegative)
        check(f"views of {objective.name}", objective.views, Literal[1, 2])
    for name in names:
        if hasattr(nn.ModuleDict(), str(name)):
            raise ValueError(f"`name` of an objective must not be {name!r}, a word of torch.")
        if not isinstance(name, str) or not name.isidentifier() or names.count(name) > 1:
            raise ValueError(f"Each of `objectives` needs a `name` of its own, got {names}.")
    paired = [objective.name for objective in objectives if objective.views == 2]
    if paired and not has_pairs:
        raise ValueError(
            f"`pairs` is needed by the objective {paired[0]!r}. Pass e.g. geossl.pairs.temporal()."
        )
    if has_pairs and not paired:
        raise ValueError(f"`pairs` must be None: none of the objectives {names} uses two views.")


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
