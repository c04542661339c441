"""Play the queue of MoCo step by step: keys come in, grow old and drift."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets as widgets
import numpy as np

from geossl.data.store import ChipStore
from geossl.viz import pages
from geossl.viz.widgets.common import Status
from geossl_lessons.lesson_02.experiments import QueueHistory

_NEW, _NEXT = "3px solid #d55e00", "3px dashed #0072b2"


class QueuePlayer(widgets.VBox):
    """Play the histories of `record_queue`: keys with their ages, and their drift by age."""

    def __init__(self, store: ChipStore, runs: Mapping[str, QueueHistory]):
        if not runs or len({len(run.rows) for run in runs.values()}) != 1:
            raise ValueError("`runs` must hold at least one run, all with the same steps.")
        self._runs, self._store = dict(runs), store
        self._images: dict[int, str] = {}
        last = len(next(iter(runs.values())).rows) - 1
        self.run_choice = widgets.Dropdown(
            options=list(runs), description="run", tooltip="which key encoder"
        )
        self.play = widgets.Play(
            value=0, min=0, max=last, interval=700, description="play", tooltip="play the steps"
        )
        self.step_slider = widgets.IntSlider(
            0, 0, last, description="step", tooltip="step of the training"
        )
        self._page, self._status = widgets.HTML(), Status()
        controls = [self.run_choice, self.play, self.step_slider]
        row = widgets.Box(controls, layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([row, self._page, self._status.widget])
        for control in controls:
            control.observe(self._status.guard(self._update), "value")
        self._draw()

    @property
    def step(self) -> int:
        """The step that is shown, from 0."""
        return int(self.step_slider.value)

    def _update(self, change: dict) -> None:
        if change["owner"] is self.play:
            self.step_slider.value = change["new"]  # which draws, if it moves
        else:
            self._draw()

    def _draw(self) -> None:
        run, now = self._runs[self.run_choice.value], self.step
        self.play.value = now
        rows, age, drift = run.rows[now], run.age[now], run.drift[now]
        batch = int((run.age[0] == 0).sum())
        pointer = (now + 1) * batch % len(rows)
        leaving = {(pointer + i) % len(rows) for i in range(batch)}
        slots = [self._slot(int(rows[i]), int(age[i]), i in leaving) for i in range(len(rows))]
        self._page.value = (
            '<div style="display: flex; flex-wrap: wrap; gap: 18px">'
            f'<div style="display: flex; flex-wrap: wrap; gap: 3px; max-width: 530px">'
            f"{''.join(slots)}</div>{_drift_bars(age, drift)}</div>"
        )
        self._status.show(
            f"step {now + 1}, momentum {run.momentum:g}: {batch} keys came in, "
            f"{(rows >= 0).sum()} of {len(rows)} slots hold a key, the oldest {age.max()} steps "
            f"old; mean drift {np.nanmean(drift):.4f}"
        )

    def _slot(self, row: int, age: int, leaving: bool) -> str:
        border = _NEW if age == 0 else "3px solid transparent"
        if row < 0:
            image, text = '<div style="width: 34px; height: 34px; background: #ddd"></div>', "–"
        else:
            if row not in self._images:
                self._images[row] = pages.jpeg_url(self._store.preview([row])[0], quality=70)
            alt, text = f"key of chip {row}, {age} steps old", str(age) if age else "new"
            image = (
                f'<img src="{self._images[row]}" alt="{alt}" title="{alt}" '
                'style="width: 34px; height: 34px; display: block">'
            )
            if leaving and age:
                border = _NEXT
        return (
            f'<div style="border: {border}; width: 34px; text-align: center; '
            f'font: 11px/1.3 sans-serif">{image}{text}</div>'
        )


def _drift_bars(age: np.ndarray, drift: np.ndarray) -> str:
    """Draw the mean drift of the keys of each age as bars that are text."""
    largest = max(0.2, float(np.nanmax(drift, initial=0)))
    rows = []
    for steps in range(int(age.max()) + 1):
        mean = float(drift[age == steps].mean())
        rows.append(
            f'<tr><td style="text-align: right">{steps}</td>'
            '<td style="width: 160px; padding-left: 8px"><div '
            f'style="height: 10px; background: #0072b2; width: {100 * mean / largest:.0f}%"></div>'
            f"</td><td>{mean:.4f}</td></tr>"
        )
    return (
        "<table><caption style='text-align: left'>Orange: came in at this step. Blue dashes: "
        "leaves next.</caption><tr><th>age</th><th style='text-align: left; padding-left: 8px'>"
        f"drift (1 - cosine)</th><th></th></tr>{''.join(rows)}</table>"
    )
