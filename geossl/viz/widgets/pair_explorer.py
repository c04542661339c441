"""Explore positive pairs: those that a policy draws, augmented or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch

from geossl import geo, pairs
from geossl.data.store import ChipStore
from geossl.transforms import Views
from geossl.utils.validate import Seed, validated
from geossl.viz.pages import date_text, jpeg_url, render
from geossl.viz.widgets.common import Status

_MOST_PAIRS = 8
_STRENGTHS = {  # field of Views -> (largest value, name of the slider)
    "brightness": (1.0, "brightness"), "contrast": (1.0, "contrast"),
    "saturation": (1.0, "saturation"), "hue": (0.5, "hue"), "band_gain": (1.0, "gain per band"),
    "band_offset": (1.0, "offset per band"), "grayscale": (1.0, "share gray"),
    "blur": (1.0, "share blurred"),
}  # fmt: skip


class PairExplorer(widgets.VBox):
    """Show query and key of positive pairs under a policy, and set the augmentation by sliders.

    Attributes:
        query, key: rows ``(n,)`` of the store that are shown.
        views: the `geossl.transforms.Views` that the sliders make, for `geossl.PretrainConfig`.

    Args:
        store: the chips.
        policies: name -> pair policy; the usual four when None.
        views: augmentation to begin with.
        seed: of the first draw.

    Raises:
        ValueError: no policy.
    """

    @validated
    def __init__(
        self,
        store: ChipStore,
        *,
        policies: Mapping[str, pairs.PairSampler] | None = None,
        views: Views | None = None,
        seed: Seed = 0,
    ):
        self._store, self._initial_views, self._seed = store, views or Views(), seed
        usual: dict[str, pairs.PairSampler] = {
            "same image": pairs.same_image(),
            "temporal": pairs.temporal(),
            "temporal, same season": pairs.temporal(season="same", single_date="drop"),
            "spatial, 150 km": pairs.spatial(radius_km=150),
        }
        self._policies = usual if policies is None else dict(policies)
        if not self._policies:
            raise ValueError("`policies` needs at least one pair policy, got none.")
        self.query = self.key = np.zeros(0, np.int64)
        self._status = Status()
        self._make_controls()
        super().__init__([self._controls, self._sliders, self._pictures, self._status.widget])
        self._draw()

    def _make_controls(self) -> None:
        self.policy = widgets.Dropdown(
            options=list(self._policies), description="policy", tooltip="how pairs are drawn"
        )
        self.again = widgets.Button(description="draw again", tooltip="other pairs of this policy")
        self.augmented = widgets.Checkbox(
            False, description="augmented", tooltip="as the encoder sees them in training"
        )
        self.crop = _slider(
            self._initial_views.crop[0], "smallest crop", "share of the chip's area",
            min=0.05, max=1.0, step=0.05,
        )  # fmt: skip
        self.dihedral = widgets.Checkbox(
            self._initial_views.dihedral, description="turns and flips",
            tooltip="the eight symmetries of a square",
        )  # fmt: skip
        self.strength = {
            field: _slider(
                getattr(self._initial_views, field), name, f"strength of {name}",
                min=0.0, max=largest, step=0.01,
            )
            for field, (largest, name) in _STRENGTHS.items()
            if len(self._store.bands) == 3 or field not in ("saturation", "hue", "grayscale")
        }  # fmt: skip
        self._pictures = widgets.HTML()
        self._controls = widgets.HBox([self.policy, self.again, self.augmented])
        sliders = [self.crop, self.dihedral, *self.strength.values()]
        self._sliders = widgets.Box(sliders, layout=widgets.Layout(flex_flow="row wrap"))
        guard = self._status.guard
        self.policy.observe(guard(lambda _: self._draw()), "value")
        self.again.on_click(guard(lambda _: self._draw(another=True)))
        for control in (self.augmented, *sliders):
            control.observe(guard(lambda _: self._show()), "value")

    @property
    def views(self) -> Views:
        """The augmentation that the sliders make."""
        return dataclasses.replace(
            self._initial_views,
            crop=(self.crop.value, max(self.crop.value, self._initial_views.crop[1])),
            dihedral=self.dihedral.value,
            **{field: slider.value for field, slider in self.strength.items()},
        )

    def _draw(self, *, another: bool = False) -> None:
        """Draw pairs by the policy, and report what it draws of the whole store."""
        self._seed += another
        policy, table = self._policies[self.policy.value], self._store.scenes
        report = pairs.report(policy, table, seed=self._seed)
        generator = torch.Generator().manual_seed(self._seed)
        query, key = policy.prepare(table)(generator)
        self.query, self.key = query.numpy()[:_MOST_PAIRS], key.numpy()[:_MOST_PAIRS]
        parts = [
            f"{report['n_pairs']:,} pairs an epoch",
            f"{report['degenerate']:,} of a chip with itself ({report['degenerate_share']:.1%})",
        ]
        if report["dropped"]:
            parts.append(f"{report['dropped']:,} chips have no partner and are dropped")
        if np.isfinite(report["gap_days_median"]):
            parts.append(f"median gap {report['gap_days_median']:,.0f} days")
        self._show()
        self._status.show(", ".join(parts))

    def _show(self) -> None:
        chips = self._store.gather(np.concatenate([self.query, self.key]))
        pixels = chips.numpy()
        if self.augmented.value:
            mean, std = torch.from_numpy(self._store.mean), torch.from_numpy(self._store.std)
            generator = torch.Generator().manual_seed(self._seed)
            views = self.views(chips.float(), mean=mean, std=std, generator=generator)
            pixels = (views * std[:, None, None] + mean[:, None, None]).numpy()
        pictures = self._store.to_rgb(pixels)
        count = len(self.query)
        shown = [
            self._pair(int(query), int(key), pictures[i], pictures[count + i])
            for i, (query, key) in enumerate(zip(self.query, self.key, strict=True))
        ]
        self._pictures.value = render("pairs.html", pairs=shown)

    def _pair(
        self, query: int, key: int, query_picture: np.ndarray, key_picture: np.ndarray
    ) -> dict[str, Any]:
        """Return the pictures of a pair, and the days and kilometers between them."""
        first, second = self._store.scenes.iloc[query], self._store.scenes.iloc[key]
        days = abs((first["time"] - second["time"]).days)
        km = float(geo.great_circle_km(first["lon"], first["lat"], second["lon"], second["lat"]))
        words = [f"{days:,} days"] if days == days else []
        if km > 1e-4:
            decimals = int(km < 10)
            words.append(f"{km:,.{decimals}f} km" if km >= 1 else f"{1000 * km:,.{decimals}f} m")
        caption = "the chip itself" if query == key else ", ".join(words)
        chips = []
        for name, row, picture in (("query", first, query_picture), ("key", second, key_picture)):
            date = date_text(row["time"])
            title = f"{name} of location {row['location']}, {date}"
            chips.append({"url": jpeg_url(picture, quality=90), "title": title, "date": date})
        return {"chips": chips, "caption": caption}


def _slider(value: float, name: str, tooltip: str, **limits: float) -> widgets.FloatSlider:
    return widgets.FloatSlider(
        value, description=name, tooltip=tooltip, continuous_update=False,
        layout=widgets.Layout(width="300px"), style={"description_width": "110px"}, **limits,
    )  # fmt: skip
