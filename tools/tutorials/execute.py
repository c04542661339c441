"""Run notebooks as on an ordinary laptop, and compare their computing time with the stated one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import nbformat
from geossl_lessons import checking
from nbformat import NotebookNode
from tyro.conf import Positional

from geossl.cli.output import print_line
from geossl.train.throughput import REFERENCE_PAIRS_PER_S
from geossl.utils.io import atomic_write
from tools.tutorials import copies

Result = TypeVar("Result")
TOLERANCE = 0.3  # of the stated minutes
# What an ordinary laptop is: two cores, and instructions of x86 no newer than AVX2.
_CORES = {"OMP_NUM_THREADS": "2"}
_CAP = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
_FLOOR_S = 15.0  # smaller differences come from the start of the kernel


def laptop_environment() -> dict[str, str]:
    """Return the variables that make a new process an ordinary laptop; those already set stay."""
    cap = _CAP if platform.machine().lower() in ("x86_64", "amd64") else {}
    return {name: os.environ.get(name, value) for name, value in (_CORES | cap).items()}


def execute(
    notebook: NotebookNode,
    folder: Path,
    *,
    strict: bool = False,
    timeout_s: int = 1200,
    environment: Mapping[str, str] | None = None,
) -> float:
    """Run a notebook and return the seconds it took.

    Args:
        notebook: gets the outputs and the state of its widgets.
        folder: working directory.
        strict: an exercise that is not solved is an error.
        timeout_s: for one cell.
        environment: variables of the kernel besides this process's own.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    from nbclient import NotebookClient

    variables = os.environ | {checking.STRICT: "1" if strict else "0"} | dict(environment or {})
    resources = {"metadata": {"path": str(folder)}}

    def run() -> float:
        start = time.monotonic()
        client = NotebookClient(notebook, timeout=timeout_s, resources=resources)
        client.extra_arguments = ["--log-level=ERROR"]  # it warns of TCP on this machine
        client.execute(env=variables)
        return time.monotonic() - start

    return retry_kernel_start(run)


def retry_kernel_start(run: Callable[[], Result]) -> Result:
    """Call what starts a kernel, up to three times if another program takes one of its ports."""
    for _ in range(2):
        try:
            return run()
        except RuntimeError as error:
            if "before replying" not in str(error):
                raise
    return run()


def time_notebooks(
    paths: Positional[tuple[Path, ...]] = (),
    *,
    quick: bool = False,
    output_dir: Path | None = None,
) -> bool:
    """Run notebooks with their solutions, and print their computing time and the one they state.

    On x86 the kernels use no instructions newer than AVX2, as on an ordinary laptop. The speed of
    the machine is measured before and after each notebook, and its minutes are multiplied by it:
    what is compared are minutes of the laptop that `REFERENCE_PAIRS_PER_S` stands for.

    Args:
        paths: the notebooks; all lessons and workbenches when none is given.
        quick: use the small knobs of the tests; the times then mean nothing.
        output_dir: directory for the executed notebooks, also of those that failed.

    Returns:
        Whether all ran, and each in the stated time within 30 %.
    """
    paths = paths or (*copies.find_lessons(), *sorted(Path("notebooks").glob("*.ipynb")))
    print_line(_describe_machine())
    columns = f"{'minutes':>8} {'of cores':>9} {'speed':>6} {'on a laptop':>12} {'stated':>7}"
    print_line(f"{'notebook':44} {columns}")
    all_ok, speeds = True, [_laptop_speed()]
    for path in paths:
        notebook = copies.make_copy(nbformat.read(path, as_version=4), "instructors")
        stated = copies.read_computing_minutes(notebook)
        if quick:
            notebook = copies.shrink_knobs(notebook)
        with tempfile.TemporaryDirectory() as folder:
            before = _cpu_seconds()
            try:
                seconds = execute(
                    notebook, Path(folder), strict=True, environment=laptop_environment()
                )
            except Exception as error:  # the other notebooks run all the same
                print_line(f"{path.name:44} failed: {str(error).strip().splitlines()[-1]}")
                all_ok = False
                continue
            finally:
                if output_dir is not None:
                    with atomic_write(output_dir / path.name) as part:
                        nbformat.write(notebook, part)
        cores = (_cpu_seconds() - before) / 60
        speeds.append(_laptop_speed())
        speed = sum(speeds[-2:]) / 2
        verdict, ok = ("(small knobs)", True) if quick else _compare(seconds * speed, stated)
        print_line(
            f"{path.name:44} {seconds / 60:8.2f} {cores:9.2f} {speed:6.2f} "
            f"{seconds * speed / 60:12.2f} {stated or '?':>7} {verdict}"
        )
        all_ok &= ok
    return all_ok


def measure_reference(*, seconds: float = 4.0, repeats: int = 5) -> None:
    """Measure the pairs per second of an ordinary laptop: REFERENCE_PAIRS_PER_S of throughput.py.

    Args:
        seconds: of one repeat.
        repeats: how many times it is measured.
    """
    print_line(_describe_machine())
    speed = _laptop_speed(seconds=seconds, repeats=repeats)
    reference = REFERENCE_PAIRS_PER_S
    print_line(
        f"{speed * reference:.0f} pairs/s, {speed:.2f} x the {reference:.0f} of the laptop whose "
        "minutes the lessons state"
    )


def _laptop_speed(*, seconds: float = 2.0, repeats: int = 1) -> float:
    """Measure `relative_speed` in a new process, which reads the cap when it starts."""
    code = (
        "from geossl.train import throughput as t\n"
        f"t.measure_speed(seconds={seconds}, repeats={repeats})\n"
        "print(t.relative_speed())"
    )
    command = [sys.executable, "-c", code]
    environment = os.environ | laptop_environment()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


def _describe_machine() -> str:
    variables = " ".join(f"{name}={value}" for name, value in laptop_environment().items())
    return (
        f"{os.cpu_count()} cores here; load before the start {_load():.1f} (0 is idle); as an "
        f"ordinary laptop: {variables}"
    )


def _compare(seconds: float, stated_minutes: float | None) -> tuple[str, bool]:
    if stated_minutes is None:
        return "states no time", False
    stated = 60 * stated_minutes
    if abs(seconds - stated) <= max(TOLERANCE * stated, _FLOOR_S):
        return "as stated", True
    return f"off by {seconds / stated - 1:+.0%}", False


def _cpu_seconds() -> float:
    """Return the CPU time of ended kernels; less than the clock's if they waited."""
    times = os.times()
    return times.children_user + times.children_system


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
