"""Pre-training: one visible loop for MoCo-v2, temporal positives, geo clusters and supervision.

Which method runs follows from what is given: ``pairs`` brings InfoNCE, ``geo`` the cross-entropy
of geo clusters, ``label`` that of a column of labels.

    MoCo-v2   pairs=same_image()                 +Geo     the same with geo=clusters
    +TP       pairs=temporal()                   Geoloc.  pairs=None, geo=clusters
    +Geo+TP   pairs=temporal(), geo=clusters     superv.  pairs=None, label="climate"
"""

from __future__ import annotations

import json
import math
import os
import pickle
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from geossl import losses, metrics, models, scenes, weights
from geossl.chips import ChipStore
from geossl.clusters import GeoClusters
from geossl.config import PretrainConfig
from geossl.files import atomic
from geossl.records import FORMAT, MEANS, KnnWatch, Log, Saved, identity, refuse_other
from geossl.running import (
    Feed,
    class_targets,
    deferred_interrupt,
    derived_seed,
    pick_device,
    pick_precision,
    training_rows,
)


def pretrain(
    store: ChipStore,
    *,
    pairs: Any = None,
    geo: GeoClusters | None = None,
    label: str | None = None,
    config: PretrainConfig | None = None,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Run:
    """Pre-train an encoder; iterate over the result for log records.

    Args:
        store: the chips.
        pairs: a policy of `geossl.pairs`, or None for no contrastive loss.
        geo: geo clusters to predict, or None.
        label: column of labels to predict (supervised training), or None.
        config: everything else.
        out: folder of the run. If it holds an unfinished run of the same arguments, that one goes
            on, bit for bit; None keeps nothing on disk.
        seed: of the weights, the pairs and the views. The global random state is not touched.

    Returns:
        A `Run`: ``for log in run: ...``, then ``run.encoder``.

    Raises:
        ValueError: nothing to learn from, a batch larger than the data, an absent column, or a
            folder that holds another run.
    """
    return Run(store, pairs, geo, label, config or PretrainConfig(), out, seed)


class Run:
    """A training run: iterate for `Log` records, stop whenever you like.

    Attributes:
        encoder: the query encoder, usable at any time.
        logs: every record so far, those of earlier sessions included, one row each.
        step, steps: optimiser steps done, and of the whole run.
    """

    def __init__(
        self,
        store: ChipStore,
        pairs: Any,
        geo: GeoClusters | None,
        label: str | None,
        config: PretrainConfig,
        out: str | os.PathLike[str] | None,
        seed: int,
    ):
        if pairs is None and geo is None and label is None:
            raise ValueError(
                "expected something to learn from, came nothing; "
                "give pairs=geossl.pairs.temporal(), geo=clusters or label='...'"
            )
        self.store, self.config, self.seed = store, config, seed
        self.device = pick_device(config.device)
        self._rows = training_rows(store.scenes, config.split)  # (M,) chips of the store
        table = store.scenes.iloc[self._rows.numpy()].reset_index(drop=True)
        self._draw = None if pairs is None else pairs.prepare(table)
        self._targets, classes = class_targets(table, geo, label)
        self._location = torch.from_numpy(scenes.location_codes(table))
        self._drawn: tuple[int, tuple[Tensor, ...]] = (-1, ())
        self._per_epoch = len(self._pairs_of(0)[0]) // (config.batch * config.accumulate)
        if self._per_epoch < 1:
            raise ValueError(
                f"expected at least {config.batch} x {config.accumulate} (batch x accumulate) "
                f"queries an epoch, came {len(self._pairs_of(0)[0])} from {len(table)} training "
                "chips; lower batch, add chips, or loosen the pair policy"
            )
        self.steps = max(1, round(self._per_epoch * config.epochs))
        self._log_every = config.log_every or max(1, min(self._per_epoch, self.steps // 20))
        self._build(classes)
        self.step, self._seconds = 0, 0.0
        self._records: list[dict[str, float]] = []
        self._means, self._interval = torch.zeros(len(MEANS), device=self.device), 0
        self._knn = KnnWatch(store, self._rows.numpy(), label=config.knn_label, seed=seed)
        self._feed: Feed | None = None
        self._ahead: Any = None
        self._clean, self._saved = True, Saved()
        self._about = identity(store, pairs, geo, label, config, seed)
        self.out = None if out is None else Path(out)
        if self.out is not None:
            self._resume(self.out)

    # --- what a person uses -------------------------------------------------------------------

    def __repr__(self) -> str:
        kept = "kept in memory only" if self.out is None else f"kept in {self.out}"
        return f"Run(step {self.step:,} of {self.steps:,}, {kept})"

    @property
    def encoder(self) -> models.Encoder:
        """The query encoder, on the training device, in eval mode."""
        return self._moco.encoder.eval()

    @property
    def logs(self) -> pd.DataFrame:
        """All log records so far, one row each."""
        return pd.DataFrame(self._records, columns=[f.name for f in fields(Log)])

    def __iter__(self) -> Iterator[Log]:
        """Train; yields a `Log` an interval. An interrupt keeps the run usable and resumable."""
        started = time.monotonic() - self._seconds
        marks = (self.step, self._seconds)
        try:
            while self.step < self.steps:
                with deferred_interrupt():
                    self._one_step()
                    self._seconds = time.monotonic() - started
                    due = self.step % self._log_every == 0 or self.step == self.steps
                    log = self._record(*marks) if due else None
                if log is not None:
                    marks = (self.step, time.monotonic() - started)
                    yield log
        finally:
            if self._ahead is not None:
                self._ahead.close()
                self._ahead = None
            if self.out is not None and self._clean and self.step > self._saved.step:
                self._save()

    def finish(self, *, progress: bool = True) -> Run:
        """Run to the end with a progress bar; returns itself."""
        with tqdm(total=self.steps, initial=self.step, unit="step", disable=not progress) as bar:
            for log in self:
                bar.set_postfix(loss=f"{log.loss:.2f}", knn=f"{log.knn:.2f}", refresh=False)
                bar.update(log.step - bar.n)
        return self

    # --- the algorithm ------------------------------------------------------------------------

    def _one_step(self) -> None:
        """One optimiser step, in the order of the algorithm."""
        config, moco, opt = self.config, self._moco, self._optimizer
        self._clean = False
        moco.train()
        self._generator.manual_seed(derived_seed(self.seed, "views", self.step))
        for group in opt.param_groups:
            group["lr"] = self._learning_rate()
        for part in range(config.accumulate):
            rows, chips = self._next_batch()  # row numbers and chips of (query,) or (query, key)
            x_query = self._view(chips[0])  # (N, C, H, W)
            with self._autocast():
                embedding, query = self._query(x_query)  # (N, E), (N, D)
            values = dict.fromkeys(MEANS, torch.full((), math.nan, device=self.device))
            total = torch.zeros((), device=self.device)
            if self._draw is not None:
                if part == 0:
                    moco.update_key()
                x_key = self._view(chips[1])
                order = None
                if config.bn_splits > 1:
                    order = torch.randperm(
                        len(x_key), generator=self._generator, device=self.device
                    )
                with self._autocast():
                    key = self._key(x_key, order=order)  # (N, D)
                location = self._location[rows[0]].to(self.device, non_blocking=True)
                mask = None
                if config.mask_same_location:
                    mask = losses.same_location(location, moco.queue_location)  # (N, K)
                logits = losses.contrastive_logits(
                    query, key, moco.queue, temperature=config.temperature, mask=mask
                )
                values["contrastive_loss"] = loss = losses.info_nce_from_logits(logits)
                hit = logits[:, 0] > logits[:, 1:].amax(1)
                values["contrastive_accuracy"] = hit.float().mean()
                total = total + config.contrastive_weight * loss
            for name, target in self._targets.items():
                wanted = target[rows[0]].to(self.device, non_blocking=True)
                with self._autocast():
                    guess = moco.classify(name, embedding, query)  # (N, G)
                values[f"{name}_loss"] = loss = losses.geo_cross_entropy(guess, wanted)
                values[f"{name}_accuracy"] = metrics.accuracy(guess, wanted)
                total = total + (config.geo_weight if name == "geo" else 1.0) * loss
            (total / config.accumulate).backward()
            if self._draw is not None:
                moco.enqueue(key, location)
            values["loss"] = total
            self._means += torch.stack([values[k].detach().float() for k in MEANS])
            self._last = (embedding.detach(), query.detach())
        opt.step()
        opt.zero_grad(set_to_none=True)
        self.step += 1
        self._interval += 1
        self._clean = True

    def _view(self, chips: Tensor) -> Tensor:
        encoder = self._moco.encoder
        x = self.config.views(chips, mean=encoder.mean, std=encoder.std, generator=self._generator)
        return x.contiguous(memory_format=self._format)

    def _learning_rate(self) -> float:
        warm = round(self.config.warmup * self.steps)
        if self.step < warm:
            return self.config.lr * (self.step + 1) / warm
        done = (self.step - warm) / max(1, self.steps - warm)
        return self.config.lr * 0.5 * (1 + math.cos(math.pi * done))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16)

    # --- data ---------------------------------------------------------------------------------

    def _pairs_of(self, epoch: int) -> tuple[Tensor, ...]:
        """(query, key), or (query,) without a contrastive loss: rows of the training table."""
        if self._drawn[0] != epoch:
            generator = torch.Generator().manual_seed(derived_seed(self.seed, "pairs", epoch))
            if self._draw is None:
                drawn: tuple[Tensor, ...] = (torch.randperm(len(self._rows), generator=generator),)
            else:
                drawn = self._draw(generator)
            self._drawn = (epoch, drawn)
        return self._drawn[1]

    def _indices(self, step: int) -> Iterator[tuple[Tensor, ...]]:
        size, parts = self.config.batch, self.config.accumulate
        for now in range(step, self.steps):
            epoch, place = divmod(now, self._per_epoch)
            for part in range(place * parts, (place + 1) * parts):
                yield tuple(rows[part * size : (part + 1) * size] for rows in self._pairs_of(epoch))

    def _next_batch(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        if self._ahead is None:
            self._feed = self._feed or Feed(self.store, self.device, self._rows)
            self._ahead = self._feed.batches(self._indices(self.step))
        return next(self._ahead)

    def _build(self, classes: dict[str, int]) -> None:
        """Make the model, its optimiser and the generator of the views."""
        config = self.config
        seeds = [derived_seed(self.seed, part) for part in ("encoder", "heads")]
        encoder = models.encoder(
            config.encoder,
            bands=len(self.store.bands),
            stem=config.stem,
            mean=self.store.mean.tolist(),
            std=self.store.std.tolist(),
            seed=seeds[0],
        )
        if config.bn_splits > 1:
            models.split_batchnorm(encoder, config.bn_splits)
        moco = models.MoCo(
            encoder,
            dim=config.dim,
            queue=config.queue if self._draw is not None else 1,
            momentum=config.momentum,
            classes=classes,
            heads_on={"geo": config.geo_on, "label": "embedding"},
            seed=seeds[1],
        )
        fast = pick_precision(config.precision, self.device) == "bf16"
        self._bf16 = fast
        self._format = torch.channels_last if fast else torch.contiguous_format
        self._moco = moco.to(self.device).to(memory_format=self._format)
        self._query, self._key = self._moco.query, self._moco.key
        if config.compile:
            self._query, self._key = torch.compile(self._query), torch.compile(self._key)
        learned = [p for p in self._moco.parameters() if p.requires_grad]
        self._optimizer: torch.optim.Optimizer
        if config.optimizer == "sgd":
            self._optimizer = torch.optim.SGD(
                learned, config.lr, config.sgd_momentum, weight_decay=config.weight_decay
            )
        else:
            self._optimizer = torch.optim.AdamW(
                learned, config.lr, weight_decay=config.weight_decay
            )
        self._generator = torch.Generator(self.device)

    # --- what is seen and kept ----------------------------------------------------------------

    def _record(self, since_step: int, since_seconds: float) -> Log:
        """The log record of an interval that began at a step and a second of the run."""
        config, steps = self.config, self.step - since_step
        means = (self._means / (config.accumulate * self._interval)).tolist()
        embedding, projection = self._last
        every = config.knn_every * self._log_every
        measure = every > 0 and (self.step % every == 0 or self.step == self.steps)
        seconds = self._seconds - since_seconds
        log = Log(
            step=self.step,
            epoch=self.step / self._per_epoch,
            **dict(zip(MEANS, means, strict=True)),
            feature_std=float(metrics.feature_std(projection)),
            effective_rank=float(metrics.effective_rank(embedding)),
            knn=self._knn.measure(self._moco.encoder) if measure else math.nan,
            pairs_per_s=steps * config.batch * config.accumulate / max(seconds, 1e-9),
            seconds=self._seconds,
            seconds_left=(self.steps - self.step) * seconds / steps,
        )
        self._means.zero_()
        self._interval = 0
        self._records.append(asdict(log))
        if self.out is not None:
            with open(self.out / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(log)) + "\n")
            pause = max(config.checkpoint_s, 20 * self._saved.took)
            if time.monotonic() - self._saved.at > pause:
                self._save()
        return log

    def _save(self) -> None:
        """Write last.pt (everything to go on bit for bit) and encoder.safetensors; atomic."""
        assert self.out is not None
        began = time.monotonic()
        state = {
            "format": FORMAT,
            "about": self._about,
            "step": self.step,
            "seconds": self._seconds,
            "means": self._means,
            "interval": self._interval,
            "records": self._records,
            "moco": self._moco.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        with atomic(self.out / "last.pt") as part:
            torch.save(state, part)
        note = {"bands": self.store.bands, "units": self.store.info.get("units"), "step": self.step}
        weights.save_encoder(self._moco.encoder, self.out / "encoder.safetensors", note=note)
        now = time.monotonic()
        self._saved = Saved(self.step, now, now - began)

    def _resume(self, out: Path) -> None:
        """Begin a run in ``out``, or take up the one that is there."""
        out.mkdir(parents=True, exist_ok=True)
        if (out / "config.json").exists():
            refuse_other(json.loads((out / "config.json").read_text("utf-8")), self._about, out)
        else:
            with atomic(out / "config.json") as part:
                part.write_text(json.dumps(self._about, indent=1), "utf-8")
        if (out / "last.pt").exists():
            state = _read(out / "last.pt", self.device)
            self._moco.load_state_dict(state["moco"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.step, self._seconds = state["step"], state["seconds"]
            self._means, self._interval = state["means"], state["interval"]
            self._records = state["records"]
            self._saved = Saved(self.step, time.monotonic(), 0.0)
        with atomic(out / "log.jsonl") as part:  # what came after the checkpoint comes again
            part.write_text("".join(json.dumps(r) + "\n" for r in self._records), "utf-8")


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"the checkpoint {path} is damaged ({error}); delete the folder and train again"
        ) from None
