"""Read encoders that others trained: the layout of a file, its encoder's keys, its input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from geossl.models import state_dicts
from geossl.models.encoder import Encoder, EncoderName, build_encoder
from geossl.models.state_dicts import CheckpointError, format_keys
from geossl.utils.io import file_digest

LayoutName = Literal["moco", "seco", "resnet"]
InputName = Literal["imagenet", "seco", "ssl4eo", "unit"]
MeanStd = tuple[Sequence[float], Sequence[float]]
SENTINEL_2 = tuple("B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B10 B11 B12".split())


class Layout(NamedTuple):
    """How the keys of a file are named, after ``module.`` in front of all of them."""

    prefix: str  # of the encoder's keys
    stages: dict[str, str]  # the first words of the encoder's keys -> their names in torchvision
    dropped: tuple[str, ...]  # beginnings of keys, up to a dot, of known parts besides the encoder


_STAGES = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
_SAME_NAMES = {name: name for name in _STAGES}
_KEY_ENCODER = ("encoder_k", "queue", "queue_ptr")
LAYOUTS: dict[LayoutName, Layout] = {
    "moco": Layout("encoder_q.", _SAME_NAMES, ("encoder_q.fc", *_KEY_ENCODER)),
    "seco": Layout(
        "encoder_q.", dict(zip("014567", _STAGES, strict=True)),
        ("heads_q", "heads_k", *_KEY_ENCODER),
    ),
    "resnet": Layout("", _SAME_NAMES, ("fc",)),
}  # fmt: skip


class Input(NamedTuple):
    """The input of a network: ``(chips / full_scale - mean) / std``, band by band."""

    description: str
    mean: tuple[float, ...]  # of every band, or one value for all
    std: tuple[float, ...]
    full_scale: float  # the value of a chip that stands for 1
    bands: tuple[tuple[str, ...], ...]  # names in the file's order, for each known number of bands


_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LOW, _HIGH = (0 / 255, 2 / 255, 3 / 255), (129 / 255, 103 / 255, 88 / 255)  # SeCo's quantiles
INPUTS: dict[InputName, Input] = {
    "imagenet": Input(
        "red, green, blue of 0 to 255 with the mean and deviation of ImageNet: torchvision, MoCo "
        "and the paper's checkpoints",
        _MEAN, _STD, 255, (("red", "green", "blue"),),
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
_INPUT_OF_LAYOUT: dict[tuple[str, int], InputName] = {
    ("moco", 3): "imagenet", ("moco", 13): "ssl4eo", ("seco", 3): "seco",
}  # fmt: skip
# Plain ResNet keys do not say what the input was; the SHA-256 of a published file does. These are
# its first digits, as torchgeo has them in the names of its files.
_PUBLISHED: dict[str, InputName] = {
    "da43d987": "imagenet",  # resnet50 fmow_rgb_gassl
    "cefca942": "seco", "018bf397": "seco",  # resnet18, resnet50 sentinel2_rgb_seco
    "59bfdff9": "ssl4eo", "df8b932e": "ssl4eo",  # resnet18, resnet50 sentinel2_all_moco
    "e3a335e3": "ssl4eo", "2b57ba8b": "ssl4eo",  # resnet18, resnet50 sentinel2_rgb_moco
    "d6c330e9": "ssl4eo", "fc6b09ff": "ssl4eo",  # resnet50 sentinel2_all_dino, ..._decur
}  # fmt: skip
_DEPTHS: dict[tuple[bool, tuple[int, ...]], EncoderName] = {  # bottlenecks, blocks of the stages
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}


def load_pretrained(
    path: Path,
    *,
    layout: LayoutName | None = None,
    input: InputName | MeanStd | None = None,
    full_scale: float | None = None,
) -> Encoder:
    """Load an encoder from a file that others wrote; see `weights.load`.

    With ``input=(mean, std)`` the caller sets the normalization, as only the caller knows whether
    the bands change.

    Raises:
        ValueError: see `weights.load`.
    """
    tensors, others = state_dicts.read_state_dict(path)
    layout = layout or _detect_layout(tensors, path)
    state, left_out = _encoder_state(tensors, layout, path)
    name, bands = _architecture(state, path)
    source = "argument"
    if input is None:
        input, source = _detect_input(path, layout, bands, tensors)
    mean = std = names = None
    if isinstance(input, str):
        mean, std, full_scale, names = _normalization(input, bands, full_scale, path)
    encoder = build_encoder(name, bands=bands, stem="standard", mean=mean, std=std)
    state_dicts.load_into(encoder.backbone, state, path)
    encoder.metadata = {
        "file": path.name,
        "layout": layout,
        "bands": names,
        "input": input if isinstance(input, str) else "mean and std given",
        "input_by": source,
        "full_scale": full_scale,
        "left_out": left_out + others,
    }
    return encoder.eval()


def _detect_layout(tensors: Mapping[str, Tensor], path: Path) -> LayoutName:
    if any(key.startswith("encoder_q.") for key in tensors):
        return "seco" if any(key.startswith("encoder_q.0.") for key in tensors) else "moco"
    if "conv1.weight" in tensors:
        return "resnet"
    raise CheckpointError(
        f"{path} must have the keys of a ResNet (encoder_q.conv1.weight, encoder_q.0.weight or "
        f"conv1.weight), got {format_keys(tensors)}."
    )


def _encoder_state(
    tensors: Mapping[str, Tensor], name: LayoutName, path: Path
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the encoder's tensors under torchvision's keys, and the names of dropped parts."""
    layout = LAYOUTS[name]
    state: dict[str, Tensor] = {}
    left_out: dict[str, None] = {}  # in order, each once
    unknown = []
    for key, value in tensors.items():
        part = next((part for part in layout.dropped if f"{key}.".startswith(f"{part}.")), None)
        first, _, rest = key.removeprefix(layout.prefix).partition(".")
        if part:
            left_out[part] = None
        elif key.startswith(layout.prefix) and first in layout.stages:
            state[f"{layout.stages[first]}.{rest}"] = value
        else:
            unknown.append(key)
    if unknown:
        raise CheckpointError(
            f"{path} has keys that the layout {name!r} lacks: {format_keys(unknown)}. Remove them "
            "from the file or pass another `layout`."
        )
    return state, list(left_out)


