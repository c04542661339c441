"""Columns of the explorer: those of the table, and measures that take a while."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from geossl.embeddings import Embeddings, neighbors
from geossl.evaluate import ProbeResult
from geossl.viz.widgets.explorer.columns import is_real, months

_K, _MOST_ROWS = 10, 30_000
_MOST_WORDS, _MOST_COLUMNS = 60, 12  # of columns that nobody asked for
_KNOWN = frozenset(  # where a chip is, and how it was read
    """location lon lat time label split path chip row column left top right bottom crs chip_px
    bands band_names dtype scale_low scale_high reader date_rule file_bytes file_time noise
    gsd""".split()
)
_BOX = ("box_", "window_")


def own_columns(
    scenes: pd.DataFrame,
    rows: np.ndarray,
    label: str,
    clusters: np.ndarray | None,
    probe: ProbeResult | None,
) -> dict[str, pd.Series]:
    """Return the columns of a scene table that are worth a panel, and those of clusters and probe.

    Args:
        scenes: of the rows that are shown.
        rows: their numbers in the table that was probed.
        label: column of labels.
        clusters: ``(N,)`` numbers of geo clusters.
        probe: result of a probe.
    """
    columns: dict[str, pd.Series] = {}
    if label in scenes and scenes[label].notna().any():
        columns[label] = scenes[label]
    if scenes["time"].notna().any():
        columns["time"] = scenes["time"]
        if scenes["time"].dt.month.nunique() > 1:
            columns["month"] = months(scenes["time"])
    if "split" in scenes and scenes["split"].nunique() > 1:
        columns["split"] = scenes["split"]
    if clusters is not None:
        columns["geo cluster"] = pd.Series(clusters)
    if probe is not None:
        hits = probe.predictions.set_index("row")["hit"].reindex(rows)
        words = hits.map({True: "right", False: "wrong"}).fillna("not tested")
        columns["probe error"] = words.reset_index(drop=True)
    for name in scenes.columns:
        if len(columns) < _MOST_COLUMNS and name not in columns and _is_telling(scenes, name):
            columns[name] = scenes[name]
    return columns


def _is_telling(scenes: pd.DataFrame, name: Any) -> bool:
    if not isinstance(name, str) or name in _KNOWN or name.startswith(_BOX):
        return False
    values = scenes[name]
    try:
        distinct = values.nunique()
    except TypeError:  # lists, for instance
        return False
    is_number = is_real(values) or pd.api.types.is_datetime64_any_dtype(values)
    return 1 < distinct and (is_number or distinct <= _MOST_WORDS)


@dataclass(frozen=True)
class Measure:
    """A column that takes a while.

    Attributes:
        compute: an `EmbeddingExplorer` -> its values.
        is_possible: whether the explorer has what it needs.
        text: what it says, for the status line.
        most_eager: up to so many rows it is computed at once.
    """

    compute: Callable[[Any], pd.Series]
    is_possible: Callable[[Any], bool]
    text: str
    most_eager: int = 0


def neighbor_purity(embeddings: Embeddings, labels: pd.Series, seed: int) -> pd.Series:
    """Return the share of each row's ten nearest at other locations that have its label.

    Of more than 30,000 rows a random sample is measured; others have no value.
    """
    rows = _sample(len(embeddings), seed)
    nearest, _ = neighbors(embeddings, rows, k=_K)
    codes = pd.factorize(labels)[0]
    share = (codes[nearest] == codes[rows][:, None]).mean(1)
    return _spread(np.where(codes[rows] >= 0, share, np.nan), rows, len(embeddings))


def common_neighbors(one: Embeddings, other: Embeddings, seed: int) -> pd.Series:
    """Return the share of each row's ten nearest at other locations on which two encoders agree.

    Of more than 30,000 rows a random sample is measured; others have no value.
    """
    rows = _sample(len(one), seed)
    first, second = (neighbors(e, rows, k=_K)[0] for e in (one, other))
    share = (first[:, :, None] == second[:, None]).any(2).mean(1)
    return _spread(share, rows, len(one))


def _sample(count: int, seed: int) -> np.ndarray:
    if count <= _MOST_ROWS:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:_MOST_ROWS])


def _spread(values: np.ndarray, rows: np.ndarray, count: int) -> pd.Series:
    result = np.full(count, np.nan)
    result[rows] = values
    return pd.Series(result)


MEASURES = {
    "neighbor purity": Measure(
        lambda e: neighbor_purity(e.embeddings, e.embeddings.scenes[e.label], e.seed),
        lambda e: e.label in e.values and e.embeddings.scenes["location"].nunique() > 1,
        "neighbor purity: share of the ten nearest at other locations that have the same label",
    ),
    "neighbors in common": Measure(
        lambda e: common_neighbors(e.embeddings, e.other, e.seed),
        lambda e: e.other is not None and e.embeddings.scenes["location"].nunique() > 1,
        "neighbors in common: share of the ten nearest on which both encoders agree",
        most_eager=10_000,
    ),
}
