"""Guess what the columns of others' tables mean, from the names that they often have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

__all__ = ["USUAL", "find_ambiguous", "map_columns"]

USUAL = {  # our column -> names it often has, the likeliest first, as `_plain` writes them
    "path": "path file_path filepath image_path img_path imagepath file_name filename image_name "
    "img_name imagename image_file imagefile sourcefile source_file file image img fn",
    "location": "location",
    "time": "time timestamp datetime date_time date acquired acquired_at acquisition_time "
    "acquisition_date acquisition_datetime acq_date date_acquired image_date sensing_time "
    "sensing_date captured_at capture_date datetimeoriginal observed_on eventdate",
    "lon": "lon longitude lng long x",
    "lat": "lat latitude y",
    "label": "label class category cls class_name",
    "split": "split subset",
}
_XYWH = {"x": "box_left", "y": "box_top", "w": "box_width", "h": "box_height"}
_AROUND = re.compile(  # gps_latitude, decimalLongitude, LON_DD, lat_wgs84
    r"(?:(?:gps|decimal|dec|geo|cent(?:er|re|roid)|point|site|scene|image|img)_?)?"
    r"(lon|lng|long|longitude|lat|latitude)"
    r"(?:_?(?:dd|deg|degrees?|decimal|wgs_?84|(?:epsg_?)?4326|cent(?:er|re|roid)))?"
)


def map_columns(
    names: Sequence[str], columns: Mapping[str, str | None] | None = None
) -> dict[str, str]:
    """Return column names of a table -> ours: those that were passed, else the likeliest.

    Args:
        names: of the table's columns.
        columns: its names -> ours; None for one that is not what its name says.
    """
    columns = columns or {}
    ours = {name: new for name, new in columns.items() if name in names}
    by_rank = sorted(reversed(names), key=lambda name: name.lower() == _plain(name))
    free = {_plain(name): name for name in by_rank if name not in ours}
    if set(_XYWH) <= set(free):
        ours |= {free.pop(old): new for old, new in _XYWH.items()}
    for new, usual in USUAL.items():
        if new not in ours.values() and (old := next(filter(free.get, usual.split()), None)):
            ours[free[old]] = new
    return {old: new for old, new in ours.items() if new}


def find_ambiguous(
    names: Sequence[str], columns: Mapping[str, str | None] | None = None
) -> dict[str, list[str]]:
    """Return ours -> several columns of a table that may be it, where none has our own name."""
    columns = columns or {}
    ours = set(columns.values())
    chosen = {new: old for old, new in map_columns(names, columns).items()}
    several = {}
    for new, usual in USUAL.items():
        words = set(usual.split()) - {"x", "y"}
        same = [name for name in names if name not in columns and _plain(name) in words]
        if new not in ours and len(same) > 1 and chosen.get(new, "").lower() != new:
            several[new] = same
    return several


def _plain(name: str) -> str:
    """Return a name in lower case, words joined by an underscore, without units."""
    name = re.sub(r"[(\[].*?[)\]]", "", name.strip().lower())
    name = re.sub(r"[^a-z0-9]+", "_", name).strip("_")
    match = _AROUND.fullmatch(name)
    return match[1] if match else name
