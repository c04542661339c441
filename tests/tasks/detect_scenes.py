"""Scenes with bright squares and their boxes, for the tests of detection."""

import numpy as np
import pandas as pd
import torch
from PIL import Image

from geossl import models
from geossl.data.scenes import BOX
from geossl.tasks import detect
from geossl.tasks.detect.model import build

SMALL = detect.DetectConfig(
    epochs=2, crops=4, batch_size=2, size_px=32, upsample=1, width=8, color=None, precision="fp32",
    device="cpu",
)  # fmt: skip


def table_of(boxes):
    """Boxes of (path, left, top, right, bottom, label)."""
    return pd.DataFrame(boxes, columns=["path", *BOX, "label"])


def picture(path, *, size=(64, 64), squares=(), seed=0):
    """A noisy picture with bright squares at (left, top, side)."""
    pixels = np.random.default_rng(seed).integers(20, 60, (*size, 3), dtype=np.uint8)
    for left, top, side in squares:
        pixels[top : top + side, left : left + side] = 230
    Image.fromarray(pixels).save(path)
    return str(path)


def scattered(folder, *, count, size=96, squares=3, seed=0):
    """Scenes with bright squares of 10 to 16 px, and their boxes."""
    rng, paths, boxes = np.random.default_rng(seed), [], []
    for i in range(count):
        cells = rng.permutation(9)[:squares]
        at = [(cell % 3 * 32 + rng.integers(0, 14), cell // 3 * 32 + rng.integers(0, 14),
               rng.integers(10, 17)) for cell in cells]  # fmt: skip
        paths.append(picture(folder / f"{i}.png", size=(size, size), squares=at, seed=i))
        boxes += [(paths[-1], x, y, x + side, y + side, "square") for x, y, side in at]
    return pd.DataFrame({"path": paths}), table_of(boxes)


def encoder_of(bands=3, seed=0):
    return models.build_encoder(
        "small", bands=bands, mean=[45] * bands, std=[30] * bands, seed=seed
    )


def state(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def alike(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def slow_iou(a, b, crowd=False):
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    own, other = ((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
    return wide * high / (own if crowd else own + other - wide * high)


def talkative(encoder, *, upsample, classes=2, seed=0):
    """A detector that was not trained, made to say something all over a scene."""
    config = detect.DetectConfig(upsample=upsample, width=8, precision="fp32", device="cpu")
    net = build(encoder, classes, config, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    head = net.head.classification_head.cls_logits
    with torch.no_grad():
        head.weight.normal_(0, 0.35, generator=generator)
        for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.running_var.fill_(4)
    counts = pd.Series([1] * classes, index=pd.Index(list("ab")[:classes], dtype=object))
    reading = {"bands": "1,2,3", "band_names": "r,g,b", "dtype": "uint8",
               "scale_low": np.nan, "scale_high": np.nan}  # fmt: skip
    return detect.Detector(net, config, reading, counts, 0, pd.DataFrame())
