"""Describe a scene table: how many, where, when, of what, and what looks wrong."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from geossl import geo
from geossl.data import earth, scenes
from geossl.data.dates import to_utc
from geossl.data.scenes import BOX
from geossl.data.sources import FILE_COLUMNS
from geossl.data.splits import name_splits
from geossl.utils.validate import validated

__all__ = ["Description", "describe"]

_SHOWN = 12  # classes named in words
_EXAMPLES = 3  # of a rule that reads dates
_SAMPLE = 50_000  # locations looked up in the map of the land
_DAY = np.timedelta64(1, "D")
_PARTS = (*BOX, "left", "bottom", "right", "top")  # of a file that a row shows
_OPTIONAL = {  # missing where they do not apply
    *BOX, *FILE_COLUMNS, "scale_low", "scale_high", "below_scale", "above_scale",
    "cloud_free_share",
}  # fmt: skip


@dataclass(frozen=True)
class Description:
    """Summary of a scene table; prints as lines, shows as a table in a notebook.

    Attributes:
        rows: images.
        locations: different locations.
        dated: rows with a time.
        first, last: the earliest and the latest time; None without any.
        dates_per_location: (fewest, median, most) different times of a location.
        single_date_share: share of the locations with at most one date, which have no temporal
            pairs.
        gap_days: (shortest, median, longest) gap between successive dates of a location.
        extent: ``(left, bottom, right, top)`` in degrees, ``left > right`` over the antimeridian.
        classes: rows by label, the most frequent first.
        splits: rows by split.
        missing: rows without a value, by column; only columns that have some.
        warnings: one sentence for each thing that looks wrong.
        date_rules: how the times were read, with some examples -> rows; only where it is known.
    """

    rows: int
    locations: int
    dated: int
    first: str | None
    last: str | None
    dates_per_location: tuple[int, float, int]
    single_date_share: float
    gap_days: tuple[float, float, float] | None
    extent: tuple[float, float, float, float] | None
    classes: dict[str, int]
    splits: dict[str, int]
    missing: dict[str, int]
    warnings: list[str] = field(default_factory=list)
    date_rules: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[tuple[str, str]]:
        """Return (name, value in words) of everything that is known."""
        low, middle, high = self.dates_per_location
        lines = [
            ("images", f"{self.rows:,}"),
            ("locations", f"{self.locations:,}"),
            ("dates", f"{self.first} to {self.last}" if self.first else "none"),
            *((f"dates of {rows:,} images", rule) for rule, rows in self.date_rules.items()),
            ("dates per location", f"{low} to {high}, median {middle:g}"),
            ("locations with one date", f"{self.single_date_share:.1%}"),
        ]
        if self.gap_days:
            short, usual, long = (f"{days:,.1f}" for days in self.gap_days)
            lines.append(("days between dates", f"{short} to {long}, median {usual}"))
        if self.extent:
            left, bottom, right, top = self.extent
            extent = f"lon {left:.4g} to {right:.4g}, lat {bottom:.4g} to {top:.4g}"
            lines.append(("extent", extent))
        counted = {"labels": self.classes, "splits": self.splits, "missing values": self.missing}
        lines += [(name, _in_words(counts)) for name, counts in counted.items() if counts]
        return lines + [("warning", text) for text in self.warnings]

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.lines())
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.lines())

    def _repr_html_(self) -> str:
        left = 'style="text-align: left"'
        rows = "".join(
            f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(value)}</td></tr>"
            for name, value in self.lines()
        )
        return f"<table>{rows}</table>"

    def to_dict(self) -> dict[str, object]:
        """Return everything as plain values, for json."""
        return asdict(self)


@validated
def describe(table: pd.DataFrame) -> Description:
    """Describe a scene table, also one that `geossl.data.scenes.check` would refuse.

    Args:
        table: needs ``location``; every other known column is looked at if it exists.

    Raises:
        ValueError: there is no row, or no column ``location``.
    """
    if "location" not in table or len(table) == 0:
        raise ValueError(
            f"`table` must be a scene table with rows and a column 'location', got {len(table)} "
            f"rows of {[str(name)[:40] for name in table.columns[:20]]}. Make one with "
            "`geossl scenes open` or `geossl.datasets.open_scenes`."
        )
    if "split" in table:
        table = table.assign(split=name_splits(table["split"]))
    location = scenes.location_codes(table)
    warnings = []
    times = pd.Series(pd.NaT, table.index)
    if "time" in table:
        try:
            times = to_utc(table["time"])
        except ValueError as error:
            warnings.append(str(error).rstrip("."))
            times = pd.to_datetime(table["time"], utc=True, errors="coerce", format="ISO8601")
        lost = int((times.isna() & table["time"].notna()).sum())
        if lost:
            warnings.append(f"{lost:,} times do not parse as a date")
    counts, gaps = _dates(location, times)
    known = times.dropna()
    lon, lat = (
        pd.to_numeric(table[name], errors="coerce").to_numpy(float)
        if name in table
        else np.full(len(table), np.nan)
        for name in ("lon", "lat")
    )
    inside = (np.abs(lon) <= 180) & (np.abs(lat) <= 90)
    missing = table.isna().sum()
    warnings += _position_warnings(location, lon, lat, inside)
    warnings += _duplicate_warnings(table, location, times)
    if table.attrs.get("nodata"):  # of a chip store
        warnings.append(table.attrs["nodata"])
    return Description(
        rows=len(table),
        locations=int(location.max()) + 1,
        dated=len(known),
        first=f"{known.min():%Y-%m-%d}" if len(known) else None,
        last=f"{known.max():%Y-%m-%d}" if len(known) else None,
        dates_per_location=(int(counts.min()), float(np.median(counts)), int(counts.max())),
        single_date_share=float((counts <= 1).mean()),
        gap_days=(float(gaps.min()), float(np.median(gaps)), float(gaps.max()))
        if len(gaps)
        else None,
        extent=geo.bounds(lon[inside], lat[inside]) if inside.any() else None,
        classes=_count(table, "label"),
        splits=_count(table, "split"),
        missing={str(k): int(n) for k, n in missing.items() if n and k not in _OPTIONAL},
        warnings=warnings,
        date_rules=_date_rules(table, times),
    )


def _date_rules(table: pd.DataFrame, times: pd.Series) -> dict[str, int]:
    """Return the rules that read the times of images from their names, with examples -> rows."""
    if not {"date_rule", "path"} <= set(table):
        return {}
    dated = table.assign(time=times)[times.notna() & table["date_rule"].notna()]
    rules = {}
    for rule, rows in dated.groupby("date_rule"):
        files = rows.drop_duplicates("path").drop_duplicates("time").head(_EXAMPLES)
        parts = -2 if "folder" in str(rule) else -1
        examples = (
            f"{'/'.join(Path(str(path)).parts[parts:])} -> "
            f"{str(time.tz_localize(None)).removesuffix(' 00:00:00')}"
            for path, time in zip(files["path"], files["time"], strict=True)
        )
        rules[f"{rule}, e.g. {', '.join(examples)}"] = len(rows)
    return rules


def _dates(location: np.ndarray, times: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of different times of each location, and the gaps between them in days."""
    when = times.dt.tz_localize(None) if times.dt.tz is not None else times
    stamps = when.to_numpy("datetime64[us]")
    known = ~np.isnat(stamps)
    order = np.lexsort((stamps[known], location[known]))
    code, moment = location[known][order], stamps[known][order]
    new = np.r_[True, (np.diff(code) > 0) | (np.diff(moment) > np.timedelta64(0))][: len(code)]
    code, moment = code[new], moment[new]
    counts = np.bincount(code, minlength=int(location.max()) + 1)
    return counts, (np.diff(moment) / _DAY)[np.diff(code) == 0]


