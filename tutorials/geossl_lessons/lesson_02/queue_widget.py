"""The queue of MoCo as a film: which keys come in, how old they get, and how far they drift."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets as widgets
import numpy as np

from geossl.data.store import ChipStore
from geossl.viz.maps import leaflet
from geossl.viz.widgets.common import Status
from geossl_lessons.lesson_02.experiments import Film

_NEW, _NEXT = "3px solid #d55e00", "3px dashed #0072b2"


class QueueFilm(widgets.VBox):
    """Play a queue step by step: its keys with their ages, and their drift by age.

    Attributes:
        step: the step that is shown, from 0.
        play, step_slider, film_choice: the controls.

    Args:
        store: the chips whose keys lie in the queue.
        films: name -> what `geossl_lessons.lesson_02.experiments.film_queue` returned.

    Raises:
        ValueError: no film, or films of different lengths.
    """

    def __init__(self, store: ChipStore, films: Mapping[str, Film]):
        if not films or len({len(film.rows) for film in films.values()}) != 1:
            raise ValueError("expected at least one film, all with the same number of steps")
        self._films, self._store = dict(films), store
        self._thumbs: dict[int, str] = {}
        steps = len(next(iter(films.values())).rows)
        self.film_choice = widgets.Dropdown(
            options=list(films), description="film", tooltip="which key encoder"
        )
        self.play = widgets.Play(
            value=0, min=0, max=steps - 1, interval=700, description="play",
            tooltip="play the steps",
        )  # fmt: skip
        self.step_slider = widgets.IntSlider(
            0, 0, steps - 1, description="step", tooltip="step of the training"
        )
        self._shown, self._status = widgets.HTML(), Status()
        controls = [self.film_choice, self.play, self.step_slider]
        super().__init__(
            [
                widgets.Box(controls, layout=widgets.Layout(flex_flow="row wrap")),
                self._shown,
                self._status.widget,
            ]
        )
        guarded = self._status.shown
        self.play.observe(guarded(lambda change: self._go(change["new"])), "value")
        self.step_slider.observe(guarded(lambda _: self._draw()), "value")
        self.film_choice.observe(guarded(lambda _: self._draw()), "value")
        self._draw()

    @property
    def step(self) -> int:
        """The step that is shown, from 0."""
        return int(self.step_slider.value)

    def _go(self, step: int) -> None:
        self.step_slider.value = step

    def _draw(self) -> None:
        film, now = self._films[self.film_choice.value], self.step
        self.play.value = now
        rows, age, drift = film.rows[now], film.age[now], film.drift[now]
        batch = int((film.age[0] == 0).sum())
        pointer = (now + 1) * batch % len(rows)
        leaving = {(pointer + i) % len(rows) for i in range(batch)}
        slots = [
            self._slot(int(rows[i]), int(age[i]), next_out=i in leaving) for i in range(len(rows))
        ]
        self._shown.value = (
            '<div style="display: flex; flex-wrap: wrap; gap: 18px">'
            f'<div style="display: flex; flex-wrap: wrap; gap: 3px; max-width: 530px">'
            f"{''.join(slots)}</div>{_drift_bars(age, drift)}</div>"
        )
        there = int((rows >= 0).sum())
        oldest = "" if there == 0 else f", the oldest {age.max()} steps old"
        self._status.say(
            f"step {now + 1}, momentum {film.momentum:g}: {batch} keys came in, {there} of "
            f"{len(rows)} slots hold a key{oldest}; mean drift {np.nanmean(drift):.4f}"
        )

    def _slot(self, row: int, age: int, *, next_out: bool) -> str:
        if row < 0:
            picture = '<div style="width: 34px; height: 34px; background: #ddd"></div>'
            told = "–"
        else:
            if row not in self._thumbs:
                self._thumbs[row] = leaflet.jpeg(self._store.preview([row])[0], quality=70)
            words = f"key of chip {row}, {age} steps old"
            picture = (
                f'<img src="{self._thumbs[row]}" alt="{words}" title="{words}" '
                'style="width: 34px; height: 34px; display: block">'
            )
            told = "new" if age == 0 else str(age)
        border = _NEW if age == 0 else _NEXT if next_out and row >= 0 else "3px solid transparent"
        return (
            f'<div style="border: {border}; width: 34px; text-align: center; '
            f'font: 11px/1.3 sans-serif">{picture}{told}</div>'
        )


def _drift_bars(age: np.ndarray, drift: np.ndarray) -> str:
    """Mean drift of the keys of each age as bars that are text."""
    lines = []
    largest = max(0.2, float(np.nanmax(drift, initial=0)))
    for old in range(int(age.max()) + 1):
        mean = float(drift[age == old].mean())
        lines.append(
            f'<tr><td style="text-align: right">{old}</td>'
            '<td style="width: 160px; padding-left: 8px"><div '
            f'style="height: 10px; background: #0072b2; width: {100 * mean / largest:.0f}%"></div>'
            f"</td><td>{mean:.4f}</td></tr>"
        )
    return (
        "<table><caption style='text-align: left'>Orange: came in at this step. Blue dashes: "
        "leaves next.</caption><tr><th>age</th><th style='text-align: left; padding-left: 8px'>"
        f"drift (1 - cosine)</th><th></th></tr>{''.join(lines)}</table>"
    )
