"""Plots of segmentation: image, truth, prediction, and where they differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from geossl.datasets.raster.area import rows_with_bands
from geossl.tasks.segment import Segmenter
from geossl.tasks.segment.class_map import class_colors, class_shares, format_shares
from geossl.tasks.segment.crops import Scenes
from geossl.tasks.segment.evaluate import confusion, iou
from geossl.tasks.segment.masks import IGNORE
from geossl.tasks.segment.segmenter import predict_map
from geossl.utils.colors import PALETTE
from geossl.utils.validate import PositiveInt, validated
from geossl.viz.plots.base import draw_chip, new_figure, to_picture

_MOST_PX = 512  # longest side of a picture; larger scenes are thinned out
_MOST_CLASSES = 20  # in the legend
_RIGHT, _NO_TRUTH = "#e6e6e6", "#ffffff"
_ERRORS = {"missed": PALETTE[5], "invented": PALETTE[4], "another class": PALETTE[7]}


@validated
def plot_segmentation(
    segmenter: Segmenter, scenes: pd.DataFrame, *, count: PositiveInt = 4
) -> Figure:
    """Plot scenes with their truth, the prediction and the errors, one row a scene.

    Class 0 is left clear where there are two classes or it is called "background"; pixels of it
    that are predicted as another class are "invented", the opposite "missed".

    Args:
        segmenter: the network.
        scenes: a table as in `geossl.tasks.segment.measure`; without masks only image and
            prediction are shown.
        count: of its first rows to show.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no row, or one that cannot be read or does not fit.
    """
    rows = rows_with_bands(
        scenes.head(count), bands=segmenter.encoder.bands, reading=segmenter.reading
    )
    areas, classes = Scenes(rows, segmenter.masks), segmenter.classes
    colors = class_colors(classes)
    clear = len(classes) == 2 or classes[0] == "background"
    figure, axes = new_figure(9.6, 2.6 * len(rows), nrows=len(rows), ncols=4, squeeze=False)
    counts = np.zeros(IGNORE + 1, np.int64)
    for i, (image_ax, truth_ax, map_ax, error_ax) in enumerate(axes):
        window = areas.full_window(i)
        result = predict_map(segmenter.network, areas, i)
        guess = result.values
        thin = np.s_[:: max(1, -(-max(guess.shape) // _MOST_PX))]
        pixels, valid = areas.pixels(i, window)
        image = to_picture(rows[i], pixels[:, thin, thin], valid[thin, thin])
        draw_chip(image_ax, image, Path(str(rows[i]["path"])).stem)
        title = f"predicted: {format_shares(result.shares)}"
        counts += np.bincount(guess.ravel(), minlength=len(counts))
        if pd.notna(rows[i].get(segmenter.masks.column)):
            truth = np.where(guess == IGNORE, IGNORE, areas.codes(i, window))
            counts += np.bincount(truth.ravel(), minlength=len(counts))
            score = float(iou(confusion(truth, guess, classes=len(classes))).nanmean())
            title = f"{title}\nmIoU {score:.2f}"
            overlay = _overlay(image, truth[thin, thin], colors, clear=clear)
            draw_chip(truth_ax, overlay, f"truth: {format_shares(class_shares(truth, classes))}")
            picture, share = _errors(truth, guess, clear=clear)
            draw_chip(error_ax, picture[thin, thin], f"errors: {share:.1%} of the pixels")
        else:
            truth_ax.set_axis_off()
            error_ax.set_axis_off()
        draw_chip(map_ax, _overlay(image, guess[thin, thin], colors, clear=clear), title)
    counts = counts[: len(classes)]
    frequent = np.argsort(-counts, kind="stable")[:_MOST_CLASSES]
    patches = [
        Patch(color=colors[i], label=classes[i])
        for i in sorted(frequent) if i >= clear and counts[i]
    ]  # fmt: skip
    kinds = list(_ERRORS)[0 if clear else 2 : 2 if len(classes) == 2 else 3]
    patches += [Patch(color=_ERRORS[kind], label=f"error: {kind}") for kind in kinds]
    figure.legend(handles=patches, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    return figure


def _overlay(image: np.ndarray, codes: np.ndarray, colors: list[str], *, clear: bool) -> np.ndarray:
    """Mix an image with the colors of classes ``(H, W)``."""
    table = np.zeros((IGNORE + 1, 3), np.float32)
    table[: len(colors)] = [np.multiply(to_rgb(c), 255) for c in colors]
    colored = (codes != IGNORE) & (codes >= clear)
    mixed = 0.45 * image + 0.55 * table[codes]
    return np.where(colored[..., None], mixed, image).astype(np.uint8)


def _errors(truth: np.ndarray, guess: np.ndarray, *, clear: bool) -> tuple[np.ndarray, float]:
    """Return a picture of errors ``(H, W, 3)``, and their share of the pixels with a truth."""
    known = (truth != IGNORE) & (guess != IGNORE)
    wrong = known & (truth != guess)
    kinds = np.where(known, 1, 0) + wrong * 3  # 0: no truth, 1: right, 4: another class
    if clear:
        kinds[wrong & (guess == 0)] = 2
        kinds[wrong & (truth == 0)] = 3
    table = np.array([to_rgb(c) for c in (_NO_TRUTH, _RIGHT, *_ERRORS.values())])
    return (255 * table[kinds]).astype(np.uint8), float(wrong.sum() / max(1, known.sum()))
