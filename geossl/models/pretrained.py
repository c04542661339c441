"""Read encoders that others trained: the layout of a file, its encoder's keys, its input."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from geossl.models import state_dicts
from geossl.models.encoder import Encoder, build_encoder
from geossl.models.state_dicts import CheckpointError, format_keys
from geossl.utils.io import file_digest, parse_json

LayoutName = Literal["moco", "seco", "resnet"]
InputName = Literal["imagenet", "seco", "ssl4eo", "unit"]
MeanStd = tuple[Sequence[float], Sequence[float]]
SENTINEL_2 = tuple("B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B10 B11 B12".split())


_STAGES = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
_NAMED = {name: name for name in _STAGES}  # the first words of keys -> those of torchvision
_NUMBERED = dict(zip("014567", _STAGES, strict=True))  # a sequence of a ResNet's children
_KEY_ENCODER = ("encoder_k", "queue", "queue_ptr")
# Known parts besides the encoder, which are left out: beginnings of keys, up to a dot.
_PARTS: dict[LayoutName, tuple[str, ...]] = {
    "moco": ("encoder_q.fc", *_KEY_ENCODER),
    "seco": ("heads_q", "heads_k", *_KEY_ENCODER),
    "resnet": (),
}
_AVERAGED = re.compile(r"(^|[._])(ema|teacher)([._]|$)")  # words in the prefix of an encoder
_WRAPPERS = re.compile(r"(?<![^.])(module|_orig_mod)\.")  # around a network, anywhere in a prefix
HEADS = (
    "fc", "head", "heads", "projection_head", "projector", "prototypes", "linear", "classifier",
)  # fmt: skip
_KEYS = re.compile(r"(^|[._])(encoder_k|momentum|target|key)([._]|$)")


class Found(NamedTuple):
    """An encoder in a file: what is in front of its keys, and how its stages are named."""

    prefix: str
    stages: dict[str, str]


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
_DEPTHS: dict[tuple[bool, tuple[int, ...]], str] = {  # bottlenecks, blocks of the stages
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
    prefix: str | None = None,
    input: InputName | MeanStd | None = None,
    full_scale: float | None = None,
) -> Encoder:
    """Load an encoder from a file that others wrote; see `weights.load`.

    With ``input=(mean, std)`` the caller sets the normalization, as only the caller knows whether
    the bands change.

    Raises:
        ValueError: see `weights.load`.
    """
    outer = None if prefix is None else prefix.split(".")[0]
    tensors, others, inner = state_dicts.read_state_dict(path, outer=outer)
    found = _find_encoder(tensors, path, layout, prefix, inner)
    layout = layout or _layout_of(found)
    state, left_out = _encoder_state(tensors, layout, found, path)
    name, bands = _architecture(state, path)
    source, mean, std, names = "argument", None, None, None
    described = None if input is not None else read_description(path, bands, full_scale)
    if described is not None:
        mean, std, names = described
        source = "description"
    elif input is None:
        classes = tensors.get(f"{found.prefix}fc.weight")
        input, source = _detect_input(path, layout, bands, classes)
    if isinstance(input, str):
        mean, std, full_scale, names = normalization(input, bands, full_scale, path)
    encoder = build_encoder(name, bands=bands, stem="standard", mean=mean, std=std)
    state_dicts.load_into(encoder.backbone, state, path)
    encoder.metadata = {
        "file": path.name,
        "layout": layout,
        "prefix": found.prefix,
        "bands": names,
        "input": input if isinstance(input, str) else "mean and std given",
        "input_by": source,
        "full_scale": full_scale,
        "left_out": left_out + others,
    }
    return encoder.eval()


def _find_encoder(
    tensors: Mapping[str, Tensor],
    path: Path,
    layout: LayoutName | None,
    prefix: str | None,
    inner: str,
) -> Found:
    """Find a ResNet by its first convolution and its first block, behind any prefix.

    A given prefix may begin with ``inner``, the name of the state dict in the file.
    """
    if layout in ("moco", "seco"):
        if prefix is not None and prefix.strip(".") != "encoder_q":
            raise ValueError(f"`prefix` of layout={layout!r} must be 'encoder_q.', got {prefix!r}.")
        return Found("encoder_q.", _NAMED if layout == "moco" else _NUMBERED)
    encoders = []
    for stages, first, stage in ((_NAMED, "conv1", "layer1"), (_NUMBERED, "0", "4")):
        block = f"{stage}.0.conv1.weight"
        starts = [key.removesuffix(block) for key in tensors if f".{key}".endswith(f".{block}")]
        encoders += [
            Found(start, stages) for start in starts if f"{start}{first}.weight" in tensors
        ]
    if not encoders:
        raise CheckpointError(
            f"{path} must have the keys of a ResNet (conv1.weight and layer1.0.conv1.weight, or "
            f"0.weight and 4.0.conv1.weight, behind any prefix), got {format_keys(tensors)}. Pass "
            "`architecture` for another network of timm or torchvision."
        )
    return choose_encoder(encoders, prefix, inner, path)


def choose_encoder(encoders: Sequence[Found], prefix: str | None, inner: str, path: Path) -> Found:
    """Choose one of the encoders of a file, by its prefix.

    Args:
        encoders: at least one.
        prefix: may begin with ``inner``; None prefers a teacher or an average, and no key encoder.
        inner: the name of the state dict in the file.
        path: of the file.

    Raises:
        CheckpointError: none is behind that prefix, or several are left.
    """
    if prefix is not None:
        wanted = _WRAPPERS.sub("", f"{prefix.strip('.')}.")
        chosen = [
            found
            for found in encoders
            if wanted
            in (_WRAPPERS.sub("", name) for name in (found.prefix, f"{inner}.{found.prefix}"))
            or wanted == f"{inner}."
        ]
    else:
        chosen = [found for found in encoders if not _KEYS.search(found.prefix)] or list(encoders)
        chosen = [found for found in chosen if _AVERAGED.search(found.prefix)] or chosen
    if len(chosen) == 1:
        return chosen[0]
    names = [f"{inner}.{found.prefix}".lstrip(".") for found in encoders]
    raise CheckpointError(
        f"{path} has {len(names)} encoder{'s' * (len(names) > 1)}, behind {format_keys(names)}. "
        "Pass one of these as `prefix`."
    )


def _layout_of(found: Found) -> LayoutName:
    if found.prefix == "encoder_q.":
        return "moco" if found.stages is _NAMED else "seco"
    return "resnet"


def _encoder_state(
    tensors: Mapping[str, Tensor], layout: LayoutName, found: Found, path: Path
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the encoder's tensors under torchvision's keys, and the names of dropped parts."""
    prefix, stages = found
    parts = _PARTS[layout] or tuple(f"{prefix}{head}" for head in HEADS)
    state: dict[str, Tensor] = {}
    left_out: dict[str, None] = {}  # in order, each once
    unknown = []
    for key, value in tensors.items():
        part = next((part for part in parts if f"{key}.".startswith(f"{part}.")), None)
        first, _, rest = key.removeprefix(prefix).partition(".")
        if part is None and layout == "resnet" and not key.startswith(prefix):
            part = key.partition(".")[0]
        if part:
            left_out[part] = None
        elif key.startswith(prefix) and first in stages:
            state[f"{stages[first]}.{rest}"] = value
        else:
            unknown.append(key)
    if unknown:
        raise CheckpointError(
            f"{path} has keys that the layout {layout!r} lacks: {format_keys(unknown)}. Remove "
            "them from the file or pass another `layout`."
        )
    return state, list(left_out)


