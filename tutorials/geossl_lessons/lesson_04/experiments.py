"""What lesson 04 measures: regions on the sphere, a head's guesses, and what regions confound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from geossl import evaluate, geo, models
from geossl.clusters import GeoClusters
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, embed
from geossl.evaluate import ProbeResult, bootstrap
from geossl.train.pretrain import Run
from geossl.utils.seeds import derive_seed
from geossl_lessons.lesson_06.experiments import difference

_FAR_KM = 3_000  # between the places of the puzzle
_L2 = (1e-1, 1e-2, 1e-3)


def six_places(store: ChipStore, *, count: int = 6, seed: int = 0) -> np.ndarray:
    """Rows ``(count,)`` of chips of as many climates as there are, far from each other."""
    table = store.scenes
    order = np.random.default_rng(derive_seed(seed, "six")).permutation(len(table))
    label, lon, lat = (table[name].to_numpy() for name in ("label", "lon", "lat"))
    most = -(-count // table["label"].nunique())  # rows of one climate
    for far in (_FAR_KM, 0):
        chosen: list[int] = []
        for row in order:
            apart = geo.great_circle_km(lon[row], lat[row], lon[chosen], lat[chosen])
            if (label[chosen] == label[row]).sum() < most and (apart > far).all():
                chosen.append(int(row))
            if len(chosen) == count:
                return np.array(chosen)
    raise ValueError(f"expected {count} places to choose from, came {table['location'].nunique()}")


def near_the_seam(table: pd.DataFrame, *, lowest: float = 45.0) -> int:
    """Row of the place north of a latitude that lies nearest to the 180th meridian."""
    lon, lat = table["lon"].to_numpy(float), table["lat"].to_numpy(float)
    away = (180 - np.abs(lon)) * np.cos(np.radians(lat))
    return int(np.where(lat >= lowest, away, away + 360).argmin())


def together(
    table: pd.DataFrame, clusters: Mapping[str, GeoClusters], *, within_km: float = 1_000.0
) -> pd.DataFrame:
    """How often two places near each other lie in the same cluster, at the seam and elsewhere.

    Args:
        table: scene table; each location counts once.
        clusters: name -> clusters.
        within_km: what is near.

    Returns:
        Columns ``k-means on``, ``pairs`` (across the 180th meridian or not), ``how many`` and
        ``together`` (share; nan where there is no pair).
    """
    places = table.drop_duplicates("location")
    lon, lat = places["lon"].to_numpy(float), places["lat"].to_numpy(float)
    near = geo.great_circle_km(lon[:, None], lat[:, None], lon[None], lat[None]) < within_km
    first, second = np.nonzero(np.triu(near, 1))
    across = np.abs(lon[first] - lon[second]) > 180
    lines = []
    for name, some in clusters.items():
        own = some.assign(lon, lat)
        same = own[first] == own[second]
        for words, part in (("elsewhere", ~across), ("across 180°", across)):
            share = float(same[part].mean()) if part.any() else np.nan
            lines.append([name, words, int(part.sum()), share])
    return pd.DataFrame(lines, columns=["k-means on", "pairs", "how many", "together"])


def tricky_place(table: pd.DataFrame, clusters: GeoClusters) -> int:
    """Row of a place whose nearest center on the ground is not the nearest in degrees, if any.

    Of several, the one that degrees mislead most.
    """
    lon, lat = table["lon"].to_numpy(float), table["lat"].to_numpy(float)
    km = geo.great_circle_km(lon[:, None], lat[:, None], *clusters.centers.T[:, None])  # (M, K)
    flat = np.hypot(lon[:, None] - clusters.centers[:, 0], lat[:, None] - clusters.centers[:, 1])
    misled = np.take_along_axis(km, flat.argmin(1)[:, None], 1)[:, 0]
    return int((misled - km.min(1)).argmax())


def confounding(
    table: pd.DataFrame, ks: Iterable[int], *, label: str = "label", seed: int = 0
) -> pd.DataFrame:
    """What a cluster's number tells of a label, for some K, beside labels dealt out at random.

    Args:
        table: scene table; each location counts once.
        ks: numbers of clusters; those above the number of places are left out.
        label: column of labels.
        seed: of k-means and of the dealing.

    Returns:
        Columns ``k, on`` ("real climates" or "dealt at random"), ``purity`` and
        ``entropy_bits``, means over places, for `geossl.viz.plots.plot_growth`.
    """
    places = table.drop_duplicates("location").reset_index(drop=True)
    rng = np.random.default_rng(derive_seed(seed, "dealt"))
    dealt = places.assign(**{label: rng.permutation(places[label].to_numpy())})
    lines = []
    for k in ks:
        if k > len(places):
            continue
        clusters = GeoClusters.fit(places, k=k, seed=seed)
        for name, of in (("real climates", places), ("dealt at random", dealt)):
            found = clusters.purity(of, label=label).dropna(subset="purity")
            means = np.average(found[["purity", "entropy_bits"]], axis=0, weights=found["size"])
            lines.append([k, name, *means])
    return pd.DataFrame(lines, columns=["k", "on", "purity", "entropy_bits"])


def other_positions(store: ChipStore, *, seed: int = 0) -> ChipStore:
    """The same pictures, in memory, with places' positions exchanged at random within a split."""
    table, rng = store.scenes, np.random.default_rng(derive_seed(seed, "positions"))
    places = table.drop_duplicates("location")[["location", "split", "lon", "lat"]]
    for _, part in places.groupby("split", dropna=False):
        mixed = part[["lon", "lat"]].to_numpy()[rng.permutation(len(part))]
        places.loc[part.index, ["lon", "lat"]] = mixed
    found = places.set_index("location").loc[table["location"], ["lon", "lat"]].to_numpy()
    return replace(store, scenes=table.assign(lon=found[:, 0], lat=found[:, 1]))


