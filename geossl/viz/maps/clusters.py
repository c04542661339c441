"""The map of geo clusters: cells, numbers, a popup each and a sorted table."""

from __future__ import annotations

from typing import Any, Literal

import folium
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from geossl.clusters import GeoClusters
from geossl.data.store import ChipStore
from geossl.utils.colors import PALETTE
from geossl.utils.validate import NonNegativeInt, validated
from geossl.viz.frame import Frame
from geossl.viz.maps.cells import draw_cells, is_of_land
from geossl.viz.maps.leaflet import Tiles, draw_map, pack_positions
from geossl.viz.maps.markers import check_table, strip
from geossl.viz.pages import pack_array

_MOST_DOTS = 20_000
_AROUND_CENTERS = 0.3  # of their extent, where only the centers of clusters are known


@validated
def map_clusters(
    clusters: GeoClusters,
    scenes: pd.DataFrame | None = None,
    *,
    store: ChipStore | None = None,
    highlight: NonNegativeInt | None = None,
    label: str = "label",
    cells: Literal["land", "whole"] = "land",
    groups: ArrayLike | None = None,
    popups: bool = True,
    tiles: Tiles | None = None,
) -> folium.Map:
    """Map the cells of geo clusters, neighbors in different colors, with a sorted table.

    Args:
        clusters: the clusters.
        scenes: table of the places, which are dots up to 20,000, and for the popups: sizes, dates,
            labels; none when None.
        store: chip store of the table, for a strip of sample chips in each popup.
        highlight: cluster to show while the others are gray; a choice in the table does it later.
        label: column of labels for the histogram and the purity.
        cells: "land" ends cells at the coast on maps of at least some hundred km, and places off
            it get a patch; "whole" draws them across the sea.
        groups: ``(M,)`` integers >= 0, a group of each row of ``scenes`` such as a cluster of its
            embedding. Dots get its color, eight over again, and cells turn gray.
        popups: whether cells have popups and the map a table; a page around it may have its own.
        tiles: online base layer; only the built-in one when None.

    Raises:
        ValueError: ``highlight`` is no cluster; a table without positions; a store or groups of
            another length.
    """
    if highlight is not None and highlight >= clusters.k:
        raise ValueError(f"`highlight` must be from 0 to {clusters.k - 1}, got {highlight}.")
    layers: dict[str, Any] = {}
    store_row = np.zeros(0, np.int64)
    if groups is not None:
        groups = np.asarray(groups)
        if groups.dtype.kind not in "iu" or groups.shape != (0 if scenes is None else len(scenes),):
            raise ValueError(
                "`groups` must be an integer for each row of `scenes`, got "
                f"{groups.dtype} of shape {groups.shape}."
            )
    if scenes is not None:
        check_table(scenes, store, label=label)
        placed = np.isfinite(scenes[["lon", "lat"]].to_numpy(float)).all(1)
        store_row, scenes = np.flatnonzero(placed), scenes[placed]
        if not placed.all():
            layers["caption"] = f"{(~placed).sum():,} rows without coordinates are not shown."
    if scenes is None or len(scenes) == 0:
        lon, lat = clusters.centers.T
        frame = Frame.around(lon, lat)
        wide = frame.padded(_AROUND_CENTERS)
        frame = frame if wide.is_world else wide
    else:
        is_first = ~scenes[["lon", "lat"]].duplicated().to_numpy()
        lon, lat = scenes[["lon", "lat"]].to_numpy(float)[is_first].T
        frame = Frame.around(lon, lat)
        if len(lon) <= _MOST_DOTS:
            layers["dots"] = pack_positions(frame.unwrap(lon), lat)
            if groups is not None:
                codes = groups[store_row][is_first] % len(PALETTE)
                layers["dots"] |= {"color": pack_array(codes.astype(np.uint8)), "palette": PALETTE}
    cards: list[dict[str, Any] | None] = [None] * clusters.k
    if popups:
        cards, layers["table"] = _cards_and_table(clusters, scenes, store, store_row, label=label)
    to_coast = cells == "land" and is_of_land(frame, lon, lat)
    drawn = draw_cells(clusters, lon, lat, frame=frame, to_coast=to_coast)
    layers["cells"] = [
        cell | {"color": PALETTE[color], "size": int(size)} | ({"card": card} if card else {})
        for cell, color, size, card in zip(
            drawn, clusters.colors(), clusters.sizes, cards, strict=True
        )
    ]
    layers["on"] = clusters.on
    layers["regions"] = {
        "centers": clusters.centers.tolist(), "cluster_of": clusters.cluster_of.tolist(),
        "parent": clusters.parent.tolist(),
    }  # fmt: skip
    if highlight is not None:
        layers["highlight"] = highlight
    alt = f"{clusters.k} geo clusters of {int(clusters.sizes.sum()):,} locations"
    has_coast = not (to_coast and frame.is_world)  # the cells show it
    return draw_map(layers, alt=alt, frame=frame, tiles=tiles, has_coast=has_coast)


def _cards_and_table(
    clusters: GeoClusters,
    scenes: pd.DataFrame | None,
    store: ChipStore | None,
    store_row: np.ndarray,
    *,
    label: str,
) -> tuple[list[dict[str, Any] | None], dict[str, Any]]:
    """Return the content of each cluster's popup, and the table of the map.

    Counts are of the scene table; without one, of the locations that the clusters were fitted on.
    """
    title, columns, sizes = f"{clusters.k} clusters", ["cluster", "locations"], clusters.sizes
    if scenes is None:
        cards: list[dict[str, Any] | None] = [_card(i, int(n)) for i, n in enumerate(sizes)]
        rows: list[list[Any]] = [[i, int(size)] for i, size in enumerate(sizes)]
    else:
        cluster = clusters.assign(scenes["lon"], scenes["lat"])
        is_first = ~scenes["location"].duplicated().to_numpy()
        sizes = np.bincount(cluster[is_first], minlength=clusters.k)
        labeled = label in scenes and scenes[label].notna().any()
        purity = clusters.purity(scenes, label=label).set_index("cluster") if labeled else None
        columns += ["chips", *(["purity", "most frequent"] if labeled else [])]
        cards, rows, rng = [], [], np.random.default_rng(0)
        for i, size in enumerate(sizes):
            members = np.flatnonzero(cluster == i)
            table = scenes.iloc[members]
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
