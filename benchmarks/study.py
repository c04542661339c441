"""What the studies share: the methods of the paper, records, and pages with mean and spread."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from geossl import pairs
from geossl.files import atomic

# method -> (pair policy or None, geo clusters?, labels?)
METHODS = {
    "supervised": (None, False, True),
    "geoloc": (None, True, False),
    "moco": (pairs.same_image(), False, False),
    "moco+tp": (pairs.temporal(), False, False),
    "moco+geo": (pairs.same_image(), True, False),
    "moco+geo+tp": (pairs.temporal(), True, False),
}


class Records:
    """A json list of ``{"method", "metric", "seed", "value"}`` on disk; a study adds to it."""

    def __init__(self, path: Path):
        self.path = path
        self.rows = json.loads(path.read_text("utf-8")) if path.exists() else []

    def has(self, method: str, seed: int, metrics: Iterable[str]) -> bool:
        """Whether every metric of a method and seed is there."""
        there = {(r["method"], r["seed"], r["metric"]) for r in self.rows}
        return all((method, seed, metric) in there for metric in metrics)

    def add(self, method: str, seed: int, values: dict[str, float]) -> None:
        """Add the metrics of one method and seed, and write."""
        for metric, value in values.items():
            row = {"method": method, "metric": metric, "seed": seed, "value": round(value, 5)}
            self.rows = [
                r for r in self.rows if any(r[k] != row[k] for k in ("method", "metric", "seed"))
            ] + [row]
        with atomic(self.path) as part:
            part.write_text(json.dumps(self.rows, indent=0) + "\n", "utf-8")

    def table(self, methods: Iterable[str], metrics: Iterable[str]) -> str:
        """Markdown: mean and, where there are several seeds, standard deviation of each."""
        metrics = list(metrics)
        lines = ["| method | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
        frame = pd.DataFrame(self.rows, columns=["method", "metric", "seed", "value"])
        for method in methods:
            cells = []
            for metric in metrics:
                found = frame[(frame["method"] == method) & (frame["metric"] == metric)]["value"]
                cell = "not measured" if found.empty else f"{found.mean():.3f}"
                cells.append(cell + (f" ± {found.std():.3f}" if len(found) > 1 else ""))
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def paired(self, a: str, b: str, metric: str) -> str:
        """Difference of two methods, seed by seed: mean and the smallest and largest."""
        values = {(r["method"], r["seed"]): r["value"] for r in self.rows if r["metric"] == metric}
        seeds = sorted(s for m, s in values if m == a and (b, s) in values)
        gaps = np.array([values[a, s] - values[b, s] for s in seeds])
        return f"{gaps.mean():+.3f} ({gaps.min():+.3f} to {gaps.max():+.3f}, {len(gaps)} seeds)"


def hardware() -> str:
    """Processor, threads and versions, for the foot of a page."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        text = Path("/proc/cpuinfo").read_text("utf-8")
        name = next(
            (li.split(":")[1].strip() for li in text.splitlines() if "model name" in li), name
        )
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{name}, {os.cpu_count()} cores{gpu}; torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


def take_part(seeds: list[int], part: str | None) -> list[int]:
    """The seeds of one part "i/n" of a study that runs in several processes."""
    if part is None:
        return seeds
    i, n = (int(x) for x in part.split("/"))
    return seeds[i - 1 :: n]
