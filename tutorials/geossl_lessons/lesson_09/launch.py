"""Start trainings in processes of their own, read their logs, and kill them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import torch

_POLL_S = 0.02
_LIMIT_S = 600
_PROGRAMS = {
    "geossl": ["-m", "geossl"],
    "torchrun": ["-m", "torch.distributed.run"],
}


def run(command: str) -> None:
    """Run a command to its end, with one thread for each of its processes.

    Args:
        command: as one types it, "geossl ..." or "torchrun ..."; no path may hold a space.

    Raises:
        RuntimeError: it failed, with the last line of its output.
    """
    process = _start(command, threads=1)
    try:
        _, output = process.communicate(timeout=_LIMIT_S)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    if process.returncode:
        raise _failure(command, process, output)


def kill_at(command: str, output_dir: Path, *, step: int) -> None:
    """Run a command, and kill it when the run that it writes has logged so many steps.

    A short training may end before it is killed. A directory that holds a checkpoint is left as it
    is: it was killed before. The process has as many threads as this one, so that its sums are
    rounded alike.

    Args:
        command: see `run`.
        output_dir: the run's directory.
        step: number of records in its log.

    Raises:
        RuntimeError: it failed by itself.
    """
    checkpoint = output_dir / "last.pt"
    if checkpoint.exists():
        return
    shutil.rmtree(output_dir, ignore_errors=True)
    began, process = time.monotonic(), _start(command, threads=torch.get_num_threads())
    try:
        while process.poll() is None and time.monotonic() - began < _LIMIT_S:
            if checkpoint.exists() and len(read_log(output_dir)) >= step:
                break
            time.sleep(_POLL_S)
    finally:
        failed = process.poll()  # before it is killed, which is an exit with 1 on Windows
        process.kill()
        _, output = process.communicate()
    if failed or not checkpoint.exists():
        raise _failure(command, process, output)


def read_log(output_dir: Path) -> pd.DataFrame:
    """Read the log of a run so far, a row per record, without a last line that is half written."""
    path, records = output_dir / "log.jsonl", []
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return pd.DataFrame(records)


def is_finished(output_dir: Path, steps: int) -> bool:
    """Return whether a run that logs every step has done all of them."""
    return len(read_log(output_dir)) >= steps


def _start(command: str, *, threads: int) -> subprocess.Popen[str]:
    """Start a command with the Python that runs this."""
    program, *arguments = command.split()
    return subprocess.Popen(
        [sys.executable, *_PROGRAMS[program], *arguments], stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace",
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )  # fmt: skip


def _failure(command: str, process: subprocess.Popen[str], output: str) -> RuntimeError:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    reason = lines[-1][:300] if lines else "it wrote no message"
    return RuntimeError(f"{command} ended with {process.returncode}: {reason}")
