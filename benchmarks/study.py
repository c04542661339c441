"""Shared by the studies: the methods of the paper, parallel jobs, records and tables."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from geossl import __version__, pairs
from geossl.utils.io import atomic_write

# method -> (pair sampler or None, geo clusters?, labels?)
METHODS = {
    "supervised": (None, False, True),
    "geoloc": (None, True, False),
    "moco": (pairs.same_image(), False, False),
    "moco+tp": (pairs.temporal(), False, False),
    "moco+geo": (pairs.same_image(), True, False),
    "moco+geo+tp": (pairs.temporal(), True, False),
}


class Records:
    """Results of a study: a JSON list of ``{"method", "metric", "seed", "value"}`` on disk."""

    def __init__(self, path: Path):
        self.path = path
        self.rows = json.loads(path.read_text("utf-8")) if path.exists() else []

    def has(self, method: str, seed: int) -> bool:
        """Return whether a method was measured with a seed."""
        return any(r["method"] == method and r["seed"] == seed for r in self.rows)

    def add(self, method: str, seed: int, values: dict[str, float]) -> None:
        """Add the metrics of one method and seed, and write the file."""
        self.rows += [
            {"method": method, "metric": metric, "seed": seed, "value": round(float(value), 5)}
            for metric, value in values.items()
        ]
        self.write()

    def write(self) -> None:
        """Write the sorted list, one record per line."""
        rows = sorted(self.rows, key=lambda r: (r["metric"], r["method"], r["seed"]))
        text = "[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n"
        with atomic_write(self.path) as part:
            part.write_text(text, "utf-8")

    def table(self, methods: Iterable[str], metrics: Iterable[str]) -> str:
        """Return a Markdown table of means and standard deviations over the seeds."""
        metrics = list(metrics)
        lines = ["| method | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
        frame = pd.DataFrame(self.rows, columns=["method", "metric", "seed", "value"])
        for method in methods:
            cells = []
            for metric in metrics:
                values = frame[(frame["method"] == method) & (frame["metric"] == metric)]["value"]
                cell = "not measured" if values.empty else f"{values.mean():.3f}"
                cells.append(cell + (f" ± {values.std():.3f}" if len(values) > 1 else ""))
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def paired(self, a: str, b: str, metric: str) -> str:
        """Return the difference of two methods per seed: its mean and, for several, its range."""
        values = {(r["method"], r["seed"]): r["value"] for r in self.rows if r["metric"] == metric}
        seeds = sorted(s for m, s in values if m == a and (b, s) in values)
        if not seeds:
            return "not measured"
        gaps = np.array([values[a, s] - values[b, s] for s in seeds])
        spread = f" ({gaps.min():+.3f} to {gaps.max():+.3f})" if len(gaps) > 1 else ""
        return f"{gaps.mean():+.3f}{spread}"


def run_jobs(
    jobs: list[tuple[str, int]],
    measure: Callable[[str, int], dict[str, float]],
    folder: Path,
    result: Path,
) -> Records:
    """Measure (method, seed) jobs in one process per core, with one thread each; resumes.

    The script calls itself with ``--part i/n``. Each part has its own file of records in
    ``folder``; together they are written to ``result``.
    """
    part = sys.argv[sys.argv.index("--part") + 1] if "--part" in sys.argv else None
    if part is not None:
        torch.set_num_threads(1)
        i, n = (int(x) for x in part.split("/"))
        records = Records(folder / f"records-{i}.json")
        for method, seed in jobs[i::n]:
            if not records.has(method, seed):
                records.add(method, seed, measure(method, seed))
                print(f"{method} seed {seed}: {records.rows[-1]}", flush=True)
        return records
    n = os.cpu_count() or 1
    command = [sys.executable, *sys.argv]
    parts = [subprocess.Popen([*command, "--part", f"{i}/{n}"]) for i in range(n)]
    if any([process.wait() for process in parts]):
        raise SystemExit("A part of the study failed. Fix the cause; the same command resumes.")
    records = Records(result)
    records.rows = [r for i in range(n) for r in Records(folder / f"records-{i}.json").rows]
    records.write()
    return records


class Worker:
    """A process that works only while it is told to: for each line that it reads, it prints an answer.

    An answer is a line of JSON after "@ "; all else that the process prints is skipped.
    """

    def __init__(self, command: list[str], **environment: str):
        self.command = command
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def begin(self, line: str = "") -> None:
        """Send a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the next answer and return it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@ "):
                return json.loads(line[2:])
        raise SystemExit(f"{self.command[1:]} failed. Fix the cause; the same command resumes.")

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def results(name: str) -> Path:
    """Return the path of a page or records in this folder; under the cap of laptop.py, its own."""
    path = Path(__file__).parent / name
    capped = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return path.with_stem(f"{path.stem}_laptop") if capped else path


def hardware() -> str:
    """Return the processor, its cores and the versions, for the head of a page."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    cap = os.environ.get("ONEDNN_MAX_CPU_ISA")
    limit = f" held to {cap}, as in an ordinary laptop" if cap else ""
    return (
        f"{name}, {os.cpu_count()} cores{limit}{gpu}; geossl {__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )
