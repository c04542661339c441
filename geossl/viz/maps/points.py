"""Maps of points: the locations of scenes, embeddings, neighbors, right and wrong predictions.

Up to 2,000 locations are markers of their own, more are one packed canvas layer, and above 200,000
an overview shows all from afar and a random sample the detail; the caption says so.
"""

from __future__ import annotations

from typing import Any

import folium
import numpy as np
import pandas as pd

from geossl import geo
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, neighbors
from geossl.evaluate import ProbeResult
from geossl.utils.colors import PALETTE, Colors, Legend, color_by_column
from geossl.utils.validate import NonNegativeInt, PositiveInt, validated
from geossl.viz.frame import MAX_LAT, MERCATOR, Frame
from geossl.viz.maps.imagery import imagery_layer
from geossl.viz.maps.leaflet import Tiles, draw_map, overview_url, pack_column, pack_positions
from geossl.viz.maps.markers import check_table, locations_of, strips
from geossl.viz.pages import pack_array
from geossl.viz.projection import to_rgb

_MOST_MARKERS, _MOST_PACKED, _SAMPLE = 2_000, 200_000, 100_000
_OVERVIEW_ZOOM = 5  # from here on the overview gives way to its sample


@validated
def map_scenes(
    scenes: pd.DataFrame,
    *,
    color: str | None = None,
    imagery: bool = False,
    store: ChipStore | None = None,
    tiles: Tiles | None = None,
) -> folium.Map:
    """Map the locations of a scene table.

    Args:
        scenes: scene table; a location counts by its first row.
        color: column that colors the locations: words by the twenty most frequent and the rest in
            gray, dates and numbers by a ramp. None: the label, or one color without labels.
        imagery: show the files of the table as pictures on the ground: the newest of each place, or
            as of a date that is chosen on the map, with a slider for their opacity. They are
            reduced to at most 1,024 pixels a side and 200 scenes, see
            `geossl.datasets.scene_previews`; the caption says so.
        store: chip store of the table, for the popups.
        tiles: online base layer.

    Raises:
        ValueError: no such column, no positions, or a store of another length.
    """
    check_table(scenes, store)
    if color is None and "label" in scenes and scenes["label"].notna().any():
        color = "label"
    if color is not None and color not in scenes:
        raise ValueError(f"`color` must be a column of {list(scenes.columns)}, got {color!r}.")
    locations, omitted = locations_of(scenes)
    columns, alt = ["location", "chips"], f"{len(locations):,} locations"
    legend = None
    if color is None:
        colors, _ = color_by_column(pd.Series("location", index=locations.index))
    else:
        colors, legend = color_by_column(locations[color])
        columns, alt = [color, *columns], f"{alt} colored by {color}"
    return _map_points(locations, colors, legend, columns=columns, omitted=omitted, store=store,
                       scenes=scenes, tiles=tiles, alt=alt, imagery=imagery)  # fmt: skip


@validated
def map_embeddings(
    embeddings: Embeddings,
    *,
    color: str = "rgb",
    to: NonNegativeInt | None = None,
    store: ChipStore | None = None,
    tiles: Tiles | None = None,
) -> folium.Map:
    """Map the locations of embeddings, colored by their vectors.

    Args:
        embeddings: vectors; the dates of a location are averaged.
        color: "rgb" maps the first three principal components to red, green and blue: locations of
            similar color look similar to the encoder. "similarity" is the cosine similarity to the
            location of row ``to``. Else a column of the scenes (label, cluster, split, time, ...).
        to: row of the embeddings that the others are compared with.
        store: as in `map_scenes`.
        tiles: as in `map_scenes`.

    Raises:
        ValueError: no such column; "similarity" without ``to``; no finite vectors.
    """
    check_table(embeddings.scenes, store)
    if color not in ("rgb", "similarity"):
        return map_scenes(embeddings.scenes, color=color, store=store, tiles=tiles)
    if color == "similarity" and (to is None or to >= len(embeddings)):
        raise ValueError(f"`to` must be a row from 0 to {len(embeddings) - 1}, got {to}.")
    finite = np.isfinite(embeddings.vectors).all(1)
    if not finite.any():
        raise ValueError("`embeddings` needs finite vectors, got none. Did the training diverge?")
    mean = embeddings.subset(finite).mean_of_locations()
    locations, omitted = locations_of(mean.scenes)
    omitted["without finite vectors"] = int((~finite).sum())
    vectors = mean.vectors[locations["row"].to_numpy()]
    large: list[int] = []
    legend = None
    if color == "rgb":
        colors = Colors(to_rgb(Embeddings(vectors, locations)))
        alt = f"{len(locations):,} locations colored by the principal components of their vectors"
    else:
        own = np.flatnonzero(locations["location"] == embeddings.scenes["location"].iloc[to])
        if len(own) == 0:
            raise ValueError(
                f"`to` must be a row with a position and a finite vector, got {to}. Choose another."
            )
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        locations["similarity"] = unit @ unit[own[0]]
        colors, legend = color_by_column(locations["similarity"])
        large, alt = own.tolist(), f"{len(locations):,} locations by their similarity to one"
    columns = ["similarity", "label", "location", "chips"]
    return _map_points(locations, colors, legend, columns=columns, omitted=omitted, store=store,
                       scenes=mean.scenes, tiles=tiles, alt=alt, large=large)  # fmt: skip


