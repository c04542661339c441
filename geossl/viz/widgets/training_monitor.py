"""Watch a training run in a notebook cell: figures redrawn by time, plain text elsewhere."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator

import pandas as pd

from geossl.train.logs import Log
from geossl.train.pretrain import Run
from geossl.viz import plots
from geossl.viz.widgets.common import Screen


class TrainingMonitor:
    """Live losses, accuracies, kNN and signs of collapse of a `geossl.pretrain` run.

    Works where pictures are displayed (JupyterLab, VS Code, a page made by nbconvert, which keeps
    the last one); a terminal gets a line of text in place of it. Interrupting the kernel ends the
    watching, not the run: the encoder is usable, and watching again goes on.

    Args:
        run: what `geossl.pretrain` returned.
        every_s: seconds between two redraws; the last record is always drawn.

    Raises:
        ValueError: ``every_s`` is negative.
    """

    def __init__(self, run: Run, *, every_s: float = 2.0):
        if every_s < 0:
            raise ValueError(f"expected every_s >= 0, came {every_s}")
        self.run, self.every_s = run, every_s
        self.interrupted = False

    def watch(self) -> Run:
        """Train to the end, or until interrupted, and show it; returns the run."""
        for _ in self:
            pass
        return self.run

    def __iter__(self) -> Iterator[Log]:
        """The records of the run, shown on the way."""
        screen = Screen()
        drawn, self.interrupted = -self.every_s, False
        try:
            for log in self.run:
                if time.monotonic() - drawn >= self.every_s:
                    self._show(screen)
                    drawn = time.monotonic()
                yield log
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            self._show(screen)

    def _show(self, screen: Screen) -> None:
        logs = self.run.logs
        if len(logs):
            words = describe_state(self.run, interrupted=self.interrupted)
            screen.update(words, lambda: _page(logs, words))


def describe_state(run: Run, *, interrupted: bool = False) -> str:
    """One line: how far, how well, how long still."""
    last = run.logs.iloc[-1]
    parts = [f"step {run.step:,} of {run.steps:,}", f"loss {last['loss']:.2f}"]
    for column, name in _NAMES.items():
        value = run.logs[column].dropna()
        if len(value):
            parts.append(f"{name} {value.iloc[-1]:.2f}")
    parts.append(f"{last['pairs_per_s']:,.0f} pairs/s")
    if run.step >= run.steps:
        parts.append("finished")
    elif interrupted:
        parts.append("stopped; the encoder is usable, and watching again goes on from here")
    else:
        left = int(last["seconds_left"])
        parts.append(f"{left // 60}:{left % 60:02d} left")
    if last["effective_rank"] < 2:
        parts.append("the embeddings have collapsed to one direction")
    return ", ".join(parts)


_NAMES = {
    "contrastive_accuracy": "contrastive accuracy", "geo_accuracy": "geo accuracy",
    "label_accuracy": "label accuracy", "knn": "kNN", "feature_std": "feature std",
    "effective_rank": "effective rank",
}  # fmt: skip


def _page(logs: pd.DataFrame, words: str) -> str:
    told = f"training curves: {words}"
    picture = plots.figure_html(plots.plot_training(logs), alt=told, width="100%")
    return f'<div role="status">{html.escape(words)}</div>{picture}'
