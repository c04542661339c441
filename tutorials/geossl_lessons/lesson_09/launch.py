"""Start trainings in their own processes: with torchrun, killed, and resumed."""

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

from geossl.utils.validate import Positive, PositiveInt, Seed, check_fields

_POLL_S = 0.02
_LIMIT_S = 600


@dataclass(frozen=True)
class Command:
    """A training as you type it.

    Attributes:
        store: directory of the chip store.
        output_dir: directory of the run.
        epochs: passes over the training chips.
        batch_size: pairs of all processes in a step.
        processes: how many; more than one are started by torchrun.
        seed: of the run.
    """

    store: Path
    output_dir: Path
    epochs: Positive
    batch_size: PositiveInt = 64
    processes: PositiveInt = 1
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)

    def _arguments(self) -> list[str]:
        fixed = "--bn-splits 2 --queue-size 512 --log-every 1 --knn-every 0 --checkpoint-every-s 0"
        return [
            "pretrain", str(self.store), "--output-dir", str(self.output_dir),
            "--epochs", f"{self.epochs:g}", "--batch-size", str(self.batch_size), *fixed.split(),
            "--device", "cpu", "--precision", "fp32", "--seed", str(self.seed),
        ]  # fmt: skip

    def __str__(self) -> str:
        start = f"torchrun --standalone --nproc-per-node {self.processes} -m geossl"
        return f"{start if self.processes > 1 else 'geossl'} {shlex.join(self._arguments())}"

    def _start(self) -> subprocess.Popen[str]:
        """Start it with this Python and one thread per process."""
        command = [sys.executable, "-m"]
        if self.processes > 1:
            command += ["torch.distributed.run", "--standalone"]
            command += ["--nproc-per-node", str(self.processes), "-m"]
        return subprocess.Popen(
            [*command, "geossl", *self._arguments()], stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace",
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def run(self) -> float:
        """Run it to its end, and return the seconds it took, with the start of Python.

        Raises:
            RuntimeError: it failed, with the last line of its output.
        """
        began, process = time.monotonic(), self._start()
        try:
            _, output = process.communicate(timeout=_LIMIT_S)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        if process.returncode:
            raise self._failure(process, output)
        return time.monotonic() - began

    def kill_at(self, step: int) -> int:
        """Start it in an empty directory, and kill it when its log has reached a step.

        Returns the last step in its log. A short training may end before it is killed.

        Raises:
            RuntimeError: it failed by itself.
        """
        shutil.rmtree(self.output_dir, ignore_errors=True)
        began, process = time.monotonic(), self._start()
        try:
            while process.poll() is None and time.monotonic() - began < _LIMIT_S:
                log = self.read_log()
                if len(log) and log["step"].iloc[-1] >= step and self._checkpoint.exists():
                    break
                time.sleep(_POLL_S)
        finally:
            failed = process.poll()  # before it is killed, which is an exit with 1 on Windows
            process.kill()
            _, output = process.communicate()
        log = self.read_log()
        if failed or log.empty:
            raise self._failure(process, output)
        return int(log["step"].iloc[-1])

    def _failure(self, process: subprocess.Popen[str], output: str) -> RuntimeError:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        reason = lines[-1][:300] if lines else "it wrote no message"
        return RuntimeError(f"{self} ended with {process.returncode}: {reason}")

    def read_log(self) -> pd.DataFrame:
        """Read the log so far, a row per record, without a last line that is half written."""
        path, records = self.output_dir / "log.jsonl", []
        for line in path.read_text("utf-8").splitlines() if path.exists() else []:
            try:
                records.append(json.loads(line))
            except ValueError:
                break
        return pd.DataFrame(records)

    @property
    def _checkpoint(self) -> Path:
        return self.output_dir / "last.pt"

    def checkpoint_step(self) -> int:
        """Read the step of the last checkpoint.

        Raises:
            FileNotFoundError: there is none.
        """
        import torch

        if not self._checkpoint.exists():
            raise FileNotFoundError(f"There is no checkpoint at {self._checkpoint}. Run it first.")
        return int(torch.load(self._checkpoint, map_location="cpu", weights_only=True)["step"])


def max_weight_difference(first: Command, second: Command) -> float:
    """Compare the encoders of two runs: 0 means equal bit for bit."""
    from safetensors.torch import load_file

    one, other = (load_file(c.output_dir / "encoder.safetensors") for c in (first, second))
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)