@validated
def map_neighbors(
    embeddings: Embeddings,
    index: NonNegativeInt,
    *,
    k: PositiveInt = 8,
    store: ChipStore | None = None,
    tiles: Tiles | None = None,
) -> folium.Map:
    """Map a chip and its nearest neighbors, with lines along great circles.

    Args:
        embeddings: vectors and their scenes.
        index: row of the query.
        k: neighbors, by cosine similarity, at other locations.
        store: as in `map_scenes`.
        tiles: as in `map_scenes`.

    Raises:
        ValueError: no such row; a position is missing.
    """
    check_table(embeddings.scenes, store)
    nearest, similarity = neighbors(embeddings, [index], k=k)
    rows = np.concatenate([[index], nearest[0]])
    table = embeddings.scenes.iloc[rows].reset_index(drop=True)
    if not np.isfinite(table[["lon", "lat"]].to_numpy(float)).all():
        raise ValueError(
            f"`index` must be a row that has a position, and so must its {len(rows) - 1} "
            f"neighbors, got {index}. Choose another, or remove the rows without a position."
        )
    table["similarity"] = np.concatenate([[1.0], similarity[0]])
    table["rank"] = ["query", *(f"{n}." for n in range(1, len(rows)))]
    table["row"] = rows
    query = table.iloc[0]
    frame = Frame.around(table["lon"].to_numpy(float), table["lat"].to_numpy(float))
    lines = [
        {"path": piece, "color": "#ffffff", "weight": 1.5 + 2 * max(0.0, neighbor.similarity)}
        for neighbor in table.iloc[1:].itertuples()
        for piece in _great_circle(
            query["lon"], query["lat"], neighbor.lon, neighbor.lat, frame=frame
        )
    ]
    colors, legend = color_by_column(table["similarity"])
    columns = ["rank", "similarity", "label", "location", "time"]
    alt = f"a location and the {len(rows) - 1} most similar ones"
    return _map_points(table, colors, legend, columns=columns, store=store, tiles=tiles, alt=alt,
                       large=[0], lines=lines)  # fmt: skip


@validated
def map_probe(
    result: ProbeResult,
    embeddings: Embeddings,
    *,
    store: ChipStore | None = None,
    tiles: Tiles | None = None,
) -> folium.Map:
    """Map where a probe is right and where it is wrong, at the locations of the test chips.

    Args:
        result: of `geossl.evaluate.linear` or `geossl.evaluate.knn` on these embeddings.
        embeddings: the ones that were probed.
        store: as in `map_scenes`.
        tiles: as in `map_scenes`.

    Raises:
        ValueError: the result is of other embeddings.
    """
    check_table(embeddings.scenes, store)
    predictions = result.predictions
    if len(predictions) and predictions["row"].max() >= len(embeddings):
        raise ValueError(
            f"`embeddings` must be the ones that were probed, got {len(embeddings)} rows, and the "
            f"result has a prediction for row {predictions['row'].max()}."
        )
    rows = predictions["row"].to_numpy()
    table = embeddings.scenes.iloc[rows].reset_index(drop=True)
    for column in ("truth", "predicted", "hit", "confidence"):
        if column in predictions:
            table[column] = predictions[column].to_numpy()
    share = table.groupby("location", sort=False)["hit"].mean().to_numpy()
    locations, omitted = locations_of(table)
    share = share[locations["location_index"]]
    locations["right"] = [f"{s:.0%} of its chips" for s in share]
    locations["row"] = rows[locations["row"]]
    codes = np.select([share == 1, share == 0], [0, 2], 1)
    palette = [PALETTE[0], PALETTE[6], PALETTE[5]]
    names = ("all its chips right", "some right", "none right")
    entries = [
        [color, f"{name} ({int((codes == code).sum()):,})"]
        for code, (color, name) in enumerate(zip(palette, names, strict=True))
    ]
    alt = (
        f"{len(locations):,} test locations: {(codes == 0).mean():.0%} all right, "
        f"{(codes == 2).mean():.0%} all wrong"
    )
    colors = Colors(codes.astype(np.uint8), palette)
    legend = {"title": result.metric, "entries": entries}
    columns = ["truth", "predicted", "confidence", "right", "location"]
    return _map_points(locations, colors, legend, columns=columns, omitted=omitted, store=store,
                       tiles=tiles, alt=alt)  # fmt: skip


