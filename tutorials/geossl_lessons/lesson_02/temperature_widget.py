"""A slider that shows what the temperature of InfoNCE does to a real similarity matrix."""

from __future__ import annotations

import ipywidgets as widgets
import numpy as np
from numpy.typing import ArrayLike

from geossl.utils.validate import Positive, validated
from geossl.viz import pages
from geossl.viz.widgets.common import Status
from geossl_lessons.drawing import ROLES

_BARS = 8  # keys listed for one query
_POSITIVE, _NEGATIVE, _FRAME = ROLES["right"], "#8a8a8a", ROLES["test"]
_LIGHT, _DARK = np.array([247, 247, 247]), np.array([8, 48, 107])  # a share of 0, of 1


@validated
def shares(similarity: ArrayLike, temperature: Positive) -> np.ndarray:
    """Compute the softmax over the keys of each query, ``(N, M)``; rows sum to 1."""
    logits = np.asarray(similarity, np.float64) / temperature
    if logits.ndim != 2:
        raise ValueError(f"`similarity` must have the shape (N, M), got {logits.shape}.")
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


@validated
def push(similarity: ArrayLike, temperature: Positive) -> np.ndarray:
    """Compute how the negatives of each query share the push away from it.

    Takes cosine similarities ``(N, N)``; key i is the positive of query i. Returns ``(N, N)``, zero
    on the diagonal; rows sum to 1.
    """
    similarity = np.asarray(similarity, np.float64).copy()
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or len(similarity) < 2:
        raise ValueError(
            f"`similarity` must be (N, N) with at least two pairs, got {similarity.shape}."
        )
    np.fill_diagonal(similarity, -np.inf)
    return shares(similarity, temperature)


class TemperatureSlider(widgets.VBox):
    """Show the share of each key at the temperature of a slider, for cosines ``(N, N)``.

    Key i is the positive of query i; ``pictures (N, H, W, 3)`` uint8 of the keys are optional.
    """

    def __init__(
        self, similarity: ArrayLike, *, pictures: np.ndarray | None = None, temperature: float = 0.2
    ):
        self._similarity = np.asarray(similarity, np.float64).copy()
        push(self._similarity, temperature)  # refuses what cannot be shown
        size = len(self._similarity)
        if pictures is not None and len(pictures) != size:
            raise ValueError(f"`pictures` must be {size} pictures, got {len(pictures)}.")
        self._images = [
            pages.jpeg_url(p, quality=85) for p in (pictures if pictures is not None else [])
        ]
        style = {"continuous_update": False, "style": {"description_width": "90px"},
                 "layout": widgets.Layout(width="min(420px, 95%)")}  # fmt: skip
        self.temperature_slider = widgets.FloatLogSlider(
            temperature, min=-2, max=float(np.log10(2)), step=0.05, description="temperature",
            readout_format=".2g", tooltip="low: only the nearest key counts; high: all alike",
            **style,
        )  # fmt: skip
        self.query_slider = widgets.IntSlider(
            0, 0, size - 1, description="query", tooltip="row of the matrix", **style
        )
        self._page, self._status = widgets.HTML(), Status()
        controls = [self.temperature_slider, self.query_slider]
        super().__init__([*controls, self._page, self._status.widget])
        for control in controls:
            control.observe(self._status.guard(lambda _: self._draw()), "value")
        self._draw()

    @property
    def temperature(self) -> float:
        """Value of the slider."""
        return float(self.temperature_slider.value)

    def _draw(self) -> None:
        query, share = self.query_slider.value, shares(self._similarity, self.temperature)
        pushed = push(self._similarity, self.temperature)[query]
        order = np.argsort(-self._similarity[query])[:_BARS]
        if query not in order:
            order = np.append(order[:-1], query)
        rows = [self._bar(query, int(j), share[query, j], pushed[j]) for j in order]
        names = ("key", "", "cosine", "share in the softmax", "share of the push")
        left = "text-align: left; padding-right: 8px"
        head = "".join(f'<th style="{left}">{name}</th>' for name in names)
        self._page.value = (
            '<div style="display: flex; flex-wrap: wrap; gap: 18px; align-items: flex-start">'
            f"{_matrix(share, query)}<table><tr>{head}</tr>{''.join(rows)}</table></div>"
        )
        loss = -np.log(np.maximum(share.diagonal(), 1e-300)).mean()
        self._status.show(
            f"temperature {self.temperature:.2g}: the hardest negative of query {query} takes "
            f"{pushed.max():.0%} of the push; mean loss {loss:.2f} nats, "
            f"chance is {np.log(len(share)):.2f}"
        )

    def _bar(self, query: int, key: int, share: float, pushed: float) -> str:
        positive, image = key == query, ""
        if self._images:
            size = "width: 40px; height: 40px"
            image = f'<img src="{self._images[key]}" alt="key {key}" style="{size}">'
        name = "positive" if positive else f"negative {key}"
        color = _POSITIVE if positive else _NEGATIVE
        return (
            f'<tr><td>{image}</td><td style="padding: 0 12px 0 6px">{name}</td>'
            f"<td>{self._similarity[query, key]:.2f}</td>"
            f'<td style="width: 150px"><div style="background: {color}; '
            f'height: 10px; width: {max(1, 100 * share):.0f}%"></div>{share:.1%}</td>'
            f"<td>{'pulled near' if positive else f'{pushed:.1%}'}</td></tr>"
        )


def _matrix(share: np.ndarray, query: int) -> str:
    """Draw the shares of all queries as squares, dark where high, one row framed."""
    size, side = len(share), max(4, 260 // len(share))
    squares = [
        f'<rect x="{j * side}" y="{i * side}" width="{side - 1}" height="{side - 1}" '
        f'fill="{_shade(share[i, j])}"><title>query {i}, key {j}: {share[i, j]:.1%}</title></rect>'
        for i in range(size)
        for j in range(size)
    ]
    width = size * side
    frame = (
        f'<rect x="0" y="{query * side}" width="{width - 1}" height="{side - 1}" fill="none" '
        f'stroke="{_FRAME}" stroke-width="2"/>'
    )
    alt = f"shares of {size} keys for {size} queries; the positives are on the diagonal"
    return (
        f'<figure style="margin: 0"><svg role="img" aria-label="{alt}" width="{width}" '
        f'height="{width}" style="background: #fff">{"".join(squares)}{frame}</svg>'
        '<figcaption style="max-width: 260px">Rows are queries, columns keys; dark is a large '
        "share; framed: the query of the table.</figcaption></figure>"
    )


def _shade(share: float) -> str:
    part = np.sqrt(np.clip(share, 0, 1))
    return "#" + "".join(f"{round(c):02x}" for c in _LIGHT + part * (_DARK - _LIGHT))
