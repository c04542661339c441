"""Backbones of torchvision and timm by name, without their classifier.

Shapes: N images, C bands, H x W pixels, E embedding.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from torch import Tensor, nn

_NAME = re.compile(r"(timm|torchvision)/([A-Za-z0-9_]+)")
_WITHOUT_BRANCHES = dict.fromkeys(
    ("googlenet", "inception_v3"), {"aux_logits": False, "init_weights": True}
)


def is_library_name(name: str) -> bool:
    """Return whether a name is one of a library: ``timm/NAME`` or ``torchvision/NAME``."""
    return _NAME.fullmatch(name) is not None


def check_library_name(name: str) -> None:
    """Check that timm or torchvision has a backbone.

    Raises:
        ValueError: it is not one of theirs.
        ImportError: timm is not installed.
    """
    library, model = _split(name)
    known = _import_timm().is_model(model) if library == "timm" else model in _of_torchvision()
    if not known:
        where = "timm.list_models()" if library == "timm" else "torchvision.models.list_models()"
        raise ValueError(f"`name` must be one that {library} has, got {name!r}. See {where}.")


def build_backbone(name: str, bands: int, stem: str) -> tuple[nn.Module, int]:
    """Build a backbone from normalized images ``(N, C, H, W)`` to what its classifier would read.

    A small stem has a quarter of the stride: patches of 4 px for 16, a first layer of stride 1 for
    4.

    Args:
        name: ``timm/NAME`` or ``torchvision/NAME``.
        bands: number of input bands.
        stem: "standard", or "small" where there is one.

    Returns:
        The untrained backbone, and the length E of its output.

    Raises:
        ValueError: no such backbone, or it has no small stem.
    """
    check_library_name(name)
    library, model = _split(name)
    backbone, width, size_px = (_timm if library == "timm" else _torchvision)(model, bands, stem)
    if size_px is not None:
        backbone.register_forward_pre_hook(_SizeCheck(name, size_px))
    return backbone, width


def build_outline(name: str, bands: int, stem: str) -> nn.Module:
    """Build a backbone for the names and shapes of its weights, which have no values.

    Raises:
        ValueError: as in `build_backbone`.
    """
    try:
        with torch.device("meta"):
            return build_backbone(name, bands, stem)[0]
    except NotImplementedError:  # torchvision's RegNet reads values of tensors while it is built
        with torch.random.fork_rng(devices=[]):
            return build_backbone(name, bands, stem)[0]


def use_small_stem(net: Any, bands: int) -> None:
    """Give a ResNet a first convolution of 3x3 with stride 1, and no pooling after it."""
    net.conv1 = nn.Conv2d(bands, net.conv1.out_channels, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")


def _split(name: str) -> tuple[str, str]:
    match = _NAME.fullmatch(name)
    assert match is not None
    return match[1], match[2]


def _timm(model: str, bands: int, stem: str) -> tuple[nn.Module, int, int | None]:
    """Return a backbone of timm, its width, and its only size in pixels if it has one."""
    timm = _import_timm()
    with torch.device("meta"):
        plain = timm.create_model(model, num_classes=0)
    options = inspect.signature(type(plain).__init__).parameters
    needed: dict[str, Any] = {}
    if "strict_img_size" in options:  # windows of any number
        needed = {"strict_img_size": False}
    elif "dynamic_img_size" in options:
        needed = {"dynamic_img_size": True, "dynamic_img_pad": True}
    size_px = plain.pretrained_cfg["input_size"][1]
    patch = _patch_px(plain)
    if stem == "small":
        if "patch_size" not in options or patch is None or "img_size" in options and not needed:
            raise ValueError(
                f"`stem` must be 'standard' for 'timm/{model}', which has no small one. Use "
                "stem='standard'."
            )
        needed["patch_size"] = max(patch // 4, 1)
        if "img_size" in options:
            needed["img_size"] = size_px // 4
    net = timm.create_model(model, num_classes=0, in_chans=bands, **needed)
    is_fixed = plain.pretrained_cfg.get("fixed_input_size", False) and not needed
    return net, net.head_hidden_size, size_px if is_fixed else None


def _patch_px(net: Any) -> int | None:
    """Return the side of the patches that the first layer reads, in pixels."""
    first = getattr(getattr(net, "patch_embed", None), "patch_size", None)
    if first is None and hasattr(net, "stem") and isinstance(net.stem, nn.Sequential):
        first = getattr(net.stem[0], "kernel_size", None)
    return first[0] if isinstance(first, tuple) else None


def _torchvision(model: str, bands: int, stem: str) -> tuple[nn.Module, int, int | None]:
    """Return a backbone of torchvision, its width, and its only size in pixels if it has one."""
    import torchvision

    net = torchvision.models.get_model(model, weights=None, **_WITHOUT_BRANCHES.get(model, {}))
    layers = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise ValueError(
            f"`name` must be a network whose last layer is linear, got 'torchvision/{model}'."
        )
    name, last = layers[-1]
    _replace(net, name, nn.Identity())
    is_resnet = isinstance(net, torchvision.models.ResNet)
    if stem == "small":
        if not is_resnet:
            raise ValueError(
                f"`stem` must be 'standard' for 'torchvision/{model}', which has no small one. Use "
                "stem='standard'."
            )
        use_small_stem(net, bands)
    elif bands != 3:
        first: Any
        name, first = next((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
        conv = nn.Conv2d(
            bands, first.out_channels, first.kernel_size, first.stride, first.padding,
            bias=first.bias is not None,
        )  # fmt: skip
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        _replace(net, name, conv)
    return net, last.in_features, getattr(net, "image_size", None)


def _replace(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, module)


class _SizeCheck:
    """Refuse images of another size than the only one a network takes."""

    def __init__(self, name: str, size_px: int):
        self.name, self.size_px = name, size_px

    def __call__(self, _: nn.Module, inputs: tuple[Tensor]) -> None:
        height, width = inputs[0].shape[-2:]
        if (height, width) != (self.size_px, self.size_px):
            raise ValueError(
                f"`size_px` must be {self.size_px} for {self.name!r}, which takes no other size, "
                f"got images of {height} x {width} px."
            )


def _of_torchvision() -> list[str]:
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def _import_timm() -> Any:
    try:
        import timm
    except ImportError:
        raise ImportError(
            "Backbones of timm need the package timm: pip install 'geossl[encoders]'."
        ) from None
    return timm
