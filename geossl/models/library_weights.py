"""Read weights of the networks of torchvision and timm, whose files do not say which they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from geossl.models import backbones, pretrained, state_dicts
from geossl.models.encoder import Encoder, build_encoder
from geossl.models.pretrained import Found, InputName, MeanStd
from geossl.utils.errors import rename_argument
from geossl.utils.io import parse_json

_PUBLISHED = re.compile(r"(timm/[A-Za-z0-9_]+)(\.[A-Za-z0-9_]+)?")
_BRANCHES = ("head_dist", "AuxLogits", "aux1", "aux2")  # of classifiers, in training


def is_published(name: str) -> bool:
    """Return whether a name may be one of timm's published weights, such as ``timm/NAME.TAG``."""
    return _PUBLISHED.fullmatch(name) is not None


def download_timm(name: str) -> Encoder:
    """Download the weights of timm by ``timm/NAME`` or ``timm/NAME.TAG``, in eval mode; cached.

    Raises:
        ValueError: timm has no such network, or no weights of that tag.
        ConnectionError: they cannot be downloaded.
    """
    match = _PUBLISHED.fullmatch(name)
    assert match is not None
    architecture = match[1]
    with rename_argument("name", "path"):
        backbones.check_library_name(architecture)
    import timm

    try:
        net = timm.create_model(name.removeprefix("timm/"), pretrained=True, num_classes=0)
    except RuntimeError as error:
        raise ValueError(
            f"timm has no weights {name!r} ({error}). See timm.list_pretrained()."
        ) from None
    except Exception as error:  # of its client, whose errors have no common base
        raise ConnectionError(
            f"The weights {name!r} could not be downloaded ({type(error).__name__}). Try again "
            "with a network, or pass their file and its architecture."
        ) from None
    mean, std = _input_of_timm(net)
    encoder = build_encoder(architecture, bands=3, stem="standard", mean=mean, std=std)
    encoder.backbone.load_state_dict(net.state_dict())
    encoder.metadata = {
        "file": name,
        "layout": "timm",
        "bands": ["red", "green", "blue"],
        "input": "timm",
        "full_scale": 255,
    }
    return encoder.eval()


def load_library_weights(
    path: Path,
    architecture: str,
    *,
    prefix: str | None = None,
    input: InputName | MeanStd | None = None,
    full_scale: float | None = None,
) -> Encoder:
    """Load an encoder of a known architecture from a state dict; see `geossl.models.load`.

    Raises:
        ValueError: see `geossl.models.load`.
    """
    outer = None if prefix is None else prefix.split(".")[0]
    tensors, others, inner = state_dicts.read_state_dict(path, outer=outer)
    with rename_argument("name", "architecture"):
        plain = backbones.build_outline(architecture, 3, "standard")
    keys = plain.state_dict()
    first = next(key for key, value in keys.items() if value.ndim == 4 and value.shape[1] == 3)
    starts = [key.removesuffix(first) for key in tensors if f".{key}".endswith(f".{first}")]
    counts = {start: sum(f"{start}{key}" in tensors for key in keys) for start in starts}
    starts = [s for s in starts if 2 * counts[s] >= max(counts.values())]  # not of its blocks
    if not starts:
        raise state_dicts.CheckpointError(
            f"{path} must have the keys of {architecture!r} ({first}, behind any prefix), got "
            f"{state_dicts.format_keys(tensors)}."
        )
    found = pretrained.choose_encoder([Found(s, {}) for s in starts], prefix, inner, path)
    state, heads = _divide(tensors, found.prefix, keys)
    bands = tensors[f"{found.prefix}{first}"].shape[1]
    mean, std, names = None, None, None
    described = None if input is not None else pretrained.read_description(path, bands, full_scale)
    if described is not None:
        mean, std, names = described
    elif input is None:
        mean, std, full_scale = _detect_input(plain, architecture, bands, heads, full_scale, path)
        names = ["red", "green", "blue"]
    elif isinstance(input, str):
        mean, std, full_scale, names = pretrained.normalization(input, bands, full_scale, path)
    encoder = build_encoder(architecture, bands=bands, stem="standard", mean=mean, std=std)
    state_dicts.load_into(encoder.backbone, state, path)
    encoder.metadata = {
        "file": path.name,
        "layout": architecture,
        "prefix": found.prefix,
        "bands": names,
        "input": input if isinstance(input, str) else "mean and std",
        "full_scale": full_scale,
        "left_out": [*dict.fromkeys(key.split(".")[0] for key in heads), *others],
    }
    return encoder.eval()


def described_architecture(path: Path) -> str | None:
    """Return the architecture that `geossl.models.weights.export_torchvision` wrote, if it did.

    Raises:
        CheckpointError: it is one that the installed library lacks.
    """
    beside = path.with_name(f"{path.name}.json")
    try:
        name = parse_json(beside.read_text("utf-8"))["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(name, str) or not backbones.is_library_name(name):
        return None
    try:
        backbones.check_library_name(name)
    except ValueError:
        raise state_dicts.CheckpointError(
            f"{beside} names a network that is not installed, {name!r}. Install the version of the "
            "library that has it, or move the description away."
        ) from None
    return name


def _divide(
    tensors: Mapping[str, Tensor], prefix: str, keys: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the backbone's tensors under its keys, unknown ones among them, and those of heads."""
    state, heads = {}, {}
    for key, value in tensors.items():
        inside = key.removeprefix(prefix)
        is_head = inside.split(".")[0] in (*pretrained.HEADS, *_BRANCHES)
        if not key.startswith(prefix) or is_head and inside not in keys:
            heads[inside] = value
        else:
            state[inside] = value
    return state, heads


def _detect_input(
    plain: Any,
    architecture: str,
    bands: int,
    heads: Mapping[str, Tensor],
    full_scale: float | None,
    path: Path,
) -> tuple[list[float], list[float], float]:
    """Return mean, std and full scale of published weights, which have their classifier."""
    published = bands == 3 and any(len(head) == 1000 for head in heads.values())
    if not published:
        raise ValueError(
            f"`input` must be given for {path}: weights of {architecture!r} without the classes of "
            "ImageNet do not say how their input was normalized. Pass a name of "
            f"{list(pretrained.INPUTS)}, or (mean, std) in the units of the chips."
        )
    scale = 255.0 if full_scale is None else full_scale
    if architecture.startswith("timm/"):
        mean, std = _input_of_timm(plain)
        return [m * scale / 255 for m in mean], [s * scale / 255 for s in std], scale
    mean, std, _, _ = pretrained.normalization("imagenet", bands, scale, path)
    return mean, std, scale


def _input_of_timm(net: Any) -> tuple[list[float], list[float]]:
    """Return mean and std of a network's published weights, for chips of 0 to 255."""
    about = net.pretrained_cfg
    return [255 * value for value in about["mean"]], [255 * value for value in about["std"]]
