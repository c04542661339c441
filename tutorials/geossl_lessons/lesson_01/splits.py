"""What lesson 01 measures: every picture is asked once, after several ways of splitting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from geossl import evaluate, geo
from geossl.data import scenes
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings
from geossl.evaluate import bootstrap, metrics
from geossl.utils.seeds import derive_seed

PICTURES, PLACES = "random pictures", "random places"
COORDINATES, PIXELS, UNTRAINED = "coordinates, no picture", "pixels", "untrained network"
_THUMB_PX = 8  # pixels are compared as small pictures, which also blurs noise


def ways(
    table: pd.DataFrame,
    *,
    blocks_deg: Sequence[float] = (3, 10, 30),
    folds: int = 5,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Ways to deal the pictures of a table to folds; each fold is the test once.

    Args:
        table: a scene table.
        blocks_deg: sides of the blocks of space, in degrees of latitude.
        folds: how many, >= 2.
        seed: of all ways.

    Returns:
        Name of the way -> fold ``(M,)`` of each row, from 0.

    Raises:
        ValueError: fewer blocks than folds, or rows without coordinates.
    """
    rng = np.random.default_rng(derive_seed(seed, "ways"))
    place = scenes.location_codes(table)
    dealt = {PICTURES: rng.permutation(len(table)) % folds}
    dealt[PLACES] = (rng.permutation(place.max() + 1) % folds)[place]
    shares = {str(fold): 1.0 for fold in range(folds)}
    for side in blocks_deg:
        names = scenes.split_by_blocks(table, block_deg=side, shares=shares, seed=seed)
        dealt[f"blocks of {side:g}°"] = names.astype(int).to_numpy()
    return dealt


def through_the_year(table: pd.DataFrame, *latitudes: float) -> list[np.ndarray]:
    """Rows of one place for each latitude, all its dates from January to December.

    Args:
        table: of `geossl.datasets.blue_marble`.
        latitudes: in degrees; the nearest temperate or continental place is taken, where some is
            on the same side of the equator.
    """
    chosen = []
    for lat in latitudes:
        side = table[np.sign(table["lat"]) == np.sign(lat)]
        green = side[side["label"].str[0].isin(["C", "D"])]
        among = green if len(green) else side if len(side) else table
        place = among["location"].loc[(among["lat"] - lat).abs().idxmin()]
        own = table.index[table["location"] == place].to_numpy()
        chosen.append(own[np.argsort(table["time"].dt.day_of_year.loc[own], kind="stable")])
    return chosen


def as_split(fold: np.ndarray, test: int = 0) -> pd.Series:
    """One fold as the test, all others as the training: a split for `geossl.evaluate`."""
    return pd.Series(np.where(np.asarray(fold) == test, "test", "train"))


def classifiers(store: ChipStore, *, seed: int = 0) -> dict[str, Embeddings]:
    """Three views of the same chips, none of them trained.

    Args:
        store: the chips.
        seed: of the untrained network's weights.

    Returns:
        Name -> vectors: where the place lies (nothing of the picture), its pixels as a small
        picture less the mean one, and the features of an untrained network.
    """
    table, cells = store.scenes, np.arange(store.size_px) * _THUMB_PX // store.size_px
    starts = np.unique(cells, return_index=True)[1]
    sums = np.add.reduceat(np.asarray(store.chips, np.float32), starts, axis=2)
    small = np.add.reduceat(sums, starts, axis=3).reshape(len(store), -1)
    at = geo.unit_vectors(table["lon"], table["lat"]).astype(np.float32)
    return {
        COORDINATES: Embeddings(at, table),
        PIXELS: Embeddings(small - small.mean(0), table),
        UNTRAINED: evaluate.random_features(store, seed=seed),
    }


def ask_all(
    given: Mapping[str, Embeddings], dealt: Mapping[str, np.ndarray], *, label: str = "climate"
) -> pd.DataFrame:
    """Ask every picture once in every way: has the most similar training picture its label?

    Args:
        given: name of a classifier -> vectors, all of the same table.
        dealt: what `ways` gave.
        label: column of the classes.

    Returns:
        A row a way and a picture: way, row, location, km (to the nearest training place), and a
        column of True and False for each classifier.
    """
    table = next(iter(given.values())).scenes
    codes = torch.from_numpy(scenes.label_codes(table[label])[0])
    place, parts = scenes.location_codes(table), []
    for way, fold in dealt.items():
        asked = pd.DataFrame({"way": way, "row": np.arange(len(table))})
        asked["location"] = table["location"].to_numpy()
        for name in ("km", *given):
            asked[name] = 0.0 if name == "km" else False
        for number in np.unique(fold):
            test, train = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
            found = evaluate.leakage(table, split=as_split(fold, number)).locations
            far = pd.Series(found["km"].to_numpy(), index=np.unique(place[test]))
            asked.loc[test, "km"] = far.loc[place[test]].to_numpy()
            for name, vectors in given.items():
                x = vectors.tensor()
                guess = metrics.knn_predict(x[train], codes[train], x[test], k=1)
                asked.loc[test, name] = (guess == codes[test]).numpy()
        parts.append(asked)
    return pd.concat(parts, ignore_index=True)


def scores(asked: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Accuracy of each classifier in each way, with its 95 % interval over places.

    Args:
        asked: what `ask_all` gave.
        seed: of the bootstrap.

    Returns:
        A row a way and a classifier: way, km (median), classifier, value, low, high.
    """
    lines = []
    for way, part in asked.groupby("way", sort=False):
        for name in _names(asked):
            found = bootstrap.share_interval(
                part[name].to_numpy(), part["location"].to_numpy(), seed
            )
            lines.append([way, part["km"].median(), name, *found])
    return pd.DataFrame(lines, columns=["way", "km", "classifier", "value", "low", "high"])


def flattery(
    asked: pd.DataFrame, *, easy: str = PICTURES, hard: str = "blocks of 10°", seed: int = 0
) -> pd.DataFrame:
    """By how much one way of splitting says more than another, of the very same pictures.

    Args:
        asked: what `ask_all` gave.
        easy: the way whose figure is in doubt.
        hard: the way it is compared with.
        seed: of the bootstrap over places.

    Returns:
        A row a classifier, in words: both accuracies, and the difference in points with its 95 %
        interval.
    """
    one, two = (asked[asked["way"] == way].sort_values("row") for way in (easy, hard))
    lines = []
    for name in _names(asked):
        more = one[name].to_numpy().astype(int) - two[name].to_numpy().astype(int)
        value, low, high = bootstrap.share_interval(more, one["location"].to_numpy(), seed)
        so = "no difference shown" if low <= 0 <= high else f"{value / two[name].mean():+.0%}"
        told = f"{100 * value:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
        lines.append([name, f"{one[name].mean():.1%}", f"{two[name].mean():.1%}", told, so])
    columns = ["classifier", easy, hard, "flattered by", "relative to the honest score"]
    return pd.DataFrame(lines, columns=columns)


def _names(asked: pd.DataFrame) -> list[str]:
    return [name for name in asked if name not in ("way", "row", "location", "km")]


def chance(labels: ArrayLike) -> float:
    """Share of the most frequent label: what guessing without looking gets."""
    return float(pd.Series(np.asarray(labels)).value_counts(normalize=True).iloc[0])
