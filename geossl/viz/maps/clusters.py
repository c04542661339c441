"""The map of geo clusters: cells, numbers, a popup each and a sorted table."""

from __future__ import annotations

from typing import Any

import folium
import numpy as np
import pandas as pd

from geossl.clusters import GeoClusters
from geossl.data.store import ChipStore
from geossl.utils.colors import PALETTE
from geossl.utils.validate import NonNegativeInt, validated
from geossl.viz.maps.leaflet import Tiles, draw_map
from geossl.viz.maps.markers import check_table, strip


@validated
def map_clusters(
    clusters: GeoClusters,
    scenes: pd.DataFrame | None = None,
    *,
    store: ChipStore | None = None,
    highlight: NonNegativeInt | None = None,
    label: str = "label",
    tiles: Tiles | None = None,
) -> folium.Map:
    """Map the cells of geo clusters, neighbors in different colors, with a sorted table.

    Args:
        clusters: the clusters.
        scenes: table for the popups: sizes, dates, labels; none when None.
        store: chip store of the table, for a strip of sample chips in each popup.
        highlight: cluster to highlight while the others are gray; a click does it later.
        label: column of labels for the histogram and the purity.
        tiles: online base layer; only the built-in one when None.

    Raises:
        ValueError: ``highlight`` is no cluster; a table without positions; a store of another
            length.
    """
    from shapely import set_precision
    from shapely.geometry import mapping

    if highlight is not None and highlight >= clusters.k:
        raise ValueError(f"`highlight` must be from 0 to {clusters.k - 1}, got {highlight}.")
    if scenes is not None:
        check_table(scenes, store, label=label)
    cards, table = _cards_and_table(clusters, scenes, store, label=label)
    cells = [
        {
            "shape": mapping(set_precision(cell, 0.01)), "color": PALETTE[color],
            "center": [float(lat), float(lon)], "size": int(size), "card": card,
        }
        for cell, color, (lon, lat), size, card in zip(
            clusters.cells(), clusters.colors(), clusters.centers, clusters.sizes, cards,
            strict=True,
        )
    ]  # fmt: skip
    layers: dict[str, Any] = {"cells": cells, "table": table}
    if highlight is not None:
        layers["highlight"] = highlight
    alt = f"{clusters.k} geo clusters of {int(clusters.sizes.sum()):,} locations"
    return draw_map(layers, alt=alt, view=None, tiles=tiles)


def _cards_and_table(
    clusters: GeoClusters, scenes: pd.DataFrame | None, store: ChipStore | None, *, label: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the content of each cluster's popup, and the table of the map.

    Counts are of the scene table; without one, of the locations that the clusters were fitted on.
    """
    title, columns, sizes = f"{clusters.k} clusters", ["cluster", "locations"], clusters.sizes
    if scenes is None:
        cards = [_card(i, int(size)) for i, size in enumerate(sizes)]
        rows: list[list[Any]] = [[i, int(size)] for i, size in enumerate(sizes)]
    else:
        store_row = np.flatnonzero(scenes[["lon", "lat"]].notna().all(axis=1).to_numpy())
        placed = scenes.iloc[store_row]
        cluster = clusters.assign(placed["lon"], placed["lat"])
        is_first = ~placed["location"].duplicated().to_numpy()
        sizes = np.bincount(cluster[is_first], minlength=clusters.k)
        labeled = label in placed and placed[label].notna().any()
        purity = clusters.purity(placed, label=label).set_index("cluster") if labeled else None
        columns += ["chips", *(["purity", "most frequent"] if labeled else [])]
        rng, cards, rows = np.random.default_rng(0), [], []
        for i, size in enumerate(sizes):
            members = np.flatnonzero(cluster == i)
            table = placed.iloc[members]
            card = _card(i, int(size))
            row: list[Any] = [i, int(size), len(table)]
            if size != clusters.sizes[i]:
                card["rows"].append(["fitted on", f"{clusters.sizes[i]:,} locations"])
            card["rows"].append(["chips", f"{len(table):,}"])
            times = table["time"].dropna() if "time" in table else []
            if len(times):
                card["rows"].append(["dates", f"{min(times):%Y-%m-%d} to {max(times):%Y-%m-%d}"])
            if purity is not None:
                of_cluster = purity.loc[i]
                known = pd.notna(of_cluster["purity"])
                share = f"{of_cluster['purity']:.0%}" if known else "–"
                card["rows"].append(["purity", share if known else "no label"])
                counts = table[label].value_counts().head(5)
                card["histogram"] = [[str(name), int(count)] for name, count in counts.items()]
                row += [share, str(of_cluster["label"])[:24] if known else "no label"]
            if store is not None and len(members):
                sample = np.sort(store_row[rng.permutation(members)[:8]])
                card["strip"] = strip(store, sample, f"chips of cluster {i}")
            cards.append(card)
            rows.append(row)
    rows.sort(key=lambda row: -row[1])
    return cards, {"title": title, "columns": columns, "rows": rows}


def _card(cluster: int, size: int) -> dict[str, Any]:
    return {"title": f"cluster {cluster}", "rows": [["locations", f"{size:,}"]]}
