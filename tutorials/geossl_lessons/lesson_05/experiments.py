"""What lesson 05 measures: what neighbors share, and where and why a probe fails."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from geossl import evaluate, geo
from geossl.data import earth
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, neighbors
from geossl.evaluate import ProbeResult, bootstrap
from geossl.utils.seeds import derive_seed

_KM_PER_DEGREE = np.pi * geo.EARTH_RADIUS_KM / 180
FACTORS = {
    "mixed": "share of another climate in the chip",
    "contrast": "contrast of the chip (0 to 1)",
    "distance": "km to the nearest training place",
}


def brightness(store: ChipStore) -> np.ndarray:
    """Mean ``(M,)`` of all pixels and bands of each chip, 0 to 1."""
    return store.chips.mean((1, 2, 3), dtype=np.float64) / np.iinfo(store.dtype).max


def contrast(store: ChipStore) -> np.ndarray:
    """Spread ``(M,)`` of the gray values of each chip, 0 to 0.5."""
    gray = store.chips.mean(1, dtype=np.float64) / np.iinfo(store.dtype).max
    return gray.std((1, 2))


def alike(
    store: ChipStore,
    encoders: Mapping[str, Embeddings],
    *,
    k: int = 10,
    split: str = "test",
    seed: int = 0,
) -> pd.DataFrame:
    """What the pictures that are most alike to an encoder share with the one that asks.

    Args:
        store: the chips.
        encoders: name -> embeddings of all of them.
        k: neighbors of each query, of other places.
        split: of the queries; neighbors are of all splits.
        seed: of the bootstrap, and of the row "drawn at random".

    Returns:
        A row an encoder, and one for neighbors drawn at random: ``neighbors``,
        ``same_climate, low, high`` (share, 95 % over places), ``km`` and ``light`` (medians:
        how far away, and how different the mean brightness, 0 to 1).
    """
    table = store.scenes
    rows = np.flatnonzero((table["split"] == split).to_numpy(bool))
    label, light = table["label"].to_numpy(), brightness(store)
    lon, lat = table["lon"].to_numpy(float), table["lat"].to_numpy(float)
    rng = np.random.default_rng(derive_seed(seed, "drawn"))
    found = {name: neighbors(some, rows, k=k)[0] for name, some in encoders.items()}
    found["drawn at random"] = rng.integers(0, len(table), (len(rows), k))
    lines = []
    for name, near in found.items():
        same = label[near] == label[rows][:, None]
        place = np.repeat(table["location"].to_numpy()[rows], near.shape[1])
        share = bootstrap.share_interval(same.ravel(), place, seed)
        km = geo.great_circle_km(lon[near], lat[near], lon[rows, None], lat[rows, None])
        apart = np.abs(light[near] - light[rows, None])
        lines.append([name, *share, float(np.median(km)), float(np.median(apart))])
    columns = ["neighbors", "same_climate", "low", "high", "km", "light"]
    return pd.DataFrame(lines, columns=columns)


def alike_in_words(near: pd.DataFrame) -> pd.DataFrame:
    """The table of `alike` as it is read: shares in per cent with their intervals, rounded."""
    shares = [in_words(row) for row in near[["same_climate", "low", "high"]].to_numpy()]
    return pd.DataFrame({
        "the ten most alike by": near["neighbors"],
        "same climate": shares,
        "km away": [f"{km:,.0f}" for km in near["km"]],
        "difference in brightness": [f"{light:.3f}" for light in near["light"]],
    })  # fmt: skip


def mixed(scenes: pd.DataFrame, *, side: int = 9) -> np.ndarray:
    """Share ``(M,)`` of the land in each chip that has another main climate than its label.

    Args:
        scenes: of `geossl.datasets.blue_marble`: positions, ``label`` and ``footprint_km``.
        side: points along each side of a chip that are looked at.
    """
    names = earth.zone_names()
    letter = np.array([names.get(i, "?")[0] for i in range(256)])
    letter[earth.OCEAN] = "?"
    step = ((np.arange(side) + 0.5) / side - 0.5) * scenes["footprint_km"].to_numpy(float)[:, None]
    lat = scenes["lat"].to_numpy(float)[:, None] - step / _KM_PER_DEGREE  # (M, side)
    lat = np.clip(lat, -89.9, 89.9)
    east = step[:, None, :] / (_KM_PER_DEGREE * np.cos(np.radians(lat))[:, :, None])
    lon = geo.wrap_lon(scenes["lon"].to_numpy(float)[:, None, None] + east)  # (M, side, side)
    lat = np.broadcast_to(lat[:, :, None], lon.shape)
    zone = letter[earth.zones_at(lon.ravel(), lat.ravel())].reshape(len(scenes), -1)
    own = scenes["label"].str[0].to_numpy(str)[:, None]
    land = zone != "?"
    return (land & (zone != own)).sum(1) / np.maximum(land.sum(1), 1)


def suspects(result: ProbeResult, store: ChipStore) -> pd.DataFrame:
    """What may make a probe fail: a row a test chip, ``row, location, hit`` and `FACTORS`."""
    seen = result.predictions
    rows = seen["row"].to_numpy()
    places = evaluate.leakage(store.scenes).locations.set_index("location")["km"]
    return pd.DataFrame({
        "row": rows,
        "location": seen["location"].to_numpy(),
        "hit": seen["hit"].to_numpy(bool),
        "mixed": mixed(store.scenes.iloc[rows]),
        "contrast": contrast(store)[rows],
        "distance": places.loc[seen["location"]].to_numpy(float),
    })  # fmt: skip


def error_by(table: pd.DataFrame, factor: str, *, seed: int = 0) -> pd.DataFrame:
    """Share of wrong chips in the lowest, middle and highest third of a factor.

    Args:
        table: of `suspects`.
        factor: one of its columns.
        seed: of the bootstrap.

    Returns:
        Three rows: ``third``, ``middle`` (median of the factor), ``error, low, high`` (95 % over
        places).
    """
    ordered = table.sort_values(factor, kind="stable")
    lines = []
    for name, part in zip(("lowest", "middle", "highest"), _thirds(len(ordered)), strict=True):
        some = ordered.iloc[part]
        error = bootstrap.share_interval(~some["hit"].to_numpy(), some["location"].to_numpy(), seed)
        lines.append([name, float(some[factor].median()), *error])
    return pd.DataFrame(lines, columns=["third", "middle", "error", "low", "high"])


def _thirds(count: int) -> list[slice]:
    ends = [round(count * part / 3) for part in range(4)]
    return [slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True)]


def undecided(result: ProbeResult) -> np.ndarray:
    """Places that are classified rightly at one date and wrongly at another, by location."""
    right = result.predictions.groupby("location", sort=True)["hit"].mean()
    return right.index[(right > 0) & (right < 1)].to_numpy()


def mistakes(result: ProbeResult, *, count: int = 8) -> pd.DataFrame:
    """The wrong predictions that the probe was surest of, one a place, the surest first."""
    wrong = result.predictions[~result.predictions["hit"]]
    wrong = wrong.sort_values("confidence", ascending=False, kind="stable")
    return wrong.drop_duplicates("location").head(count).reset_index(drop=True)


def most_disputed(
    store: ChipStore, encoders: Mapping[str, Embeddings], *, k: int = 10, split: str = "test"
) -> int:
    """Row of the chip for which two encoders' neighbors share its climate most differently."""
    rows = np.flatnonzero((store.scenes["split"] == split).to_numpy(bool))
    label = store.scenes["label"].to_numpy()
    same = [
        (label[neighbors(some, rows, k=k)[0]] == label[rows][:, None]).mean(1)
        for some in encoders.values()
    ]
    return int(rows[np.ptp(same, axis=0).argmax()])


