"""The file of geo clusters."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import numpy as np

from geossl.clusters.regions import Regions
from geossl.clusters.space import Metric
from geossl.data.files import DatasetError
from geossl.utils.io import as_record, atomic_write, load_json
from geossl.utils.validate import Latitude, Longitude, NonNegativeInt, PositiveInt

FORMAT = 2  # 1 has one center a cluster, and is still written then
_ADVICE = "Write it with GeoClusters.save()."


@dataclass(frozen=True)
class _File:
    centers: list[tuple[Longitude, Latitude]]
    sizes: list[NonNegativeInt]
    on: Metric
    format: PositiveInt = FORMAT
    cluster_of: list[int] | None = None
    parent: list[int] | None = None


def write_clusters(clusters: Regions, path: str | os.PathLike[str]) -> None:
    """Write clusters as json; atomic."""
    state = {"format": 1, "on": clusters.on, "centers": clusters.centers.tolist(),
             "sizes": clusters.sizes.tolist()}  # fmt: skip
    if not clusters.is_plain:
        tree = {"cluster_of": clusters.cluster_of.tolist(), "parent": clusters.parent.tolist()}
        state |= {"format": FORMAT, **tree}
    with atomic_write(path) as part:
        part.write_text(json.dumps(state) + "\n", "utf-8")


def read_clusters(path: str | os.PathLike[str], kind: type[Regions]) -> Regions:
    """Read a file of `write_clusters`; see `GeoClusters.load`."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"The file {path} does not exist. {_ADVICE}")
    content = load_json(path, error=DatasetError, advice=_ADVICE)
    try:
        record = as_record(_File, content)
        if record.format > FORMAT:
            raise ValueError(f"its format {record.format} is of a newer geossl")
        tree = (np.array(rows or (), int) for rows in (record.cluster_of, record.parent))
        return kind(
            np.array(record.centers, float), np.array(record.sizes, int), record.on,
            *tree,
        )  # fmt: skip
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise DatasetError(f"{path} must hold geo clusters: {reason}. {_ADVICE}") from None
