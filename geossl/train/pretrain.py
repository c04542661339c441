"""Pre-training: one visible loop for MoCo-v2, temporal positives, geo clusters and supervision.

Which method runs follows from what is given: ``pairs`` brings InfoNCE, ``geo`` the cross-entropy
of geo clusters, ``label`` that of a column of labels.

    MoCo-v2   pairs=same_image()                 +Geo     the same with geo=clusters
    +TP       pairs=temporal()                   Geoloc.  pairs=None, geo=clusters
    +Geo+TP   pairs=temporal(), geo=clusters     superv.  pairs=None, label="climate"

Under ``torchrun`` the same loop runs once a device, each on its share of every batch.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from geossl import losses, models
from geossl.clusters import GeoClusters
from geossl.data.store import ChipStore
from geossl.evaluate import metrics
from geossl.models.encoder import has_correct_bf16_gradients
from geossl.train import optim
from geossl.train.checkpoint import RunDirectory, run_identity
from geossl.train.config import PretrainConfig
from geossl.train.loader import Batch, PairLoader
from geossl.train.logs import MEANS, KnnMonitor, Log, check_not_diverged
from geossl.train.setup import build_moco
from geossl.utils import cpu, dist
from geossl.utils.cpu import single_threaded
from geossl.utils.device import defer_interrupt, select_device, select_precision


def pretrain(
    store: ChipStore,
    *,
    pairs: Any = None,
    geo: GeoClusters | None = None,
    label: str | None = None,
    config: PretrainConfig | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Run:
    """Pre-train an encoder; iterate over the result for log records.

    Under ``torchrun``, or inside a process group, all processes call it alike and train together:
    the run is the same, within float error, on any number of them. The first one writes.

    Args:
        store: the chips.
        pairs: a policy of `geossl.pairs`, or None for no contrastive loss.
        geo: geo clusters to predict, or None.
        label: column of labels to predict (supervised training), or None.
        config: everything else.
        output_dir: folder of the run. If it holds an unfinished run of the same arguments, that one goes
            on, bit for bit; None keeps nothing on disk.
        seed: of the weights, the pairs and the views. The global random state is not touched.

    Returns:
        A `Run`: ``for log in run: ...``, then ``run.encoder``.

    Raises:
        ValueError: nothing to learn from, a batch larger than the data or one that the processes
            cannot share evenly, an absent column, a folder that holds another run, or views too
            small for bf16 on a CPU; while it trains, a loss that is no longer finite.
        ConnectionError: another process died; the last checkpoint goes on.
    """
    return Run(store, pairs, geo, label, config or PretrainConfig(), output_dir, seed)


class Run:
    """A training run: iterate for `Log` records, stop whenever you like.

    Attributes:
        encoder: the query encoder, usable at any time.
        logs: every record so far, those of earlier sessions included, one row each.
        step, steps: optimizer steps done, and of the whole run.
    """

    def __init__(
        self,
        store: ChipStore,
        pairs: Any,
        geo: GeoClusters | None,
        label: str | None,
        config: PretrainConfig,
        output_dir: str | os.PathLike[str] | None,
        seed: int,
    ):
        if pairs is None and geo is None and label is None:
            raise ValueError(
                "expected something to learn from, came nothing; "
                "give pairs=geossl.pairs.temporal(), geo=clusters or label='...'"
            )
        self.store, self.config, self.seed = store, config, seed
        dist.check_batch_divides(config.batch_size, config.bn_splits)
        self.device = select_device(config.device)
        dist.init_process_group(self.device)
        self._batches = PairLoader(
            store, pairs, geo=geo, label=label, config=config, device=self.device, seed=seed
        )
        per_epoch = self._batches.per_epoch
        self.steps = max(1, round(per_epoch * config.epochs))
        self._log_every = config.log_every or max(1, min(per_epoch, self.steps // 20))
        self._moco = build_moco(
            store, config, self._batches.classes, queue=pairs is not None, seed=seed
        )
        self._bf16 = select_precision(config.precision, self.device) == "bf16"
        if self._bf16 and self.device.type == "cpu":
            side, asked = config.transform.size_px or store.size_px, config.precision == "bf16"
            self._bf16 = has_correct_bf16_gradients(self._moco.encoder, side, asked=asked)
        self._format = torch.channels_last if self._bf16 else torch.contiguous_format
        self._moco.to(self.device).to(memory_format=self._format)
        self._query, self._key = self._moco.query, self._moco.key
        if config.compile:
            self._query, self._key = torch.compile(self._query), torch.compile(self._key)
        self._learned = [p for p in self._moco.parameters() if p.requires_grad]
        self._optimizer = optim.build_optimizer(self._learned, config)
        self._statistics = None
        if dist.world_size() > 1:
            self._statistics = dist.RunningStatistics(self._moco, config.bn_splits)
        self.step, self._seconds = 0, 0.0
        self._records: list[dict[str, float]] = []
        self._means, self._interval = torch.zeros(len(MEANS), device=self.device), 0
        self._knn = KnnMonitor(store, self._batches.rows.numpy(), label=config.knn_label, seed=seed)
        self._ahead: Any = None
        self._clean = True
        about = run_identity(store, pairs, geo, label, config, seed)
        self._folder = RunDirectory(output_dir, about, pause=config.checkpoint_every_s)
        self._resume()

    # --- what a person uses -------------------------------------------------------------------

    def __repr__(self) -> str:
        path = self._folder.path
        kept = "kept in memory only" if path is None else f"kept in {path}"
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
        with dist.stop_together() as asked, cpu.kept():
            try:
                while self.step < self.steps:
                    few = single_threaded(self._moco.encoder, bf16=self._bf16)
                    with defer_interrupt(), few:
                        self._one_step()
                        due = self.step % self._log_every == 0 or self.step == self.steps
                        means = self._interval_means() if due else []  # waits for a GPU
                        self._seconds = time.monotonic() - started
                        log = self._record(means, *marks) if due else None
                    if log is not None:
                        marks = (self.step, time.monotonic() - started)
                        yield log
                    if asked():
                        raise KeyboardInterrupt
            except ConnectionError:
                self._clean = False
                raise
            finally:
                if self._ahead is not None:
                    self._ahead.close()
                    self._ahead = None
                if self._clean:
                    self._save()

    def finish(self, *, progress: bool = True) -> Run:
        """Run to the end with a progress bar; returns itself."""
        quiet = not progress or dist.rank() > 0
        with tqdm(total=self.steps, initial=self.step, unit="step", disable=quiet) as bar:
            for log in self:
                bar.set_postfix(loss=f"{log.loss:.2f}", knn=f"{log.knn:.2f}", refresh=False)
                bar.update(log.step - bar.n)
        return self

    # --- the algorithm ------------------------------------------------------------------------

    def _one_step(self) -> None:
        """One optimizer step, in the order of the algorithm."""
        config, moco, opt = self.config, self._moco, self._optimizer
        self._clean = False
        moco.train()
        rate = config.lr * optim.warmup_cosine(self.step, self.steps, config.warmup)
        for group in opt.param_groups:
            group["lr"] = rate
        if self._statistics is not None:
            self._statistics.begin()
        for part in range(config.accumulation_steps):
            batch = self._next_batch()  # this process's n of N pairs; n = N where it is alone
            x_query = self._view(batch, 0)  # (n, C, H, W)
            with self._autocast():
                embedding, query = self._query(x_query)  # (n, E), (n, D)
            values = dict.fromkeys(MEANS, torch.full((), math.nan, device=self.device))
            total = torch.zeros((), device=self.device)
            if batch.location is not None:
                if part == 0:
                    moco.update_key()
                x_key = self._view(batch, 1)
                with self._autocast():
                    key = self._key(x_key)  # (n, D)
                keys = dist.all_gather(key, config.batch_size)  # (N, D)
                if batch.order is not None:
                    keys = torch.empty_like(keys).index_copy_(0, batch.order, keys)
                mask = None
                if config.mask_same_location:
                    own = batch.location[batch.mine]
                    mask = losses.same_location(own, moco.queue_location)  # (n, K)
                logits = losses.contrastive_logits(
                    query, keys[batch.mine], moco.queue, temperature=config.temperature, mask=mask
                )
                values["contrastive_loss"] = loss = losses.info_nce_from_logits(logits)
                hit = logits[:, 0] > logits[:, 1:].amax(1)
                values["contrastive_accuracy"] = hit.float().mean()
                total = total + config.contrastive_weight * loss
            for name, wanted in batch.targets.items():
                weight = batch.weights[name]
                with self._autocast():
                    guess = moco.classify(name, embedding, query)  # (n, G)
                values[f"{name}_loss"] = loss = losses.geo_cross_entropy(guess, wanted) * weight
                values[f"{name}_accuracy"] = metrics.accuracy(guess, wanted) * weight
                total = total + (config.geo_weight if name == "geo" else 1.0) * loss
            (total / config.accumulation_steps).backward()
            if batch.location is not None:
                moco.enqueue(keys, batch.location)
            if self._statistics is not None:
                self._statistics.add()
            values["loss"] = total
            self._means += torch.stack([values[k].detach().float() for k in MEANS])
            self._last = (embedding.detach(), query.detach())
        if self._statistics is not None:
            self._statistics.average([p.grad for p in self._learned if p.grad is not None])
        opt.step()
        opt.zero_grad(set_to_none=True)
        self.step += 1
        self._interval += 1
        self._clean = True

    def _next_batch(self) -> Batch:
        if self._ahead is None:
            self._ahead = self._batches.between(self.step, self.steps)
        return next(self._ahead)

    def _view(self, batch: Batch, which: int) -> Tensor:
        encoder, chips = self._moco.encoder, batch.chips[which]
        draws, mean, std = batch.draws[which], encoder.mean, encoder.std
        x = self.config.transform.see(chips, draws, mean=mean, std=std)
        return x.contiguous(memory_format=self._format)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16)

    # --- what is seen and kept ----------------------------------------------------------------

    def _interval_means(self) -> list[float]:
        """Means over the interval and all processes; they are there when all its steps are."""
        means = self._means / (self.config.accumulation_steps * self._interval)
        dist.all_reduce_mean([means])
        return means.tolist()

    def _record(self, means: list[float], since_step: int, since_seconds: float) -> Log:
        """The log record of an interval that began at a step and a second of the run."""
        config, steps = self.config, self.step - since_step
        self._clean = math.isfinite(means[0])  # else what was saved before stays
        check_not_diverged(means[0], since_step, self.step)
        embedding, projection = (dist.all_gather(x, config.batch_size).cpu() for x in self._last)
        every = config.knn_every * self._log_every
        measure = every > 0 and (self.step % every == 0 or self.step == self.steps)
        seconds = self._seconds - since_seconds
        log = Log(
            step=self.step,
            epoch=self.step / self._batches.per_epoch,
            **dict(zip(MEANS, means, strict=True)),
            feature_std=float(metrics.feature_std(projection)),
            effective_rank=float(metrics.effective_rank(embedding)),
            knn=self._knn.measure(self._moco.encoder) if measure else math.nan,
            pairs_per_s=steps * config.batch_size * config.accumulation_steps / max(seconds, 1e-9),
            seconds=self._seconds,
            seconds_left=(self.steps - self.step) * seconds / steps,
        )
        self._means.zero_()
        self._interval = 0
        self._records.append(asdict(log))
        self._folder.add_log(asdict(log))
        if self._folder.due():
            self._save()
        return log

    def _save(self) -> None:
        state = {
            "step": self.step,
            "seconds": self._seconds,
            "means": self._means,
            "interval": self._interval,
            "records": self._records,
            "moco": self._moco.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        note = {"bands": self.store.bands, "units": self.store.info.get("units"), "step": self.step}
        self._folder.save(state, self._moco.encoder, note=note)

    def _resume(self) -> None:
        """Take up the run that the folder holds, if any."""
        state = self._folder.load()
        if state is not None:
            self._moco.load_state_dict(state["moco"])
            optim.load_optimizer_state(self._optimizer, state["optimizer"])
            self.step, self._seconds = state["step"], state["seconds"]
            self._means, self._interval = state["means"].to(self.device), state["interval"]
            self._records = state["records"]
        self._folder.write_log(self._records)
