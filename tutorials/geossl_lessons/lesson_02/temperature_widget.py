"""A slider that shows what the temperature of InfoNCE does to a real similarity matrix."""

from __future__ import annotations

import html
from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np
from numpy.typing import ArrayLike

from geossl.viz.maps import leaflet
from geossl.viz.widgets.common import Status

_BARS = 8  # keys listed for one query
_BLUE, _ORANGE = "#0072b2", "#d55e00"  # negatives, the positive


def shares(similarity: ArrayLike, temperature: float) -> np.ndarray:
    """Softmax over the keys of each query: what InfoNCE believes.

    Args:
        similarity: ``(N, M)`` cosine similarities of queries and keys.
        temperature: dimensionless, > 0.

    Returns:
        ``(N, M)`` float64, each row sums to 1; the loss is ``-log`` of the positive's share.

    Raises:
        ValueError: no matrix, or ``temperature <= 0``.
    """
    similarity = np.asarray(similarity, np.float64)
    if similarity.ndim != 2 or temperature <= 0:
        raise ValueError(
            "expected similarities (N, M) and a temperature > 0, came "
            f"{similarity.shape} and {temperature}"
        )
    logits = similarity / temperature
    grown = np.exp(logits - logits.max(1, keepdims=True))
    return grown / grown.sum(1, keepdims=True)


def push(similarity: ArrayLike, temperature: float) -> np.ndarray:
    """How the negatives of each query share the push away from it; key i is query i's positive.

    Args:
        similarity: ``(N, N)`` cosine similarities, the diagonal those of the positives.
        temperature: dimensionless, > 0.

    Returns:
        ``(N, N)`` float64, zero on the diagonal, each row sums to 1.

    Raises:
        ValueError: the matrix is not square or too small, or ``temperature <= 0``.
    """
    similarity = np.asarray(similarity, np.float64).copy()
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or len(similarity) < 2:
        raise ValueError(
            f"expected similarities (N, N) of at least two pairs, came {similarity.shape}"
        )
    np.fill_diagonal(similarity, -np.inf)
    return shares(similarity, temperature)


class TemperatureSlider(widgets.VBox):
    """Similarities of queries and keys at a temperature: what each key's share becomes.

    Attributes:
        temperature: as the slider stands.
        temperature_slider, query_slider: the controls.

    Args:
        similarity: ``(N, N)`` cosine similarities of N queries and N keys; key i is the positive
            of query i, the others its negatives.
        pictures: ``(N, H, W, 3)`` uint8 of the keys; none when None.
        temperature: to begin with, 0.01 to 2.

    Raises:
        ValueError: the matrix is not square, or not one picture for each key.
    """

    def __init__(
        self,
        similarity: ArrayLike,
        *,
        pictures: np.ndarray | None = None,
        temperature: float = 0.2,
    ):
        self._similarity = np.asarray(similarity, np.float64).copy()
        push(self._similarity, temperature)  # refuses what it cannot show
        size = len(self._similarity)
        if pictures is not None and len(pictures) != size:
            raise ValueError(f"expected {size} pictures, came {len(pictures)}")
        self._pictures = (
            [leaflet.jpeg(p, quality=85) for p in pictures] if pictures is not None else []
        )
        whole = {"continuous_update": False, "style": {"description_width": "90px"},
                 "layout": widgets.Layout(width="min(420px, 95%)")}  # fmt: skip
        self.temperature_slider = widgets.FloatLogSlider(
            temperature, min=-2, max=float(np.log10(2)), step=0.05, description="temperature",
            readout_format=".2g", tooltip="low: only the nearest key counts; high: all alike",
            **whole,
        )  # fmt: skip
        self.query_slider = widgets.IntSlider(
            0, 0, size - 1, description="query", tooltip="row of the matrix", **whole
        )
        self._shown, self._status = widgets.HTML(), Status()
        super().__init__(
            [self.temperature_slider, self.query_slider, self._shown, self._status.widget]
        )
        for control in (self.temperature_slider, self.query_slider):
            control.observe(self._status.shown(lambda _: self._draw()), "value")
        self._draw()

    @property
    def temperature(self) -> float:
        """The temperature as the slider stands."""
        return float(self.temperature_slider.value)

    def _draw(self) -> None:
        query, everything = self.query_slider.value, shares(self._similarity, self.temperature)
        pushed = push(self._similarity, self.temperature)[query]
        order = np.argsort(-self._similarity[query])[:_BARS]
        if query not in order:
            order = np.append(order[:-1], query)
        rows = [self._bar(query, int(j), everything[query, j], pushed[j]) for j in order]
        names = ("key", "", "cosine", "share in the softmax", "share of the push")
        left = "text-align: left; padding-right: 8px"
        head = "".join(f'<th style="{left}">{name}</th>' for name in names)
        self._shown.value = (
            '<div style="display: flex; flex-wrap: wrap; gap: 18px; align-items: flex-start">'
            f"{_matrix(everything, query)}<table><tr>{head}</tr>{''.join(rows)}</table></div>"
        )
        loss = -np.log(np.maximum(everything.diagonal(), 1e-300)).mean()
        self._status.say(
            f"temperature {self.temperature:.2g}: the hardest negative of query {query} takes "
            f"{pushed.max():.0%} of the push; mean loss {loss:.2f} nats, "
            f"chance is {np.log(len(everything)):.2f}"
        )

    def _bar(self, query: int, key: int, share: float, pushed: float) -> str:
        own = key == query
        picture = (
            f'<img src="{self._pictures[key]}" alt="key {key}" style="width: 40px; height: 40px">'
            if self._pictures
            else ""
        )
        told = "positive" if own else f"negative {key}"
        away = "pulled near" if own else f"{pushed:.1%}"
        return (
            f'<tr><td>{picture}</td><td style="padding: 0 12px 0 6px">{told}</td>'
            f"<td>{self._similarity[query, key]:.2f}</td>"
            f'<td style="width: 150px"><div style="background: {_ORANGE if own else _BLUE}; '
            f'height: 10px; width: {max(1, 100 * share):.0f}%"></div>{share:.1%}</td>'
            f"<td>{away}</td></tr>"
        )


def _matrix(values: np.ndarray, lit: int) -> str:
    """The shares of all queries as squares, dark where high, the lit row framed."""
    size, side = len(values), max(4, 260 // len(values))
    squares = [
        f'<rect x="{j * side}" y="{i * side}" width="{side - 1}" height="{side - 1}" '
        f'fill="{_shade(values[i, j])}"><title>query {html.escape(str(i))}, key {j}: '
        f"{values[i, j]:.1%}</title></rect>"
        for i in range(size)
        for j in range(size)
    ]
    whole = size * side
    frame = (
        f'<rect x="0" y="{lit * side}" width="{whole - 1}" height="{side - 1}" fill="none" '
        f'stroke="{_ORANGE}" stroke-width="2"/>'
    )
    words = f"shares of {size} keys for {size} queries; the positives lie on the diagonal"
    return (
        f'<figure style="margin: 0"><svg role="img" aria-label="{words}" width="{whole}" '
        f'height="{whole}" style="background: #fff">{"".join(squares)}{frame}</svg>'
        '<figcaption style="max-width: 260px">Rows are queries, columns keys; dark is a large '
        "share; framed: the query of the table.</figcaption></figure>"
    )


def _shade(share: float) -> str:
    """White at no share, dark blue at the whole."""
    part = np.sqrt(np.clip(share, 0, 1))
    ends: Sequence[tuple[int, int]] = ((247, 8), (247, 48), (247, 107))
    return "#" + "".join(f"{round(light + part * (dark - light)):02x}" for light, dark in ends)
