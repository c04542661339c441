"""Read dates: in names of files and folders, in columns of tables and in tags.

The most precise rule that fits a text reads it; of several dates in a text the first counts, which
is when a product was sensed. A month, a quarter, an ISO week or a year alone stands for its first
day. Times are UTC. What can be read in two ways is refused, unless another text of the same set can
be read in one of them only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import pandas as pd

from geossl.data._date_rules import (
    FOLDER_RULES,
    NAME_RULES,
    TEXT_RULES,
    WORD,
    Rule,
    compile_form,
    form_of,
    to_time,
)
from geossl.utils.patterns import compile_pattern

__all__ = ["AmbiguousDate", "Date", "parse", "read_names", "to_utc", "why_no_time"]

_FIRST = pd.Timestamp("1900-01-01", tz="UTC")  # of dates in names
_LIMITS = tuple(pd.Timestamp(year, 1, 1, tz="UTC") for year in (1800, 2200))  # of other texts
_UNITS = "DWMQY"
_MAY_BE_DATE = re.compile(f"\\d{{4}}|{WORD}".replace("?P<b>", "?:"), re.IGNORECASE)
_DTYPE = "datetime64[us, UTC]"


class AmbiguousDate(ValueError):
    """A text that may be two dates."""


@dataclass(frozen=True)
class Date:
    """A date as it was read.

    Attributes:
        time: when, UTC; the start of a month, quarter, week or year.
        rule: in words, how it was read.
        unit: of pandas periods: D, W, M, Q or Y.
        text: that was read.
        readings: form of strptime, or regular expression -> time; several if it may be either.
    """

    time: pd.Timestamp
    rule: str
    unit: str
    text: str
    readings: Mapping[str, pd.Timestamp]


def read_names(
    names: Sequence[str], *, pattern: str | None = None, now: pd.Timestamp | None = None
) -> list[Date | None]:
    """Read the dates of a data set's files from their names, or from the folders they are in.

    Args:
        names: paths of the files from the data set's folder on, with ``/``. The name of a file is
            read first, then its folders, the nearest first.
        pattern: a form of ``strptime`` such as "%d-%m-%Y", or a regular expression whose first
            group (else all of it) catches the date; "" where names hold no date. It is searched
            in the file's name, then in its path.
        now: names hold no later dates; the present if None.

    Returns:
        The date of each name; None where it has none.

    Raises:
        AmbiguousDate: a name may be two dates, and no other name shows which it is.
        ValueError: ``pattern`` is damaged, or a name does not match it.

    Example:
        >>> [date] = read_names(["s_20190605T1030.tif"])
        >>> str(date.time), date.rule
        ('2019-06-05 10:30:00+00:00', 'year-month-day in the name')
    """
    if pattern == "":
        return [None] * len(names)
    paths = [PurePosixPath(name) for name in names]
    stems = [path.with_suffix("") for path in paths]
    if pattern is not None:
        texts = [(s.name, str(s), str(path)) for s, path in zip(stems, paths, strict=True)]
        return list(_read_by_pattern(texts, pattern))
    latest = (pd.Timestamp.now("UTC") if now is None else now) + pd.Timedelta(days=1)
    limits = _FIRST, latest
    folders = {parent.name for path in paths for parent in path.parents}
    dates = _read_texts({stem.name for stem in stems} | folders, NAME_RULES, limits)
    nested = _read_texts(map(str, stems), FOLDER_RULES, limits)
    result: list[Date | None] = []
    for path, stem in zip(paths, stems, strict=True):
        own = dates.get(stem.name)
        if own and own.unit == "D" and len(own.readings) == 1:
            result.append(replace(own, rule=f"{own.rule} in the name"))
            continue
        places = [(own, "name"), (nested.get(str(stem)), "names of folders")]
        places += [(dates.get(parent.name), "name of the folder") for parent in path.parents]
        found = [replace(d, rule=f"{d.rule} in the {where}") for d, where in places if d]
        result.append(_choose(found, str(path)))
    return result


def parse(
    texts: Iterable[str], *, pattern: str | None = None, option: str = ""
) -> dict[str, pd.Timestamp]:
    """Read texts that are dates as a whole: of a column, or of a tag of each file.

    Args:
        texts: the different ones of a set.
        pattern: a form of ``strptime``, or a regular expression, see `read_names`.
        option: the argument of the caller that takes a pattern, for messages.

    Returns:
        Text -> time in UTC, which those without an offset are taken for; texts that are no dates
        are left out.

    Raises:
        AmbiguousDate: a text may be two dates, and no other text shows which it is.
        ValueError: ``pattern`` is damaged, or a text does not match it.

    Example:
        >>> str(parse(["05/06/2019", "25/06/2019"])["05/06/2019"])
        '2019-06-05 00:00:00+00:00'
    """
    ordered = sorted(set(texts))
    if pattern:
        found = _read_by_pattern([(text,) for text in ordered], pattern, whole=True)
        return {text: date.time for text, date in zip(ordered, found, strict=True)}
    dates = _read_texts(ordered, TEXT_RULES, _LIMITS, whole=True)
    return {t: _refuse_ambiguous(date, "", option).time for t, date in dates.items()}


def to_utc(times: pd.Series, *, pattern: str | None = None, option: str = "") -> pd.Series:
    """Return the times of a column in UTC, which those without an offset are taken for.

    Args:
        times: datetimes, texts, years (2020) or days (20200630); may be missing or empty.
        pattern: how texts are read, see `parse`.
        option: see `parse`.

    Returns:
        Datetimes; missing where a value is no date, see `why_no_time`.

    Raises:
        AmbiguousDate: a text may be two dates, and no other text shows which it is.
        ValueError: numbers that may be anything.

    Example:
        >>> to_utc(pd.Series(["2019-06-05T10:30+02:00", "5 June 2019", ""]))[0].hour
        8
    """
    if isinstance(times.dtype, pd.PeriodDtype):
        times = times.dt.to_timestamp()
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        return times.dt.tz_convert("UTC").astype(_DTYPE)
    if pd.api.types.is_datetime64_any_dtype(times.dtype):
        return times.dt.tz_localize("UTC").astype(_DTYPE)
    if pd.api.types.is_numeric_dtype(times.dtype) and times.notna().any():
        number = pd.to_numeric(times, errors="coerce")
        ranges = ((1800, 2200), (18000101, 22001231))  # years or days; else since when?
        if not any(
            ((number.between(*r) & number.mod(1).eq(0)) | number.isna()).all() for r in ranges
        ):
            value = f"{float(times.dropna().iloc[0])}".removesuffix(".0")
            raise ValueError(
                "times must be text, datetimes, years (2020) or days (20200630), got numbers such "
                f"as {value}{why_no_time(value)}. Convert them first, to text such as "
                "2020-06-30T10:15:00Z."
            )
        times = number.astype("Int64").astype("string")
    is_text = times.map(lambda value: isinstance(value, str)).astype(bool)
    text = times.where(~is_text, times.astype("string").str.strip().astype(object))
    filled = text.where(text.notna() & text.ne(""), None)
    by_pattern = is_text & bool(pattern)
    iso = filled.mask(by_pattern, None)
    parsed = pd.to_datetime(iso, utc=True, errors="coerce", format="ISO8601").astype(_DTYPE)
    rest = is_text & parsed.isna() & filled.notna()
    if rest.any():
        known = parse(text[rest].unique(), pattern=pattern, option=option)
        parsed[rest] = pd.to_datetime(text[rest].map(known), utc=True).astype(_DTYPE)
    return parsed


def why_no_time(text: str) -> str:
    """Return what a number in place of a time may be, after a comma; "" for other texts."""
    try:
        number = float(text)
        if 20_000 <= number < 80_000:
            day = pd.Timestamp("1899-12-30") + pd.Timedelta(days=int(number))
            return f", a day as spreadsheets count them ({day:%Y-%m-%d}?)"
        for unit, low in (("s", 1e8), ("ms", 1e11), ("us", 1e14), ("ns", 1e17)):
            if low <= number < low * 42:
                words = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}
                time = pd.Timestamp(int(number), unit=unit)
                word = words.get(unit, "nanoseconds")
                return f", {word} since 1970 ({time:%Y-%m-%d}?)"
    except (ValueError, OverflowError):
        pass
    return ""


def _read_texts(
    texts: Iterable[str],
    rules: Sequence[Rule],
    limits: Sequence[pd.Timestamp],
    *,
    whole: bool = False,
) -> dict[str, Date]:
    """Return the best date of each text of a set that has one."""
    unread = sorted({text for text in texts if _MAY_BE_DATE.search(text)})
    dates: dict[str, Date] = {}
    for rule in rules:
        found = {text: date for text in unread if (date := _apply(rule, text, limits, whole))}
        if rule.weak:
            shapes = {_shape(text) for text in unread if text not in found}
            found = {text: date for text, date in found.items() if _shape(text) not in shapes}
        settled = {form for d in found.values() if len(d.readings) == 1 for form in d.readings}
        dates |= {text: _settle(date, settled) for text, date in found.items()}
        unread = [text for text in unread if text not in found]
    return dates


def _shape(text: str) -> str:
    return re.sub(r"\d+", "0", text)


def _settle(date: Date, forms: set[str]) -> Date:
    """Read an ambiguous date as those of its set that are not."""
    known = [form for form in date.readings if form in forms]
    if len(date.readings) == 1 or len(known) != 1:
        return date
    time = date.readings[known[0]]
    return replace(date, time=time, readings={known[0]: time})


def _apply(rule: Rule, text: str, limits: Sequence[pd.Timestamp], whole: bool) -> Date | None:
    """Return the date that a rule reads in a text, with each way to read it."""

    def search(form: re.Pattern[str]) -> list[tuple[re.Match[str], pd.Timestamp]]:
        matches = [m for m in form.finditer(text) if not whole or m.group() == text]
        times = [(match, to_time(match.groupdict())) for match in matches]
        return [(m, t) for m, t in times if t is not None and limits[0] <= t <= limits[1]]

    main = search(rule.form)
    rival = search(rule.rival) if rule.rival and (main or rule.alone) else []
    if not main and not rival:
        return None
    match, time = (main or rival)[0]
    readings = {form_of(match): time}
    if main and rival and rival[0][1] != time:
        readings[form_of(rival[0][0])] = rival[0][1]
    others = [(m, t) for m, t in main if t != time]
    if rule.unit == "Y" and others:  # the number of a tile, or the end of a range
        other = others[0][0]
        gap = re.sub(r"\d+", r"\\d+", re.escape(text[match.end() : other.start()]))
        readings = {rf"(\d{{4}}){gap}\d{{4}}": time, rf"\d{{4}}{gap}(\d{{4}})": others[0][1]}
        return Date(time, rule.name, rule.unit, text[match.start() : other.end()], readings)
    name = f"{rule.name} (the first of {1 + len(others)})" if others else rule.name
    return Date(time, name, rule.unit, match.group(), readings)


def _choose(found: Sequence[Date], name: str) -> Date | None:
    """Return the first date, or a later one that is more precise and lies within it."""
    if not found:
        return None
    first = found[0]
    days = {d.time.normalize() for d in found[1:] if d.unit == "D" and len(d.readings) == 1}
    known = [form for form, time in first.readings.items() if time.normalize() in days]
    first = _refuse_ambiguous(_settle(first, set(known)), name, "date_pattern")
    for date in found[1:]:
        finer = len(date.readings) == 1 and _UNITS.index(date.unit) < _UNITS.index(first.unit)
        start, other = (d.time.tz_localize(None).to_period(first.unit) for d in (first, date))
        first = date if finer and start == other else first
    return first


def _refuse_ambiguous(date: Date, name: str, option: str) -> Date:
    """Return a date that can be read in one way.

    Raises:
        AmbiguousDate: it may be two.
    """
    if len(date.readings) == 1:
        return date

    def show(form: str, time: pd.Timestamp) -> str:
        day = f"{time.day} " if "%d" in form else ""
        return f"{day}{time:%B %Y}" if "%m" in form or "%b" in form else f"{time:%Y}"

    times = " or ".join(show(form, time) for form, time in date.readings.items())
    forms = [f'r"{form}"' if "\\" in form else f'"{form}"' for form in date.readings]
    where = f" in {name}" if name else ""
    advice = "Pass " + " or ".join(f"`{option}={form}`" for form in forms)
    if not option:
        advice = "Write it as " + " or ".join(f"{t:%Y-%m-%d}" for t in date.readings.values())
    elif date.unit == "Y":
        advice += f', or `{option}=""` if it is no date'
    raise AmbiguousDate(f"`{date.text}`{where} may be {times}. {advice}.")


def _read_by_pattern(
    texts: Sequence[tuple[str, ...]], pattern: str, *, whole: bool = False
) -> list[Date]:
    """Read the dates that a pattern finds in the first of some texts each that has one."""
    is_form = re.search(r"%[A-Za-z]", pattern) is not None
    compiled = (
        compile_form(pattern, whole=whole) if is_form else compile_pattern("date_pattern", pattern)
    )
    rule, caught, result = f"date_pattern {pattern}", [], []
    for choices in texts:
        match = next(filter(None, map(compiled.search, choices)), None)
        if match is None or (is_form and to_time(match.groupdict()) is None):
            raise ValueError(
                f"`date_pattern` must match every {'date' if whole else 'name'}, got {pattern!r}, "
                f"which finds no date in {choices[-1]!r}. Change one or the other."
            )
        caught.append(match.group(min(compiled.groups, 1) if not is_form else 0) or "")
        if is_form and (time := to_time(match.groupdict())) is not None:
            result.append(Date(time, rule, "D", match.group(), {pattern: time}))
    if is_form:
        return result
    times = parse(caught, option="date_pattern")
    for text, choices in zip(caught, texts, strict=True):
        if text not in times:
            raise ValueError(
                f"`date_pattern` = {pattern!r} catches {text!r}, which is not a date, in "
                f"{choices[-1]!r}. Put its group around the date, or pass a form such as %Y%m%d."
            )
    return [Date(times[text], rule, "D", text, {pattern: times[text]}) for text in caught]
