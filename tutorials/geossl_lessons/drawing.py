"""Parts of figures that several lessons draw: rows of chips, a pale map, the colors of roles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from geossl.data.earth import world_image
from geossl.data.store import ChipStore
from geossl.utils.colors import GRAY, PALETTE
from geossl.viz.plots.base import draw_chip, new_figure

_BLUE, _AMBER, _, _PURPLE, _SKY, _RED = PALETTE[:6]
ROLES = {  # what a color means, in every lesson
    "train": _BLUE, "val": _SKY, "test": _AMBER,
    "right": _BLUE, "wrong": _RED,
    "untrained": GRAY, "MoCo-v2": _SKY, "+TP": _BLUE, "+Geo+TP": _PURPLE, "supervised": _AMBER,
    "sphere": _BLUE, "degrees": _RED,
}  # fmt: skip


def plot_chip_rows(
    rows: Mapping[str, np.ndarray],
    *,
    titles: Mapping[str, Sequence[str]] | None = None,
    frames: Mapping[str, str | Sequence[str]] | None = None,
    side_in: float = 1.25,
) -> Figure:
    """Draw rows of chips ``(N, H, W, 3)`` uint8, with the name of each row at its left.

    Some of the rows may have a title for each chip, or frames of one color or of one for each;
    ``side_in`` is the width of a chip in inches.
    """
    count = max(map(len, rows.values()))
    figure, axes = new_figure(
        side_in * count + 1.3, 1.2 * side_in * len(rows), nrows=len(rows), ncols=count,
        squeeze=False,
    )  # fmt: skip
    for line, (name, chips) in zip(axes, rows.items(), strict=True):
        words = (titles or {}).get(name, [""] * len(chips))
        colors = (frames or {}).get(name)
        each = [colors] * len(chips) if colors is None or isinstance(colors, str) else colors
        drawn = line[: len(chips)]
        for ax, chip, title, color in zip(drawn, chips, words, each, strict=True):
            draw_chip(ax, chip, title, color)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for ax in line[len(chips) :]:
            ax.set_axis_off()
    return figure


def plot_dated_rows(
    store: ChipStore,
    rows: Mapping[str, ArrayLike],
    read: Callable[[ArrayLike], np.ndarray],
    *,
    right: Mapping[str, Sequence[bool]] | None = None,
) -> Figure:
    """Draw lines of pictures with their dates.

    Args:
        store: the chips.
        rows: name of a line -> rows of the store.
        read: returns the pictures of some rows.
        right: name of a line -> whether each of its pictures is the right one: a frame and a word.
    """
    titles, frames = {}, {}
    for name, index in rows.items():
        scenes = store.scenes.iloc[np.asarray(index)]
        words = (
            [f"sensor {s}" for s in scenes["sensor"]] if "sensor" in scenes else [""] * len(scenes)
        )
        if name in (right or {}):
            words = ["right" if each else "wrong" for each in right[name]]
            frames[name] = [ROLES[word] for word in words]
        dated = zip(scenes["time"], words, strict=True)
        titles[name] = [f"{time:%Y-%m-%d}\n{word}".strip() for time, word in dated]
    pictures = {name: read(index) for name, index in rows.items()}
    return plot_chip_rows(pictures, titles=titles, frames=frames, side_in=1.42)


def draw_world(
    ax: Axes, *, strength: float = 0.3, aspect: Literal["equal", "auto"] = "equal"
) -> Axes:
    """Draw a pale map of the world in degrees, without axes; ``strength`` 0 is white."""
    pale = 255 - (255 - world_image()[::6, ::6].astype(np.float32)) * strength
    ax.imshow(pale.astype(np.uint8), extent=(-180, 180, -90, 90), aspect=aspect)
    ax.set_xlim(-180, 180)
    ax.set_ylim(-88, 86)  # a mark at the edge of Antarctica is not cut
    ax.set_axis_off()
    return ax
