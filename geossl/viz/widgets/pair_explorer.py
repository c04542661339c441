"""What an encoder is told to call the same: the pairs that a policy draws, augmented or not."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping

import ipywidgets as widgets
import numpy as np
import torch

from geossl import geo, pairs
from geossl.data.store import ChipStore
from geossl.transforms import Views
from geossl.viz.maps import leaflet
from geossl.viz.widgets.common import Status

_SHOWN = 8
_STRENGTHS = {  # name of the field of Views -> (largest value, what the slider says)
    "brightness": (1.0, "brightness"), "contrast": (1.0, "contrast"),
    "saturation": (1.0, "saturation"), "hue": (0.5, "hue"), "band_gain": (1.0, "gain per band"),
    "band_offset": (1.0, "offset per band"), "grayscale": (1.0, "share gray"),
    "blur": (1.0, "share blurred"),
}  # fmt: skip


class PairExplorer(widgets.VBox):
    """Query and key of positive pairs under a policy, with every strength of the augmentation.

    Attributes:
        query, key: rows ``(n,)`` of the store shown now.
        views: the `geossl.transforms.Views` that the sliders make: hand it to `geossl.PretrainConfig`.

    Args:
        store: the chips.
        policies: name -> pair policy; the usual four when None.
        views: augmentation to begin with.
        seed: of the first draw.

    Raises:
        ValueError: no policy.
    """

    def __init__(
        self,
        store: ChipStore,
        *,
        policies: Mapping[str, pairs.PairSampler] | None = None,
        views: Views | None = None,
        seed: int = 0,
    ):
        self._store, self._base, self._seed = store, views or Views(), seed
        usual: dict[str, pairs.PairSampler] = {
            "same image": pairs.same_image(),
            "temporal": pairs.temporal(),
            "temporal, same season": pairs.temporal(season="same", single_date="drop"),
            "spatial, 150 km": pairs.spatial(radius_km=150),
        }
        self._policies = usual if policies is None else dict(policies)
        if not self._policies:
            raise ValueError("expected at least one pair policy, came none")
        self.query = self.key = np.zeros(0, np.int64)
        self._status = Status()
        self._make()
        super().__init__([self._controls, self._strengths, self._pictures, self._status.widget])
        self._draw()

    def _make(self) -> None:
        wide, whole = widgets.Layout(width="300px"), {"description_width": "110px"}
        self.policy = widgets.Dropdown(
            options=list(self._policies), description="policy", tooltip="how pairs are drawn"
        )
        self.again = widgets.Button(description="draw again", tooltip="other pairs of this policy")
        self.augmented = widgets.Checkbox(
            False, description="augmented", tooltip="as the encoder sees them in training"
        )
        self.crop = widgets.FloatSlider(
            self._base.crop[0], min=0.05, max=1.0, step=0.05, description="smallest crop",
            continuous_update=False, layout=wide, style=whole,
            tooltip="share of the area, up to the whole",
        )  # fmt: skip
        self.dihedral = widgets.Checkbox(
            self._base.dihedral, description="turns and flips", tooltip="the eight symmetries"
        )
        self.strength = {
            name: widgets.FloatSlider(
                getattr(self._base, name), min=0.0, max=most, step=0.01, description=words,
                continuous_update=False, layout=wide, style=whole,
                tooltip=f"strength of {words}",
            )
            for name, (most, words) in _STRENGTHS.items()
            if len(self._store.bands) == 3 or name not in ("saturation", "hue", "grayscale")
        }  # fmt: skip
        self._pictures = widgets.HTML()
        self._controls = widgets.HBox([self.policy, self.again, self.augmented])
        sliders = [self.crop, self.dihedral, *self.strength.values()]
        self._strengths = widgets.Box(sliders, layout=widgets.Layout(flex_flow="row wrap"))
        guarded = self._status.shown
        self.policy.observe(guarded(lambda _: self._draw()), "value")
        self.again.on_click(guarded(lambda _: self._draw(another=True)))
        for control in (self.augmented, *sliders):
            control.observe(guarded(lambda _: self._show()), "value")

    @property
    def views(self) -> Views:
        """The augmentation as it is set."""
        return dataclasses.replace(
            self._base,
            crop=(self.crop.value, max(self.crop.value, self._base.crop[1])),
            dihedral=self.dihedral.value,
            **{name: slider.value for name, slider in self.strength.items()},
        )

    def _draw(self, *, another: bool = False) -> None:
        self._seed += another
        policy, table = self._policies[self.policy.value], self._store.scenes
        found = pairs.report(policy, table, seed=self._seed)
        generator = torch.Generator().manual_seed(self._seed)
        query, key = (part.numpy()[:_SHOWN] for part in policy.prepare(table)(generator))
        self.query, self.key = query, key
        said = [
            f"{found['n_pairs']:,} pairs an epoch",
            f"{found['degenerate']:,} of a chip with itself ({found['degenerate_share']:.1%})",
        ]
        if found["dropped"]:
            said.append(f"{found['dropped']:,} chips have no partner and are dropped")
        if np.isfinite(found["gap_days_median"]):
            said.append(f"median gap {found['gap_days_median']:,.0f} days")
        self._show()
        self._status.say(", ".join(said))

    def _show(self) -> None:
        rows = np.concatenate([self.query, self.key])
        chips = self._store.gather(rows)
        if self.augmented.value:
            mean, std = torch.from_numpy(self._store.mean), torch.from_numpy(self._store.std)
            generator = torch.Generator().manual_seed(self._seed)
            seen = self.views(chips.float(), mean=mean, std=std, generator=generator)
            pixels = (seen * std[:, None, None] + mean[:, None, None]).numpy()
        else:
            pixels = chips.numpy()
        pictures = self._store.picture_of(pixels)
        half = len(self.query)
        columns = [
            self._pair(q, k, pictures[i], pictures[half + i])
            for i, (q, k) in enumerate(zip(self.query.tolist(), self.key.tolist(), strict=True))
        ]
        self._pictures.value = (
            f'<div style="display: flex; flex-wrap: wrap; gap: 10px">{"".join(columns)}</div>'
        )

    def _pair(self, query: int, key: int, first: np.ndarray, second: np.ndarray) -> str:
        """A query above its key, and what lies between them."""
        one, two = (self._store.scenes.iloc[row] for row in (query, key))
        days = abs((one["time"] - two["time"]).days) if query != key else 0
        apart = float(geo.great_circle_km(one["lon"], one["lat"], two["lon"], two["lat"]))
        between = "the chip itself" if query == key else f"{days:,} days" if days == days else ""
        if apart > 0.01:
            between += f", {apart:,.0f} km"
        parts = []
        for name, row, picture in (("query", one, first), ("key", two, second)):
            day = "no date" if row["time"] != row["time"] else f"{row['time']:%Y-%m-%d}"
            words = html.escape(f"{name} of place {row['location']}, {day}")
            parts.append(
                f'<img src="{leaflet.jpeg(picture, quality=90)}" alt="{words}" title="{words}" '
                f'style="width: 96px; height: 96px; display: block"><small>{day}</small>'
            )
        caption = f"<figcaption>{between}</figcaption>"
        return f"<figure style='margin: 0'>{parts[0]}{parts[1]}{caption}</figure>"