def _map_points(
    table: pd.DataFrame,
    colors: Colors,
    legend: Legend | None,
    *,
    columns: list[str],
    alt: str,
    store: ChipStore | None,
    tiles: Tiles | None,
    scenes: pd.DataFrame | None = None,
    omitted: dict[str, int] | None = None,
    large: list[int] | None = None,
    lines: list[dict[str, Any]] | None = None,
    imagery: bool = False,
) -> folium.Map:
    """Draw the rows of a table as markers, as a packed layer or as an overview and a sample."""
    layers: dict[str, Any] = {}
    count = len(table)
    captions = [f"{n:,} {reason} are not shown." for reason, n in (omitted or {}).items() if n]
    lon, lat = table["lon"].to_numpy(float), table["lat"].to_numpy(float)
    frame = Frame.around(lon, lat)
    if imagery and frame.is_polar:
        captions.append("Imagery is not shown around a pole.")
    elif imagery and scenes is not None:
        layer, words, corners = imagery_layer(scenes)
        captions.append(words)
        if layer is not None:
            layers["imagery"] = layer
            frame = Frame.around(*np.concatenate([np.stack([lon, lat], 1), corners]).T)
    lon = lon if lines else frame.unwrap(lon)  # else map.js does
    polar = 0 if frame.is_polar else int((np.abs(lat) > MAX_LAT).sum())
    if polar:
        captions.append(f"{polar:,} beyond 85° of latitude lie at the edge.")
    if count > _MOST_PACKED:
        box = MERCATOR if frame.is_world else frame.padded(0.05)
        image = overview_url(lon, lat, colors.rgb(), frame=box)
        zoom = _OVERVIEW_ZOOM + np.log2(360 / max(box.right - box.left, box.top - box.bottom))
        layers["overview"] = {"image": image, "max_zoom": float(zoom), "bounds": box.corners()}
        sample = np.sort(np.random.default_rng(0).permutation(count)[:_SAMPLE])
        captions.append(
            f"All {count:,} locations as a picture; zoom in for a random sample of {_SAMPLE:,}."
        )
        colors = colors.subset(sample)
        table, lon, lat = table.iloc[sample].reset_index(drop=True), lon[sample], lat[sample]
    has_markers = count <= _MOST_MARKERS
    packed = [pack_column(name, table[name]) for name in dict.fromkeys(columns) if name in table]
    points: dict[str, Any] = {
        "color": pack_array(colors.values),
        "palette": list(colors.palette) or None,
        **pack_positions(lon, lat),
        "columns": [column for column in packed if column is not None],
        "radius": 2.0 if count > 2000 else 3.0 if count > 200 else 5.0,
        "markers": has_markers,
    }
    if has_markers and large:
        points["large"] = large
    if has_markers and store is not None:
        points["strips"] = strips(store, table, scenes)
    layers |= {"points": points, "lines": lines or []}
    if legend is not None:
        layers["legend"] = legend
    if captions:
        layers["caption"] = " ".join(captions)
    return draw_map(layers, alt=alt, frame=frame, tiles=tiles)


def _great_circle(
    lon1: float, lat1: float, lon2: float, lat2: float, *, frame: Frame = MERCATOR, steps: int = 48
) -> list[list[list[float]]]:
    """Return points ``[lat, lon]`` along a great circle, in pieces cut at the frame's back."""
    a, b = geo.unit_vectors(lon1, lat1), geo.unit_vectors(lon2, lat2)
    angle = np.arccos(np.clip(a @ b, -1, 1))
    t = np.linspace(0, 1, steps)[:, None]
    if np.sin(angle) < 1e-9:
        points = a + t * (b - a)
    else:
        points = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    lon, lat = geo.lon_lat(points)
    lon = frame.unwrap(lon)
    cuts = np.flatnonzero(np.abs(np.diff(lon)) > 180) + 1
    return [piece.tolist() for piece in np.split(np.stack([lat, lon], 1), cuts) if len(piece) > 1]
