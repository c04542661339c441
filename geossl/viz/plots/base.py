"""What the plots share: figures, axes, html and png."""

from __future__ import annotations

import base64
import html
import io
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure


class _Shown(Figure):
    """A figure that a notebook shows with its words for those who do not see it.

    No window manager knows of it: it is freed with its last reference.
    """

    def _repr_html_(self) -> str:
        return figure_html(self, alt=self._words())

    def _words(self) -> str:
        found = []
        for ax in self.axes:
            lines = ax.get_legend_handles_labels()[1]
            told = (ax.get_title(), ax.get_ylabel(), ax.get_xlabel(), ", ".join(lines))
            found.append(" ".join(text for text in told if text))
        return f"figure: {'; '.join(text for text in dict.fromkeys(found) if text)}"


def figure_html(figure: Figure | Axes, *, alt: str, width: str | None = None) -> str:
    """A figure as an ``<img>`` with words (JupyterLab drops those of its own images).

    Args:
        figure: what `plot_x` returned.
        alt: what it shows, for those who do not see it.
        width: in CSS; the figure's own, in inches, when None.
    """
    source = base64.b64encode(figure_png(figure, dpi=100)).decode()
    whole = figure.get_figure(root=True) if isinstance(figure, Axes) else figure
    wide = width or f"{whole.get_figwidth() if whole else 0:.1f}in"
    return (
        f'<img src="data:image/png;base64,{source}" alt="{html.escape(alt)}" '
        f'style="width: {wide}; max-width: 100%; background: #fff">'
    )


def _figure(width: float, height: float, **grid: Any) -> tuple[Figure, Any]:
    figure = _Shown(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**grid)


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    if ax is not None:
        return ax
    figure, ax = _figure(width, height)
    setattr(ax, "_repr_html_", figure._repr_html_)  # noqa: B010 (a notebook shows the figure)
    return ax


def _quiet(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def _picture(ax: Axes, chip: np.ndarray, title: str = "", frame: str | None = None) -> None:
    ax.imshow(chip, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(title, fontsize=8, pad=3)
    for side in ax.spines.values():
        side.set_color(frame or "#cccccc")
        side.set_linewidth(3 if frame else 0.5)


def _day(time: pd.Timestamp) -> str:
    return "no date" if pd.isna(time) else f"{time:%Y-%m-%d}"


def figure_png(figure: Figure | Axes, *, dpi: int = 130) -> bytes:
    """A figure, or the one of an axes, as PNG."""
    drawn = figure.get_figure(root=True) if isinstance(figure, Axes) else figure
    assert drawn is not None
    file = io.BytesIO()
    with matplotlib.rc_context({"savefig.bbox": None}):
        drawn.savefig(file, format="png", dpi=dpi)
    return file.getvalue()
