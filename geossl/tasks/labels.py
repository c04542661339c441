"""Labels given by hand, a probe that learns from them at once, and what to label next."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from geossl.data import table_files
from geossl.data.files import DatasetError, read_csv
from geossl.data.scenes import location_codes
from geossl.embeddings import Embeddings
from geossl.utils.io import atomic_write, check_file
from geossl.utils.validate import PositiveInt, Seed, validated

COLUMN = "my_label"
_CHUNK = 100_000  # vectors at a time
_FOLDS, _FEWEST = 5, 3  # labeled locations of each name before the accuracy is measured


@dataclass(frozen=True)
class Prediction:
    """What a probe of the labels says of every chip.

    Attributes:
        names: ``(N,)`` str, the likeliest name.
        confidence: ``(N,)`` float32 in 0 to 1, its probability.
    """

    names: np.ndarray
    confidence: np.ndarray


class Labels:
    """Name chips by hand, with undo; a logistic regression of the embeddings learns the names.

    Attributes:
        names: ``(N,)`` object, the name of each chip or None.

    Args:
        embeddings: of all chips.
        seed: of the folds.

    Example:
        >>> scenes = pd.DataFrame({"location": [0, 1, 2, 3], "lon": [0.0] * 4, "lat": [0.0] * 4})
        >>> vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], np.float32)
        >>> labels = Labels(Embeddings(vectors, scenes))
        >>> labels.give([0], "water")
        >>> labels.give([2], "forest")
        >>> labels.predict().names.tolist()
        ['water', 'water', 'forest', 'forest']
    """

    @validated
    def __init__(self, embeddings: Embeddings, *, seed: Seed = 0):
        self._embeddings, self._seed = embeddings, seed
        self.names = np.full(len(embeddings), None, object)
        self._history: list[tuple[np.ndarray, np.ndarray]] = []
        self._order: dict[str, None] = {}  # names in the order in which they were first given
        self._vectors: np.ndarray | None = None

    def give(self, rows: np.ndarray | list[int], name: str) -> None:
        """Name some chips; an empty name takes theirs away.

        Raises:
            ValueError: no row, or a row that is not there.
        """
        rows = np.unique(np.asarray(rows, np.int64))
        if len(rows) == 0:
            raise ValueError("`rows` needs at least one image. Choose one, or draw a box.")
        if rows[0] < 0 or rows[-1] >= len(self.names):
            raise ValueError(f"`rows` must be from 0 to {len(self.names) - 1}, got {rows[-1]}.")
        self._history.append((rows, self.names[rows]))
        self.names[rows] = name.strip() or None
        self._order.setdefault(name.strip())

    def undo(self) -> int:
        """Take the last naming back, and return how many chips it had named; 0 if none is left."""
        if not self._history:
            return 0
        rows, before = self._history.pop()
        self.names[rows] = before
        return len(rows)

    def counts(self) -> dict[str, int]:
        """Return the names in the order in which they were first given, with their chips."""
        found = pd.Series(self.names).value_counts()
        known = [
            name for name in dict.fromkeys([*self._order, *sorted(found.index)]) if name in found
        ]
        return {name: int(found[name]) for name in known}

    def predict(self) -> Prediction | None:
        """Return what the probe says of every chip; None with fewer than two names."""
        if len(self.counts()) < 2:
            return None
        known = np.flatnonzero(pd.notna(self.names))
        probe = self._fit(known)
        parts = [
            probe.predict_proba(self._standardized()[start : start + _CHUNK])
            for start in range(0, len(self.names), _CHUNK)
        ]
        shares = np.concatenate(parts)
        best = shares.argmax(1)
        confidence = shares[np.arange(len(best)), best].astype(np.float32)
        return Prediction(probe.classes_[best], confidence)

    def accuracy(self) -> tuple[float, float, float, int] | None:
        """Measure the probe on labeled locations that it did not learn from, in up to five folds.

        Returns:
            The share of right names, a mean over locations; its 95 % interval (Wilson's, for as
            many trials as there are locations); and their number. None while a name has fewer
            than three locations.
        """
        from scipy.stats import binomtest
        from sklearn.model_selection import StratifiedGroupKFold

        known = np.flatnonzero(pd.notna(self.names))
        places = location_codes(self._embeddings.scenes)[known]
        names = self.names[known].astype(str)
        per_name = [len(np.unique(places[names == name])) for name in np.unique(names)]
        if len(per_name) < 2 or min(per_name) < _FEWEST:
            return None
        folds = StratifiedGroupKFold(min(_FOLDS, *per_name), shuffle=True, random_state=self._seed)
        hit = np.zeros(len(known), bool)
        for train, test in folds.split(known, names, places):
            if len(np.unique(names[train])) > 1:
                probe = self._fit(known[train])
                hit[test] = probe.predict(self._standardized()[known[test]]) == names[test]
        count = len(np.unique(places))  # locations are independent, their dates are not
        share = float(np.mean(pd.Series(hit).groupby(places).mean()))
        low, high = binomtest(round(share * count), count).proportion_ci(method="wilson")
        return share, float(low), float(high), count

    @validated
    def least_certain(self, count: PositiveInt = 32) -> np.ndarray:
        """Return rows ``(n,)`` without a name whose prediction is least certain, those first.

        At most one chip a location: its dates say the same.

        Raises:
            ValueError: fewer than two names.
        """
        prediction = self.predict()
        if prediction is None:
            raise ValueError("Give at least two names first: the probe has nothing to learn yet.")
        order = np.argsort(prediction.confidence, kind="stable")
        order = order[pd.isna(self.names[order])]
        places = location_codes(self._embeddings.scenes)[order]
        return order[np.sort(np.unique(places, return_index=True)[1])][:count]

    @validated
    def more_like(
        self, liked: list[int], unliked: list[int], count: PositiveInt = 32
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rank chips by their mean similarity to some, less that to others.

        Args:
            liked: rows to be like.
            unliked: rows to be unlike.
            count: how many to return; those passed are left out.

        Returns:
            Rows ``(n,)``, the best first, and their scores ``(n,)``, differences of cosines.

        Raises:
            ValueError: no row to be like.

        Source:
            Rocchio's relevance feedback, with equal weights.
        """
        if not liked:
            raise ValueError("`liked` needs at least one image. Choose one, or draw a box.")
        unit = _unit(self._embeddings.vectors)
        target = unit[liked].mean(0)
        if unliked:
            target = target - unit[unliked].mean(0)
        scores = unit @ target
        scores[[*liked, *unliked]] = -np.inf
        rows = np.argsort(-scores, kind="stable")[: min(count, len(scores))]
        rows = rows[np.isfinite(scores[rows])]
        return rows, scores[rows]

    def table(self) -> pd.DataFrame:
        """Return the scene table with the column ``my_label``."""
        return self._embeddings.scenes.assign(**{COLUMN: pd.array(self.names, "string")})

    @validated
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table with its labels as .csv, .parquet, .geoparquet or .geojson; atomic.

        Raises:
            ValueError: another suffix.
        """
        path, table = Path(path), self.table()
        if path.suffix == ".geojson":
            with atomic_write(path) as part:
                part.write_text(
                    table_files.to_geo(table).to_json(drop_id=True, default=str), "utf-8"
                )
        else:
            table_files.write(table, path)

    @validated
    def load(self, path: str | os.PathLike[str]) -> int:
        """Take the labels of a file of `save`, and return how many chips have one.

        Raises:
            DatasetError: it has no column ``my_label``, or is of other chips.
        """
        path = Path(path)
        if path.suffix == ".geojson":
            import geopandas

            check_file(path, "table of labels", error=DatasetError)
            table = table_files.from_geo(geopandas.read_file(path))
        elif path.suffix == ".csv":
            table = read_csv(path)  # "007" and "NA" are names
            for name in table.columns.intersection(["lon", "lat"]):
                table[name] = pd.to_numeric(table[name], errors="coerce")
        else:
            table = table_files.read_table(path)
        if COLUMN not in table:
            raise DatasetError(
                f"{path} has no column {COLUMN!r}. Choose a file that was saved here."
            )
        same = len(table) == len(self.names) and _is_same(table, self._embeddings.scenes)
        if not same:
            raise DatasetError(
                f"{path} is of other images: {len(table):,} rows, and these are "
                f"{len(self.names):,}. Choose the file of this table."
            )
        names = table[COLUMN].astype("string").to_numpy(object, na_value=None)
        names[names == ""] = None
        rows = np.flatnonzero(pd.Series(names).fillna("") != pd.Series(self.names).fillna(""))
        self._history.append((rows, self.names[rows]))
        self.names[:] = names
        return int(pd.notna(self.names).sum())

    def _standardized(self) -> np.ndarray:
        if self._vectors is None:
            unit = _unit(self._embeddings.vectors)
            self._vectors = (unit - unit.mean(0)) / np.maximum(unit.std(0), 1e-6)
        return self._vectors

    def _fit(self, rows: np.ndarray):
        from sklearn.linear_model import LogisticRegression

        vectors = self._standardized()[rows]
        # the penalty of few examples in many dimensions
        probe = LogisticRegression(C=1 / vectors.shape[1] ** 0.5, max_iter=300)
        return probe.fit(vectors, self.names[rows].astype(str))


def _is_same(table: pd.DataFrame, scenes: pd.DataFrame) -> bool:
    """Return whether a table of `Labels.save` is of the same places and dates, row by row."""
    if not {"location", "lon", "lat"} <= set(table):
        return False
    ours, theirs = (each[["lon", "lat"]].to_numpy(float) for each in (scenes, table))
    places = table["location"].astype(str).to_numpy() == scenes["location"].astype(str).to_numpy()
    same = places.all() and np.allclose(ours, theirs, atol=1e-6, equal_nan=True)
    if not same or "time" not in table:
        return bool(same)
    days = [
        pd.to_datetime(each["time"], utc=True, format="mixed").dt.strftime("%Y-%m-%d").fillna("")
        for each in (scenes, table)
    ]
    return bool((days[0].to_numpy() == days[1].to_numpy()).all())


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
