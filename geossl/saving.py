"""What a run keeps on disk: which run it is, its log, its checkpoint. Only rank 0 writes."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import torch

from geossl import distributed, state_dicts, weights
from geossl.files import atomic
from geossl.models import Encoder
from geossl.records import FORMAT, begin


class RunFolder:
    """The folder of a run; without a path nothing is kept.

    Args:
        path: the folder; made when it is absent.
        about: what makes the run that run, by `records.identity`.
        pause: seconds between two checkpoints; longer when writing one takes over a twentieth.

    Raises:
        ValueError: it holds another run, or the ranks were given different ones.
    """

    def __init__(self, path: str | os.PathLike[str] | None, about: dict[str, Any], *, pause: float):
        self.path = None if path is None else Path(path)
        self._mine = self.path if distributed.rank() == 0 else None  # where this process writes
        self._about, self._pause = about, pause
        self._step, self._at, self._took = -1, -float("inf"), 0.0
        for rank, other in enumerate(distributed.of_all(about)):
            odd = [name for name in about if other.get(name) != about[name]]
            if odd:
                raise ValueError(
                    f"expected all processes to be given the same run, but rank {rank} came with "
                    f"{odd[0]} = {other.get(odd[0])} and rank {distributed.rank()} with "
                    f"{about[odd[0]]}; give them the same store and arguments"
                )
        distributed.on_first(lambda: None if self.path is None else begin(self.path, about))

    def load(self) -> dict[str, Any] | None:
        """What `save` was given last, on the CPU of every rank; None when nothing was saved yet.

        Raises:
            ValueError: the checkpoint is damaged.
        """
        path = None if self.path is None else self.path / "last.pt"
        if not distributed.on_first(lambda: path is not None and path.exists()):
            return None
        assert path is not None
        alone = distributed.ranks() == 1
        content = None if alone else io.BytesIO(distributed.on_first(path.read_bytes))
        with state_dicts.checkpoint(path, content) as state:
            self._step, self._at = state["step"], time.monotonic()
            return state

    def write_log(self, records: list[dict[str, float]]) -> None:
        """Write the log anew: what came after the checkpoint comes again."""
        if self._mine is not None:
            with atomic(self._mine / "log.jsonl") as part:
                part.write_text("".join(json.dumps(r) + "\n" for r in records), "utf-8")

    def add_log(self, record: dict[str, float]) -> None:
        """Add a line to the log."""
        if self._mine is not None:
            with open(self._mine / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def due(self) -> bool:
        """Whether it is time for this process to write a checkpoint."""
        waited = time.monotonic() - self._at
        return self._mine is not None and waited > max(self._pause, 20 * self._took)

    def save(self, state: dict[str, Any], encoder: Encoder, *, note: dict[str, Any]) -> None:
        """Write last.pt (everything to go on bit for bit) and encoder.safetensors; atomic."""
        if self._mine is None or state["step"] <= self._step:
            return
        began = time.monotonic()
        with atomic(self._mine / "last.pt") as part:
            torch.save({"format": FORMAT, "about": self._about, **state}, part)
        weights.save_encoder(encoder, self._mine / "encoder.safetensors", note=note)
        self._step, self._at = state["step"], time.monotonic()
        self._took = self._at - began
