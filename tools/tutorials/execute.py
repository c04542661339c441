"""Run notebooks as a person would, measure how long they compute, and say whether that is true."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import nbformat
from geossl_lessons import checking
from nbformat import NotebookNode

from geossl.utils.io import atomic_write
from tools.tutorials import copies

Result = TypeVar("Result")
TOLERANCE = 0.3  # of the stated minutes
_FLOOR_S = 15.0  # below that a start of a kernel decides, not the lesson


def execute(
    book: NotebookNode, folder: Path, *, strict: bool = False, timeout_s: int = 1200
) -> float:
    """Run a notebook in place, with its outputs; returns the seconds it took.

    Args:
        book: gets the outputs and the state of its widgets.
        folder: where it runs.
        strict: an exercise that is not solved is an error.
        timeout_s: for one cell.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    from nbclient import NotebookClient

    environment = os.environ | {checking.STRICT: "1" if strict else "0"}
    about = {"metadata": {"path": str(folder)}}

    def run() -> float:
        began = time.monotonic()
        client = NotebookClient(book, timeout=timeout_s, resources=about)
        client.extra_arguments = ["--log-level=ERROR"]  # it warns of TCP on this machine
        client.execute(env=environment)
        return time.monotonic() - began

    return started(run)


def started(run: Callable[[], Result]) -> Result:
    """Call what starts a kernel; again where another program took one of the kernel's ports."""
    for _ in range(2):
        try:
            return run()
        except RuntimeError as error:
            if "before replying" not in str(error):
                raise
    return run()


def time_notebooks(
    paths: Iterable[Path],
    *,
    quick: bool = False,
    keep: Path | None = None,
    say: Callable[[object], None],
) -> bool:
    """Run notebooks with their solutions, strictly, and print measured beside stated minutes.

    Args:
        paths: the notebooks.
        quick: with the small knobs of the tests; the times then mean nothing.
        keep: folder for the notebooks as they ran, with what they show; also of those that failed.
        say: takes the lines.

    Returns:
        Whether all ran, and each in the stated time within 30 %.
    """
    say(f"{os.cpu_count()} cores here; load before the start {_load():.1f} (0 is idle)")
    say(f"{'notebook':44} {'minutes':>8} {'of cores':>9} {'stated':>7}")
    fine = True
    for path in paths:
        book = copies.copy_of(nbformat.read(path, as_version=4), "instructors")
        stated = copies.stated_minutes(book)
        if quick:
            book = copies.shrunk(book)
        with tempfile.TemporaryDirectory() as folder:
            worked = _worked()
            try:
                seconds = execute(book, Path(folder), strict=True)
            except Exception as error:  # the rest is run all the same
                say(f"{path.name:44} failed: {str(error).strip().splitlines()[-1]}")
                fine = False
                continue
            finally:
                if keep is not None:
                    with atomic_write(keep / path.name) as part:
                        nbformat.write(book, part)
        told, true = _judged(seconds, stated, quick=quick)
        share = (_worked() - worked) / 60
        say(f"{path.name:44} {seconds / 60:8.2f} {share:9.2f} {stated or '?':>7} {told}")
        fine &= true
    return fine


def _judged(seconds: float, stated: float | None, *, quick: bool) -> tuple[str, bool]:
    if quick:
        return "(small knobs)", True
    if stated is None:
        return "states no time", False
    apart = abs(seconds - 60 * stated)
    if apart <= max(TOLERANCE * 60 * stated, _FLOOR_S):
        return "true", True
    return f"off by {seconds / (60 * stated) - 1:+.0%}", False


def _worked() -> float:
    """Seconds that processors have worked for ended kernels: less than the clock's when waiting."""
    times = os.times()
    return times.children_user + times.children_system


def _load() -> float:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows
        return float("nan")