def read_description(
    path: Path, bands: int, full_scale: float | None
) -> tuple[list[float], list[float], list[str] | None] | None:
    """Read the mean, std and band names that `weights.export_torchvision` wrote beside a file."""
    beside = path.with_name(f"{path.name}.json")
    try:
        about = parse_json(beside.read_text("utf-8"))
        mean, std, note = about["mean"], about["std"], about["note"]
        names = note.get("bands")
        fits = len(mean) == len(std) == bands
        fits = fits and (names is None or isinstance(names, list) and len(names) == bands)
        numbers = all(type(x) in (int, float) and abs(x) < 1e38 for x in (*mean, *std))  # no bool
        fits = fits and numbers and min(std) > 1e-38  # float32 holds them
        fits = fits and all(isinstance(name, str) for name in names or [])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        fits = False
    if not fits:
        raise CheckpointError(
            f"{beside} must be the description that export_torchvision() wrote for {path.name}. "
            "Pass `input` instead, or move it away."
        )
    if full_scale is not None:
        raise ValueError(
            f"`full_scale` needs a named `input`: the description beside {path} has mean and std "
            "in the units of the chips. Pass both, or neither."
        )
    return mean, std, names


def _architecture(state: Mapping[str, Tensor], path: Path) -> tuple[str, int]:
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
    path: Path, layout: LayoutName, bands: int, classes: Tensor | None
) -> tuple[InputName, str]:
    """Return the input that the file is known to need, and how it is known."""
    if (layout, bands) in _INPUT_OF_LAYOUT:
        return _INPUT_OF_LAYOUT[layout, bands], "layout"
    digest = file_digest(path, algorithm="sha256")[:8]
    if digest in _PUBLISHED:
        return _PUBLISHED[digest], "digest"
    if layout == "resnet" and bands == 3 and classes is not None and len(classes) == 1000:
        return "imagenet", "layout"
    choices = ", ".join(f"{name!r} ({known.description})" for name, known in INPUTS.items())
    raise ValueError(
        f"`input` must be given for {path}: the layout {layout!r} with {bands} bands does not say "
        f"how the network's input was normalized. Pass {choices}, or (mean, std) in the units of "
        "the chips."
    )


def normalization(
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