def at_all_dates(result: ProbeResult, *, count: int = 2) -> tuple[np.ndarray, list[str]]:
    """Rows of all dates of some places that are classified differently, and what was said.

    Args:
        result: of a probe of climate.
        count: places; those with the surest mistake. Others fill up where too few are undecided.

    Returns:
        Rows in the store, place by place, and "climate, right" or "climate, wrong" of each.
    """
    seen = result.predictions.assign(sure=lambda x: x["confidence"].where(~x["hit"], 0))
    order = seen.groupby("location")["sure"].max()
    order = order + order.index.isin(undecided(result))
    places = order.sort_values(ascending=False, kind="stable").index[:count]
    chosen = pd.concat([seen[seen["location"] == place] for place in places])
    words = [
        f"{one.predicted}\n{'right' if one.hit else 'wrong'}, {one.confidence:.0%} sure"
        for one in chosen.itertuples()
    ]
    return chosen["row"].to_numpy(), words


def conclusion(
    store: ChipStore,
    encoders: Mapping[str, Embeddings],
    results: Mapping[str, ProbeResult],
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """What is inside some encoders, a row a question, a column an encoder, with 95 % intervals.

    Args:
        store: the chips.
        encoders: name -> embeddings of all chips.
        results: name -> a linear probe of climate on them.
        seed: of every bootstrap.
    """
    near = alike(store, encoders, seed=seed).set_index("neighbors")
    lines: dict[str, dict[str, str]] = {}
    for name, result in results.items():
        one = near.loc[name]
        place = evaluate.same_location(encoders[name], split="test", seed=seed)
        pure = error_by(suspects(result, store), "mixed", seed=seed)
        wrong = (1 - result.value, 1 - result.high, 1 - result.low)
        best, worst = (tuple(pure.loc[i, ["error", "low", "high"]]) for i in (0, 2))
        said = {
            "of the 10 most alike, the same climate": (one.same_climate, one.low, one.high),
            "its own place at another date comes first": (place.value, place.low, place.high),
            "climate wrong, all held-out chips": wrong,
            "climate wrong, the purest third of the chips": best,
            "climate wrong, the most mixed third": worst,
        }
        for question, values in said.items():
            lines.setdefault(question, {})[name] = in_words(values)
    return pd.DataFrame(lines).T.rename_axis("question").reset_index()


def in_words(values: ArrayLike) -> str:
    """A share with its interval: "41 % (38 to 44)"."""
    value, low, high = (100 * float(x) for x in np.asarray(values, float))
    return f"{value:.0f} % ({low:.0f} to {high:.0f})"
