"""Other people's weights: the layout of a file, the keys that are the encoder's, its input."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from geossl import models
from geossl.models import state_dicts

SENTINEL_2 = tuple("B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B10 B11 B12".split())


@dataclass(frozen=True)
class Layout:
    """How the keys of a file are named, after ``module.`` in front of all of them.

    Attributes:
        prefix: of the encoder's keys.
        stages: the encoder's first words and their names in torchvision.
        dropped: beginnings of keys, up to a dot, of known parts which are not the encoder.
    """

    prefix: str
    stages: tuple[tuple[str, str], ...]
    dropped: tuple[str, ...]


_OWN_NAMES = tuple((name, name) for name in "conv1 bn1 layer1 layer2 layer3 layer4".split())
_KEY_ENCODER = ("encoder_k", "queue", "queue_ptr")
LAYOUTS = {
    "moco": Layout("encoder_q.", _OWN_NAMES, ("encoder_q.fc", *_KEY_ENCODER)),
    "seco": Layout(
        "encoder_q.",
        tuple(zip("014567", (name for name, _ in _OWN_NAMES), strict=True)),
        ("heads_q", "heads_k", *_KEY_ENCODER),
    ),
    "resnet": Layout("", _OWN_NAMES, ("fc",)),
}


@dataclass(frozen=True)
class Input:
    """What a network saw: ``(chips / full_scale - mean) / std``, band by band.

    Attributes:
        about: in words.
        mean, std: of every band, or one value for all.
        full_scale: the value of a chip that stands for 1.
        bands: names in the file's order, one tuple for each number of bands known.
    """

    about: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    full_scale: float
    bands: tuple[tuple[str, ...], ...]


_RGB = ("red", "green", "blue")
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LOW, _HIGH = (0 / 255, 2 / 255, 3 / 255), (129 / 255, 103 / 255, 88 / 255)  # SeCo's quantiles
INPUTS = {
    "imagenet": Input(
        "red, green, blue of 0 to 255 with the mean and deviation of ImageNet: torchvision, MoCo "
        "and the paper's checkpoints",
        _MEAN, _STD, 255, (_RGB,),
    ),
    "seco": Input(
        "Sentinel-2 B4, B3, B2 as reflectance x 10,000, stretched between SeCo's quantiles, which "
        "SeCo clips to and this does not",
        tuple(lo + (hi - lo) * m for lo, hi, m in zip(_LOW, _HIGH, _MEAN, strict=True)),
        tuple((hi - lo) * s for lo, hi, s in zip(_LOW, _HIGH, _STD, strict=True)),
        10_000, (("B4", "B3", "B2"),),
    ),
    "ssl4eo": Input(
        "Sentinel-2 reflectance x 10,000, divided by 10,000: SSL4EO-S12",
        (0.0,), (1.0,), 10_000, (SENTINEL_2, ("B4", "B3", "B2")),
    ),
    "unit": Input("any bands of 0 to 255, divided by 255", (0.0,), (1.0,), 255, ()),
}  # fmt: skip
# Plain ResNet keys do not say what a network saw; the SHA-256 of a published file does. These are
# its first digits, as torchgeo carries them in the names of its files.
_PUBLISHED = {
    "da43d987": "imagenet",  # resnet50 fmow_rgb_gassl
    "cefca942": "seco", "018bf397": "seco",  # resnet18, resnet50 sentinel2_rgb_seco
    "59bfdff9": "ssl4eo", "df8b932e": "ssl4eo",  # resnet18, resnet50 sentinel2_all_moco
    "e3a335e3": "ssl4eo", "2b57ba8b": "ssl4eo",  # resnet18, resnet50 sentinel2_rgb_moco
    "d6c330e9": "ssl4eo", "fc6b09ff": "ssl4eo",  # resnet50 sentinel2_all_dino, ..._decur
}  # fmt: skip
_DEPTHS = {  # bottleneck blocks or not, blocks in the four stages
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}

Pair = tuple[Sequence[float], Sequence[float]]


def read_checkpoint(
    path: Path,
    *,
    layout: str | None = None,
    input: str | Pair | None = None,
    full_scale: float | None = None,
) -> tuple[models.Encoder, dict[str, Any]]:
    """An encoder from a file that others wrote, and a note of what was done; see `weights.load`.

    Raises:
        ValueError: see `weights.load`.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"expected a layout of {', '.join(LAYOUTS)}; came {layout!r}")
    found, others = state_dicts.read_state_dict(path)
    layout = layout or _recognized(found, path)
    kept, left_out = _encoder_keys(found, layout, path)
    name, bands = _shape(kept, path)
    by = "argument"
    if input is None:
        input, by = _known_input(path, layout, bands, found)
    mean, std, scale, names = _normalization(input, bands, full_scale)
    result = models.build_encoder(name, bands=bands, stem="standard", mean=mean, std=std)
    state_dicts.load_into(result.backbone, kept, path)
    return result.eval(), {
        "file": path.name,
        "layout": layout,
        "bands": names,
        "input": input if isinstance(input, str) else "mean and std given",
        "input_by": by,
        "full_scale": scale,
        "left_out": left_out + others,
    }


