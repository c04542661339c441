"""Markers of maps: one row for each location, and the chips that its popup shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from geossl.data.scenes import first_rows, location_codes
from geossl.data.store import ChipStore
from geossl.viz.pages import jpeg_url


def check_table(
    scenes: pd.DataFrame, store: ChipStore | None = None, *, label: str = "label"
) -> None:
    """Raise unless a table has locations and positions, and a store has one chip for each row.

    A column of labels that is not called "label" must exist.
    """
    missing = {"location", "lon", "lat"} - set(scenes.columns)
    if missing:
        raise ValueError(
            f"The scene table needs the columns location, lon and lat, got {list(scenes.columns)}. "
            f"Add {', '.join(sorted(missing))}."
        )
    times = scenes["time"].dropna() if "time" in scenes else pd.Series()
    if len(times) and not pd.api.types.is_datetime64_any_dtype(times.dtype):
        raise ValueError(
            "The scene table must have datetimes in its column 'time', got "
            f"{times.iloc[0]!r}. Pass it through geossl.data.scenes.check()."
        )
    if label != "label" and label not in scenes:
        raise ValueError(f"`label` must be a column of {list(scenes.columns)}, got {label!r}.")
    if store is not None and len(store) != len(scenes):
        raise ValueError(
            f"`store` must have one chip for each of the {len(scenes)} rows, got a store of "
            f"{len(store)} chips. Pass the store that the table belongs to."
        )


def locations_of(scenes: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Reduce a scene table to the first row of each location that has a position.

    Returns:
        The rows, with the columns ``row`` (in the table), ``location_index`` and
        ``chips``; and how many locations have no coordinates.
    """
    codes = location_codes(scenes)
    first = first_rows(codes)
    table = scenes.iloc[first].reset_index(drop=True)
    table["row"], table["location_index"] = first, np.arange(len(first))
    table["chips"] = np.bincount(codes[codes >= 0], minlength=len(first))[: len(first)]
    known = np.isfinite(table[["lon", "lat"]].to_numpy(float)).all(1)
    if not known.any():
        raise ValueError(
            f"A map needs coordinates, got none for any of the {len(table)} locations. Fill lon "
            "and lat of the scene table, in degrees."
        )
    return table[known].reset_index(drop=True), {"without coordinates": int((~known).sum())}


def strips(
    store: ChipStore, locations: pd.DataFrame, scenes: pd.DataFrame | None
) -> list[dict[str, Any]]:
    """Draw a strip of chips per location: its dates (up to six), or its own row."""
    if scenes is None:
        return [strip(store, np.array([row]), "the chip") for row in locations["row"]]
    rows = pd.Series(np.arange(len(scenes))).groupby(scenes["location"].to_numpy()).agg(list)
    dates = (np.array(rows[location][:6]) for location in locations["location"])
    return [strip(store, some, "its chips by date") for some in dates]


def strip(store: ChipStore, rows: np.ndarray, alt: str) -> dict[str, Any]:
    """Draw chips side by side as one small picture."""
    chips = store.preview(rows)
    step = max(1, store.size_px // 64)
    picture = np.concatenate(list(chips[:, ::step, ::step]), axis=1)
    return {"image": jpeg_url(picture), "alt": alt, "width": 48 * len(rows)}
