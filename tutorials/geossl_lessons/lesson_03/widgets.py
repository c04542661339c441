"""A slider through the dates of a location."""

from __future__ import annotations

import html

import ipywidgets as widgets
import numpy as np

from geossl.data import scenes
from geossl.data.store import ChipStore
from geossl.viz import pages
from geossl.viz.widgets.common import Status

_SIDE_PX = 256


class DatesSlider(widgets.VBox):
    """Slide through the locations of a store, and the dates of each; ``.value`` counts from 0."""

    def __init__(self, store: ChipStore):
        if len(store) == 0:
            raise ValueError("`store` must have at least one chip.")
        self._store = store
        codes = scenes.location_codes(store.scenes)
        order = np.lexsort((store.scenes["time"].to_numpy(), codes))
        self._rows = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
        style = {"continuous_update": False, "style": {"description_width": "60px"}}
        self.location_slider = widgets.IntSlider(
            0, 0, len(self._rows) - 1, description="location", tooltip="which location", **style
        )
        self.date_slider = widgets.IntSlider(
            0, 0, len(self._rows[0]) - 1, description="date", tooltip="which of its dates", **style
        )
        self._picture, self._status = widgets.HTML(), Status()
        controls = [self.location_slider, self.date_slider]
        super().__init__([*controls, self._picture, self._status.widget])
        for control in controls:
            control.observe(self._status.guard(lambda _: self._draw()), "value")
        self._draw()

    @property
    def row(self) -> int:
        """Row of the store that is shown."""
        return int(self._rows[self.location_slider.value][self.date_slider.value])

    def _draw(self) -> None:
        dates = len(self._rows[self.location_slider.value])
        self.date_slider.max = dates - 1
        scene = self._store.scenes.iloc[self.row]
        chip = self._store.preview([self.row], min_px=_SIDE_PX)[0]
        day = "no date" if scene["time"] != scene["time"] else f"{scene['time']:%Y-%m-%d}"
        name = f"location {scene['location']} on {day}"
        self._picture.value = (
            f'<img src="{pages.jpeg_url(chip, quality=92)}" alt="{html.escape(name)}" '
            'style="width: {_SIDE_PX}px; height: {_SIDE_PX}px; image-rendering: auto">'
        )
        brightness = self._store.preview([self.row]).mean()
        self._status.show(
            f"{name} (date {self.date_slider.value + 1} of {dates}), longitude {scene['lon']:.1f}, "
            f"latitude {scene['lat']:.1f}, mean brightness {brightness:.0f} of 255"
        )