def _position_warnings(
    location: np.ndarray, lon: np.ndarray, lat: np.ndarray, inside: np.ndarray
) -> list[str]:
    finite = np.isfinite(lon) & np.isfinite(lat)
    warnings = []
    sentinel = finite & ((lon <= -900) | (lat <= -900))
    turned = finite & (lon > 180) & (lon <= 360) & (np.abs(lat) <= 90)
    swapped = finite & (np.abs(lat) > 90) & (np.abs(lon) <= 90) & ~sentinel
    rest = finite & ~inside & ~sentinel & ~turned & ~swapped
    for rows, text in (
        (sentinel, "have a sentinel for a missing coordinate (such as -1000)"),
        (turned, "have a longitude of 180 to 360: read with normalize_lon"),
        (swapped, "have a latitude beyond 90: longitude and latitude are swapped"),
        (rest, "have coordinates out of range"),
    ):
        if rows.any():
            warnings.append(f"{int(rows.sum()):,} rows {text}")
    known_lon, known_lat = np.where(inside, lon, np.nan), np.where(inside, lat, np.nan)
    far = scenes.scattered_rows(location, known_lon, known_lat)
    if len(far):
        warnings.append(
            f"{len(far):,} rows lie over {scenes.MAX_SPREAD_DEG:g} degree from the first row "
            "of their location: each location needs its own name"
        )
    if not swapped.any():
        first = scenes.first_rows(location)
        first = first[inside[first]]
        warnings += _swap_warnings(lon[first], lat[first])
    return warnings


