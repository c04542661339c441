"""Date the files of a folder: by a csv, by a tag, or by their names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from geossl.data import dates
from geossl.data.columns import find_ambiguous, map_columns
from geossl.data.files import DatasetError, read_csv
from geossl.datasets.raster.grid import Scene
from geossl.datasets.shared.paths import match_names

_ADVICE = "Pass `date_pattern`, `date_tag` or `dates_csv`"


def date_scenes(
    scenes: Sequence[Scene],
    folder: Path,
    *,
    date_pattern: str | None = None,
    date_tag: str | None = None,
    dates_csv: str | os.PathLike[str] | None = None,
) -> list[Scene]:
    """Return the scenes with their times, and with the rules that read them.

    Args:
        scenes: by their headers; with the text of ``date_tag``.
        folder: that the names start from.
        date_pattern: see `geossl.data.dates.read_names`; it reads the texts of a csv or a tag too.
        date_tag: the tag that holds the date, used instead of the name.
        dates_csv: a csv with the dates, used instead of the tag.

    Returns:
        The scenes in order; ``time`` is missing where a name has no date.

    Raises:
        ValueError: a date may be two, a text is no date, or the csv does not list a file.
    """
    names = [Path(os.path.relpath(scene.path, folder)).as_posix() for scene in scenes]
    if dates_csv is None and date_tag is None:
        read = dates.read_names(names, pattern=date_pattern)
        return [
            replace(scene, time=date.time, date_rule=date.rule) if date else scene
            for scene, date in zip(scenes, read, strict=True)
        ]
    if dates_csv is not None:
        rule, source = f"column time of {Path(dates_csv).name}", f"{dates_csv}"
        texts, others = _read_csv(dates_csv, names, folder)
    else:
        rule, source = f"tag {date_tag}", f"tag {date_tag}"
        texts = {name: scene.tag or "" for name, scene in zip(names, scenes, strict=True)}
        others = []
    times = _read_texts(texts, others, source, pattern=date_pattern)
    return [
        replace(scene, time=times[name], date_rule=rule)
        for scene, name in zip(scenes, names, strict=True)
    ]


def _read_texts(
    texts: Mapping[str, str], others: Sequence[str], source: str, *, pattern: str | None = None
) -> dict[str, pd.Timestamp]:
    """Return the times of files from texts, of which each must be a date.

    Args:
        texts: file -> text.
        others: texts of no file, which may show in which order all are written.
        source: of the texts, for messages.
        pattern: see `geossl.data.dates.parse`.
    """
    column = pd.Series([*texts.values(), *([] if pattern else others)], dtype=object)
    times = dict(
        zip(column, dates.to_utc(column, pattern=pattern, option="date_pattern"), strict=True)
    )
    for name, text in texts.items():
        if pd.isna(times.get(text, pd.NaT)):
            problem = f"{text!r}, which is not a date" if text.strip() else "no date"
            raise ValueError(
                f"{name} has {problem}{dates.why_no_time(text)}, in {source}. {_ADVICE}, or write "
                "dates such as 2020-06-30 there."
            )
    return {name: times[text] for name, text in texts.items()}


def _read_csv(
    path: str | os.PathLike[str], names: Sequence[str], folder: Path
) -> tuple[dict[str, str], list[str]]:
    """Return file -> text of its date, for all files of a folder, and the other texts."""
    table = read_csv(path)
    ours = map_columns(list(table))
    several = {
        new: old for new, old in find_ambiguous(list(table)).items() if new in ("path", "time")
    }
    if several or not {"path", "time"} <= set(ours.values()):
        problem = "; ".join(f"{old} may all be {new}" for new, old in several.items())
        raise DatasetError(
            f"{path} needs the columns path and time, got {list(table)[:20]}"
            f"{': ' + problem if problem else ''}. Rename two of them."
        )
    table = table.rename(columns=ours)
    listed = table["path"].fillna("").tolist()
    matches = match_names(listed, names)
    texts: dict[str, str] = {}
    for name, text in zip(matches, table["time"].fillna(""), strict=True):
        if name is not None and texts.setdefault(name, text) != text:
            raise DatasetError(f"{path} has two dates for {name}: {texts[name]!r} and {text!r}.")
    missing = [name for name in names if name not in texts]
    if missing:
        unused = [row for row, name in zip(listed, matches, strict=True) if name is None]
        repeated = [stem for stem, n in Counter(Path(name).stem for name in names).items() if n > 1]
        hint = f" {len(unused)} of its rows name no file, e.g. {unused[0]!r}." if unused else ""
        if repeated:
            hint += f" Several files are called {repeated[0]!r}: list them with their folders."
        raise ValueError(
            f"`dates_csv` must list every file, but {path} has no row for {len(missing)} of "
            f"{len(names)} in {folder}: {', '.join(missing[:3])}{', ...' if missing[3:] else ''}."
            f"{hint} Add the rows, or move the files to another folder."
        )
    return texts, table["time"][[name is None for name in matches]].dropna().tolist()
