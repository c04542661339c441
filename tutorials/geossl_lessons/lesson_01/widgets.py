"""A slider over splits: the map, the distance, and the score of each classifier."""

from __future__ import annotations

import html
from collections.abc import Mapping

import ipywidgets as widgets
import numpy as np
import pandas as pd

from geossl.viz import plots
from geossl.viz.plots.base import new_figure
from geossl.viz.widgets.common import Status
from geossl_lessons.lesson_01.figures import COPIERS, draw_split


class SplitSlider(widgets.VBox):
    """Walk through splits, ``(M,)`` folds by name, with the scores that `plot_scores` draws."""

    def __init__(
        self, table: pd.DataFrame, splits: Mapping[str, np.ndarray], scores: pd.DataFrame
    ) -> None:
        if not splits:
            raise ValueError("`splits` must name at least one split.")
        missing = [split for split in splits if split not in set(scores["split"])]
        if missing:
            raise ValueError(f"`scores` must have rows of every split, got none of {missing}.")
        self._scores, self._splits = scores, dict(splits)
        self._first = np.flatnonzero(~table.duplicated("location"))
        self._lon, self._lat = (table[n].to_numpy()[self._first] for n in ("lon", "lat"))
        self.split_slider = widgets.SelectionSlider(
            options=list(splits), description="split by", continuous_update=False,
            tooltip="how training and test were separated",
            style={"description_width": "60px"}, layout=widgets.Layout(width="min(420px, 95%)"),
        )  # fmt: skip
        self._page, self._status = widgets.HTML(), Status()
        super().__init__([self.split_slider, self._page, self._status.widget])
        self.split_slider.observe(self._status.guard(lambda _: self._draw()), "value")
        self._draw()

    @property
    def split(self) -> str:
        """Name of the split that is shown."""
        return str(self.split_slider.value)

    def _draw(self) -> None:
        part = self._scores[self._scores["split"] == self.split]
        figure, ax = new_figure(6.4, 3.2)
        draw_split(ax, self._lon, self._lat, self._splits[self.split][self._first] == 0)
        ax.legend(framealpha=0.85, fontsize=9, loc=(0.01, 0.2), markerscale=2)
        alt = f"map of training locations (dots) and test locations (squares), {self.split}"
        bars = "".join(
            f'<tr><td style="padding-right: 12px">{html.escape(row.classifier)}</td>'
            f'<td style="width: 220px"><div style="background: {COPIERS[row.classifier][0]}; '
            f'height: 12px; width: {100 * row.value:.0f}%"></div></td><td>{row.value:.1%}</td></tr>'
            for row in part.itertuples()
        )
        self._page.value = (
            f"{plots.figure_html(figure, alt=alt)}"
            f'<table aria-label="accuracy with this split">{bars}</table>'
        )
        accuracy = ", ".join(f"{row.classifier} {row.value:.0%}" for row in part.itertuples())
        self._status.show(
            f"{self.split}: the nearest training location of a test picture is "
            f"{part['km'].iloc[0]:,.0f} km away (median); accuracy: {accuracy}"
        )
