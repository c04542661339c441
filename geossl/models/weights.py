"""Save, load, adapt and export encoders."""

from __future__ import annotations

import copy
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from geossl.models import backbones, hub, library_weights, pretrained, state_dicts
from geossl.models.bands import Adapt, with_bands
from geossl.models.encoder import COMPACT, Encoder, Stem, build_encoder, set_normalization
from geossl.utils.io import as_record, atomic_write
from geossl.utils.validate import Positive, PositiveInt, check, validated

__all__ = [
    "export_onnx", "export_torchvision", "load", "load_encoder", "save_encoder", "with_bands",
    "with_input",
]  # fmt: skip
FORMAT = 2  # files of 1 have no checksum


@validated
def save_encoder(
    encoder: Encoder,
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write an encoder with its normalization; atomic.

    Args:
        encoder: what to write.
        path: a ``.safetensors`` file, or a directory for ``encoder.safetensors``.
        metadata: anything json can hold, saved with the weights (band names, units, source); the
            encoder's own when None.
        half: write the weights in half precision: half the size, and `load_encoder` reads them back
            as float32, rounded.
    """
    metadata = encoder.metadata if metadata is None else metadata
    _check_band_names(metadata, encoder.bands)
    described = {"encoder": encoder.config, "note": dict(metadata)}
    state_dicts.save_model("encoder", encoder, described, path=path, format=FORMAT, half=half)


@validated
def load_encoder(path: str | os.PathLike[str]) -> Encoder:
    """Load an encoder of `save_encoder` with its ``metadata``, in eval mode, on the CPU.

    "blue_marble" is one that ships with geossl: trained on the embedded world, for its chips. Its
    metadata is its model card.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another kind, or written by a newer version.
    """
    path, described, tensors = state_dicts.load_model("encoder", path, format=FORMAT)
    try:
        encoder = describe_encoder(described["encoder"], described.get("note", {}), tensors)
    except (ValueError, TypeError, KeyError) as error:
        raise state_dicts.CheckpointError(
            f"The description in {path} does not fit its tensors ({error}). Write the file again."
        ) from None
    state_dicts.load_into(encoder, tensors, path)
    return encoder.eval()


def _check_band_names(metadata: Mapping[str, Any], bands: int) -> None:
    names = metadata.get("bands")
    texts = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    if isinstance(names, list | tuple) and not (texts and len(names) == bands):
        raise ValueError(
            f"`bands` of the metadata must name each of the encoder's {bands} bands, got {names}."
        )


@dataclass(frozen=True)
class _Architecture:
    name: str
    bands: PositiveInt
    stem: Stem


def describe_encoder(
    architecture: Any, note: Any, tensors: Mapping[str, Tensor], *, prefix: str = ""
) -> Encoder:
    """Build the encoder of a file's description, with untrained weights.

    Args:
        architecture: of the file, what `Encoder.config` was.
        note: of the file, the encoder's metadata.
        tensors: of the file; a description of other sizes, which may be huge, is refused.
        prefix: of the encoder's tensors.

    Raises:
        ValueError: something in the description is of a wrong type or does not fit the tensors.
    """
    about = as_record(_Architecture, architecture)
    check("note", note, dict)
    _check_band_names(note, about.bands)
    for name in ("mean", "std"):
        value = tensors.get(f"{prefix}{name}")
        if value is None or value.shape != (about.bands,) or not value.is_floating_point():
            raise ValueError(f"it must have {about.bands} numbers of `{name}`")
        if name == "std" and not (value > 0).all():
            raise ValueError(f"`std` must be > 0, got {value.tolist()}")
    if backbones.is_library_name(about.name):  # they come in all sizes
        plain = backbones.build_outline(about.name, about.bands, about.stem)
        sizes = {
            f"{prefix}backbone.{key}": value.shape for key, value in plain.state_dict().items()
        }
        if any(key not in tensors or tensors[key].shape != size for key, size in sizes.items()):
            raise ValueError(f"its tensors are not those of {about.name!r}")
    encoder = build_encoder(about.name, bands=about.bands, stem=about.stem)
    encoder.metadata = note
    return encoder


@validated
def load(
    path: str | os.PathLike[str],
    *,
    architecture: str | None = None,
    layout: Literal["geossl", pretrained.LayoutName] | None = None,
    prefix: str | None = None,
    input: pretrained.InputName | pretrained.MeanStd | None = None,
    full_scale: Positive | None = None,
    bands: PositiveInt | Sequence[str] | None = None,
    reads: Sequence[str | PositiveInt] | None = None,
    adapt: Adapt = "name",
) -> Encoder:
    """Load an encoder from weights of any known layout, in eval mode, on the CPU.

    Projection heads, classifiers, the key encoder and the queue are left out, and named in the
    encoder's ``metadata``, which also holds the layout, the input and the band names. Nothing in
    the file is run.

    Args:
        path: our ``encoder.safetensors`` or a run's directory, "blue_marble" as in `load_encoder`,
            weights of others (``torch.save`` or safetensors), or a name of
            `geossl.models.hub.WEIGHTS`, or timm's ("timm/convnext_tiny.fb_in22k"), which are
            downloaded once.
        architecture: of files that do not say it, all but ResNets: a name of `build_encoder` such
            as "timm/vit_small_patch16_224" or "torchvision/swin_t".
        layout: detected from the keys when None. "geossl": ours. "moco": ``encoder_q.conv1.weight``
            (the paper's checkpoints, facebookresearch MoCo v1 and v2, SSL4EO-S12). "seco":
            ``encoder_q.0.weight`` (SeCo). "resnet": ``conv1.weight`` (torchvision, timm, torchgeo)
            or, in a sequence of a ResNet's children, ``0.weight``, behind any prefix.
        prefix: in front of the encoder's keys, such as "backbone." or "teacher.backbone."; found
            when None. Of several encoders the teacher's or the one named ``ema`` is taken, else the
            one that is no key, target or momentum encoder.
        input: the network's input in training: a name of `pretrained.INPUTS`, or (mean, std) of
            the chips' bands in the units of the chips. Not needed where the file says it: "moco"
            with 3 bands and a 1000-class ResNet are "imagenet" (SSL4EO-S12's three-band files
            share these keys and need "ssl4eo"), "moco" with 13 is "ssl4eo", "seco" with 3 "seco",
            and torchgeo's files are known by their SHA-256, those of `export_torchvision` by the
            description beside them.
        full_scale: the value of a chip that stands for 1 (255: 8 bits; 10,000: Sentinel-2 and
            ``imagenet`` weights on reflectances); the named input's own when None.
        bands: number or names of the chips' bands, in their order; the file's own when None.
        reads: those of ``bands`` that the encoder reads; see `with_bands`, as for the next.
        adapt: how the first convolution is adapted to ``bands``.

    Raises:
        FileNotFoundError: there is no such file.
        ConnectionError: weights by name, without a network.
        ValueError: the file is damaged or asks to run code; a key is unknown or missing; an
            unknown depth or layout; an ``input`` that is needed; several encoders, or none with
            that ``prefix``; bands that do not fit.
    """
    if architecture is not None and not backbones.is_library_name(architecture):
        raise ValueError(
            "`architecture` must be one of a library such as 'timm/convnext_tiny' (ResNets are "
            f"found without it), got {architecture!r}."
        )
    if library_weights.is_published(str(path)) and not Path(path).exists():
        if (architecture, layout, prefix, input, full_scale) != (None,) * 5:
            raise ValueError(
                f"The weights {str(path)!r} say what they are. Leave out `architecture`, `layout`, "
                "`prefix`, `input` and `full_scale`."
            )
        encoder = library_weights.download_timm(str(path))
        return with_bands(encoder, bands, reads=reads, adapt=adapt)
    if str(path) in hub.WEIGHTS and not Path(path).exists():
        path = hub.download_weights(str(path))
    try:
        path = state_dicts.find_file(path, "encoder")
    except FileNotFoundError as error:
        names = ", ".join(sorted(hub.WEIGHTS))
        raise FileNotFoundError(f"{error} Names that are downloaded: {names}.") from None
    if layout == "geossl" or layout is None and _is_ours(path):
        options = dict(architecture=architecture, input=input, full_scale=full_scale, prefix=prefix)
        needless = [f"`{name}`" for name, value in options.items() if value is not None]
        if needless:
            raise ValueError(
                f"{path} has its own network, normalization and keys. Leave out "
                f"{', '.join(needless)}."
            )
        encoder = load_encoder(path)
    else:
        architecture = architecture or library_weights.described_architecture(path)
        if full_scale is not None and input is not None and not isinstance(input, str):
            raise ValueError("`full_scale` needs a named `input`. Scale mean and std instead.")
        if architecture is None:
            encoder = pretrained.load_pretrained(
                path, layout=layout, prefix=prefix, input=input, full_scale=full_scale
            )
        else:
            encoder = library_weights.load_library_weights(
                path, architecture, prefix=prefix, input=input, full_scale=full_scale
            )
    encoder = with_bands(encoder, bands, reads=reads, adapt=adapt)
    return encoder if input is None or isinstance(input, str) else with_input(encoder, *input)


@validated
def with_input(encoder: Encoder, mean: ArrayLike, std: ArrayLike) -> Encoder:
    """Copy an encoder with another normalization of its input, e.g. a store's own statistics.

    Use it for images of another sensor, unit or range: ``with_input(e, store.mean, store.std)``.

    Args:
        encoder: left as it is.
        mean: ``(C,)`` of the bands, in the units of the chips.
        std: ``(C,)`` likewise, > 0.

    Raises:
        ValueError: another number of bands, or a std that is not > 0.
    """
    copied = copy.deepcopy(encoder)
    set_normalization(copied, mean, std)
    return copied


@validated
def export_torchvision(encoder: Encoder, path: str | os.PathLike[str]) -> None:
    """Write a plain state dict that torchvision, timm and torchgeo load; atomic.

    It has the keys of the network in its library, without the classifier:
    ``torchvision.models.resnet50().load_state_dict(torch.load(path), strict=False)`` lacks ``fc``
    only; with other than 3 bands the model needs a ``conv1`` (timm: ``in_chans``) of that many.
    A state dict has no room for the normalization, which is written to ``<path>.json``.

    Raises:
        ValueError: not a network of a library with the standard stem.
    """
    if encoder.name in COMPACT or encoder.stem != "standard":
        raise ValueError(
            "`encoder` must be a network of torchvision or timm with stem='standard', got "
            f"{encoder.name!r} with stem={encoder.stem!r}. Use save_encoder() or export_onnx()."
        )
    state = {k: v.detach().cpu().clone() for k, v in encoder.backbone.state_dict().items()}
    description = {
        "model": encoder.name,
        "input": "(chips - mean) / std, band by band, in the units of the chips",
        "mean": encoder.mean.tolist(),
        "std": encoder.std.tolist(),
        "note": encoder.metadata,
    }
    path = Path(path)
    with atomic_write(path) as part:
        torch.save(state, part)
    with atomic_write(path.with_name(f"{path.name}.json")) as part:
        part.write_text(json.dumps(description, indent=1), "utf-8")


@validated
def export_onnx(encoder: Encoder, path: str | os.PathLike[str]) -> None:
    """Write an ONNX graph from chips to embeddings, normalization included; atomic.

    Its input ``chips`` is ``(N, C, H, W)`` float32 in the units of the chips, its output
    ``embedding`` ``(N, E)``; N, H and W are free.

    Raises:
        ImportError: the package onnx is missing.
    """
    try:
        import onnx  # noqa: F401 (the exporter needs it)
    except ImportError:
        raise ImportError("export_onnx() needs the package onnx: pip install onnx.") from None
    model = _FromChips(copy.deepcopy(encoder).cpu()).eval()
    with atomic_write(path) as part, warnings.catch_warnings():
        # The exporter that needs onnx alone says it is the old one.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        torch.onnx.export(
            model,
            (torch.zeros(1, encoder.bands, 64, 64),),
            str(part),
            dynamo=False,
            input_names=["chips"],
            output_names=["embedding"],
            dynamic_axes={"chips": {0: "N", 2: "H", 3: "W"}, "embedding": {0: "N"}},
        )


class _FromChips(nn.Module):
    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, chips: Tensor) -> Tensor:
        return self.encoder(self.encoder.normalize(chips))


def _is_ours(path: Path) -> bool:
    return path.suffix == ".safetensors" and "encoder" in state_dicts.read_metadata(path)
