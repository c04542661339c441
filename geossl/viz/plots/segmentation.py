"""Matplotlib figures of segmentation: image, truth, prediction, and where they differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from geossl.datasets.raster.area import Row, rows_with_bands
from geossl.datasets.raster.window import pixel_info
from geossl.tasks.segment import Segmenter
from geossl.tasks.segment.class_map import class_colors, class_shares, format_shares
from geossl.tasks.segment.crops import Areas
from geossl.tasks.segment.evaluate import confusion, iou
from geossl.tasks.segment.masks import IGNORE
from geossl.tasks.segment.segmenter import OVERLAP_PX, SIZE_PX, class_map
from geossl.utils.colors import PALETTE
from geossl.viz.plots.base import _figure, _picture

_SHOWN_PX = 512  # longest side of a picture; larger scenes are thinned out
_NAMED = 8  # classes in the legend
_RIGHT, _NO_TRUTH = "#e6e6e6", "#ffffff"
_ERRORS = {"missed": PALETTE[5], "invented": PALETTE[4], "another class": PALETTE[7]}


def plot_segmentation(tuned: Segmenter, scenes: pd.DataFrame, *, count: int = 4) -> Figure:
    """Scenes with their truth, what is predicted, and the errors, one row a scene.

    Class 0 is left clear where there are two classes or it is called "background"; pixels of it
    that are predicted as another class are "invented", the opposite "missed".

    Args:
        tuned: the network.
        scenes: a table as in `geossl.tasks.segment.measure`; without a mask only image and prediction
            are shown.
        count: how many of its first rows.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no row, or one that cannot be read or does not fit.
    """
    rows = rows_with_bands(scenes.head(count), bands=tuned.encoder.bands, reading=tuned.reading)
    areas = Areas(rows, tuned.masks)
    colors = class_colors(tuned.classes)
    clear = len(tuned.classes) == 2 or tuned.classes[0] == "background"
    figure, axes = _figure(9.6, 2.6 * len(rows), nrows=len(rows), ncols=4, squeeze=False)
    seen = np.zeros(len(tuned.classes), np.int64)
    for i, line in enumerate(axes):
        window = areas.whole(i)
        found = class_map(tuned.network, areas, i, size_px=SIZE_PX, overlap_px=OVERLAP_PX)
        thin = np.s_[:: max(1, -(-max(found.values.shape) // _SHOWN_PX))]
        image = _image(rows[i], areas.pixels(i, window)[0][:, thin, thin])
        _picture(line[0], image, Path(str(rows[i]["path"])).stem)
        guess, title = found.values, f"predicted: {format_shares(found.shares)}"
        masks = [guess]
        if pd.notna(rows[i].get(tuned.masks.column)):
            truth = np.where(guess == IGNORE, IGNORE, areas.codes(i, window))
            masks.append(truth)
            score = float(iou(confusion(truth, guess, classes=len(tuned.classes))).nanmean())
            title = f"{title}\nmIoU {score:.2f}"
            told = f"truth: {format_shares(class_shares(truth, tuned.classes))}"
            _picture(line[1], _overlay(image, truth[thin, thin], colors, clear=clear), told)
            kinds, wrong = _errors(truth, guess, clear=clear)
            _picture(line[3], kinds[thin, thin], f"errors: {wrong:.1%} of the pixels")
        else:
            line[1].set_axis_off()
            line[3].set_axis_off()
        _picture(line[2], _overlay(image, guess[thin, thin], colors, clear=clear), title)
        for mask in masks:
            seen += np.bincount(mask.ravel(), minlength=IGNORE + 1)[: len(seen)]
    named = [i for i in np.argsort(-seen, kind="stable")[:_NAMED] if i >= clear and seen[i]]
    patches = [Patch(color=colors[i], label=tuned.classes[i]) for i in sorted(named)]
    kinds_of = list(_ERRORS.items())[: 2 if len(tuned.classes) == 2 else 3]
    if not clear:
        kinds_of = kinds_of[2:]
    patches += [Patch(color=color, label=f"error: {kind}") for kind, color in kinds_of]
    figure.legend(handles=patches, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    return figure


def _image(row: Row, pixels: np.ndarray) -> np.ndarray:
    """``(H, W, 3)`` uint8: red, green, blue where there are; stretched where it is not uint8."""
    bands = (pixel_info(pd.DataFrame([row]))["rgb"] * 3)[:3]
    shown = pixels[bands].astype(np.float32)
    if pixels.dtype != np.uint8:
        low, high = np.percentile(shown, [2, 98], axis=(1, 2))
        shown = 255 * (shown - low[:, None, None]) / np.maximum(high - low, 1e-6)[:, None, None]
    return np.clip(shown, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def _overlay(image: np.ndarray, codes: np.ndarray, colors: list[str], *, clear: bool) -> np.ndarray:
    """An image under the colors of classes ``(H, W)``."""
    table = np.zeros((IGNORE + 1, 3), np.float32)
    table[: len(colors)] = [np.multiply(to_rgb(c), 255) for c in colors]
    shown = (codes != IGNORE) & (codes >= clear)
    mixed = 0.45 * image + 0.55 * table[codes]
    return np.where(shown[..., None], mixed, image).astype(np.uint8)


def _errors(truth: np.ndarray, guess: np.ndarray, *, clear: bool) -> tuple[np.ndarray, float]:
    """A picture of errors ``(H, W, 3)``, and their share of the pixels with a truth."""
    known = (truth != IGNORE) & (guess != IGNORE)
    wrong = known & (truth != guess)
    kinds = np.where(known, 1, 0) + wrong * 3  # 0: no truth, 1: right, 4: another class
    if clear:
        kinds[wrong & (guess == 0)] = 2
        kinds[wrong & (truth == 0)] = 3
    table = np.array([to_rgb(c) for c in (_NO_TRUTH, _RIGHT, *_ERRORS.values())])
    return (255 * table[kinds]).astype(np.uint8), float(wrong.sum() / max(1, known.sum()))
