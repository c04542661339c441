"""Marks of maps: one for each place, and what their popups say and show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from geossl.clusters import GeoClusters
from geossl.data.store import ChipStore
from geossl.viz.maps import leaflet


def locations_of(
    scenes: pd.DataFrame, store: ChipStore | None = None
) -> tuple[pd.DataFrame, dict[str, int]]:
    """One row per location with a position; ``row`` is its first in the table."""
    same_length(scenes, store)
    codes = pd.factorize(scenes["location"])[0]
    first = np.unique(codes, return_index=True)[1]
    places = scenes.iloc[first].reset_index(drop=True)
    places["row"], places["row_of_place"] = first, np.arange(len(first))
    places["chips"] = np.bincount(codes[codes >= 0], minlength=len(first))[: len(first)]
    bad = ~np.isfinite(places[["lon", "lat"]].to_numpy(float)).all(1)
    if bad.all():
        raise ValueError(f"expected places with a position, none of the {len(places)} has one")
    return places[~bad].reset_index(drop=True), {"without coordinates": int(bad.sum())}


def cluster_cards(
    clusters: GeoClusters, scenes: pd.DataFrame | None, store: ChipStore | None, *, label: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What the popup of each cluster says, and the table beside the map.

    Places are those of the table; without one, those that the clusters were learned from.
    """
    sizes = clusters.sizes
    if scenes is not None:
        same_length(scenes, store)
        row = np.flatnonzero(scenes[["lon", "lat"]].notna().all(axis=1).to_numpy())
        placed = scenes.iloc[row]
        own = clusters.assign(placed["lon"], placed["lat"])
        once = ~placed["location"].duplicated().to_numpy()
        sizes = np.bincount(own[once], minlength=clusters.k)
    cards: list[dict[str, Any]] = [
        {"title": f"cluster {i}", "rows": [["places", f"{int(n):,}"]]} for i, n in enumerate(sizes)
    ]
    columns = ["cluster", "places"]
    rows: list[list[Any]] = [[i, int(n)] for i, n in enumerate(sizes)]
    if scenes is not None:
        rng = np.random.default_rng(0)
        labeled = label in placed and placed[label].notna().any()
        purity = clusters.purity(placed, label=label).set_index("cluster") if labeled else None
        columns += ["chips", *(["purity", "most are"] if labeled else [])]
        for i, card in enumerate(cards):
            here = np.flatnonzero(own == i)
            part = placed.iloc[here]
            if sizes[i] != clusters.sizes[i]:
                card["rows"].append(["learned from", f"{clusters.sizes[i]:,} places"])
            card["rows"].append(["chips", f"{len(part):,}"])
            times = part["time"].dropna() if "time" in part else []
            if len(times):
                first, last = min(times), max(times)
                card["rows"].append(["dates", f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"])
            rows[i].append(len(part))
            if purity is not None:
                known = i in purity.index and pd.notna(purity.loc[i, "purity"])
                share = float(purity.loc[i, "purity"]) if known else float("nan")
                usual = str(purity.loc[i, "label"]) if known else "no label"
                card["rows"].append(["purity", f"{share:.0%}" if known else "no label"])
                counts = part[label].value_counts().head(5)
                card["histogram"] = [[str(name), int(n)] for name, n in counts.items()]
                rows[i] += [f"{share:.0%}" if known else "–", usual[:24]]
            if store is not None and len(here):
                some = row[rng.permutation(here)[:8]]
                card["strip"] = strip(store, np.sort(some), f"chips of cluster {i}")
    rows.sort(key=lambda r: -r[1])
    return cards, {"title": f"{clusters.k} clusters", "columns": columns, "rows": rows}


def strips(
    store: ChipStore, places: pd.DataFrame, scenes: pd.DataFrame | None
) -> list[dict[str, Any]]:
    """A strip of chips per place: its dates (up to six), or its own row."""
    if scenes is None:
        return [strip(store, np.array([row]), "the chip") for row in places["row"]]
    rows = pd.Series(np.arange(len(scenes))).groupby(scenes["location"].to_numpy()).agg(list)
    dates = (np.array(rows[place][:6]) for place in places["location"])
    return [strip(store, some, "its chips by date") for some in dates]


def strip(store: ChipStore, rows: np.ndarray, alt: str) -> dict[str, Any]:
    """Chips side by side as one small picture."""
    chips = store.preview(rows)
    step = max(1, store.size_px // 64)
    wide = np.concatenate(list(chips[:, ::step, ::step]), axis=1)
    return {"image": leaflet.jpeg(wide), "alt": alt, "width": 48 * len(rows)}


def same_length(scenes: pd.DataFrame, store: ChipStore | None) -> None:
    """Raise when a store, if any, is not the one of these rows."""
    if store is not None and len(store) != len(scenes):
        raise ValueError(
            f"expected the store of these {len(scenes)} rows, came one of {len(store)} chips"
        )
