"""What is in a scene table: how many, where, when, of what, and what looks wrong."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from html import escape

import numpy as np
import pandas as pd

from geossl import geo
from geossl.data import earth, scenes
from geossl.data.scenes import BOX

_SHOWN = 12  # classes named in words
_SAMPLE = 50_000  # places looked up in the map of the land
_DAY = np.timedelta64(1, "D")
_PARTS = (*BOX, "left", "bottom", "right", "top")  # of a file that a row shows
_OURS = {*BOX, "scale_low", "scale_high"}  # missing where they do not apply


@dataclass(frozen=True)
class Description:
    """What `describe` found; prints as lines, shows as a table in a notebook.

    Attributes:
        rows: images.
        places: locations.
        dated: rows with a time.
        first, last: the earliest and the latest time; None without any.
        dates_per_place: (fewest, median, most) different times of a place.
        single_date_share: share of the places with at most one date: temporal pairs have nothing
            to pair there.
        gap_days: (shortest, median, longest) gap between successive dates of a place.
        extent: ``(left, bottom, right, top)`` in degrees, ``left > right`` over the antimeridian.
        classes: rows by label, the most frequent first.
        splits: rows by split.
        missing: rows without a value, by column; only columns that have some.
        warnings: one sentence for each thing that looks wrong.
    """

    rows: int
    places: int
    dated: int
    first: str | None
    last: str | None
    dates_per_place: tuple[int, float, int]
    single_date_share: float
    gap_days: tuple[float, float, float] | None
    extent: tuple[float, float, float, float] | None
    classes: dict[str, int]
    splits: dict[str, int]
    missing: dict[str, int]
    warnings: list[str] = field(default_factory=list)

    def lines(self) -> list[tuple[str, str]]:
        """(what, its value in words) of everything that is known."""
        low, middle, high = self.dates_per_place
        found = [
            ("images", f"{self.rows:,}"),
            ("places", f"{self.places:,}"),
            ("dates", f"{self.first} to {self.last}" if self.first else "none"),
            ("dates of a place", f"{low} to {high}, median {middle:g}"),
            ("places with one date", f"{self.single_date_share:.1%}"),
        ]
        if self.gap_days:
            short, usual, long = (f"{days:,.1f}" for days in self.gap_days)
            found.append(("days between dates", f"{short} to {long}, median {usual}"))
        if self.extent:
            left, bottom, right, top = self.extent
            found.append(
                ("extent", f"lon {left:.4g} to {right:.4g}, lat {bottom:.4g} to {top:.4g}")
            )
        for name, counts in (("labels", self.classes), ("splits", self.splits)):
            if counts:
                found.append((name, _in_words(counts)))
        if self.missing:
            found.append(("missing values", _in_words(self.missing)))
        return found + [("look at this", text) for text in self.warnings]

    def __str__(self) -> str:
        wide = max(len(name) for name, _ in self.lines())
        return "\n".join(f"{name:<{wide}}  {value}" for name, value in self.lines())

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align: left">{escape(name)}</th>'
            f'<td style="text-align: left">{escape(value)}</td></tr>'
            for name, value in self.lines()
        )
        return f"<table>{rows}</table>"

    def to_dict(self) -> dict[str, object]:
        """Everything as plain values, for json."""
        return asdict(self)


def describe(table: pd.DataFrame) -> Description:
    """Look over a scene table, also one that `geossl.data.scenes.check` would refuse.

    Args:
        table: needs ``location``; whatever else of the known columns it has is looked at.

    Raises:
        ValueError: there is no row, or no column ``location``.
    """
    if "location" not in table or len(table) == 0:
        raise ValueError(
            f"expected a scene table with rows and a column 'location', came {len(table)} rows of "
            f"{list(table.columns)}"
        )
    place = scenes.location_codes(table)
    warnings = []
    times = pd.Series(pd.NaT, table.index)
    if "time" in table:
        times = pd.to_datetime(table["time"], utc=True, errors="coerce", format="ISO8601")
        lost = int((times.isna() & table["time"].notna()).sum())
        if lost:
            warnings.append(f"{lost:,} times do not parse as a date")
    counts, gaps = _dates(place, times)
    known = times.dropna()
    lon, lat = (
        pd.to_numeric(table[name], errors="coerce").to_numpy(float)
        if name in table
        else np.full(len(table), np.nan)
        for name in ("lon", "lat")
    )
    inside = (np.abs(lon) <= 180) & (np.abs(lat) <= 90)
    missing = {
        str(name): int(n) for name, n in table.isna().sum().items() if n and name not in _OURS
    }
    warnings += _position_warnings(place, lon, lat, inside)
    warnings += _duplicates(table, place, times)
    return Description(
        rows=len(table),
        places=int(place.max()) + 1,
        dated=len(known),
        first=f"{known.min():%Y-%m-%d}" if len(known) else None,
        last=f"{known.max():%Y-%m-%d}" if len(known) else None,
        dates_per_place=(int(counts.min()), float(np.median(counts)), int(counts.max())),
        single_date_share=float((counts <= 1).mean()),
        gap_days=(float(gaps.min()), float(np.median(gaps)), float(gaps.max()))
        if len(gaps)
        else None,
        extent=geo.bounds(lon[inside], lat[inside]) if inside.any() else None,
        classes=_counted(table, "label"),
        splits=_counted(table, "split"),
        missing=missing,
        warnings=warnings,
    )


def _dates(place: np.ndarray, times: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Number of different times of each place, and the gaps between them in days."""
    when = times.dt.tz_localize(None) if times.dt.tz is not None else times
    stamps = when.to_numpy("datetime64[us]")
    known = ~np.isnat(stamps)
    order = np.lexsort((stamps[known], place[known]))
    at, moment = place[known][order], stamps[known][order]
    new = np.r_[True, (np.diff(at) > 0) | (np.diff(moment) > np.timedelta64(0))][: len(at)]
    at, moment = at[new], moment[new]
    counts = np.bincount(at, minlength=int(place.max()) + 1)
    return counts, (np.diff(moment) / _DAY)[np.diff(at) == 0]


