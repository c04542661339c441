"""Show progress: a bar in a terminal or a notebook, a few updates in a log file; durations."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from math import floor, isfinite, isnan, log10
from typing import Any

from geossl.utils.validate import NonNegative, NonNegativeInt, validated

__all__ = ["format_duration", "format_rate", "in_notebook", "progress_bar", "show_values"]

_UNITS = (
    ("years", 365.25 * 86_400), ("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0),
    ("seconds", 1.0),
)  # fmt: skip
_LOG_EVERY_S = 60.0  # a file keeps every update, a terminal draws over the last one


@validated
def progress_bar(
    work: NonNegativeInt | Sequence[Any],
    *,
    unit: str,
    show: bool = True,
    initial: NonNegativeInt = 0,
    desc: str | None = None,
    scale: bool = False,
) -> Any:
    """Return a bar of tqdm, with the time left; a notebook's own where ipywidgets is installed.

    Args:
        work: how much there is to do, or what to iterate over.
        unit: of it, such as "step".
        show: False makes a bar that shows nothing.
        initial: how much was done before.
        desc: what is done, in front of the bar.
        scale: write thousands as k, millions as M.
    """
    from tqdm.auto import tqdm

    options: dict[str, Any] = {}
    if not sys.stderr.isatty() and not in_notebook():
        options = {"mininterval": _LOG_EVERY_S, "miniters": 1}
    items, total = (None, work) if isinstance(work, int) else (work, len(work))
    return tqdm(
        items, total=total, initial=initial, desc=desc, unit=unit, unit_scale=scale,
        disable=not show, **options,
    )  # fmt: skip


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython.core.getipython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def show_values(bar: Any, values: Mapping[str, float]) -> None:
    """Show those values behind a bar that are numbers; NaN is none."""
    texts = {name: f"{value:.2f}" for name, value in values.items() if not isnan(value)}
    bar.set_postfix(texts, refresh=False)


@validated
def format_duration(seconds: NonNegative) -> str:
    """Write a duration in a unit that fits, with two digits: 40 seconds, 1.5 minutes, 30 hours."""
    name, size = next((unit for unit in _UNITS if seconds >= 1.5 * unit[1]), _UNITS[-1])
    return f"{format_rate(seconds / size)} {name}"


def format_rate(value: float) -> str:
    """Return a number with two digits: 1,200, 35, 0.42."""
    if value == 0 or not isfinite(value):
        return f"{value:g}"
    digits = 1 - floor(log10(abs(value)))
    return f"{round(value, digits):,.{max(0, digits)}f}"
