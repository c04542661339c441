"""Training crops, drawn at random from large scenes with their boxes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl.data.scenes import BOX
from geossl.datasets.raster import area as areas
from geossl.tasks.detect.boxes import crop_boxes, rotate_boxes, rotate_pixels
from geossl.tasks.detect.model import DetectConfig

Target = dict[str, Tensor]


class Crops:
    """Draws crops from scenes; pixels are read when a crop is drawn.

    Args:
        rows: the scenes, of `geossl.datasets.raster.area.scene_rows`.
        boxes: of `check_boxes`.
        classes: labels, in the order of the network's outputs.
        config: how crops are drawn.
    """

    def __init__(
        self, rows: list[areas.Row], boxes: pd.DataFrame, classes: list, config: DetectConfig
    ):
        self._rows, self._config = rows, config
        self._sizes = [(g.width, g.height) for g in map(areas.read_grid, rows)]
        area = np.prod(np.array(self._sizes, float), axis=1)
        self._share = area / area.sum()
        by_path = dict(list(boxes.groupby("path")))
        parts = [by_path.get(str(row["path"]), boxes.iloc[:0]) for row in rows]
        self._boxes = [part[list(BOX)].to_numpy(float) for part in parts]
        self._crowd = [part["crowd"].to_numpy(bool) for part in parts]
        self._codes = [pd.Index(classes).get_indexer(part["label"]) for part in parts]
        objects = [(s, i) for s, crowd in enumerate(self._crowd) for i in np.flatnonzero(~crowd)]
        self._objects = np.array(objects, int).reshape(-1, 2)

    def batch(self, seed: int) -> tuple[Tensor, Tensor, list[Target]]:
        """Draw the crops of a seed.

        Returns:
            Crops ``(N, C, S, S)`` float32 in the units of the files, which of their pixels hold
            data ``(N, S, S)`` bool, and of each the ``boxes`` (B, 4), ``labels`` (B,) and
            ``ignored`` (I, 4), in pixels of the crop.
        """
        rng = np.random.default_rng(seed)
        crops = [self._draw(rng) for _ in range(self._config.batch_size)]
        pixels, valid, targets = zip(*crops, strict=True)
        return torch.from_numpy(np.stack(pixels)), torch.from_numpy(np.stack(valid)), list(targets)

    def _draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Target]:
        """One crop as float32 ``(C, S, S)``, which pixels hold data ``(S, S)``, and its boxes."""
        config, side = self._config, self._config.size_px
        boxed = rng.random() < config.boxed and len(self._objects) > 0
        if boxed:
            scene, index = self._objects[rng.integers(len(self._objects))]
        else:
            scene = rng.choice(len(self._rows), p=self._share)
        corner = []
        for axis, length in enumerate(self._sizes[scene]):
            low, high = sorted((0, length - side))
            if boxed:  # somewhere that shows the whole box, if the crop is large enough
                box = self._boxes[scene][index]
                ends = sorted((box[axis + 2] - side, box[axis]))
                low, high = np.clip([np.ceil(ends[0]), np.floor(ends[1])], low, high).astype(int)
            corner.append(int(rng.integers(low, max(low, high) + 1)))
        left, top = corner
        window = left, top, left + side, top + side
        turn = int(rng.integers(8))
        boxes, visible, part = crop_boxes(
            self._boxes[scene], window, min_visible=config.min_visible
        )
        boxes, crowd = rotate_boxes(boxes, turn, side), self._crowd[scene]
        target = {
            "boxes": torch.from_numpy(boxes[visible & ~crowd]).float(),
            "labels": torch.from_numpy(self._codes[scene][visible & ~crowd]),
            "ignored": torch.from_numpy(boxes[part | (visible & crowd)]).float(),
        }
        pixels, valid = areas.read_area(self._rows[scene], window)
        pixels = rotate_pixels(pixels, turn).astype(np.float32, order="C")
        return pixels, rotate_pixels(valid[None], turn)[0].copy(), target
