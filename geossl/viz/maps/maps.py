"""Interactive maps (folium): places, geo clusters, embeddings, neighbors, right and wrong.

Every map is one HTML file that opens from disk and asks nothing of a network; online tiles are an
option. Up to 2,000 places are marks of their own, more are one packed canvas layer, and above
200,000 a picture of all shows the whole and a random sample the detail; the caption says so.
"""

from __future__ import annotations

from typing import Any

import folium
import numpy as np
import pandas as pd

from geossl import geo
from geossl.clusters import GeoClusters
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, neighbors
from geossl.evaluate import ProbeResult
from geossl.utils.colors import (
    PALETTE,
    Paint,
    color_by_column,
    pack_colors,
    subset_colors,
    to_rgb_array,
)
from geossl.viz.maps import leaflet
from geossl.viz.maps.markers import cluster_cards, locations_of, strips
from geossl.viz.projection import to_rgb

_SINGLE, _PACKED, _SAMPLE = 2_000, 200_000, 100_000
_NEAR_ZOOM = 5  # from here on a raster overview gives way to its sample


def map_scenes(
    scenes: pd.DataFrame,
    *,
    color: str | None = None,
    store: ChipStore | None = None,
    tiles: str | None = None,
) -> folium.Map:
    """The places of a scene table.

    Args:
        scenes: scene table; a location counts by its first row.
        color: column that colors the places: words by the seven most frequent and the rest in
            gray, dates and numbers by a ramp. None: the label, or all alike without one.
        store: chip store whose row i is row i of the table: popups show the chips of a place (up to
            2,000 places).
        tiles: online base layer by name, see `geossl.viz.maps.leaflet.TILES`; only the built-in one when
            None. Where it cannot be reached the built-in one stays, with a note.

    Raises:
        ValueError: no such column or tiles, or a store of another length.
    """
    if color is None and "label" in scenes and scenes["label"].notna().any():
        color = "label"
    if color is not None and color not in scenes:
        raise ValueError(f"expected a column {color!r}, came {list(scenes.columns)}")
    places, dropped = locations_of(scenes, store)
    names, alt = ["location", "chips"], f"{len(places):,} places"
    if color is None:
        paint, legend = color_by_column(pd.Series("place", index=places.index))[0], None
    else:
        paint, legend = color_by_column(places[color])
        names, alt = [color, *names], f"{alt} colored by {color}"
    given: dict[str, Any] = {"store": store, "scenes": scenes, "tiles": tiles, "alt": alt}
    return _map_points(places, paint, legend, names, dropped, **given)


def map_embeddings(
    embeddings: Embeddings,
    *,
    color: str = "rgb",
    to: int | None = None,
    store: ChipStore | None = None,
    tiles: str | None = None,
) -> folium.Map:
    """The places of embeddings, colored by what the encoder sees in them.

    Args:
        embeddings: vectors; the dates of a location are averaged.
        color: "rgb" maps the first three principal components to red, green and blue: places of
            like color look alike to the encoder. "similarity" is the cosine to the place of row
            ``to``. Else a column of the scenes (label, cluster, split, time, ...).
        to: row of the embeddings whose place the others are compared to.
        store: chip store of the embeddings, for the popups.
        tiles: online base layer by name.

    Raises:
        ValueError: no such column or tiles; "similarity" without ``to``.
    """
    if color not in ("rgb", "similarity"):
        return map_scenes(embeddings.scenes, color=color, store=store, tiles=tiles)
    if color == "similarity" and (to is None or not 0 <= to < len(embeddings)):
        raise ValueError(f"expected to= as a row from 0 to {len(embeddings) - 1}, came {to}")
    finite = np.isfinite(embeddings.vectors).all(1)
    if not finite.any():
        raise ValueError("expected finite vectors, came none; did the training diverge?")
    mean = embeddings.subset(finite).mean_of_locations()
    places, dropped = locations_of(mean.scenes)
    vectors = mean.vectors[places["row"].to_numpy()]
    dropped["without finite vectors"] = int((~finite).sum())
    large: list[int] = []
    if color == "rgb":
        paint: Paint = {"color": pack_colors(to_rgb(Embeddings(vectors, places)))}
        legend = None
        alt = f"{len(places):,} places colored by the principal components of their embeddings"
    else:
        own = np.flatnonzero(places["location"] == embeddings.scenes["location"].iloc[to])
        if len(own) == 0:
            raise ValueError(f"row {to} has no position or no finite vector; give another row")
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        places["similarity"] = unit @ unit[own[0]]
        paint, legend = color_by_column(places["similarity"])
        large, alt = own.tolist(), f"{len(places):,} places by their likeness to one of them"
    names = ["similarity", "label", "location", "chips"]
    return _map_points(places, paint, legend, names, dropped, store=store, scenes=mean.scenes,
                       tiles=tiles, alt=alt, large=large)  # fmt: skip


