"""The scenes of a map as pictures on the ground, the newest of each place or those of a date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geossl.datasets.raster.previews import scene_previews
from geossl.viz.pages import date_text, image_url


def imagery_layer(scenes: pd.DataFrame) -> tuple[dict[str, Any] | None, str, np.ndarray]:
    """Return pictures of the files of a table as ``map.js`` draws them.

    Returns:
        The layer, or None without any picture; a sentence on how they were reduced and which
        files cannot be shown; and their corners ``(2 n, 2)`` in degrees.
    """
    pictures = scene_previews(scenes)
    skipped, omitted = pictures.attrs["skipped"], pictures.attrs["omitted"]
    words = []
    if len(pictures):
        largest = int(pictures[["width", "height"]].to_numpy().max())
        count = f"{len(pictures):,} scenes" if len(pictures) > 1 else "One scene"
        words.append(f"{count} as pictures of at most {largest:,} pixels a side.")
    if omitted:
        words.append(f"{omitted:,} more scenes are left out.")
    if skipped:
        path, reason = next(iter(skipped.items()))
        files = "1 file" if len(skipped) == 1 else f"{len(skipped):,} files"
        reason = reason.replace(path, Path(path).name).rstrip(".")
        words.append(f"{files} cannot be shown: {reason}.")
    if not len(pictures):
        words = words or ["The table names no image files to show."]
        return None, " ".join(words), np.zeros((0, 2))
    layer = [
        {
            "image": image_url(row.image, "webp"),
            "bounds": [[row.bottom, row.left], [row.top, row.right]],
            "place": int(row.place),
            "date": "" if pd.isna(row.time) else date_text(row.time),
            "name": Path(str(row.path)).name,
        }
        for row in pictures.itertuples()
    ]
    corners = pictures[["left", "bottom", "right", "top"]].to_numpy().reshape(-1, 2)
    return {"scenes": layer}, " ".join(words), corners
