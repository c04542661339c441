"""Keep a run on disk: which run it is, its log, and the checkpoint from which it resumes."""

from __future__ import annotations

import io
import json
import math
import os
import re
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geossl.data.scenes import location_codes
from geossl.data.store import ChipStore
from geossl.models import pickles, state_dicts, weights
from geossl.models.encoder import Encoder
from geossl.models.state_dicts import CheckpointError
from geossl.utils import dist
from geossl.utils.io import atomic_write, claim_folder, digest, file_digest, load_json

FORMAT = 3  # 1 was that of version 0.1; checkpoints of 2 have no checksum
_SINCE_3 = {"boxes", "pixels"}  # settings that runs of format 2 lack
_FILES = ("config.json", "log.jsonl", "last.pt", "encoder.safetensors")
_SEAL = b"geossl checksum "  # ends a checkpoint, with the digest of what is before it
_SEAL_BYTES = len(_SEAL) + 128


class RunDirectory:
    """The directory of a run of any trainer; without a path nothing is kept.

    ``config.json`` holds the run's settings, ``log.jsonl`` a record a line, ``last.pt`` all that is
    needed to resume exactly, ``encoder.safetensors`` the encoder. Only rank 0 writes.

    Training happens in its ``with`` block, which keeps other processes out of the directory.

    Args:
        path: the directory; made when it is absent.
        settings: what makes this run differ from others, as JSON can hold it.
        every_s: seconds between two checkpoints; longer when writing one takes over a twentieth.

    Raises:
        CheckpointError: its checkpoint is damaged.
        BlockingIOError: another process is training in it.
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
        self._settings = json.loads(json.dumps({"format": FORMAT, **settings}, default=_as_json))
        self._every_s = every_s
        self._step, self._saved_at, self._took = -1, -math.inf, 0.0
        self._state: dict[str, Any] | None = None
        self._stamp: tuple[int, ...] | None = None
        self._claim = ExitStack()
        for rank, other in enumerate(dist.gather_objects(self._settings)):
            for name, (theirs, ours) in _differences(other, self._settings).items():
                raise ValueError(
                    f"All processes need the same `{name}`, got {theirs} on rank {rank} and {ours} "
                    f"on rank {dist.rank()}. Give them the same store and arguments."
                )
        dist.run_on_rank_zero(self._prepare)

    def __enter__(self) -> RunDirectory:
        """Keep other processes out, and see that none has trained since the run was opened."""
        dist.run_on_rank_zero(self._enter)
        return self

    def __exit__(self, *error: object) -> None:
        self._claim.close()

    @contextmanager
    def load(self) -> Iterator[dict[str, Any] | None]:
        """Yield the checkpoint, on the CPU of every rank, or None; to be called once.

        Raises:
            CheckpointError: using it in the block failed.
        """
        state, self._state = self._state, None
        path = Path() if self.path is None else self.path / "last.pt"
        with state_dicts.report_damage(path):
            if dist.world_size() > 1 and dist.run_on_rank_zero(lambda: state is not None):
                content = io.BytesIO(dist.run_on_rank_zero(path.read_bytes))
                state = state or pickles.load_checkpoint(content)
            yield state

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
        return self._writes_to is not None and step > self._step and not self._is_superseded()

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
        content = {"format": FORMAT, "settings": self._settings, "step": step, **state}
        if encoder is not None:  # first: after a kill the run resumes and writes it again
            path = self._writes_to / "encoder.safetensors"
            weights.save_encoder(encoder, path, metadata=note or {})
            content["encoder"] = state_dicts.read_metadata(path)["checksum"]
        write_checkpoint(content, self._writes_to / "last.pt")
        self._step, self._saved_at = step, time.monotonic()
        self._took, self._stamp = self._saved_at - began, self._current_stamp()

    def _prepare(self) -> None:
        """Make the directory, or see that it holds this run and can be resumed."""
        if self.path is None:
            return
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"`output_dir` must be a directory, {self.path} is a file.")
        if (self.path / "store.json").exists():
            raise ValueError(f"`output_dir` {self.path} holds a chip store. Use another directory.")
        self.path.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            if (self.path / name).exists() and not (self.path / name).is_file():
                raise CheckpointError(
                    f"{self.path / name} must be a file of the run. Remove it, or use another "
                    "directory."
                )
        with claim_folder(self.path):
            for part in self.path.glob(".*.part*"):  # of a process that was killed
                part.unlink()
            config, last = self.path / "config.json", self.path / "last.pt"
            known = _read_config(config)
            if last.exists():
                try:
                    self._state = read_checkpoint(last)
                except CheckpointError:
                    self._check_format(known or {"format": FORMAT})  # of another version?
                    raise
                self._check_format(self._state["settings"])
                self._refuse_another(self._state["settings"])
                self._step, self._saved_at = self._state["step"], time.monotonic()
                if not self._has_encoder_of(self._state):
                    self._step = -1  # it is written again
            elif any(self.path.glob("*.safetensors")) and config.exists():
                if known is None:
                    raise CheckpointError(
                        f"{config} is damaged. Delete the directory and train again."
                    )
                self._check_format(known)
                self._refuse_another(known)
            if known != self._settings:  # also that of a call that did not begin to train
                with atomic_write(config) as part:
                    part.write_text(json.dumps(self._settings, indent=1), "utf-8")
            self._stamp = self._current_stamp()

    def _enter(self) -> None:
        if self.path is None:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        self._claim.enter_context(claim_folder(self.path))
        if self._is_superseded():
            self._claim.close()
            raise ValueError(
                f"The checkpoint of {self.path} has changed since this run was opened. Make the "
                "same call again to resume from it."
            )

    def _is_superseded(self) -> bool:
        """Return whether another run object has written a checkpoint since."""
        return self._current_stamp() not in (self._stamp, None)

    def _current_stamp(self) -> tuple[int, ...] | None:
        """Return what tells a checkpoint from one that was written later."""
        assert self.path is not None
        try:
            stat = os.stat(self.path / "last.pt")
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_size, stat.st_mtime_ns

    def _has_encoder_of(self, state: Mapping[str, Any]) -> bool:
        """Return whether the encoder of a checkpoint, if it has one, is there and undamaged."""
        assert self.path is not None
        if "encoder" not in state:
            return not state.get("has_encoder")  # of format 2: one that cannot be compared
        path = self.path / "encoder.safetensors"
        try:
            state_dicts.load_model("encoder", path, format=weights.FORMAT)
        except (CheckpointError, OSError):
            return False
        return state_dicts.read_metadata(path).get("checksum") == state["encoder"]

    def _check_format(self, settings: Mapping[str, Any]) -> None:
        number = settings.get("format", 0)
        if number > FORMAT:
            raise ValueError(
                f"`{self.path}` holds a run that a newer geossl wrote. Update geossl to resume it."
            )
        if number < 2:
            raise ValueError(
                f"`{self.path}` holds a run of geossl 0.1, whose encoder loads but which cannot be "
                "resumed. Use another directory to train."
            )

    def _refuse_another(self, there: dict[str, Any]) -> None:
        """Refuse to go on with a run of other settings."""
        for name, (theirs, ours) in _differences(there, self._settings).items():
            if name == "format" or (there["format"] == 2 and name in _SINCE_3):
                continue
            raise ValueError(
                f"`{self.path}` already contains a run with another `{name}` ({theirs}, not {ours})"
                ". Use another directory, or the same settings to resume."
            )


def write_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint with a checksum; atomic."""
    with atomic_write(path) as part:
        torch.save(dict(content), part)
        checksum = file_digest(part).encode()
        with open(part, "ab") as file:
            file.write(_SEAL + checksum)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of `write_checkpoint`, or one of format 2, onto the CPU.

    Raises:
        CheckpointError: it is damaged.
    """
    with state_dicts.report_damage(path):
        state = pickles.load_checkpoint(path)
        if state["format"] == 2:
            sound = zipfile.ZipFile(path).testzip() is None
        else:
            length = max(path.stat().st_size - _SEAL_BYTES, 0)
            with open(path, "rb") as file:
                file.seek(length)
                sound = file.read() == _SEAL + file_digest(path, length=length).encode()
        if not sound or not isinstance(state["settings"], dict) or not state["step"] >= 0:
            raise ValueError
        return state


def store_fingerprint(store: ChipStore) -> list[Any]:
    """Return what tells the chips of one store from those of another, as JSON can hold it."""
    table = store.scenes
    times = table["time"].astype("datetime64[us, UTC]").astype("int64").to_numpy()
    shape = [len(store), store.size_px, list(store.bands)]
    places = digest(location_codes(table).tobytes(), times.tobytes())
    return [*shape, store.mean.tolist(), places, *store.ordering]


def _as_json(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray | torch.Tensor):
        return value.tolist()
    raise TypeError(
        "`settings` of a run and its objectives must be what JSON can hold, got a "
        f"{type(value).__name__}. Use numbers, strings, lists and dictionaries."
    )


def _read_config(path: Path) -> dict[str, Any] | None:
    """Return the settings of a run; None where they are absent or damaged."""
    try:
        settings = load_json(path)
    except (OSError, ValueError):
        return None
    sound = isinstance(settings, dict) and isinstance(settings.get("format", 0), int)
    return settings if sound else None


def _differences(there: dict[str, Any], here: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return settings that differ, by name; those of nested dictionaries by their own name."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in {**there, **here}:
        ours, theirs = here.get(name, "absent"), there.get(name, "absent")
        if isinstance(ours, dict) and isinstance(theirs, dict):
            found |= _differences(theirs, ours)
        elif _without_zeros(theirs) != _without_zeros(ours):
            found[name] = (theirs, ours)
    return found


def _without_zeros(value: Any) -> Any:
    """Return a name such as ``temporal(min_gap_days=30.0)`` without the ends of whole numbers."""
    return re.sub(r"(\d)\.0\b", r"\1", value) if isinstance(value, str) else value


def _json_line(record: Mapping[str, Any]) -> str:
    """Return a record as a line of JSON; what is not finite becomes null."""
    plain = {
        name: None if isinstance(value, float | np.floating) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(plain, allow_nan=False) + "\n"
