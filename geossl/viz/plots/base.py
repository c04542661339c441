"""Parts that the plots share: figures with alt text, axes, and export to HTML and PNG."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Text

from geossl.data.natural_color import Stretch
from geossl.datasets.raster.area import Row
from geossl.datasets.raster.window import pixel_info
from geossl.utils.validate import PositiveInt, validated
from geossl.viz import pages


class NotebookFigure(Figure):
    """A figure that a notebook shows with alt text; words with ``$`` stay words, not formulas.

    pyplot does not know it: it is freed with its last reference.
    """

    def draw(self, renderer: RendererBase) -> None:
        """Draw the figure."""
        for text in self.findobj(Text):
            text.set_parse_math(False)
        super().draw(renderer)

    def _repr_html_(self) -> str:
        return figure_html(self, alt=self._alt_text())

    def _alt_text(self) -> str:
        parts = []
        for ax in self.axes:
            labels = ", ".join(ax.get_legend_handles_labels()[1])
            words = (ax.get_title(), ax.get_ylabel(), ax.get_xlabel(), labels)
            parts.append(" ".join(filter(None, words)))
        return f"figure: {'; '.join(filter(None, dict.fromkeys(parts)))}"


@validated
def figure_html(figure: Figure | Axes, *, alt: str, width: str | None = None) -> str:
    """Render a figure as an ``<img>`` with alt text (JupyterLab drops that of its own images).

    Args:
        figure: what a ``plot_x`` returned.
        alt: what it shows, for those who cannot see it.
        width: in CSS; the figure's own width in inches when None.
    """
    inches = root_figure(figure).get_figwidth()
    return pages.render(
        "image.html", url=pages.image_url(figure_png(figure, dpi=100)), alt=alt,
        width=width or f"{inches:.1f}in",
    )  # fmt: skip


@validated
def figure_svg(figure: Figure | Axes, *, alt: str) -> Markup:
    """Render a figure as SVG within a page, whose words and axes take the color of its text.

    Args:
        figure: what a ``plot_x`` returned.
        alt: what it shows, for those who cannot see it.
    """
    file = io.StringIO()
    with matplotlib.rc_context({"savefig.bbox": None, "svg.fonttype": "none"}):
        root_figure(figure).savefig(
            file, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    drawing = file.getvalue()
    inside = drawing[drawing.index(">", drawing.index("<svg")) + 1 : drawing.rindex("</svg>")]
    inside = re.sub(r"(?s)<(metadata|style)\b.*?</\1>", "", inside)  # a style is of the whole page
    inside = inside.replace("#000000", "currentColor")
    box = " ".join(f"{72 * side:g}" for side in root_figure(figure).get_size_inches())
    return pages.render("figure_svg.html", inside=Markup(inside), box=box, alt=alt)


@validated
def figure_png(figure: Figure | Axes, *, dpi: PositiveInt = 130) -> bytes:
    """Encode a figure, or the figure of an axes, as PNG."""
    file = io.BytesIO()
    with matplotlib.rc_context({"savefig.bbox": None}):
        root_figure(figure).savefig(file, format="png", dpi=dpi)
    return file.getvalue()


def root_figure(figure: Figure | Axes) -> Figure:
    """Return a figure, or the figure of an axes."""
    root = figure.get_figure(root=True)
    if not isinstance(root, Figure):
        raise ValueError("`figure` must be in a figure, got an axes that was removed from its own.")
    return root


def new_figure(width: float, height: float, **grid: Any) -> tuple[Figure, Any]:
    """Make a figure of a size in inches and its axes, with the arguments of `Figure.subplots`."""
    figure = NotebookFigure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**grid)


def get_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return the axes to draw on: the caller's, or those of a new figure."""
    if ax is not None:
        return ax
    figure, ax = new_figure(width, height)
    setattr(ax, "_repr_html_", figure._repr_html_)  # noqa: B010 (a notebook shows the figure)
    return ax


def style_axes(ax: Axes) -> Axes:
    """Give axes a light grid and no frame above and to the right."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def hide_ticks(ax: Axes) -> None:
    """Remove the ticks of axes that show a picture."""
    ax.set_xticks([])
    ax.set_yticks([])


def draw_chip(ax: Axes, chip: np.ndarray, title: str = "", frame: str | None = None) -> None:
    """Draw a picture ``(H, W, 3)`` with a title; ``frame`` is the color of a thick frame."""
    ax.imshow(chip, interpolation="nearest")
    hide_ticks(ax)
    ax.set_title(title, fontsize=8, pad=3)
    for side in ax.spines.values():
        side.set_color(frame or "#cccccc")
        side.set_linewidth(3 if frame else 0.5)


def to_picture(row: Row, pixels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Turn pixels ``(C, H, W)`` of a scene into a picture ``(H, W, 3)`` uint8.

    Pixels other than uint8 are stretched to their range, see `geossl.data.natural_color`.
    """
    bands = (pixel_info(pd.DataFrame([row]))["rgb"] * 3)[:3]
    picture = pixels[bands]
    if picture.dtype != np.uint8 and valid.any():
        picture = Stretch.fit(picture[:, valid]).apply(picture) * valid
    return picture.astype(np.uint8).transpose(1, 2, 0)
