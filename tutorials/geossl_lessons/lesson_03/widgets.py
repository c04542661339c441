"""The first widget: one place through its dates."""

from __future__ import annotations

import html

import ipywidgets as widgets
import numpy as np

from geossl.data import scenes
from geossl.data.store import ChipStore
from geossl.viz.maps import leaflet
from geossl.viz.widgets.common import Status


class DatesSlider(widgets.VBox):
    """Slide through the dates of a place, and through the places.

    Attributes:
        row: row of the store that is shown.
        place_slider, date_slider: the controls; ``.value`` counts from 0.

    Args:
        store: the chips.

    Raises:
        ValueError: the store is empty.
    """

    def __init__(self, store: ChipStore):
        if len(store) == 0:
            raise ValueError("expected a store with chips, came an empty one")
        self._store = store
        codes = scenes.location_codes(store.scenes)
        order = np.lexsort((store.scenes["time"].to_numpy(), codes))
        self._rows = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
        whole = {"continuous_update": False, "style": {"description_width": "50px"}}
        self.place_slider = widgets.IntSlider(
            0, 0, len(self._rows) - 1, description="place", tooltip="which place", **whole
        )
        self.date_slider = widgets.IntSlider(
            0, 0, len(self._rows[0]) - 1, description="date", tooltip="which of its dates", **whole
        )
        self._picture, self._status = widgets.HTML(), Status()
        super().__init__([self.place_slider, self.date_slider, self._picture, self._status.widget])
        guarded = self._status.shown
        self.place_slider.observe(guarded(lambda _: self._move()), "value")
        self.date_slider.observe(guarded(lambda _: self._draw()), "value")
        self._draw()

    @property
    def row(self) -> int:
        """Row of the store that is shown."""
        return int(self._rows[self.place_slider.value][self.date_slider.value])

    def _move(self) -> None:
        self.date_slider.max = len(self._rows[self.place_slider.value]) - 1
        self._draw()

    def _draw(self) -> None:
        about, chip = self._store.scenes.iloc[self.row], self._store.preview([self.row])[0]
        day = "no date" if about["time"] != about["time"] else f"{about['time']:%Y-%m-%d}"
        words = f"place {about['location']} on {day}"
        self._picture.value = (
            f'<img src="{leaflet.jpeg(chip, quality=92)}" alt="{html.escape(words)}" '
            'style="width: 256px; height: 256px; image-rendering: auto">'
        )
        number, dates = self.date_slider.value + 1, self.date_slider.max + 1
        self._status.say(
            f"{words} (date {number} of {dates}), longitude {about['lon']:.1f}, "
            f"latitude {about['lat']:.1f}, mean brightness {chip.mean():.0f} of 255"
        )
