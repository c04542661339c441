"""Experiments of lesson 04: regions on the sphere, what a geo head guesses, what it confounds."""

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
from geossl.utils.validate import Fraction, Positive, PositiveInt, Seed, validated
from geossl_lessons.lesson_06.experiments import difference
from geossl_lessons.showing import interval_text

_FAR_KM = 3_000  # between the locations of the puzzle
_L2 = (1e-1, 1e-2, 1e-3)


@validated
def sample_locations(store: ChipStore, *, count: PositiveInt = 6, seed: Seed = 0) -> np.ndarray:
    """Sample rows ``(count,)`` of chips of as many climates as possible, far from each other."""
    table = store.scenes
    order = np.random.default_rng(derive_seed(seed, "six")).permutation(len(table))
    label, lon, lat = (table[name].to_numpy() for name in ("label", "lon", "lat"))
    most = -(-count // table["label"].nunique())  # rows of one climate
    for far in (_FAR_KM, 0):
        chosen: list[int] = []
        for row in order:
            km = geo.great_circle_km(lon[row], lat[row], lon[chosen], lat[chosen])
            if (label[chosen] == label[row]).sum() < most and (km > far).all():
                chosen.append(int(row))
            if len(chosen) == count:
                return np.array(chosen)
    raise ValueError(f"`count` must be at most the number of suitable locations, got {count}.")


def row_near_antimeridian(table: pd.DataFrame, *, lowest: float = 45.0) -> int:
    """Find the row north of a latitude that is nearest to the 180th meridian."""
    lon, lat = table["lon"].to_numpy(float), table["lat"].to_numpy(float)
    away = (180 - np.abs(lon)) * np.cos(np.radians(lat))
    return int(np.where(lat >= lowest, away, away + 360).argmin())


@validated
def compare_at_antimeridian(
    table: pd.DataFrame, clusters: Mapping[str, GeoClusters], *, within_km: Positive = 1_000.0
) -> pd.DataFrame:
    """Count how often two near locations share a cluster, across the 180th meridian and elsewhere.

    Returns ``k-means on``, ``pairs``, ``count`` and ``same cluster`` (share; nan without a pair).
    """
    locations = table.drop_duplicates("location")
    lon, lat = locations["lon"].to_numpy(float), locations["lat"].to_numpy(float)
    near = geo.great_circle_km(lon[:, None], lat[:, None], lon[None], lat[None]) < within_km
    first, second = np.nonzero(np.triu(near, 1))
    across = np.abs(lon[first] - lon[second]) > 180
    rows = []
    for name, some in clusters.items():
        number = some.assign(lon, lat)
        same = number[first] == number[second]
        for words, part in (("elsewhere", ~across), ("across 180°", across)):
            share = float(same[part].mean()) if part.any() else np.nan
            rows.append([name, words, int(part.sum()), share])
    return pd.DataFrame(rows, columns=["k-means on", "pairs", "count", "same cluster"])


def misleading_row(table: pd.DataFrame, clusters: GeoClusters) -> int:
    """Find the row that degrees mislead most about its nearest center, if there is one."""
    lon, lat = table["lon"].to_numpy(float), table["lat"].to_numpy(float)
    km = geo.great_circle_km(lon[:, None], lat[:, None], *clusters.centers.T[:, None])  # (M, K)
    flat = np.hypot(lon[:, None] - clusters.centers[:, 0], lat[:, None] - clusters.centers[:, 1])
    nearest_in_degrees = np.take_along_axis(km, flat.argmin(1)[:, None], 1)[:, 0]
    return int((nearest_in_degrees - km.min(1)).argmax())


@validated
def purity_by_k(
    table: pd.DataFrame, ks: Iterable[int], *, label: str = "label", seed: Seed = 0
) -> pd.DataFrame:
    """Measure what a cluster's number tells of a label, compared with shuffled labels.

    Each location counts once; values of K above their number are left out. Returns ``k, on, purity,
    entropy_bits``, means over locations, for `geossl.viz.plots.plot_growth`.
    """
    locations = table.drop_duplicates("location").reset_index(drop=True)
    rng = np.random.default_rng(derive_seed(seed, "dealt"))
    shuffled = locations.assign(**{label: rng.permutation(locations[label].to_numpy())})
    rows = []
    for k in ks:
        if k > len(locations):
            continue
        clusters = GeoClusters.fit(locations, k=k, seed=seed)
        for name, labeled in (("real climates", locations), ("shuffled climates", shuffled)):
            purity = clusters.purity(labeled, label=label).dropna(subset="purity")
            means = np.average(purity[["purity", "entropy_bits"]], axis=0, weights=purity["size"])
            rows.append([k, name, *means])
    return pd.DataFrame(rows, columns=["k", "on", "purity", "entropy_bits"])


@validated
def shuffle_positions(store: ChipStore, *, seed: Seed = 0) -> ChipStore:
    """Exchange the positions of locations at random within each split, in memory."""
    table, rng = store.scenes, np.random.default_rng(derive_seed(seed, "positions"))
    locations = table.drop_duplicates("location")[["location", "split", "lon", "lat"]]
    for _, part in locations.groupby("split", dropna=False):
        shuffled = part[["lon", "lat"]].to_numpy()[rng.permutation(len(part))]
        locations.loc[part.index, ["lon", "lat"]] = shuffled
    position = locations.set_index("location").loc[table["location"], ["lon", "lat"]].to_numpy()
    return replace(store, scenes=table.assign(lon=position[:, 0], lat=position[:, 1]))


@validated
def add_cameras(
    store: ChipStore, clusters: GeoClusters, *, spread: Fraction = 0.4, seed: Seed = 0
) -> ChipStore:
    """Tint uint8 chips, in memory, as if every cluster had been photographed by its own camera.

    The gain of each band of a camera is drawn from ``1 -+ spread``.
    """
    rng = np.random.default_rng(derive_seed(seed, "cameras"))
    gains = rng.uniform(1 - spread, 1 + spread, (clusters.k, len(store.bands))).astype(np.float32)
    camera = clusters.assign(store.scenes["lon"], store.scenes["lat"])
    chips = np.clip(store.chips * gains[camera][:, :, None, None], 0, 255).round().astype(np.uint8)
    flat = chips.transpose(1, 0, 2, 3).reshape(len(store.bands), -1)
    mean, std = flat.mean(1, dtype=np.float64), flat.std(1, dtype=np.float64)
    return replace(store, chips=chips, mean=mean.astype(np.float32), std=std.astype(np.float32))


@torch.no_grad()
def predict_regions(run: Run, store: ChipStore, rows: ArrayLike) -> np.ndarray:
    """Apply the geo head of a run to chips: shares ``(N, K)`` that sum to 1."""
    moco, rows = run._moco.eval(), np.asarray(rows)
    parts = []
    for part in np.array_split(rows, -(-len(rows) // 256)):
        chips = moco.encoder.normalize(store.gather(part).to(moco.encoder.mean.device))
        parts.append(moco.classify("geo", *moco.query(chips)).float().softmax(1).cpu().numpy())
    return np.concatenate(parts)


@dataclass(frozen=True)
class RegionAccuracy:
    """How well a geo head finds the region of pictures, with a 95 % interval over locations.

    ``chance`` is the share of the region with most training locations, ``km`` the median distance
    from the center of the predicted region to the location, ``chance_km`` the same for predictions
    exchanged between the pictures at random.
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
            f"{self.chance:.0%}; the prediction is off by {self.km:,.0f} km (median), "
            f"by {self.chance_km:,.0f} km if predictions are exchanged"
        )


@validated
def evaluate_regions(
    run: Run, store: ChipStore, clusters: GeoClusters, *, split: str = "test", seed: Seed = 0
) -> RegionAccuracy:
    """Measure how well the geo head finds the regions of a split's pictures."""
    rows = np.flatnonzero((store.scenes["split"] == split).to_numpy(bool))
    part = store.scenes.iloc[rows]
    lon, lat = part["lon"].to_numpy(float), part["lat"].to_numpy(float)
    region, true = predict_regions(run, store, rows).argmax(1), clusters.assign(lon, lat)
    center = clusters.centers[region]
    order = np.random.default_rng(derive_seed(seed, "exchanged")).permutation(len(center))
    km, chance_km = (
        float(np.median(geo.great_circle_km(lon, lat, *c.T))) for c in (center, center[order])
    )
    interval = bootstrap.share_interval(region == true, part["location"].to_numpy(), seed)
    chance = float((true == clusters.sizes.argmax()).mean())
    return RegionAccuracy(*interval, chance, km, chance_km)


@validated
def probe_encoders(
    store: ChipStore,
    encoders: Mapping[str, models.Encoder],
    clusters: GeoClusters,
    *,
    seed: Seed = 0,
) -> pd.DataFrame:
    """Probe encoders for region and climate in held-out parts of the world.

    Returns ``encoder, task, value, low, high, chance`` and the paired ``gain`` over the first
    encoder with its interval ``gain_low, gain_high``.
    """
    region = clusters.assign(store.scenes["lon"], store.scenes["lat"]).astype(str)
    rows: list[list[object]] = []
    baseline: dict[str, ProbeResult] = {}
    for name, encoder in encoders.items():
        embeddings = embed(store, encoder)
        embeddings = Embeddings(embeddings.vectors, embeddings.scenes.assign(region=region))
        for task, label in (("region", "region"), ("climate", "label")):
            result = evaluate.linear(embeddings, label=label, l2=_L2, seed=seed)
            gain = (np.nan,) * 3
            if task in baseline:
                gain = astuple(difference(result, baseline[task], seed=seed))
            baseline.setdefault(task, result)
            rows.append([name, task, result.value, result.low, result.high, result.chance, *gain])
    columns = "encoder task value low high chance gain gain_low gain_high".split()
    return pd.DataFrame(rows, columns=columns)


def summarize(results: pd.DataFrame) -> pd.DataFrame:
    """Put the table of `probe_encoders` into words, with what follows from each row."""
    lines = []
    for task, rows in results.groupby("task", sort=False):
        for row in rows.itertuples():
            gain, conclusion = "–", "the baseline"
            if np.isfinite(row.gain):
                gain = f"{row.gain:+.1%} ({row.gain_low:+.1%} to {row.gain_high:+.1%})"
                conclusion = "no difference shown"
                if row.gain_low > 0:
                    conclusion = "better than without learning"
                elif row.gain_high < 0:
                    conclusion = "worse than without learning"
            value = interval_text(row.value, row.low, row.high)
            lines.append([task, row.encoder, value, f"{row.chance:.1%}", gain, conclusion])
    columns = ["task", "encoder", "accuracy", "chance", "gain", "conclusion"]
    return pd.DataFrame(lines, columns=columns)
