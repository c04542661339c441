"""Save an explorer as one HTML file that needs neither a kernel nor a network."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from markupsafe import Markup

from geossl.data.scenes import location_codes
from geossl.data.store import ChipStore
from geossl.datasets import footprints, scene_previews
from geossl.embeddings import Embeddings
from geossl.utils.io import atomic_write
from geossl.utils.validate import check_choice
from geossl.viz.frame import Frame
from geossl.viz.pages import image_url, render, script_json
from geossl.viz.widgets.explorer import finder
from geossl.viz.widgets.explorer.columns import day_numbers
from geossl.viz.widgets.explorer.front import read_script
from geossl.viz.widgets.explorer.linked import PROJECTIONS, LinkedExplorer
from geossl.viz.widgets.explorer.pictures import describe, encode_chips

MOST_CHIPS = 20_000
_DIMS = 64  # of the vectors that a page searches
_PICTURE_PX = 48
_MOST_COMPUTED = 2_000  # pictures that are computed for it; more are as they are stored
_OF_ROWS = {"place": 2, "place_rest": 2, "corners": 8, "locations": 1, "days": 1, "first": 2,
            "second": 2}  # numbers of four bytes a row  # fmt: skip
_SHARED = ("columns", "color", "titles", "region", "scenes", "all_dates", "dates", "credit",
           "world", "projection")  # fmt: skip


def pack(scenes: pd.DataFrame, store: ChipStore | None) -> dict[str, Any]:
    """Return where and when the rows are, as traits of the front end."""
    lon, lat = scenes[["lon", "lat"]].to_numpy(float).T
    frame = Frame.around(lon, lat)
    place = np.stack([frame.unwrap(lon), lat], 1)
    box = frame.padded(0.05)
    if frame.is_world:
        box = Frame(-180.0, min(-60.0, box.bottom), 180.0, max(85.0, box.top))
    return {
        "place": place.astype("<f4").tobytes(),
        "place_rest": (place - place.astype("<f4")).astype("<f4").tobytes(),
        "region": [box.left, box.bottom, box.right, box.top],
        "locations": location_codes(scenes).astype("<i4").tobytes(),
        "days": day_numbers(scenes["time"]).astype("<i4").tobytes(),
        "corners": corners_of(store, scenes, place),
        "methods": [[method, name] for method, name in PROJECTIONS.items()],
        "all_dates": list(finder.DATES), "dates": finder.DATES[0],
    }  # fmt: skip


def corners_of(store: ChipStore | None, scenes: pd.DataFrame, place: np.ndarray) -> bytes:
    """Return the corners of chips on the ground less their places, float32; b"" if unknown."""
    if store is None:
        return b""
    corners = footprints(scenes)  # (N, 4, 2)
    offset = corners - place[:, None]
    offset[..., 0] -= 360 * np.round(offset[..., 0] / 360)
    return offset.astype("<f4").tobytes() if np.isfinite(offset).any() else b""


def scenes_of(scenes: pd.DataFrame) -> tuple[list[dict[str, Any]], str]:
    """Return previews of the files of a table for the front end, and what could not be shown."""
    previews = scene_previews(scenes)
    days = day_numbers(previews["time"])
    shown = [
        {"bounds": [row.left, row.bottom, row.right, row.top], "place": int(row.place),
         "day": int(day), "url": image_url(row.image, "webp")}
        for row, day in zip(previews.itertuples(), days, strict=True)
    ]  # fmt: skip
    skipped = previews.attrs["skipped"]
    if not skipped:
        return shown, ""
    reason = next(iter(skipped.values()))
    return shown, f"{len(skipped):,} scenes cannot be shown, the first: {reason}"


def save(
    explorer: LinkedExplorer,
    path: str | os.PathLike[str],
    *,
    title: str,
    store: ChipStore | None,
    store_rows: np.ndarray,
    note: str,
) -> None:
    """Write an explorer as a page, see `EmbeddingExplorer.save`.

    Args:
        explorer: what is shown.
        path: of the page.
        title: of the page.
        store: of the chips.
        store_rows: ``(N,)`` rows of the store that are shown.
        note: what is not shown.
    """
    path = Path(path)
    check_choice("suffix of path", path.suffix, (".html",))
    count = len(explorer.embeddings)
    rows = np.arange(count)
    status = note
    if count > MOST_CHIPS:
        rows = np.sort(np.random.default_rng(0).permutation(count)[:MOST_CHIPS])
        status = f"A random sample of {MOST_CHIPS:,} of {count:,} images. {note}"
    state: dict[str, Any] = {name: getattr(explorer, name) for name in _SHARED}
    state |= {"status": status, "is_error": False, "progress": -1, "lazy": [],
              "abilities": ["similar", "search", "pictures"]}  # fmt: skip
    buffers = {name: _rows_of(getattr(explorer, name), width, rows)
               for name, width in _OF_ROWS.items()}  # fmt: skip
    buffers |= {"coast": explorer.coast, "coast_lengths": explorer.coast_lengths}
    codes = np.frombuffer(explorer.codes, np.uint8).reshape(-1, count)
    buffers["codes"] = np.ascontiguousarray(codes[:, rows]).tobytes()
    buffers["vectors"] = _small_vectors(explorer.embeddings.subset(rows)).tobytes()
    state["words"] = describe(explorer.embeddings.scenes.iloc[rows], explorer.label)
    if store is not None:
        min_px = _PICTURE_PX if len(rows) <= _MOST_COMPUTED else 1
        pictures = encode_chips(
            store, store_rows[rows], min_px=min_px, size_px=_PICTURE_PX, quality=70, effort=3
        )
        buffers["pictures"] = b"".join(pictures)
        ends = np.cumsum([0, *map(len, pictures)])
        buffers["picture_ends"] = ends.astype("<u4").tobytes()
    packed = {name: base64.b64encode(data).decode() for name, data in buffers.items()}
    text = render(
        "explorer.html", title=title, style=Markup(explorer._css),
        script=Markup(explorer._esm.replace("export default", "const explorer =")),
        offline=Markup(read_script("offline")),
        data=Markup(script_json({"state": state, "buffers": packed})),
    )  # fmt: skip
    with atomic_write(path) as part:
        part.write_text(text, "utf-8")


def _rows_of(packed: bytes, width: int, rows: np.ndarray) -> bytes:
    if not packed:
        return b""
    return np.frombuffer(packed, np.uint32).reshape(-1, width)[rows].tobytes()


def _small_vectors(embeddings: Embeddings) -> np.ndarray:
    """Return unit vectors ``(N, D)`` int8 in at most 64 dimensions."""
    unit = torch.nn.functional.normalize(embeddings.tensor(), dim=1)
    if unit.shape[1] > _DIMS:
        _, _, axes = torch.linalg.svd(unit[:: max(1, len(unit) // 5000)], full_matrices=False)
        unit = torch.nn.functional.normalize(unit @ axes[:_DIMS].T, dim=1)
    return (unit * 127).round().to(torch.int8).numpy()