def _swap_warnings(lon: np.ndarray, lat: np.ndarray) -> list[str]:
    """Warn if far more locations would be on land with their coordinates exchanged."""
    if not len(lon) or not earth.has_zones():
        return []
    sample = np.random.default_rng(0).permutation(len(lon))[:_SAMPLE]
    lon, lat = lon[sample], lat[sample]
    able = np.abs(lon) <= 90  # only these can be exchanged
    if able.mean() < 0.5:
        return []
    as_is = float(earth.on_land(lon[able], lat[able]).mean())
    exchanged = float(earth.on_land(lat[able], lon[able]).mean())
    if exchanged - as_is < 0.3:
        return []
    return [
        f"{as_is:.0%} of the locations are on land, {exchanged:.0%} would be with longitude and "
        "latitude exchanged: are they swapped?"
    ]


def _duplicate_warnings(table: pd.DataFrame, location: np.ndarray, times: pd.Series) -> list[str]:
    warnings = []
    if "path" in table:
        parts = [name for name in _PARTS if name in table]  # many chips of one file are no repeats
        paths = table[table["path"].notna()]
        twice = int(paths.duplicated(["path", *parts]).sum())
        if twice:
            warnings.append(f"{twice:,} rows repeat the path of another row")
    dated = times.notna().to_numpy()
    again = pd.DataFrame({"at": location[dated], "time": times.to_numpy()[dated]}).duplicated()
    if again.any():
        warnings.append(f"{int(again.sum()):,} rows repeat the location and time of another row")
    if "split" in table:
        pairs = pd.DataFrame({"at": location, "split": table["split"].to_numpy()}).dropna()
        shared = int((pairs.drop_duplicates().groupby("at").size() > 1).sum())
        if shared:
            warnings.append(f"{shared:,} locations are in two splits: test data leak into training")
    return warnings


def _count(table: pd.DataFrame, column: str) -> dict[str, int]:
    if column not in table:
        return {}
    return {str(name): int(n) for name, n in table[column].value_counts().items()}


def _in_words(counts: dict[str, int]) -> str:
    shown = [f"{name} {n:,}" for name, n in list(counts.items())[:_SHOWN]]
    rest = list(counts.values())[_SHOWN:]
    more = [f"{len(rest):,} more with {sum(rest):,}"] if rest else []
    return ", ".join(shown + more)