def _recognized(found: dict[str, Tensor], path: Path) -> str:
    if any(key.startswith("encoder_q.") for key in found):
        return "seco" if any(key.startswith("encoder_q.0.") for key in found) else "moco"
    if "conv1.weight" in found:
        return "resnet"
    raise ValueError(
        f"expected keys of a ResNet in {path} (encoder_q.conv1.weight, encoder_q.0.weight or "
        f"conv1.weight), came {state_dicts.format_keys(found)}"
    )


def _encoder_keys(
    found: dict[str, Tensor], layout: str, path: Path
) -> tuple[dict[str, Tensor], list[str]]:
    """The encoder's tensors under torchvision's keys, and the names of what was left out."""
    about = LAYOUTS[layout]
    stages = dict(about.stages)
    kept: dict[str, Tensor] = {}
    left_out: dict[str, None] = {}  # in order, each once
    unknown = []
    for key, value in found.items():
        part = next((d for d in about.dropped if f"{key}.".startswith(f"{d}.")), None)
        first, _, rest = key.removeprefix(about.prefix).partition(".")
        if part:
            left_out[part] = None
        elif key.startswith(about.prefix) and first in stages:
            kept[f"{stages[first]}.{rest}"] = value
        else:
            unknown.append(key)
    if unknown:
        raise ValueError(
            f"expected only keys of the layout {layout!r} in {path}, came also "
            f"{state_dicts.format_keys(unknown)}"
        )
    return kept, list(left_out)


def _shape(kept: dict[str, Tensor], path: Path) -> tuple[str, int]:
    """Name of the ResNet and its number of bands."""
    first = kept.get("conv1.weight")
    if first is None or first.ndim != 4 or first.shape[0] != 64 or first.shape[2:] != (7, 7):
        came = "none" if first is None else tuple(first.shape)
        raise ValueError(f"expected conv1.weight of (64, bands, 7, 7) in {path}, came {came}")
    found = [re.match(r"layer([1-4])\.(\d+)\.", key) for key in kept]
    blocks = {match.groups() for match in found if match}
    counts = tuple(sum(stage == s for stage, _ in blocks) for s in "1234")
    name = _DEPTHS.get(("layer1.0.conv3.weight" in kept, counts))
    if name is None:
        raise ValueError(
            f"expected the blocks of a ResNet-18, 34, 50, 101 or 152 in {path}, came stages of "
            f"{counts} blocks"
        )
    return name, first.shape[1]


def _known_input(path: Path, layout: str, bands: int, found: dict[str, Tensor]) -> tuple[str, str]:
    """The input that the file is known to want, and how it is known."""
    known = {("moco", 3): "imagenet", ("moco", 13): "ssl4eo", ("seco", 3): "seco"}
    if (layout, bands) in known:
        return known[layout, bands], "layout"
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest[:8] in _PUBLISHED:
        return _PUBLISHED[digest[:8]], "digest"
    head = found.get("fc.weight")
    if layout == "resnet" and bands == 3 and head is not None and len(head) == 1000:
        return "imagenet", "layout"
    raise ValueError(
        f"expected input= for {path}, as the layout {layout!r} with {bands} bands does not say "
        "what the network saw; give "
        + ", ".join(f"{name!r} ({about.about})" for name, about in INPUTS.items())
        + ", or (mean, std) in the units of the chips"
    )


def _normalization(
    input: str | Pair, bands: int, full_scale: float | None
) -> tuple[list[float] | None, list[float] | None, float | None, list[str] | None]:
    """Mean and std in the chips' units, the full scale, and the names of the file's bands."""
    if full_scale is not None and not full_scale > 0:
        raise ValueError(f"expected full_scale > 0, came {full_scale}")
    if not isinstance(input, str):
        return None, None, full_scale, None  # the caller's, of the chips' bands
    if input not in INPUTS:
        raise ValueError(f"expected an input of {', '.join(INPUTS)} or (mean, std); came {input!r}")
    about = INPUTS[input]
    names = {len(names): list(names) for names in about.bands}
    if names and bands not in names:
        raise ValueError(
            f"expected weights of {' or '.join(map(str, names))} bands for the input {input!r}, "
            f"came {bands} bands"
        )
    scale = about.full_scale if full_scale is None else full_scale
    mean, std = (list(v) if len(v) > 1 else list(v) * bands for v in (about.mean, about.std))
    return [m * scale for m in mean], [s * scale for s in std], scale, names.get(bands)
