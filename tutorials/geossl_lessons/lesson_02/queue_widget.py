"""Film the queue of a training loop, and play it: keys come in, grow old and drift."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor, nn

from geossl.data.store import ChipStore
from geossl.utils.colors import PALETTE
from geossl.viz import pages
from geossl.viz.widgets.common import Status
from geossl_lessons.drawing import ROLES

_NEW, _NEXT = f"3px solid {ROLES['+TP']}", "3px dashed #444"


class Frame(NamedTuple):
    """The queue after a step, the newest keys first: K keys.

    Attributes:
        rows: ``(K,)`` row of the store of each key's chip; shorter until the queue is full.
        age: ``(K,)`` steps since it came in.
        drift: ``(K,)`` 1 - cosine of the stored key and of the one that the key network of this
            step makes of the same views.
    """

    rows: np.ndarray
    age: np.ndarray
    drift: np.ndarray


class QueueFilm:
    """Record the queue of a training loop that calls ``film.record(...)`` after each step.

    Args:
        rows: row of the store of each training chip.
        queue_size: number of keys in the queue; the batches must divide it.
    """

    def __init__(self, rows: np.ndarray, queue_size: int):
        self.frames: list[Frame] = []
        self.queue_size = queue_size
        self._rows = np.asarray(rows)
        self._batches: deque[tuple[np.ndarray, Tensor, Tensor]] = deque()

    @torch.no_grad()
    def record(self, index: Tensor, views: Tensor, keys: Tensor, network: nn.Module) -> None:
        """Record a step: which training chips, their key views, their keys, the key network.

        Each batch is encoded again by itself, so that BatchNorm sees the same pictures as before:
        what differs are the weights.
        """
        self._batches.appendleft((self._rows[index.numpy()], views, keys))
        while sum(len(keys) for _, _, keys in self._batches) > self.queue_size:
            self._batches.pop()
        drift = [
            1 - (keys * nn.functional.normalize(network(views), dim=1)).sum(1)
            for _, views, keys in self._batches
        ]
        ages = [np.full(len(keys), age) for age, (_, _, keys) in enumerate(self._batches)]
        rows = np.concatenate([rows for rows, _, _ in self._batches])
        drifts = torch.cat(drift).clamp(min=0).numpy()
        self.frames.append(Frame(rows, np.concatenate(ages), drifts))


class QueuePlayer(widgets.VBox):
    """Play films of the queue: keys with their ages, and their drift by age."""

    def __init__(self, store: ChipStore, films: Mapping[str, QueueFilm]):
        if not films or len({len(film.frames) for film in films.values()}) != 1:
            raise ValueError("`films` must hold at least one film, all with the same steps.")
        self._films, self._store = dict(films), store
        self._images: dict[int, str] = {}
        last = len(next(iter(films.values())).frames) - 1
        middle = last // 2
        self.run_choice = widgets.Dropdown(
            options=list(films), description="run", tooltip="which key network"
        )
        self.play = widgets.Play(
            value=last // 2,
            min=0,
            max=last,
            interval=700,
            description="play",
            tooltip="play the steps",
        )
        self.step_slider = widgets.IntSlider(
            middle, 0, last, description="step", tooltip="step of the training, from 0"
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
        name, now = self.run_choice.value, self.step
        self.play.value = now
        film = self._films[name]
        frame = film.frames[now]
        new = int((frame.age == 0).sum())
        is_full = len(frame.rows) == film.queue_size
        slots = [
            self._slot(int(row), int(age), is_full and i >= film.queue_size - new)
            for i, (row, age) in enumerate(zip(frame.rows, frame.age, strict=True))
        ]
        slots += [_slot_html("3px solid transparent", "", "–")] * (film.queue_size - len(slots))
        self._page.value = (
            '<div style="display: flex; flex-wrap: wrap; gap: 24px; align-items: flex-start">'
            f'<div style="display: flex; flex-wrap: wrap; gap: 3px; max-width: 356px">'
            f"{''.join(slots)}</div>{self._drift_bars(frame)}</div>"
        )
        self._status.show(
            f"{name}, step {now + 1}: {new} keys came in, {len(frame.rows)} of {film.queue_size} "
            f"slots hold a key, the oldest {frame.age.max()} steps old; mean drift "
            f"{frame.drift.mean():.4f}"
        )

    def _slot(self, row: int, age: int, leaves: bool) -> str:
        if row not in self._images:
            self._images[row] = pages.jpeg_url(
                self._store.preview([row], min_px=pages.SHOWN_PX)[0], quality=70
            )
        alt = f"key of chip {row}, {age} steps old"
        image = (
            f'<img src="{self._images[row]}" alt="{alt}" title="{alt}" '
            'style="width: 34px; height: 34px; display: block">'
        )
        border = _NEW if age == 0 else _NEXT if leaves else "3px solid transparent"
        return _slot_html(border, image, str(age) if age else "new")

    def _drift_bars(self, frame: Frame) -> str:
        """Draw the mean drift of the keys of each age as bars; all films share a step's scale."""
        steps = [_mean_by_age(film.frames[self.step]) for film in self._films.values()]
        largest = max(max(means) for means in steps)
        rows = [
            f'<tr><td style="text-align: right">{age}</td>'
            '<td style="width: 160px; padding-left: 8px"><div style="height: 10px; '
            f'background: {PALETTE[0]}; width: {100 * mean / max(largest, 1e-9):.0f}%"></div>'
            f"</td><td>{mean:.4f}</td></tr>"
            for age, mean in enumerate(_mean_by_age(frame))
        ]
        return (
            "<table><caption style='text-align: left'>Blue frame: came in at this step. Dashes: "
            "leaves next.</caption><tr><th>age</th><th style='text-align: left; padding-left: 8px'>"
            f"mean drift (1 - cosine)</th><th></th></tr>{''.join(rows)}</table>"
        )


def _mean_by_age(frame: Frame) -> list[float]:
    return [float(frame.drift[frame.age == age].mean()) for age in range(frame.age.max() + 1)]


def _slot_html(border: str, image: str, text: str) -> str:
    image = image or '<div style="width: 34px; height: 34px; background: #ddd"></div>'
    return (
        f'<div style="border: {border}; width: 34px; text-align: center; '
        f'font: 11px/1.3 sans-serif">{image}{text}</div>'
    )
