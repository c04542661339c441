"""What a run keeps on disk: which run it is, its log, its checkpoint. Only rank 0 writes."""

from __future__ import annotations

import io
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geossl.clusters import GeoClusters
from geossl.data.store import ChipStore
from geossl.models import state_dicts, weights
from geossl.models.encoder import Encoder
from geossl.train.config import PretrainConfig
from geossl.utils import dist
from geossl.utils.io import atomic_write

pass


class RunDirectory:
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
        self._mine = self.path if dist.rank() == 0 else None  # where this process writes
        self._about, self._pause = about, pause
        self._step, self._at, self._took = -1, -float("inf"), 0.0
        for rank, other in enumerate(dist.gather_objects(about)):
            odd = [name for name in about if other.get(name) != about[name]]
            if odd:
                raise ValueError(
                    f"expected all processes to be given the same run, but rank {rank} came with "
                    f"{odd[0]} = {other.get(odd[0])} and rank {dist.rank()} with "
                    f"{about[odd[0]]}; give them the same store and arguments"
                )
        dist.run_on_rank_zero(
            lambda: None if self.path is None else prepare_directory(self.path, about)
        )

    def load(self) -> dict[str, Any] | None:
        """What `save` was given last, on the CPU of every rank; None when nothing was saved yet.

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
            self._step, self._at = state["step"], time.monotonic()
            return state

    def write_log(self, records: list[dict[str, float]]) -> None:
        """Write the log anew: what came after the checkpoint comes again."""
        if self._mine is not None:
            with atomic_write(self._mine / "log.jsonl") as part:
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
        with atomic_write(self._mine / "last.pt") as part:
            torch.save({"format": FORMAT, "about": self._about, **state}, part)
        weights.save_encoder(encoder, self._mine / "encoder.safetensors", note=note)
        self._step, self._at = state["step"], time.monotonic()
        self._took = self._at - began


FORMAT = 1
_FREE = ("device", "checkpoint_s")  # settings that may change when a run goes on


def run_identity(
    store: ChipStore,
    pairs: Any,
    geo: GeoClusters | None,
    label: str | None,
    config: PretrainConfig,
    seed: int,
) -> dict[str, Any]:
    """What makes a run that run, as json holds it."""
    settings = {k: v for k, v in asdict(config).items() if k not in _FREE}
    about = {
        "format": FORMAT,
        "seed": seed,
        "pairs": None if pairs is None else repr(pairs),
        "geo": None if geo is None else [geo.k, geo.on, float(np.sum(geo.centers))],
        "label": label,
        "store": [
            len(store),
            store.size_px,
            list(store.bands),
            store.mean.tolist(),
            *store.ordering,
        ],
        **{f"config.{k}": v for k, v in settings.items()},
    }
    return json.loads(json.dumps(about))


def prepare_directory(out: Path, about: dict[str, Any]) -> None:
    """Make the folder of a run, or see that it holds this one.

    Args:
        out: the folder.
        about: what makes a run that run, as json holds it; kept as ``config.json``.

    Raises:
        ValueError: it holds another run, or one that cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    known = out / "config.json"
    if not known.exists():
        with atomic_write(known) as part:
            part.write_text(json.dumps(about, indent=1), "utf-8")
        return
    try:
        there = json.loads(known.read_text("utf-8"))
    except ValueError:
        there = None
    if not isinstance(there, dict):
        raise ValueError(f"{known} is damaged; delete the folder and train again")
    _refuse_other(there, about, out)


def _refuse_other(there: dict[str, Any], here: dict[str, Any], out: Path) -> None:
    """Raise when a folder holds a run of other arguments."""
    if there.get("format", 0) > FORMAT:
        raise ValueError(f"the run in {out} was written by a newer geossl; update geossl")
    for name, value in here.items():
        if there.get(name) != value:
            raise ValueError(
                f"{out} holds a run with {name} = {there.get(name)}, asked for was {value}; choose "
                "another folder, or the same arguments to go on with that run"
            )
