"""Watch a training run in a notebook cell: figures redrawn by time, plain text elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import pandas as pd

from geossl.train.logs import Log
from geossl.train.pretrain import Run
from geossl.utils.progress import format_duration
from geossl.utils.validate import NonNegative, validated
from geossl.viz import plots
from geossl.viz.pages import render
from geossl.viz.plots.training import metric_columns, metric_name
from geossl.viz.widgets.common import LiveOutput


class TrainingMonitor:
    """Watch losses, accuracies, kNN and signs of collapse of a `geossl.pretrain` run.

    Works where pictures are displayed (JupyterLab, VS Code, a page made by nbconvert, which keeps
    the last one); a terminal gets a line of text instead. Interrupting the kernel stops the run
    after its step: the encoder is usable, and watching again continues.

    Args:
        run: what `geossl.pretrain` returned.
        every_s: seconds between two redraws; the last record is always drawn.

    Raises:
        ValueError: ``every_s`` is negative.
    """

    @validated
    def __init__(self, run: Run, *, every_s: NonNegative = 2.0):
        self.run, self.every_s = run, every_s
        self.interrupted = False

    def watch(self) -> Run:
        """Train to the end, or until interrupted, and show it; return the run."""
        for _ in self:
            pass
        return self.run

    def __iter__(self) -> Iterator[Log]:
        """Iterate over the records of the run and show them on the way."""
        output = LiveOutput()
        last_update, self.interrupted = -self.every_s, False
        try:
            for log in self.run:
                if time.monotonic() - last_update >= self.every_s:
                    self._show(output)
                    last_update = time.monotonic()
                yield log
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            self._show(output)

    def _show(self, output: LiveOutput) -> None:
        if len(self.run.logs):
            text = describe_state(self.run, interrupted=self.interrupted)
            output.update(text, partial(_page, self.run.logs, text))


def describe_state(run: Run, *, interrupted: bool = False) -> str:
    """Say in one line how far a run is, how good, and how long it still takes."""
    last = run.logs.iloc[-1]
    parts = [f"step {run.step:,} of {run.steps:,}", f"loss {last['loss']:.2f}"]
    metrics = [name for name in metric_columns(run.logs) if not name.endswith("_loss")]
    for column in [*metrics, "knn", "feature_std", "effective_rank"]:
        values = run.logs[column].dropna()
        if len(values):
            parts.append(f"{metric_name(column)} {values.iloc[-1]:.2f}")
    parts.append(f"{last['pairs_per_s']:,.0f} pairs/s")
    if run.step >= run.steps:
        parts.append("finished")
    elif interrupted:
        parts.append("stopped; the encoder is usable, and watching again continues from here")
    else:
        parts.append(f"about {format_duration(last['seconds_left'])} left")
    if last["effective_rank"] < 2:
        parts.append("the embeddings have collapsed to one direction")
    return ", ".join(parts)


def _page(logs: pd.DataFrame, text: str) -> str:
    alt = f"training curves: {text}"
    picture = plots.figure_html(plots.plot_training(logs), alt=alt, width="100%")
    return render("progress.html", text=text, picture=picture, table=None)