def _position_warnings(
    place: np.ndarray, lon: np.ndarray, lat: np.ndarray, inside: np.ndarray
) -> list[str]:
    finite = np.isfinite(lon) & np.isfinite(lat)
    found = []
    sentinel = finite & ((lon <= -900) | (lat <= -900))
    turned = finite & (lon > 180) & (lon <= 360) & (np.abs(lat) <= 90)
    swapped = finite & (np.abs(lat) > 90) & (np.abs(lon) <= 90) & ~sentinel
    rest = finite & ~inside & ~sentinel & ~turned & ~swapped
    for rows, text in (
        (sentinel, "have a sentinel for a missing coordinate (such as -1000)"),
        (turned, "have a longitude of 180 to 360; read with normalize_lon"),
        (swapped, "have a latitude beyond 90: longitude and latitude are swapped"),
        (rest, "have coordinates out of range"),
    ):
        if rows.any():
            found.append(f"{int(rows.sum()):,} rows {text}")
    first = np.unique(place, return_index=True)[1]
    start = first[place]
    both = inside & inside[start] & ((lon != lon[start]) | (lat != lat[start]))
    rows = np.flatnonzero(both)
    apart = geo.great_circle_km(lon[rows], lat[rows], lon[start[rows]], lat[start[rows]])
    far = apart > scenes.MAX_SPREAD_DEG * np.pi * geo.EARTH_RADIUS_KM / 180
    if far.any():
        found.append(
            f"{int(far.sum()):,} rows lie over {scenes.MAX_SPREAD_DEG:g} degree from the first row "
            "of their location: one location is one place"
        )
    if not swapped.any():
        found += _swapped(lon[first][inside[first]], lat[first][inside[first]])
    return found


def _swapped(lon: np.ndarray, lat: np.ndarray) -> list[str]:
    """A warning where far more places would be on land with their coordinates exchanged."""
    if not len(lon) or not earth.has_zones():
        return []
    some = np.random.default_rng(0).permutation(len(lon))[:_SAMPLE]
    lon, lat = lon[some], lat[some]
    able = np.abs(lon) <= 90  # only these can be exchanged
    if able.mean() < 0.5:
        return []
    as_given = float(earth.on_land(lon[able], lat[able]).mean())
    exchanged = float(earth.on_land(lat[able], lon[able]).mean())
    if exchanged - as_given < 0.3:
        return []
    return [
        f"{as_given:.0%} of the places are on land, {exchanged:.0%} would be with longitude and "
        "latitude exchanged: are they swapped?"
    ]


def _duplicates(table: pd.DataFrame, place: np.ndarray, times: pd.Series) -> list[str]:
    found = []
    if "path" in table:
        parts = [name for name in _PARTS if name in table]  # many chips of one file are no repeats
        paths = table[table["path"].notna()]
        twice = int(paths.duplicated(["path", *parts]).sum())
        if twice:
            found.append(f"{twice:,} rows repeat the path of another row")
    dated = times.notna().to_numpy()
    again = pd.DataFrame({"place": place[dated], "time": times.to_numpy()[dated]}).duplicated()
    if again.any():
        found.append(f"{int(again.sum()):,} rows repeat the place and time of another row")
    if "split" in table:
        held = pd.DataFrame({"place": place, "split": table["split"].to_numpy()}).dropna()
        torn = int((held.drop_duplicates().groupby("place").size() > 1).sum())
        if torn:
            found.append(f"{torn:,} places lie in two splits: what is tested was trained on")
    return found


def _counted(table: pd.DataFrame, column: str) -> dict[str, int]:
    if column not in table:
        return {}
    return {str(name): int(n) for name, n in table[column].value_counts().items()}


def _in_words(counts: dict[str, int]) -> str:
    shown = [f"{name} {n:,}" for name, n in list(counts.items())[:_SHOWN]]
    rest = list(counts.values())[_SHOWN:]
    more = [f"{len(rest):,} more with {sum(rest):,}"] if rest else []
    return ", ".join(shown + more)
