"""The forms of dates: regular expressions whose groups are named as strptime's directives."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
WORD = (
    "(?P<b>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    "sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_DIRECTIVES = {
    "Y": r"(?P<Y>\d{4})", "G": r"(?P<Y>\d{4})", "y": r"(?P<y>\d\d)", "m": r"(?P<m>1[0-2]|0?[1-9])",
    "d": r"(?P<d>3[01]|[12]\d|0?[1-9])", "b": WORD, "B": WORD, "j": r"(?P<j>[0-3]\d\d)",
    "V": r"(?P<V>[0-5]\d)", "u": r"(?P<u>[1-7])", "H": r"(?P<H>[01]?\d|2[0-3])",
    "M": r"(?P<M>[0-5]?\d)", "S": r"(?P<S>[0-5]?\d)", "f": r"(?P<f>\d{1,6})",
    "I": r"(?P<H>1[0-2]|0?[1-9])", "p": r"(?P<p>[AP])M", "z": r"(?P<z>Z|[+-]\d\d:?\d\d)",
}  # fmt: skip
_NUMBERS = "YGymdjVuHIMSf"


@dataclass(frozen=True)
class Rule:
    """A way to read a date.

    Attributes:
        name: in words.
        unit: see `Date`.
        form: the regular expression.
        rival: another reading of the same text.
        alone: the rival is a reading where ``form`` does not fit, too.
        weak: it must fit every text that differs in digits only: tiles and frames have numbers too.
    """

    name: str
    unit: str
    form: re.Pattern[str]
    rival: re.Pattern[str] | None = None
    alone: bool = True
    weak: bool = False


def make_rules(sep: str, clock: str, year: str) -> list[Rule]:
    """Return the rules, most precise first, for separators, a time of day and a year."""
    m, d, j, word = (_DIRECTIVES[name] for name in "mdjb")
    mm, dd, q = r"(?P<m>0[1-9]|1[0-2])", r"(?P<d>0[1-9]|[12]\d|3[01])", r"(?P<q>[1-4])"
    week = r"W(?:EE)?K?[-_ ]?(?P<V>[0-5]\d)(?:-?(?P<u>[1-7]))?"
    yy, s, free = r"(?P<y>\d\d)", f"(?P<s>{sep})", f"(?:{sep}|, ?){{0,2}}"
    # the year of r2010_06_05 counts rows
    axis = r"(?<!row)(?<!col)(?<!tile)(?<!^[rcxyz])(?<![^a-z][rcxyz])"
    alone, end, number, stop = r"(?<![a-z\d])", r"(?![a-z\d])", r"(?<!\d)", r"(?!\d)"
    no_day = rf"(?!{sep}\d\d?{end})"  # 2019-02-30 is no date

    def rule(name: str, unit: str, form: str, rival: str | None = None, **more: bool) -> Rule:
        forms = (re.compile(text, re.IGNORECASE) if text else None for text in (form, rival))
        return Rule(name, unit, *forms, **more)  # type: ignore[arg-type]

    hms = r"(?P<H>[01]\d|2[0-3])(?P<M>[0-5]\d)(?P<S>[0-5]\d)"
    product = "date in the id of a product"
    return [
        rule(product, "D", rf"(?<=_V){year}{mm}{dd}{clock}{stop}"),  # Sentinel-2 until 2016
        rule(product, "D", rf"{alone}L[CEMOT]\d{{7}}{year}{j}{stop}"),  # Landsat until 2017
        rule(product, "D", rf"AST_[^_]{{2,5}}_\d{{3}}{mm}{dd}{year}{hms}{stop}"),  # ASTER
        rule(product, "D", rf"{alone}{yy}{word}{dd}{hms}{stop}"),  # Maxar
        rule(product, "D", rf"{alone}A{year}{j}{clock}{stop}"),  # MODIS, VIIRS
        rule(product, "D", rf"{alone}s{year}{j}{hms}\d{stop}"),  # GOES
        rule("year-month-day", "D", rf"{number}{year}{mm}{dd}{clock}{stop}"),
        rule("year-month-day", "D", rf"{number}{axis}{year}{s}{mm}(?P=s){dd}{clock}{stop}"),
        rule("year-month-day", "D", rf"{alone}{year}{s}{m}(?P=s){d}{clock}{stop}", weak=True),
        rule("day of the year", "D", rf"{number}{year}{j}T{hms}{stop}"),
        rule(
            "day, month and year", "D", rf"{alone}{d}{s}{m}(?P=s){year}{clock}{stop}",
            rf"{alone}{m}{s}{d}(?P=s){year}{clock}{stop}", weak=True,
        ),
        rule(
            "day, month and year", "D", rf"{alone}{dd}{mm}{year}{clock}{stop}",
            rf"{alone}{mm}{dd}{year}{clock}{stop}", weak=True,
        ),
        rule("month in words", "D", rf"{number}{d}{free}{word}{free}{year}{clock}{stop}"),
        rule("month in words", "D", rf"(?<![a-z]){word}{free}{d}{free}{year}{clock}{stop}"),
        rule("month in words", "D", rf"{alone}{year}{free}{word}{free}{d}{clock}{stop}"),
        rule(
            "month in words", "D", rf"{alone}{dd}{free}{word}{free}{yy}{end}",
            rf"{alone}{yy}{free}{word}{free}{dd}{end}",
        ),
        rule("day of the year", "D", rf"{alone}(?:D|DOY)?{year}{j}{end}", weak=True),
        rule("day of the year", "D", rf"{alone}{year}{sep}{j}{end}", weak=True),
        rule("ISO week", "W", rf"{alone}{year}{sep}?{week}{end}"),
        rule("ISO week", "W", rf"{alone}{week}{sep}?{year}{end}"),
        rule("quarter", "Q", rf"{alone}{year}{sep}?Q{q}{end}"),
        rule("quarter", "Q", rf"{alone}(?:Q{q}){sep}?{year}{end}"),
        rule("quarter", "Q", rf"{alone}{q}Q{sep}?{year}{end}"),
        rule("month in words", "M", rf"(?<![a-z\d]){word}{free}{year}{end}"),
        rule("month in words", "M", rf"{alone}{year}{free}{word}(?![a-z])"),
        rule("year-month", "M", rf"{alone}{year}{sep}{m}{end}{no_day}", weak=True),
        rule("year-month", "M", rf"{alone}(?<!\d[-/.]){mm}[-/.]{year}{end}", weak=True),
        rule("year-month", "M", rf"{alone}{year}{mm}{end}", rf"{alone}{yy}{mm}{dd}{end}",
             alone=False, weak=True),
        rule("year", "Y", rf"{alone}(?<!\d\d[-.]\d\d[-.]){year}{end}(?![-.]\d\d?[-.]\d\d?{end})"),
    ]  # fmt: skip


_NAME_YEAR = r"(?P<Y>(?:19|20)\d\d)"
_NAME_CLOCK = (  # 20190605T105031, 20190605_105031123, 2019-06-05 10.50.31, 201906051050
    r"(?:(?P<t>[T_ -]?)(?P<H>[01]\d|2[0-3])(?:(?P<c>[-:._]?)(?P<M>[0-5]\d)"
    r"(?:(?P=c)(?P<S>[0-5]\d)(?P<f>\d{3})?)?)?)?"
)
_TEXT_CLOCK = (  # 5/6/2019 1:30 PM, 2019.06.05 10:30:31.5 +02:00
    r"(?:[T ,]*(?P<H>[01]?\d|2[0-3]):?(?P<M>[0-5]\d)(?::?(?P<S>[0-5]\d)(?:[.,](?P<f>\d{1,6})\d*)?)?"
    r"(?: ?(?P<p>[AP])M)? ?(?:UTC|GMT|(?P<z>Z|[+-]\d\d:?\d\d))?)?"
)
NAME_RULES = make_rules("[-_. ]", _NAME_CLOCK, _NAME_YEAR)
TEXT_RULES = make_rules("[-_. /:]", _TEXT_CLOCK, r"(?P<Y>\d{4})")[6:]
FOLDER_RULES = [  # of 2019/06/05/scene, 2019/0605.tif, 2019/156/, 2019/June
    Rule(name, unit, re.compile(rf"(?<![^/]){_NAME_YEAR}/{form}", re.IGNORECASE), weak=True)
    for name, unit, form in (
        ("year/month/day", "D", r"(?P<m>1[0-2]|0?[1-9])/(?P<d>3[01]|[12]\d|0?[1-9])(?![a-z\d])"),
        ("year/month/day", "D", r"(?P<m>0[1-9]|1[0-2])[-_.]?(?P<d>0[1-9]|[12]\d|3[01])(?![a-z\d])"),
        ("year/day of the year", "D", r"(?P<j>[0-3]\d\d)(?![^/])"),
        ("year/month", "M", rf"(?:\d\d[-_. ]?)?{WORD}(?![a-z])"),
        ("year/month", "M", r"(?P<m>1[0-2]|0?[1-9])(?![^/])"),
    )
]


def form_of(match: re.Match[str]) -> str:
    """Return the strptime form of what a rule matched, without the time of day."""
    text, cut = match.group(), 0
    spans = sorted((match.span(name), name) for name in "YymdbjVu" if name in match.re.groupindex)
    parts = []
    for (start, end), name in spans:
        if start >= 0:
            parts += [text[cut : start - match.start()], f"%{name}"]
            cut = end - match.start()
    return "".join(parts)


def to_time(groups: Mapping[str, str | None]) -> pd.Timestamp | None:
    """Return the time of a match, None if there is no such day."""
    number = {name: int(text) for name, text in groups.items() if text and text.isdigit()}
    if "y" in number:
        year = number["y"] + (1900 if number["y"] >= 69 else 2000)  # as strptime
    else:
        year = number["Y"]
    if not 1800 <= year <= 2200:
        return None
    word = groups.get("b")
    month = _MONTHS.index(word[:3].lower()) + 1 if word else number.get("m", 1)
    try:
        if "V" in number:
            day = datetime.datetime.fromisocalendar(year, number["V"], number.get("u", 1))
        elif "q" in number:
            day = datetime.datetime(year, 3 * number["q"] - 2, 1)
        else:
            day = datetime.datetime(year, month, number.get("d", 1))
        if "j" in number:
            day += datetime.timedelta(days=number["j"] - 1)
        if day.year != year and "V" not in number:
            return None
        time = pd.Timestamp(day, tz="UTC")
    except (ValueError, OverflowError):
        return None
    return time + _clock(groups, number)


def _clock(groups: Mapping[str, str | None], number: Mapping[str, int]) -> pd.Timedelta:
    """Return the time of day of a match; hours and minutes alone are none after an underscore."""
    if "H" not in number or ("S" not in number and (groups.get("t") or "T") not in "Tt"):
        return pd.Timedelta(0)
    hour = number["H"]
    if groups.get("p"):
        hour = hour % 12 + 12 * (groups["p"] in ("P", "p"))
    micro = int((groups.get("f") or "0").ljust(6, "0"))
    seconds = hour * 3600 + number.get("M", 0) * 60 + number.get("S", 0)
    zone = groups.get("z") or "Z"
    if zone not in "Zz":
        offset = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
        seconds -= offset if zone[0] == "+" else -offset
    return pd.Timedelta(seconds=seconds, microseconds=micro)


def compile_form(form: str, *, whole: bool = False) -> re.Pattern[str]:
    """Return the regular expression of a form of strptime, to be searched in a text.

    A form of a day without hours takes a time of day that follows it.

    Args:
        form: of strptime.
        whole: the texts are dates, not names of files.

    Raises:
        ValueError: it has an unknown directive, one twice, or no year.
    """
    form = re.sub("%[-#]", "%", form).replace("%F", "%Y-%m-%d").replace("%T", "%H:%M:%S")
    literal = re.split(r"%([A-Za-z%])", form)
    names = literal[1::2]
    expression = ""
    for i, part in enumerate(literal):
        if i % 2 == 0:
            expression += re.escape(part)
        elif part == "%":
            expression += "%"
        elif part not in _DIRECTIVES or names.count(part) > 1:
            problem = "twice" if part in _DIRECTIVES else "which is unknown"
            raise ValueError(
                f"`date_pattern` must be a form of strptime with each of "
                f"{', '.join('%' + name for name in _DIRECTIVES)} at most once, got {form!r} with "
                f"%{part} {problem}."
            )
        else:
            text = _DIRECTIVES[part]
            before, after = names[i // 2 - 1] if i > 1 else "", (names[i // 2 + 1 :] or [""])[0]
            glued = ("" if literal[i - 1] else before) + ("" if literal[i + 1] else after)
            if set(glued) & set(_NUMBERS):  # %Y%m%d has two digits each
                text = text.replace("0?[1-9]", "0[1-9]").replace("]?\\d", "]\\d")
            expression += text
    if not set(names) & set("YGy"):
        raise ValueError(f"`date_pattern` must have a year, %Y or %y, got {form!r}.")
    before = r"(?<!\d)" if not literal[0] and names[0] in _NUMBERS else ""
    after = r"(?!\d)" if not literal[-1] and names[-1] in _NUMBERS else ""
    if (
        not literal[-1]
        and names[-1] in "YymdjbB"
        and set(names) & set("dj")
        and not set(names) & set("HI")
    ):
        expression += _TEXT_CLOCK if whole else _NAME_CLOCK
    try:
        return re.compile(f"{before}{expression}{after}", re.IGNORECASE)
    except re.error:  # %Y and %G, or %H and %I
        raise ValueError(f"`date_pattern` must say each part once, got {form!r}.") from None