def map_neighbors(
    embeddings: Embeddings,
    index: int,
    *,
    k: int = 8,
    store: ChipStore | None = None,
    tiles: str | None = None,
) -> folium.Map:
    """A place and the places most like it to the encoder, with lines along great circles.

    Args:
        embeddings: vectors and their scenes.
        index: row of the query.
        k: rows shown, by cosine similarity, of other locations.
        store: chip store of the embeddings, for the popups.
        tiles: online base layer by name.

    Raises:
        ValueError: no such row; a position is missing.
    """
    found, similarity = neighbors(embeddings, [index], k=k)
    rows = np.concatenate([[index], found[0]])
    places = embeddings.scenes.iloc[rows].reset_index(drop=True)
    if places[["lon", "lat"]].isna().any(axis=None):
        raise ValueError("expected positions for the place and its neighbors, one has none")
    places["similarity"] = np.concatenate([[1.0], similarity[0]])
    places["place"] = ["query", *(f"{n}." for n in range(1, len(rows)))]
    start = places.iloc[0]
    lines = [
        {"path": piece, "color": "#ffffff", "weight": 1.5 + 2 * max(0.0, other.similarity)}
        for other in places.iloc[1:].itertuples()
        for piece in _great_circle(start["lon"], start["lat"], other.lon, other.lat)
    ]
    paint, legend = color_by_column(places["similarity"])
    places["row"] = rows
    return _map_points(places, paint, legend, ["place", "similarity", "label", "location", "time"],
                       {}, store=store, scenes=None, tiles=tiles, large=[0], more={"lines": lines},
                       alt=f"a place and the {len(rows) - 1} most like it")  # fmt: skip


def map_probe(
    result: ProbeResult,
    embeddings: Embeddings,
    *,
    store: ChipStore | None = None,
    tiles: str | None = None,
) -> folium.Map:
    """Where a probe is right and where it is wrong, on the test chips' places.

    Args:
        result: of `geossl.evaluate.linear` or `geossl.evaluate.knn` on these embeddings.
        embeddings: that were probed.
        store: chip store of the embeddings, for the popups.
        tiles: online base layer by name.

    Raises:
        ValueError: the result is of other embeddings.
    """
    seen = result.predictions
    if len(seen) and seen["row"].max() >= len(embeddings):
        raise ValueError(
            f"expected the embeddings that were probed, came {len(embeddings)} rows and a "
            f"prediction for row {seen['row'].max()}"
        )
    rows = embeddings.scenes.iloc[seen["row"]].reset_index(drop=True)
    table = rows.assign(
        truth=seen["truth"].to_numpy(), predicted=seen["predicted"].to_numpy(),
        hit=seen["hit"].to_numpy(),
    )  # fmt: skip
    if "confidence" in seen:
        table["confidence"] = seen["confidence"].to_numpy()
    share = table.groupby("location", sort=False)["hit"].mean().to_numpy()
    places, dropped = locations_of(table)
    right = share[places["row_of_place"]]
    places["right"] = [f"{r:.0%} of its chips" for r in right]
    kinds = np.select([right == 1, right == 0], [0, 2], 1)
    kind_names = ("all its chips right", "some right", "none right")
    colors = (PALETTE[0], PALETTE[6], PALETTE[5])
    entries = [
        [c, f"{name} ({int((kinds == i).sum()):,})"]
        for i, (c, name) in enumerate(zip(colors, kind_names, strict=True))
    ]
    paint = {"color": pack_colors(kinds.astype(np.uint8)), "palette": list(colors)}
    places["row"] = seen["row"].to_numpy()[places["row"]]
    names = ["truth", "predicted", "confidence", "right", "location"]
    alt = (
        f"{len(places):,} test places: {(kinds == 0).mean():.0%} all right, "
        f"{(kinds == 2).mean():.0%} all wrong"
    )
    legend = {"title": result.metric, "entries": entries}
    given: dict[str, Any] = {"store": store, "scenes": None, "tiles": tiles, "alt": alt}
    return _map_points(places, paint, legend, names, dropped, **given)