def own_cameras(
    store: ChipStore, clusters: GeoClusters, *, spread: float = 0.4, seed: int = 0
) -> ChipStore:
    """The same places, in memory, as if every cluster had been photographed by its own camera.

    Args:
        store: the chips, uint8.
        clusters: one camera each.
        spread: the gain of each band of a camera is drawn from ``1 -+ spread``.
        seed: of the gains.
    """
    rng = np.random.default_rng(derive_seed(seed, "cameras"))
    gains = rng.uniform(1 - spread, 1 + spread, (clusters.k, len(store.bands))).astype(np.float32)
    own = clusters.assign(store.scenes["lon"], store.scenes["lat"])
    chips = np.clip(store.chips * gains[own][:, :, None, None], 0, 255).round().astype(np.uint8)
    flat = chips.transpose(1, 0, 2, 3).reshape(len(store.bands), -1)
    mean, std = flat.mean(1, dtype=np.float64), flat.std(1, dtype=np.float64)
    return replace(store, chips=chips, mean=mean.astype(np.float32), std=std.astype(np.float32))


@torch.no_grad()
def guesses(run: Run, store: ChipStore, rows: ArrayLike) -> np.ndarray:
    """What the geo head of a run says of some chips: shares ``(N, K)`` that add up to 1."""
    moco = run._moco.eval()
    parts = []
    for part in np.array_split(np.asarray(rows), -(-len(np.asarray(rows)) // 256)):
        chips = moco.encoder.normalize(store.gather(part).to(moco.encoder.mean.device))
        parts.append(moco.classify("geo", *moco.query(chips)).float().softmax(1).cpu().numpy())
    return np.concatenate(parts)


@dataclass(frozen=True)
class Guessed:
    """How well a geo head finds the region of pictures.

    Attributes:
        value, low, high: share of right regions, and its 95 % interval over places.
        chance: share of the region that has most training places.
        km: median distance from the center of the guessed region to the place.
        chance_km: the same for guesses exchanged between the pictures at random.
    """

    value: float
    low: float
    high: float
    chance: float
    km: float
    chance_km: float

    def __str__(self) -> str:
        return (
            f"{self.value:.0%} ({self.low:.0%} to {self.high:.0%}) in the right region, chance "
            f"{self.chance:.0%}; the guess is off by {self.km:,.0f} km (median), "
            f"by {self.chance_km:,.0f} km if guesses are exchanged"
        )


def guessed(
    run: Run, store: ChipStore, clusters: GeoClusters, *, split: str = "test", seed: int = 0
) -> Guessed:
    """Are the regions of a split's pictures found by the geo head?"""
    table = store.scenes
    rows = np.flatnonzero((table["split"] == split).to_numpy(bool))
    part = table.iloc[rows]
    lon, lat = part["lon"].to_numpy(float), part["lat"].to_numpy(float)
    guess, true = guesses(run, store, rows).argmax(1), clusters.assign(lon, lat)
    at = clusters.centers[guess]
    mixed = at[np.random.default_rng(derive_seed(seed, "exchanged")).permutation(len(at))]
    km, chance_km = (np.median(geo.great_circle_km(lon, lat, *c.T)) for c in (at, mixed))
    share = bootstrap.share_interval(guess == true, part["location"].to_numpy(), seed)
    chance = float((true == clusters.sizes.argmax()).mean())
    return Guessed(*share, chance, float(km), float(chance_km))


def what_it_learned(
    store: ChipStore,
    encoders: Mapping[str, models.Encoder],
    clusters: GeoClusters,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Linear probes of region and climate in parts of the world held out, the first the baseline.

    Args:
        store: the chips, with a split.
        encoders: name -> encoder; the first is what the others are compared with.
        clusters: the regions.
        seed: of probes and bootstrap.

    Returns:
        A row an encoder and a task, with ``encoder, task, value, low, high, chance`` and the
        ``gain`` over the first with its interval ``gain_low, gain_high`` (nan for the first).
    """
    region = clusters.assign(store.scenes["lon"], store.scenes["lat"]).astype(str)
    lines: list[list[object]] = []
    base: dict[str, ProbeResult] = {}
    for name, encoder in encoders.items():
        found = embed(store, encoder)
        found = Embeddings(found.vectors, found.scenes.assign(region=region))
        for task, label in (("region", "region"), ("climate", "label")):
            result = evaluate.linear(found, label=label, l2=_L2, seed=seed)
            more = (np.nan,) * 3
            if task in base:
                more = astuple(difference(result, base[task], seed=seed))
            base.setdefault(task, result)
            lines.append([name, task, result.value, result.low, result.high, result.chance, *more])
    columns = "encoder task value low high chance gain gain_low gain_high".split()
    return pd.DataFrame(lines, columns=columns)


def conclusion(found: pd.DataFrame) -> pd.DataFrame:
    """The table of `what_it_learned` in words: a row an encoder and a task, and what follows."""
    lines = []
    for task, rows in found.groupby("task", sort=False):
        for row in rows.itertuples():
            more, so = "–", "the baseline"
            if np.isfinite(row.gain):
                more = f"{row.gain:+.1%} ({row.gain_low:+.1%} to {row.gain_high:+.1%})"
                so = "no difference shown"
                if row.gain_low > 0:
                    so = "better than without learning"
                elif row.gain_high < 0:
                    so = "worse than without learning"
            value = f"{row.value:.1%} ({row.low:.1%} to {row.high:.1%})"
            lines.append([task, row.encoder, value, f"{row.chance:.1%}", more, so])
    return pd.DataFrame(lines, columns=["task", "encoder", "right", "chance", "gain", "so"])
