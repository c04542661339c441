"""Experiments of lesson 01: every picture is tested once, with several ways to split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from annotated_types import Ge
from numpy.typing import ArrayLike

from geossl import evaluate, geo
from geossl.data import scenes
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings
from geossl.evaluate import bootstrap, metrics
from geossl.utils.seeds import derive_seed
from geossl.utils.validate import Positive, Seed, validated

PICTURES, LOCATIONS = "random pictures", "random locations"
COORDINATES, PIXELS, UNTRAINED = "coordinates, no picture", "pixels", "untrained network"
_THUMB_PX = 8  # pixels are compared as small pictures, which also blurs noise


@validated
def make_folds(
    table: pd.DataFrame,
    *,
    blocks_deg: Sequence[Positive] = (3, 10, 30),
    folds: Annotated[int, Ge(2)] = 5,
    seed: Seed = 0,
) -> dict[str, np.ndarray]:
    """Deal the ``M`` rows of a scene table to folds in several ways; each fold is the test once.

    The splits are random pictures, random locations, and blocks of space with sides ``blocks_deg``
    in degrees of latitude. Returns the name of each split -> fold ``(M,)`` of each row, from 0.

    Raises:
        ValueError: fewer blocks than folds, or rows without coordinates.
    """
    rng = np.random.default_rng(derive_seed(seed, "ways"))
    location = scenes.location_codes(table)
    fold_of = {PICTURES: rng.permutation(len(table)) % folds}
    fold_of[LOCATIONS] = (rng.permutation(location.max() + 1) % folds)[location]
    shares = {str(fold): 1.0 for fold in range(folds)}
    for side in blocks_deg:
        names = scenes.split_by_blocks(table, block_deg=side, shares=shares, seed=seed)
        fold_of[f"blocks of {side:g}°"] = names.astype(int).to_numpy()
    return fold_of


def rows_through_the_year(table: pd.DataFrame, *latitudes: float) -> list[np.ndarray]:
    """Find a location near each latitude: the rows of all its dates from January to December.

    The nearest temperate or continental location on the same side of the equator is preferred.
    """
    chosen = []
    for lat in latitudes:
        side = table[np.sign(table["lat"]) == np.sign(lat)]
        green = side[side["label"].str[0].isin(["C", "D"])]
        candidates = green if len(green) else side if len(side) else table
        location = candidates["location"].loc[(candidates["lat"] - lat).abs().idxmin()]
        rows = table.index[table["location"] == location].to_numpy()
        chosen.append(rows[np.argsort(table["time"].dt.day_of_year.loc[rows], kind="stable")])
    return chosen


def fold_as_split(fold: np.ndarray, test: int = 0) -> pd.Series:
    """Make one fold the test and all others the training: a split for `geossl.evaluate`."""
    return pd.Series(np.where(np.asarray(fold) == test, "test", "train"))


@validated
def untrained_embeddings(store: ChipStore, *, seed: Seed = 0) -> dict[str, Embeddings]:
    """Describe chips without training: by position, by their pixels, by random features.

    The pixels are those of a small picture minus the mean one.
    """
    table = store.scenes
    chips = torch.from_numpy(np.asarray(store.chips, np.float32))
    small = F.adaptive_avg_pool2d(chips, _THUMB_PX).flatten(1).numpy()
    position = geo.unit_vectors(table["lon"], table["lat"]).astype(np.float32)
    return {
        COORDINATES: Embeddings(position, table),
        PIXELS: Embeddings(small - small.mean(0), table),
        UNTRAINED: evaluate.random_features(store, seed=seed),
    }


def classify_all(
    embeddings: Mapping[str, Embeddings],
    fold_of: Mapping[str, np.ndarray],
    *,
    label: str = "climate",
) -> pd.DataFrame:
    """Classify every picture once with each split: does its nearest training picture agree?

    Takes the vectors of each classifier, all of one table, and the folds of `make_folds`. Returns
    one row for each split and picture: split, row, location, km (to the nearest training location),
    and a column of True and False for each classifier.
    """
    table = next(iter(embeddings.values())).scenes
    codes = torch.from_numpy(scenes.label_codes(table[label])[0])
    location, parts = scenes.location_codes(table), []
    for split, fold in fold_of.items():
        part = pd.DataFrame({"split": split, "row": np.arange(len(table))})
        part["location"] = table["location"].to_numpy()
        part["km"] = 0.0
        part[list(embeddings)] = False
        for number in np.unique(fold):
            test, train = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
            near = evaluate.leakage(table, split=fold_as_split(fold, number)).locations
            km = pd.Series(near["km"].to_numpy(), index=np.unique(location[test]))
            part.loc[test, "km"] = km.loc[location[test]].to_numpy()
            for name, vectors in embeddings.items():
                x = vectors.tensor()
                guess = metrics.knn_predict(x[train], codes[train], x[test], k=1)
                part.loc[test, name] = (guess == codes[test]).numpy()
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


@validated
def score_splits(answers: pd.DataFrame, *, seed: Seed = 0) -> pd.DataFrame:
    """Compute the accuracy of each classifier with each split, with 95 % intervals over locations.

    Takes the answers of `classify_all`; returns the columns split, km (median), classifier, value,
    low, high.
    """
    rows = []
    for split, part in answers.groupby("split", sort=False):
        for name in _classifiers(answers):
            interval = bootstrap.share_interval(
                part[name].to_numpy(), part["location"].to_numpy(), seed
            )
            rows.append([split, part["km"].median(), name, *interval])
    return pd.DataFrame(rows, columns=["split", "km", "classifier", "value", "low", "high"])


@validated
def compare_splits(
    answers: pd.DataFrame, *, easy: str = PICTURES, hard: str = "blocks of 10°", seed: Seed = 0
) -> pd.DataFrame:
    """Compare the scores of an easy and a hard split, picture by picture, in words.

    Takes the answers of `classify_all`; returns one row for each classifier: both accuracies, and
    the difference in points with its 95 % interval over locations.
    """
    one, two = (answers[answers["split"] == split].sort_values("row") for split in (easy, hard))
    rows = []
    for name in _classifiers(answers):
        gain = one[name].to_numpy().astype(int) - two[name].to_numpy().astype(int)
        value, low, high = bootstrap.share_interval(gain, one["location"].to_numpy(), seed)
        relative = f"{value / two[name].mean():+.0%}"
        if low <= 0 <= high:
            relative = "no difference shown"
        points = f"{100 * value:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
        rows.append([name, f"{one[name].mean():.1%}", f"{two[name].mean():.1%}", points, relative])
    columns = ["classifier", easy, hard, "flattered by", "relative to the honest score"]
    return pd.DataFrame(rows, columns=columns)


def _classifiers(answers: pd.DataFrame) -> list[str]:
    return [name for name in answers if name not in ("split", "row", "location", "km")]


def majority_share(labels: ArrayLike) -> float:
    """Return the share of the most frequent label: what guessing without looking gets."""
    return float(pd.Series(np.asarray(labels)).value_counts(normalize=True).iloc[0])