def map_clusters(
    clusters: GeoClusters,
    scenes: pd.DataFrame | None = None,
    *,
    store: ChipStore | None = None,
    highlight: int | None = None,
    label: str = "label",
    tiles: str | None = None,
) -> folium.Map:
    """The cells of geo clusters, neighbors in different colors, with numbers and a sorted table.

    Args:
        clusters: the clusters.
        scenes: table for the popups: sizes, dates, labels; none when None.
        store: chip store of the table, for a strip of sample chips in each popup.
        highlight: light this one and gray the rest; a click does it later.
        label: column of labels for the histogram and the purity.
        tiles: online base layer by name.

    Raises:
        ValueError: ``highlight`` is no cluster; a store of another length.
    """
    from shapely import set_precision
    from shapely.geometry import mapping

    if highlight is not None and not 0 <= highlight < clusters.k:
        raise ValueError(f"expected highlight from 0 to {clusters.k - 1}, came {highlight}")
    cards, table = cluster_cards(clusters, scenes, store, label=label)
    cells = []
    for i, (cell, number) in enumerate(zip(clusters.cells(), clusters.colors(), strict=True)):
        lon, lat = clusters.centers[i]
        cells.append({
            "shape": mapping(set_precision(cell, 0.01)), "color": PALETTE[number],
            "at": [float(lat), float(lon)], "size": int(clusters.sizes[i]), "card": cards[i],
        })  # fmt: skip
    parts: dict[str, Any] = {"cells": cells, "table": table}
    if highlight is not None:
        parts["highlight"] = highlight
    alt = f"{clusters.k} geo clusters of {int(clusters.sizes.sum()):,} places"
    return leaflet.draw(parts, alt=alt, box=None, tiles=tiles)


def _map_points(
    places: pd.DataFrame,
    paint: Paint,
    legend: dict[str, Any] | None,
    names: list[str],
    dropped: dict[str, int],
    *,
    store: ChipStore | None,
    scenes: pd.DataFrame | None,
    tiles: str | None,
    alt: str,
    large: list[int] | None = None,
    more: dict[str, Any] | None = None,
) -> folium.Map:
    """The map of places by one of the three ways, by how many there are."""
    count = len(places)
    captions = [f"{n:,} {what} are not shown." for what, n in dropped.items() if n]
    lon, lat = places["lon"].to_numpy(float), places["lat"].to_numpy(float)
    far = int((np.abs(lat) > leaflet.TOP_LAT).sum())
    if far:
        captions.append(f"{far:,} beyond 85° of latitude lie at the edge.")
    parts: dict[str, Any] = dict(more or {})
    if count > _PACKED:
        rgb = to_rgb_array(paint)
        parts["raster"] = {"image": leaflet.raster(lon, lat, rgb), "until": _NEAR_ZOOM}
        kept = np.sort(np.random.default_rng(0).permutation(count)[:_SAMPLE])
        captions.append(
            f"All {count:,} places as a picture; zoom in for a random sample of {_SAMPLE:,}."
        )
        paint = subset_colors(paint, kept, count)
        places, lon, lat = places.iloc[kept].reset_index(drop=True), lon[kept], lat[kept]
    box = leaflet.fit_view(lon, lat)
    if box is not None and box[1][1] > 180 and "lines" in parts:
        box = None  # lines are cut at the antimeridian: show the world
    elif box is not None and box[1][1] > 180:  # places on both sides of the antimeridian
        lon = np.where(lon < 0, lon + 360, lon)
        parts["across"] = True
    single = count <= _SINGLE
    columns = [leaflet.column(n, places[n]) for n in dict.fromkeys(names) if n in places]
    points: dict[str, Any] = {
        **paint,
        "place": pack_colors(np.stack([lon, lat], 1).astype("<f4")),
        "columns": [c for c in columns if c is not None],
        "radius": 2.0 if count > 2000 else 3.0 if count > 200 else 5.0,
        "single": single,
    }
    if single and large:
        points["large"] = large
    if single and store is not None:
        points["strips"] = strips(store, places, scenes)
    parts |= {"points": points}
    if legend is not None:
        parts["legend"] = legend
    if captions:
        parts["caption"] = " ".join(captions)
    return leaflet.draw(parts, alt=alt, box=box, tiles=tiles)


def _great_circle(
    lon1: float, lat1: float, lon2: float, lat2: float, *, steps: int = 48
) -> list[list[list[float]]]:
    """Points ``[lat, lon]`` along a great circle, in pieces cut at the antimeridian."""
    a, b = geo.unit_vectors(lon1, lat1), geo.unit_vectors(lon2, lat2)
    angle = np.arccos(np.clip(a @ b, -1, 1))
    t = np.linspace(0, 1, steps)[:, None]
    if np.sin(angle) < 1e-9:
        points = a + t * (b - a)
    else:
        points = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    lon, lat = geo.lon_lat(points)
    cuts = np.flatnonzero(np.abs(np.diff(lon)) > 180) + 1
    return [piece.tolist() for piece in np.split(np.stack([lat, lon], 1), cuts) if len(piece) > 1]
