"""Pre-train an encoder: one visible loop for MoCo-v2, temporal positives, geo clusters and labels.

Which method runs follows from the arguments: ``pairs`` brings InfoNCE, ``geo`` the cross-entropy of
geo clusters, ``label`` that of a column of labels, ``objectives`` any other loss.

    MoCo-v2   pairs=same_image()                 +Geo        the same with geo=clusters
    +TP       pairs=temporal()                   Geoloc.     pairs=None, geo=clusters
    +Geo+TP   pairs=temporal(), geo=clusters     supervised  pairs=None, label="climate"

Under ``torchrun`` the same loop runs once a device, each on its share of every batch.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from geossl import models
from geossl.clusters import GeoClusters
from geossl.data.store import ChipStore
from geossl.evaluate import metrics
from geossl.models.state_dicts import weights_digest
from geossl.pairs import PairSampler
from geossl.train import optim
from geossl.train.checkpoint import RunDirectory, store_fingerprint
from geossl.train.config import PretrainConfig
from geossl.train.loader import LoadedBatch, PairLoader
from geossl.train.logs import KnnMonitor, Log, draw_steps, summarize, to_frame
from geossl.train.objectives import (
    Batch,
    Objective,
    build_objectives,
    check_result,
    describe_objectives,
)
from geossl.train.setup import build_model, memory_format
from geossl.utils import dist
from geossl.utils.cpu import single_threaded
from geossl.utils.device import defer_interrupt, select_device
from geossl.utils.progress import progress_bar
from geossl.utils.validate import Seed, validated

_MAY_CHANGE = ("device", "checkpoint_every_s")  # settings with which a run may resume differently


@validated
def pretrain(
    store: ChipStore,
    *,
    pairs: PairSampler | None = None,
    geo: GeoClusters | None = None,
    label: str | None = None,
    objectives: Sequence[Objective] | None = None,
    encoder: models.Encoder | None = None,
    config: PretrainConfig | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    seed: Seed = 0,
) -> Run:
    """Set up the pre-training of an encoder; iterate over the result to train.

    Under ``torchrun`` all processes make the same call and train together; the first one writes.

    Args:
        store: the chips.
        pairs: which two chips are a positive pair, e.g. `geossl.pairs.temporal()`.
        geo: geo clusters to predict.
        label: column of labels to predict (supervised training).
        objectives: losses in place of the contrastive one; ``geo`` and ``label`` add theirs.
        encoder: weights to start from, e.g. of `geossl.models.load`; it is not changed, keeps its
            normalization and finds its bands as in `geossl.embed`. ``config.encoder`` and ``stem``
            become its own. None: untrained.
        config: all other settings.
        output_dir: directory of the run. An unfinished run of the same settings in it is resumed
            exactly; None keeps nothing on disk.
        seed: of weights, pairs and views; the global random state is not touched.

    Returns:
        A `Run`: ``for log in run: ...``, then ``run.encoder``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: no objective, a batch larger than the data or one that the processes cannot
            share evenly, an absent column, a directory that holds another run, or views too small
            for bf16 on a CPU; during training, a loss that is not finite.
        ConnectionError: another process died; the same call resumes from the last checkpoint.

    Example:
        >>> for log in pretrain(store, pairs=geossl.pairs.temporal(), output_dir="runs/tp"):
        ...     print(log.step, log.loss)
    """
    config = config or PretrainConfig()
    if encoder is not None:
        config = replace(config, encoder=encoder.name, stem=encoder.stem)
    terms = build_objectives(pairs, geo, label, objectives, config)
    return Run(store, pairs, terms, config, output_dir, seed, start=encoder)


class Run:
    """A training run: iterate for `Log` records, stop whenever you like.

    Attributes:
        encoder: the query encoder, usable at any time.
        logs: every record so far, those of earlier sessions included, one row each.
        step, steps: optimizer steps done, and of the entire run.
    """

    @validated
    def __init__(
        self,
        store: ChipStore,
        pairs: PairSampler | None,
        objectives: Sequence[Objective],
        config: PretrainConfig,
        output_dir: str | os.PathLike[str] | None,
        seed: Seed,
        *,
        start: models.Encoder | None = None,
    ):
        self.store, self.config, self.seed = store, config, seed
        self.objectives = list(objectives)
        dist.check_batch_divides(config.batch_size, config.bn_splits)
        self.device = select_device(config.device)
        dist.init_process_group(self.device)
        self._loader = PairLoader(
            store, pairs, self.objectives, config=config, device=self.device, seed=seed
        )
        per_epoch = self._loader.per_epoch
        self.steps = max(1, round(per_epoch * config.epochs))
        self._log_every = config.log_every or max(1, min(per_epoch, self.steps // 20))
        self._moco = build_model(
            store, config, self.objectives, start=start, device=self.device, seed=seed
        )
        self._format = memory_format(self._moco)
        self._parameters = [p for p in self._moco.parameters() if p.requires_grad]
        self._optimizer = optim.build_optimizer(self._parameters, config)
        self.step, self._seconds = 0, 0.0
        self._records: list[dict[str, Any]] = []
        self._sums: dict[str, Tensor] = {}  # of the metrics since the last record
        self._interval = 0  # steps since then
        rows = self._loader.rows.numpy()
        self._knn = KnnMonitor(store, rows, label=config.knn_label, seed=seed)
        self._batches: Iterator[LoadedBatch] | None = None
        self._consistent = True  # no step is half done
        settings = {
            "trainer": "pretrain",
            "seed": seed,
            "pairs": None if pairs is None else pairs.name,
            "store": store_fingerprint(store),
            "config": {k: v for k, v in asdict(config).items() if k not in _MAY_CHANGE},
            **describe_objectives(self.objectives),
        }
        if start is not None:
            settings["start"] = weights_digest(self._moco.encoder)
        self._directory = RunDirectory(output_dir, settings, every_s=config.checkpoint_every_s)
        self._resume()

    def __repr__(self) -> str:
        path = self._directory.path
        kept = "in memory only" if path is None else f"in {path}"
        return f"Run(step {self.step:,} of {self.steps:,}, {kept})"

    @property
    def encoder(self) -> models.Encoder:
        """The query encoder, on the training device, in eval mode."""
        return self._moco.encoder.eval()

    @property
    def logs(self) -> pd.DataFrame:
        """All log records so far, one row each."""
        return to_frame(self._records)

    def __iter__(self) -> Iterator[Log]:
        """Train, yielding a `Log` an interval; an interrupt leaves the run usable and resumable."""
        with closing(self._train()) as steps:
            yield from (log for log in steps if log is not None)

    def _train(self) -> Generator[Log | None]:
        """Train, yielding after each step: a log where an interval ends, else None."""
        started = time.monotonic() - self._seconds
        since = (self.step, self._seconds)
        with self._directory as directory, dist.stop_together() as should_stop:
            directory.write_log(self._records)
            try:
                while self.step < self.steps:
                    threads = single_threaded(self._moco.encoder, bf16=self._moco.bf16)
                    with defer_interrupt(), threads:
                        self._one_step()
                        due = self.step % self._log_every == 0 or self.step == self.steps
                        means = self._interval_means() if due else {}  # waits for a GPU
                        self._seconds = time.monotonic() - started
                        log = self._record(means, *since) if due else None
                    if log is not None:
                        since = (self.step, time.monotonic() - started)
                    yield log
                    if should_stop():
                        raise KeyboardInterrupt
            except ConnectionError:
                self._consistent = False
                raise
            finally:
                if self._batches is not None:
                    self._batches.close()  # type: ignore[attr-defined]
                    self._batches = None
                if self._consistent:
                    self._save()

    @validated
    def finish(self, *, progress: bool = True) -> Run:
        """Train to the end with a progress bar, and return the run itself."""
        quiet = not progress or dist.rank() > 0 or self.step == self.steps
        with progress_bar(self.steps, unit="step", initial=self.step, show=not quiet) as bar:
            with closing(self._train()) as steps:
                draw_steps(steps, bar)
        return self

    def summary(self) -> str:
        """Say in a line how far the run is, in which time, and what it has reached."""
        return summarize(self._records, label=self.config.knn_label)

    def _one_step(self) -> None:
        """Do one optimizer step, in the order of the algorithm."""
        config, moco = self.config, self._moco
        self._consistent = False
        moco.train()
        rate = config.lr * optim.warmup_cosine(self.step, self.steps, config.warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        for _ in range(config.accumulation_steps):
            batch = self._next_batch()  # this process's n of N pairs; n = N in a process alone
            total = torch.zeros((), device=self.device)
            values = {}
            for objective in self.objectives:
                loss, scores = check_result(objective, objective.loss(moco, batch))
                total = total + objective.weight * loss
                values[f"{objective.name}_loss"] = loss
                values |= {f"{objective.name}_{name}": score for name, score in scores.items()}
            (total / config.accumulation_steps).backward()
            for objective in self.objectives:
                objective.after_backward(moco, batch)
            for name, value in {"loss": total, **values}.items():
                value = value.detach().float()
                self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._last = (batch.embedding.detach(), batch.projection.detach())
        if dist.world_size() > 1:
            dist.all_reduce_mean(self._shared())
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._interval += 1
        self._consistent = True

    def _next_batch(self) -> Batch:
        """Load a batch, make its views, and run the query encoder on the first of them."""
        if self._batches is None:
            self._batches = self._loader.between(self.step, self.steps)
        loaded = next(self._batches)
        encoder = self._moco.encoder
        views = tuple(
            view.contiguous(memory_format=self._format)
            for view in self._loader.make_views(loaded, mean=encoder.mean, std=encoder.std)
        )  # (n, C, H, W) each
        embedding, projection = self._moco.query(views[0])  # (n, E), (n, D)
        if self._moco.bf16:
            embedding, projection = embedding.float(), projection.float()
        return Batch(
            part=loaded.part, size=self.config.batch_size, mine=loaded.mine, views=views,
            key_order=loaded.key_order, location=loaded.location, targets=loaded.targets,
            embedding=embedding, projection=projection,
        )  # fmt: skip

    def _shared(self) -> list[Tensor]:
        """Return what the processes average: gradients, and running statistics of BatchNorm."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        return [*gradients, *(b for n, b in self._moco.named_buffers() if "running_" in n)]

    def _interval_means(self) -> dict[str, float]:
        """Return means over the interval and all processes."""
        means = torch.stack(list(self._sums.values()))
        means /= self.config.accumulation_steps * self._interval
        dist.all_reduce_mean([means])
        return dict(zip(self._sums, means.tolist(), strict=True))

    def _record(self, means: dict[str, float], since_step: int, since_seconds: float) -> Log:
        """Record the interval that began at a step and a second of the run."""
        config, steps = self.config, self.step - since_step
        loss = means.pop("loss")
        self._consistent = math.isfinite(loss)  # else the last checkpoint stays
        optim.check_finite_loss(loss, where=f"steps {since_step} to {self.step}", lr=config.lr)
        embedding, projection = (dist.all_gather(x, config.batch_size).cpu() for x in self._last)
        every = config.knn_every * self._log_every
        measure = every > 0 and (self.step % every == 0 or self.step == self.steps)
        seconds = self._seconds - since_seconds
        log = Log(
            step=self.step,
            epoch=self.step / self._loader.per_epoch,
            loss=loss,
            metrics=means,
            feature_std=float(metrics.feature_std(projection)),
            effective_rank=float(metrics.effective_rank(embedding)),
            knn=self._knn.measure(self._moco.encoder) if measure else math.nan,
            pairs_per_s=steps * config.batch_size * config.accumulation_steps / max(seconds, 1e-9),
            seconds=self._seconds,
            seconds_left=(self.steps - self.step) * seconds / steps,
        )
        self._sums, self._interval = {}, 0
        self._records.append(log.to_dict())
        self._directory.append_log(self._records[-1])
        if self._directory.is_due():
            self._save()
        return log

    def _save(self) -> None:
        if not self._directory.needs(self.step):
            return
        state = {
            "seconds": self._seconds,
            "sums": self._sums,
            "interval": self._interval,
            "records": self._records,
            "model": self._moco.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        note = {"bands": self.store.bands, "units": self.store.info.get("units"), "step": self.step}
        self._directory.save(self.step, state, encoder=self._moco.encoder, note=note)

    def _resume(self) -> None:
        """Load the checkpoint of the directory, if there is one."""
        with self._directory.load() as state:
            if state is not None:
                self._moco.load_state_dict(state["model"])
                optim.load_optimizer_state(self._optimizer, state["optimizer"])
                self.step, self._seconds = state["step"], state["seconds"]
                self._sums = {name: value.to(self.device) for name, value in state["sums"].items()}
                self._interval, self._records = state["interval"], state["records"]
