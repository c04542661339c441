"""A slider over ways of splitting: the map, the distance, and what each classifier scores."""

from __future__ import annotations

import html
from collections.abc import Mapping

import ipywidgets as widgets
import numpy as np
import pandas as pd

from geossl.data import scenes
from geossl.utils.colors import PALETTE
from geossl.viz import plots
from geossl.viz.plots.base import _figure
from geossl.viz.widgets.common import Status
from geossl_lessons.lesson_01.figures import draw_split


class WaysSlider(widgets.VBox):
    """Walk through ways of splitting, from random pictures to large blocks of space.

    Attributes:
        way: name of the way that is shown.
        way_slider: the control.

    Args:
        table: the scene table that was split.
        dealt: name of the way -> fold ``(M,)``; what `geossl_lessons.lesson_01.splits.ways` gave.
        found: what `geossl_lessons.lesson_01.splits.scores` gave of these ways.

    Raises:
        ValueError: a way without scores, or none at all.
    """

    def __init__(
        self, table: pd.DataFrame, dealt: Mapping[str, np.ndarray], found: pd.DataFrame
    ) -> None:
        lacking = [way for way in dealt if way not in set(found["way"])]
        if lacking or not dealt:
            raise ValueError(f"expected scores of every way of splitting, none of {lacking} came")
        self._found, self._dealt = found, dict(dealt)
        self._first = scenes.first_rows(scenes.location_codes(table))
        self._lon, self._lat = (table[n].to_numpy()[self._first] for n in ("lon", "lat"))
        self.way_slider = widgets.SelectionSlider(
            options=list(dealt), description="split by", continuous_update=False,
            tooltip="how training and test were told apart",
            style={"description_width": "60px"}, layout=widgets.Layout(width="min(420px, 95%)"),
        )  # fmt: skip
        self._shown, self._status = widgets.HTML(), Status()
        super().__init__([self.way_slider, self._shown, self._status.widget])
        self.way_slider.observe(self._status.shown(lambda _: self._draw()), "value")
        self._draw()

    @property
    def way(self) -> str:
        """The way that is shown."""
        return str(self.way_slider.value)

    def _draw(self) -> None:
        part = self._found[self._found["way"] == self.way]
        figure, ax = _figure(6.4, 3.2)
        draw_split(ax, self._lon, self._lat, self._dealt[self.way][self._first] == 0)
        ax.legend(framealpha=0.85, fontsize=9, loc="lower left", markerscale=2)
        words = f"map of training places (blue dots) and test places (orange squares), {self.way}"
        bars = "".join(
            f'<tr><td style="padding-right: 12px">{html.escape(row.classifier)}</td>'
            f'<td style="width: 220px"><div style="background: {color}; height: 12px; '
            f'width: {100 * row.value:.0f}%"></div></td><td>{row.value:.1%}</td></tr>'
            for row, color in zip(part.itertuples(), PALETTE, strict=False)
        )
        self._shown.value = (
            f"{plots.figure_html(figure, alt=words)}"
            f'<table aria-label="accuracy with this split">{bars}</table>'
        )
        told = ", ".join(f"{row.classifier} {row.value:.0%}" for row in part.itertuples())
        self._status.say(
            f"{self.way}: the nearest training place of a test picture is "
            f"{part['km'].iloc[0]:,.0f} km away (median); right are {told}"
        )
