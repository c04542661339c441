"""Keep a run on disk: which run it is, its log, and the checkpoint from which it resumes."""

from __future__ import annotations

import io
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geossl.data.scenes import location_codes
from geossl.data.store import ChipStore
from geossl.models import state_dicts, weights
from geossl.models.encoder import Encoder
from geossl.utils import dist
from geossl.utils.io import atomic_write, digest

FORMAT = 2  # 1 was that of version 0.1


class RunDirectory:
    """The directory of a run of any trainer; without a path nothing is kept.

    ``config.json`` holds the run's settings, ``log.jsonl`` a record a line, ``last.pt`` all that is
    needed to resume exactly, ``encoder.safetensors`` the encoder. Only rank 0 writes.

    Args:
        path: the directory; made when it is absent.
        settings: what makes this run differ from others, as JSON can hold it.
        every_s: seconds between two checkpoints; longer when writing one takes over a twentieth.

    Raises:
        ValueError: the directory holds another run, or the ranks were given different settings.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        settings: Mapping[str, Any],
        *,
        every_s: float = 20.0,
    ):
        self.path = None if path is None else Path(path)
        self._writes_to = self.path if dist.rank() == 0 else None
        self._settings = json.loads(
            json.dumps({"format": FORMAT, **settings}, default=lambda number: number.item())
        )
        self._every_s = every_s
        self._step, self._saved_at, self._took = -1, -math.inf, 0.0
        for rank, other in enumerate(dist.gather_objects(self._settings)):
            for name, (theirs, ours) in _differences(other, self._settings).items():
                raise ValueError(
                    f"All processes need the same `{name}`, got {theirs} on rank {rank} and {ours} "
                    f"on rank {dist.rank()}. Give them the same store and arguments."
                )
        dist.run_on_rank_zero(self._prepare)

    def load(self) -> dict[str, Any] | None:
        """Load the last checkpoint onto the CPU of every rank; None if there is none yet.

        Raises:
            ValueError: the checkpoint is damaged.
        """
        path = None if self.path is None else self.path / "last.pt"
        if not dist.run_on_rank_zero(lambda: path is not None and path.exists()):
            return None
        assert path is not None
        alone = dist.world_size() == 1
        content = None if alone else io.BytesIO(dist.run_on_rank_zero(path.read_bytes))
        with state_dicts.open_checkpoint(path, content) as state:
            self._step, self._saved_at = state["step"], time.monotonic()
            if state["has_encoder"] and not (path.parent / "encoder.safetensors").exists():
                self._step = -1  # it is written again
            return state

    def write_log(self, records: list[dict[str, Any]]) -> None:
        """Write the log anew, up to the checkpoint: what came after it is trained again."""
        if self._writes_to is not None:
            with atomic_write(self._writes_to / "log.jsonl") as part:
                part.write_text("".join(map(_json_line, records)), "utf-8")

    def append_log(self, record: dict[str, Any]) -> None:
        """Add a record to the log."""
        if self._writes_to is not None:
            with open(self._writes_to / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(_json_line(record))

    def is_due(self) -> bool:
        """Return whether it is time for this process to write a checkpoint."""
        waited = time.monotonic() - self._saved_at
        return self._writes_to is not None and waited > max(self._every_s, 20 * self._took)

    def needs(self, step: int) -> bool:
        """Return whether this process has no checkpoint yet of a step or a later one."""
        return self._writes_to is not None and step > self._step

    def save(
        self,
        step: int,
        state: Mapping[str, Any],
        *,
        encoder: Encoder | None = None,
        note: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a checkpoint, and the encoder beside it; each is whole or not there.

        Args:
            step: how far the run is; a checkpoint of the same step is not written twice.
            state: what the trainer needs to resume, tensors and plain Python values.
            encoder: written as ``encoder.safetensors``.
            note: metadata of the encoder.
        """
        if not self.needs(step):
            return
        assert self._writes_to is not None
        began = time.monotonic()
        if encoder is not None:  # first: after a kill the run resumes and writes it again
            path = self._writes_to / "encoder.safetensors"
            weights.save_encoder(encoder, path, metadata=note or {})
        content = {"format": FORMAT, "settings": self._settings, "step": step, **state}
        with atomic_write(self._writes_to / "last.pt") as part:
            torch.save(content | {"has_encoder": encoder is not None}, part)
        self._step, self._saved_at = step, time.monotonic()
        self._took = self._saved_at - began

    def _prepare(self) -> None:
        """Make the directory, or see that it holds this run."""
        if self.path is None:
            return
        if self.path.is_file():
            raise NotADirectoryError(f"`output_dir` must be a directory, {self.path} is a file.")
        if (self.path / "store.json").exists():
            raise ValueError(f"`output_dir` {self.path} holds a chip store. Use another directory.")
        self.path.mkdir(parents=True, exist_ok=True)
        known = self.path / "config.json"
        if not known.exists():
            with atomic_write(known) as part:
                part.write_text(json.dumps(self._settings, indent=1), "utf-8")
            return
        try:
            there = json.loads(known.read_text("utf-8"))
        except ValueError:
            there = None
        if not isinstance(there, dict):
            raise ValueError(f"{known} is damaged. Delete the directory and train again.")
        if there.get("format", 0) > FORMAT:
            raise ValueError(
                f"`{self.path}` holds a run that a newer geossl wrote. Update geossl to resume it."
            )
        if there.get("format", 0) < FORMAT:
            raise ValueError(
                f"`{self.path}` holds a run of geossl 0.1, whose encoder loads but which cannot be "
                "resumed. Use another directory to train."
            )
        for name, (theirs, ours) in _differences(there, self._settings).items():
            raise ValueError(
                f"`{self.path}` already contains a run with another `{name}` ({theirs}, not {ours})"
                ". Use another directory, or the same settings to resume."
            )


def store_fingerprint(store: ChipStore) -> list[Any]:
    """Return what tells the chips of one store from those of another, as JSON can hold it."""
    table = store.scenes
    times = table["time"].astype("datetime64[us, UTC]").astype("int64").to_numpy()
    shape = [len(store), store.size_px, list(store.bands)]
    places = digest(location_codes(table).tobytes(), times.tobytes())
    return [*shape, store.mean.tolist(), places, *store.ordering]


def _differences(there: dict[str, Any], here: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return settings that differ, by name; those of nested dictionaries by their own name."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in {**there, **here}:
        ours, theirs = here.get(name, "absent"), there.get(name, "absent")
        if isinstance(ours, dict) and isinstance(theirs, dict):
            found |= _differences(theirs, ours)
        elif theirs != ours:
            found[name] = (theirs, ours)
    return found


def _json_line(record: Mapping[str, Any]) -> str:
    """Return a record as a line of JSON; what is not finite becomes null."""
    plain = {
        name: None if isinstance(value, float | np.floating) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(plain, allow_nan=False) + "\n"
