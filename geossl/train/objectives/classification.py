"""Predict a class of each query: its geo cluster, or a label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl import losses
from geossl.clusters import GeoClusters
from geossl.data import scenes
from geossl.models.moco import MoCo
from geossl.train.objectives.base import Batch, Objective
from geossl.utils import dist
from geossl.utils.io import digest
from geossl.utils.validate import NonNegative, validated


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
        if not clusters.is_plain:
            tree = (clusters.cluster_of, clusters.parent)
            self.settings["regions"] = digest(b"".join(rows.tobytes() for rows in tree))

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
