"""Experiments of lesson 05: what neighbors have in common, where a probe fails, and why."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from geossl import evaluate, geo
from geossl.data import earth
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, neighbors
from geossl.evaluate import ProbeResult, bootstrap
from geossl.utils.seeds import derive_seed
from geossl.utils.validate import PositiveInt, Seed, validated
from geossl_lessons.showing import interval_text

_KM_PER_DEGREE = np.pi * geo.EARTH_RADIUS_KM / 180
_AT_RANDOM = "drawn at random"
SUSPECTS = {
    "mixed": "share of another climate in the chip",
    "contrast": "contrast of the chip (0 to 1)",
    "distance": "km to the nearest training location",
}


def measure_brightness(store: ChipStore) -> np.ndarray:
    """Compute the mean ``(M,)`` of all pixels and bands of each chip, from 0 to 1."""
    return store.chips.mean((1, 2, 3), dtype=np.float64) / np.iinfo(store.dtype).max


def measure_contrast(store: ChipStore) -> np.ndarray:
    """Compute the standard deviation ``(M,)`` of the gray values of each chip, from 0 to 0.5."""
    gray = store.chips.mean(1, dtype=np.float64) / np.iinfo(store.dtype).max
    return gray.std((1, 2))


def measure_mixture(table: pd.DataFrame, *, points: int = 9) -> np.ndarray:
    """Compute the share ``(M,)`` of the land in each chip with another climate than its label.

    ``table`` is of `geossl.datasets.blue_marble`; ``points`` along each side of a chip are read.
    """
    names = earth.zone_names()
    letter = np.array([names.get(i, "?")[0] for i in range(256)])
    letter[earth.OCEAN] = "?"
    offset = (np.arange(points) + 0.5) / points - 0.5
    km = offset * table["footprint_km"].to_numpy(float)[:, None]  # (M, points)
    lat = np.clip(table["lat"].to_numpy(float)[:, None] - km / _KM_PER_DEGREE, -89.9, 89.9)
    east = km[:, None, :] / (_KM_PER_DEGREE * np.cos(np.radians(lat))[:, :, None])
    lon = geo.wrap_lon(table["lon"].to_numpy(float)[:, None, None] + east)  # (M, points, points)
    lat = np.broadcast_to(lat[:, :, None], lon.shape)
    zone = letter[earth.zones_at(lon.ravel(), lat.ravel())].reshape(len(table), -1)
    land = zone != "?"
    other = land & (zone != table["label"].str[0].to_numpy(str)[:, None])
    return other.sum(1) / np.maximum(land.sum(1), 1)


@validated
def compare_neighbors(
    store: ChipStore, encoders: Mapping[str, Embeddings], *, k: PositiveInt = 10, seed: Seed = 0
) -> pd.DataFrame:
    """Measure what the test chips have in common with their ``k`` neighbors at other locations.

    Returns a row for each encoder and one for neighbors drawn at random: ``neighbors``,
    ``same_climate, low, high`` (share, 95 % over locations), ``km`` and ``brightness`` (medians of
    the distance, and of the difference in mean brightness, 0 to 1).
    """
    table, rows = store.scenes, _test_rows(store)
    label, brightness = table["label"].to_numpy(), measure_brightness(store)
    lon, lat = table["lon"].to_numpy(float), table["lat"].to_numpy(float)
    rng = np.random.default_rng(derive_seed(seed, "drawn"))
    matches = {name: neighbors(some, rows, k=k)[0] for name, some in encoders.items()}
    matches[_AT_RANDOM] = rng.integers(0, len(table), (len(rows), k))
    lines = []
    for name, near in matches.items():
        same = label[near] == label[rows][:, None]
        location = np.repeat(table["location"].to_numpy()[rows], near.shape[1])
        share = bootstrap.share_interval(same.ravel(), location, seed)
        km = geo.great_circle_km(lon[near], lat[near], lon[rows, None], lat[rows, None])
        difference = np.abs(brightness[near] - brightness[rows, None])
        lines.append([name, *share, np.median(km), np.median(difference)])
    columns = ["neighbors", "same_climate", "low", "high", "km", "brightness"]
    return pd.DataFrame(lines, columns=columns)


def neighbors_in_words(near: pd.DataFrame) -> pd.DataFrame:
    """Round the table of `compare_neighbors` for readers."""
    return pd.DataFrame({
        "the ten most similar to": near["neighbors"],
        "same climate": [interval_text(*row) for row in near.iloc[:, 1:4].to_numpy()],
        "km away": near["km"].map("{:,.0f}".format),
        "difference in brightness": near["brightness"].map("{:.3f}".format),
    })  # fmt: skip


@validated
def most_disputed(
    store: ChipStore, encoders: Mapping[str, Embeddings], *, k: PositiveInt = 10
) -> int:
    """Find the test chip whose neighbors have its climate by one encoder and not by another."""
    rows, label = _test_rows(store), store.scenes["label"].to_numpy()
    same = [
        (label[neighbors(some, rows, k=k)[0]] == label[rows][:, None]).mean(1)
        for some in encoders.values()
    ]
    return int(rows[np.ptp(same, axis=0).argmax()])


def _test_rows(store: ChipStore) -> np.ndarray:
    return np.flatnonzero((store.scenes["split"] == "test").to_numpy(bool))


def list_suspects(result: ProbeResult, store: ChipStore) -> pd.DataFrame:
    """List ``row, location, hit`` and the `SUSPECTS` of each test chip."""
    table = result.predictions[["row", "location", "hit"]]
    km = evaluate.leakage(store.scenes).locations.set_index("location")["km"]
    return table.assign(
        mixed=measure_mixture(store.scenes.iloc[table["row"]]),
        contrast=measure_contrast(store)[table["row"]],
        distance=km.loc[table["location"]].to_numpy(float),
    )


@validated
def error_by_thirds(table: pd.DataFrame, suspect: str, *, seed: Seed = 0) -> pd.DataFrame:
    """Measure the share of wrong chips in the lowest, middle and highest third of a suspect.

    Returns ``third, median`` (of the suspect) and ``error, low, high`` (95 % over locations).
    """
    ordered, lines = table.sort_values(suspect, kind="stable"), []
    ends = [round(len(table) * part / 3) for part in range(4)]
    for i, name in enumerate(("lowest", "middle", "highest")):
        part = ordered.iloc[ends[i] : ends[i + 1]]
        error = bootstrap.share_interval(~part["hit"].to_numpy(), part["location"].to_numpy(), seed)
        lines.append([name, float(part[suspect].median()), *error])
    return pd.DataFrame(lines, columns=["third", "median", "error", "low", "high"])


@validated
def surest_mistakes(result: ProbeResult, *, count: PositiveInt = 8) -> pd.DataFrame:
    """Sort the wrong predictions by confidence, the surest first, and keep one of each location."""
    wrong = result.predictions[~result.predictions["hit"]]
    wrong = wrong.sort_values("confidence", ascending=False, kind="stable")
    return wrong.drop_duplicates("location").head(count).reset_index(drop=True)


def undecided_locations(result: ProbeResult) -> np.ndarray:
    """Find the locations that are classified correctly at some dates and wrongly at others."""
    right = result.predictions.groupby("location", sort=True)["hit"].mean()
    return right.index[(right > 0) & (right < 1)].to_numpy()


@validated
def undecided_examples(
    result: ProbeResult, *, count: PositiveInt = 2
) -> tuple[np.ndarray, list[str]]:
    """Choose undecided locations with the surest mistakes, and describe all their dates.

    Returns the rows in the store, location by location, and the prediction for each in words. Where
    fewer than ``count`` locations are undecided, others follow.
    """
    table = result.predictions.assign(sure=lambda x: x["confidence"].where(~x["hit"], 0))
    order = table.groupby("location")["sure"].max()
    order = order + order.index.isin(undecided_locations(result))
    locations = order.sort_values(ascending=False, kind="stable").index[:count]
    chips = pd.concat([table[table["location"] == location] for location in locations])
    words = [
        f"{chip.predicted}\n{'right' if chip.hit else 'wrong'}, {chip.confidence:.0%} sure"
        for chip in chips.itertuples()
    ]
    return chips["row"].to_numpy(), words


@validated
def summarize(
    store: ChipStore,
    encoders: Mapping[str, Embeddings],
    results: Mapping[str, ProbeResult],
    *,
    seed: Seed = 0,
) -> pd.DataFrame:
    """Answer the questions of the lesson: a row for each, a column for each encoder.

    ``results`` are linear probes of the climate by encoder.
    """
    near = compare_neighbors(store, encoders, seed=seed).set_index("neighbors")
    columns = {}
    for name, result in results.items():
        same = evaluate.same_location(encoders[name], split="test", seed=seed)
        thirds = error_by_thirds(list_suspects(result, store), "mixed", seed=seed)
        purest, _, most_mixed = thirds[["error", "low", "high"]].to_numpy()
        columns[name] = {
            "of the 10 most similar, the same climate": near.loc[name].iloc[:3],
            "another date of the same location comes first": (same.value, same.low, same.high),
            "climate wrong, all held-out chips": (
                1 - result.value,
                1 - result.high,
                1 - result.low,
            ),
            "climate wrong, the purest third of the chips": purest,
            "climate wrong, the most mixed third": most_mixed,
        }
    answers = pd.DataFrame(
        {n: {q: interval_text(*v) for q, v in c.items()} for n, c in columns.items()}
    )
    return answers.rename_axis("question").reset_index()
