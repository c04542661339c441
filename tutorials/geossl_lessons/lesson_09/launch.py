"""Trainings in processes of their own, as lesson 09 starts them: by torchrun, killed, resumed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

_POLL_S = 0.02
_LONGEST_S = 600


@dataclass(frozen=True)
class Line:
    """A training as one types it.

    Attributes:
        store: folder of the chip store.
        out: folder of the run.
        epochs: passes over the training chips.
        batch_size: pairs of all processes in a step.
        processes: how many; more than one by torchrun.
        seed: of the run.
    """

    store: Path
    out: Path
    epochs: float
    batch_size: int = 64
    processes: int = 1
    seed: int = 0

    def arguments(self) -> list[str]:
        """What follows ``geossl``."""
        return [
            "pretrain", str(self.store), "--output-dir", str(self.out), "--epochs", f"{self.epochs:g}",
            "--batch-size", str(self.batch_size), "--bn-splits", "2", "--queue-size", "512", "--log-every", "1",
            "--knn-every", "0", "--checkpoint-every-s", "0", "--device", "cpu", "--precision", "fp32",
            "--seed", str(self.seed),
        ]  # fmt: skip

    def __str__(self) -> str:
        start = f"torchrun --standalone --nproc-per-node {self.processes} -m geossl"
        return f"{start if self.processes > 1 else 'geossl'} {shlex.join(self.arguments())}"

    def start(self) -> subprocess.Popen[str]:
        """Start it with this Python and a thread a process, whoever starts it."""
        command = [sys.executable, "-m"]
        if self.processes > 1:
            command += ["torch.distributed.run", "--standalone"]
            command += ["--nproc-per-node", str(self.processes), "-m"]
        return subprocess.Popen(
            [*command, "geossl", *self.arguments()], stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace",
            env=os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        )  # fmt: skip

    def run(self) -> float:
        """Run it to its end; the seconds it took, the start of Python included.

        Raises:
            RuntimeError: it failed; the last line that it said.
        """
        began = time.monotonic()
        process = self.start()
        try:
            _, said = process.communicate(timeout=_LONGEST_S)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        if process.returncode:
            raise RuntimeError(f"{self} ended with {process.returncode}: {_last(said)}")
        return time.monotonic() - began

    def kill_at(self, step: int) -> int:
        """Start it anew, and kill it, as the system does, when its log has come to a step.

        What the folder held is removed first. A training that ends before it is noticed is over.

        Returns:
            The last step in its log when it was dead.

        Raises:
            RuntimeError: it failed by itself.
        """
        shutil.rmtree(self.out, ignore_errors=True)
        process, began = self.start(), time.monotonic()
        try:
            while process.poll() is None and time.monotonic() - began < _LONGEST_S:
                log = self.log()
                if len(log) and log["step"].iloc[-1] >= step and (self.out / "last.pt").exists():
                    break
                time.sleep(_POLL_S)
        finally:
            process.kill()
            _, said = process.communicate()
        log = self.log()
        if process.returncode > 0 or log.empty:
            raise RuntimeError(f"{self} ended with {process.returncode}: {_last(said)}")
        return int(log["step"].iloc[-1])

    def log(self) -> pd.DataFrame:
        """The log that it has written so far, a row a record; a line half written is left out."""
        path, records = self.out / "log.jsonl", []
        if path.exists():
            for line in path.read_text("utf-8").splitlines():
                try:
                    records.append(json.loads(line))
                except ValueError:
                    break
        return pd.DataFrame(records)

    def kept(self) -> int:
        """The step of its last checkpoint.

        Raises:
            FileNotFoundError: there is none.
        """
        import torch

        path = self.out / "last.pt"
        if not path.exists():
            raise FileNotFoundError(f"expected a checkpoint at {path}, found none; run it first")
        return int(torch.load(path, map_location="cpu", weights_only=True)["step"])


def apart(first: Line, second: Line) -> float:
    """The largest difference between the weights of the encoders of two runs; 0 is bit for bit."""
    from safetensors.torch import load_file

    one, other = (load_file(line.out / "encoder.safetensors") for line in (first, second))
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def _last(said: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