def _architecture(state: Mapping[str, Tensor], path: Path) -> tuple[EncoderName, int]:
    """Return the name of the ResNet and its number of bands."""
    first = state.get("conv1.weight")
    if first is None or first.ndim != 4 or first.shape[0] != 64 or first.shape[2:] != (7, 7):
        shape = "none" if first is None else tuple(first.shape)
        raise CheckpointError(
            f"conv1.weight in {path} must have shape (64, bands, 7, 7), got {shape}."
        )
    blocks = {tuple(key.split(".")[:2]) for key in state}
    counts = tuple(sum(stage == s for stage, _ in blocks) for s in _STAGES[2:])
    name = _DEPTHS.get(("layer1.0.conv3.weight" in state, counts))
    if name is None:
        raise CheckpointError(
            f"{path} must have the stages of a ResNet-18, 34, 50, 101 or 152, got stages of "
            f"{counts} blocks."
        )
    return name, first.shape[1]


def _detect_input(
    path: Path, layout: LayoutName, bands: int, tensors: Mapping[str, Tensor]
) -> tuple[InputName, str]:
    """Return the input that the file is known to need, and how it is known."""
    if (layout, bands) in _INPUT_OF_LAYOUT:
        return _INPUT_OF_LAYOUT[layout, bands], "layout"
    digest = file_digest(path, algorithm="sha256")[:8]
    if digest in _PUBLISHED:
        return _PUBLISHED[digest], "digest"
    head = tensors.get("fc.weight")
    if layout == "resnet" and bands == 3 and head is not None and len(head) == 1000:
        return "imagenet", "layout"
    choices = ", ".join(f"{name!r} ({known.description})" for name, known in INPUTS.items())
    raise ValueError(
        f"`input` must be given for {path}: the layout {layout!r} with {bands} bands does not say "
        f"how the network's input was normalized. Pass {choices}, or (mean, std) in the units of "
        "the chips."
    )


def _normalization(
    name: InputName, bands: int, full_scale: float | None, path: Path
) -> tuple[list[float], list[float], float, list[str] | None]:
    """Return mean and std in the chips' units, the full scale, and the names of the bands."""
    known = INPUTS[name]
    names = {len(names): list(names) for names in known.bands}
    if names and bands not in names:
        raise ValueError(
            f"`input` {name!r} needs weights of {' or '.join(map(str, names))} bands, got {bands} "
            f"bands in {path}. Pass another name or (mean, std)."
        )
    scale = known.full_scale if full_scale is None else full_scale
    mean, std = (
        [value * scale for value in (values if len(values) > 1 else values * bands)]
        for values in (known.mean, known.std)
    )
    return mean, std, scale, names.get(bands)
