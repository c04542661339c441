"""A trained segmentation network: predict maps of scenes, save and load."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from geossl import models
from geossl.datasets.raster.area import reading_options, rows_with_bands
from geossl.models import features, state_dicts, weights
from geossl.tasks.segment.class_map import ClassMap, tif_path
from geossl.tasks.segment.crops import Scenes
from geossl.tasks.segment.masks import IGNORE, Masks
from geossl.tasks.segment.model import Network
from geossl.utils.device import select_device
from geossl.utils.validate import NonNegativeInt, PositiveInt, validated

FORMAT = 2  # files of 1 have no checksum
SIZE_PX, OVERLAP_PX = 512, 160


@dataclass(frozen=True, eq=False, repr=False)
class Segmenter:
    """A trained network with all that its use needs.

    Attributes:
        network: in eval mode.
        masks: the classes, and how the training masks were read.
        reading: how the training scenes were read: bands, their names, dtype, and scale.
        pixels: training pixels by class; one without any could not be learned.
        logs: one row per epoch: epoch, loss (nats), accuracy (share of the crops' pixels), val
            (mIoU; missing without a val scene).
    """

    network: Network
    masks: Masks
    reading: dict[str, Any]
    pixels: pd.Series
    logs: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __repr__(self) -> str:
        encoder, unlearned = self.encoder, self.pixels.index[self.pixels == 0]
        return (
            f"Segmenter({self.network.about['head']} on {encoder.name} of {encoder.bands} bands; "
            f"{len(self.classes)} classes: {', '.join(self.classes[:6])}"
            f"{', ...' if len(self.classes) > 6 else ''}"
            f"{'; not in the training: ' if len(unlearned) else ''}{', '.join(unlearned)})"
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers."""
        return tuple(self.masks.classes)

    @property
    def encoder(self) -> models.Encoder:
        """The trained copy of the encoder."""
        return self.network.encoder

    @validated
    def segment(
        self,
        scene: str | os.PathLike[str] | pd.DataFrame,
        *,
        output: str | os.PathLike[str] | None = None,
        size_px: PositiveInt = SIZE_PX,
        overlap_px: NonNegativeInt = OVERLAP_PX,
        probabilities: bool = False,
    ) -> ClassMap:
        """Predict the classes of a scene of any size, window by window.

        Of two neighboring windows each gives its own half of what they share. The map is that of
        one window over all where no window's edge lies within half the network's receptive field:
        everywhere if they share as much as that field (of "small" 136 px with "fpn", 164 px with
        "fcn"; of "tiny" less, of a ResNet more). The "deeplab" head looks at all of a window at
        once.

        Args:
            scene: path of a file, read as the training scenes were; or a table of one row.
            output: where to write the map as a GeoTIFF, see `ClassMap.write`; None writes nothing.
            size_px: side of a window, rounded up to a multiple of the network's stride.
            overlap_px: what neighbors share, likewise.
            probabilities: also return those of all classes; they take much memory.

        Raises:
            FileNotFoundError: there is no such scene.
            ValueError: it cannot be read, has other bands or another dtype, is not one, or would be
                overwritten.
        """
        rows = rows_with_bands(scene, bands=self.encoder.bands, reading=self.reading)
        if len(rows) != 1:
            raise ValueError(f"`scene` must be one scene, got a table of {len(rows)}.")
        if output is not None:
            output = tif_path(output)
            if output.exists() and os.path.samefile(output, str(rows[0]["path"])):
                raise ValueError(f"`output` must be another path than the scene's, got {output}.")
        result = predict_map(
            self.network, Scenes(rows, self.masks), 0, size_px=size_px, overlap_px=overlap_px,
            probabilities=probabilities,
        )  # fmt: skip
        if output is not None:
            result.write(output)
        return result

    @validated
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file, or ``segmenter.safetensors`` into a folder: weights and json; atomic."""
        about = {
            "encoder": self.encoder.config,
            "note": self.encoder.metadata,
            "network": self.network.about,
            "masks": asdict(self.masks),
            "reading": self.reading,
            "pixels": self.pixels.tolist(),
            "logs": self.logs.to_dict("list"),
        }
        state_dicts.save_model(
            "segmenter", self.network, {"segmenter": about}, path=path, format=FORMAT
        )


@validated
def load(path: str | os.PathLike[str], *, device: str = "auto") -> Segmenter:
    """Load what `train` or `Segmenter.save` wrote; nothing in the file is run.

    Args:
        path: the folder or the file.
        device: as in `SegmentConfig`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, of another kind, or written by a newer version.
    """
    path, metadata, tensors = state_dicts.load_model("segmenter", path, format=FORMAT)
    try:
        about = metadata["segmenter"]
        masks = Masks(**about["masks"])
        if about["network"].get("width", 0) > sum(value.numel() for value in tensors.values()):
            raise ValueError("a width that could fill the memory")
        encoder = weights.describe_encoder(
            about["encoder"], about["note"], tensors, prefix="pyramid.encoder."
        )
        pixels = pd.Series(about["pixels"], index=pd.Index(masks.classes), dtype="int64")
        reading, logs = reading_options(about["reading"]), pd.DataFrame(about["logs"])
        network = Network(encoder, classes=len(masks.classes), **about["network"])
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError):
        raise state_dicts.CheckpointError(
            f"{path} has a description that does not fit a segmenter. Write the file again."
        ) from None
    state_dicts.load_into(network, tensors, path)
    network.to(select_device(device)).eval()
    return Segmenter(network, masks, reading, pixels, logs)


@torch.no_grad()
def predict_map(
    network: Network,
    scenes: Scenes,
    i: int,
    *,
    size_px: int = SIZE_PX,
    overlap_px: int = OVERLAP_PX,
    probabilities: bool = False,
) -> ClassMap:
    """Predict the classes of scene ``i``; see `Segmenter.segment`."""
    if not size_px > overlap_px >= 0:
        raise ValueError(
            f"`size_px` must be > `overlap_px` >= 0, got size_px={size_px} and "
            f"overlap_px={overlap_px}."
        )
    network.eval()
    grid, stride, device = scenes.grids[i], network.stride, network.encoder.mean.device
    overlap = round_up(overlap_px, stride)
    size = max(round_up(size_px, stride), overlap + stride)
    height, width = round_up(grid.height, stride), round_up(grid.width, stride)
    values = np.full((height, width), IGNORE, np.uint8)
    shares = None
    if probabilities:
        shares = np.zeros((len(scenes.masks.classes), height, width), np.float32)
    for left, top, right, bottom in features.sliding_windows(
        height, width, size_px=size, overlap_px=overlap
    ):
        # No window reaches over the edge: there it sees what one window over all does.
        right, bottom = min(right, width), min(bottom, height)
        pixels, valid = scenes.pixels(i, (left, top, right, bottom))
        x = torch.from_numpy(pixels.astype(np.float32))[None].to(device)
        logits = network.from_chips(x, torch.from_numpy(valid)[None].to(device))[0]
        half = overlap // 2  # of what is shared with each neighbor
        x0, y0 = (edge + half if edge else 0 for edge in (left, top))
        x1, y1 = right - half * (right < width), bottom - half * (bottom < height)
        part, inner = np.s_[y0:y1, x0:x1], np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        guess = logits.argmax(0).to(torch.uint8).cpu().numpy()
        values[part] = np.where(valid, guess, IGNORE)[inner]
        if shares is not None:
            shares[:, *part] = logits.softmax(0).cpu().numpy()[:, *inner]
    inside = np.s_[: grid.height, : grid.width]
    shares = None if shares is None else np.ascontiguousarray(shares[:, *inside])
    values = np.ascontiguousarray(values[inside])
    return ClassMap(values, tuple(scenes.masks.classes), grid, shares)


def round_up(px: int, multiple: int) -> int:
    """Round up to a multiple."""
    return -(-px // multiple) * multiple
