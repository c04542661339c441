"""What a run minimizes: the contrastive loss, geo clusters, labels, or a loss of one's own.

`Contrastive`, `GeoClassification` and `LabelClassification` are what ``pairs=``, ``geo=`` and
``label=`` of `geossl.pretrain` stand for. Any other one is a subclass of `Objective`, passed as
``objectives=[...]``; `GeoRegression`, `GeoRank`, `Triplet`, `LocationContrastive` and `SeCo` are
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from geossl.clusters import GeoClusters
from geossl.pairs import PairSampler
from geossl.train.config import PretrainConfig
from geossl.train.objectives.base import (
    Batch,
    Objective,
    View,
    check_result,
    describe_objectives,
    modules_of,
    needs_pairs,
    plan_views,
)
from geossl.train.objectives.classification import (
    Classification,
    GeoClassification,
    LabelClassification,
)
from geossl.train.objectives.contrastive import Contrastive
from geossl.train.objectives.location import LocationContrastive
from geossl.train.objectives.ranking import GeoRank
from geossl.train.objectives.regression import GeoRegression
from geossl.train.objectives.seco import SeCo
from geossl.train.objectives.triplet import Triplet
from geossl.utils.validate import NonNegative, check

__all__ = [
    "Batch", "Classification", "Contrastive", "GeoClassification", "GeoRank", "GeoRegression",
    "LabelClassification", "LocationContrastive", "Objective", "SeCo", "Triplet", "View",
    "build_objectives", "check_result", "describe_objectives", "modules_of", "needs_pairs",
    "plan_views",
]  # fmt: skip


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
        check(f"views of {objective.name}", objective.views, Literal[1, 2] | tuple[View, ...])
    for name in names:
        if hasattr(nn.ModuleDict(), str(name)):
            raise ValueError(f"`name` of an objective must not be {name!r}, a word of torch.")
        if not isinstance(name, str) or not name.isidentifier() or names.count(name) > 1:
            raise ValueError(f"Each of `objectives` needs a `name` of its own, got {names}.")
    paired = [objective.name for objective in objectives if needs_pairs(objective)]
    if paired and not has_pairs:
        raise ValueError(
            f"`pairs` is needed by the objective {paired[0]!r}. Pass e.g. geossl.pairs.temporal()."
        )
    if has_pairs and not paired:
        raise ValueError(f"`pairs` must be None: none of the objectives {names} uses two views.")
