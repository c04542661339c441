"""Weights: encoders written, read in many layouts, fitted to other bands, and given to others."""

from __future__ import annotations

import copy
import json
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from geossl import models
from geossl.models import pretrained, state_dicts
from geossl.utils.io import atomic_write

FORMAT = 1
ADAPT = ("name", "mean")
_COLORS = {"blue": "b2", "green": "b3", "red": "b4", "nir": "b8"}  # of Sentinel-2


def save_encoder(
    encoder: models.Encoder, path: str | os.PathLike[str], *, note: dict[str, Any] | None = None
) -> None:
    """Write an encoder with its normalization; atomic.

    Args:
        encoder: what to write.
        path: a ``.safetensors`` file; its folder is made when it is absent.
        note: anything json can hold, kept beside the weights (band names, units, source); the
            encoder's own note when None.
    """
    note = encoder.note if note is None else note
    metadata = {
        "format": str(FORMAT),
        "encoder": json.dumps(encoder.about),
        "note": json.dumps(note or {}),
    }
    state_dicts.write_safetensors(encoder.state_dict(), metadata, path)


def load_encoder(path: str | os.PathLike[str]) -> models.Encoder:
    """Read an encoder written by `save_encoder`, in eval mode, on the CPU, with its ``note``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another kind, or written by a newer version.
    """
    path = _file(path)
    metadata, tensors = state_dicts.read_safetensors(path)
    if "encoder" not in metadata:
        raise ValueError(
            f"expected an encoder written by geossl at {path}, came a safetensors file without its "
            "description; write it with weights.save_encoder, or read it with weights.load"
        )
    state_dicts.check_format(metadata, FORMAT, path)
    try:
        about, note = json.loads(metadata["encoder"]), json.loads(metadata.get("note", "{}"))
        name, bands, stem = about["name"], about["bands"], about["stem"]
        fits = tuple(tensors["mean"].shape) == (bands,) and isinstance(note, dict)
    except (ValueError, TypeError, KeyError, RecursionError):
        fits = False
    if not fits:
        raise ValueError(
            f"expected an encoder written by geossl at {path}, came a description that does not "
            "fit its tensors; write the file again"
        )
    result = models.build_encoder(name, bands=bands, stem=stem)
    state_dicts.load_into(result, tensors, path)
    return _noted(result.eval(), note)


def load(
    path: str | os.PathLike[str],
    *,
    layout: str | None = None,
    input: str | pretrained.Pair | None = None,
    full_scale: float | None = None,
    bands: int | Sequence[str] | None = None,
    adapt: str = "name",
) -> models.Encoder:
    """An encoder from weights of any known layout, in eval mode, on the CPU.

    Projection heads, classifiers, the key encoder and the queue are left out, and named in the
    encoder's ``note``, a dict that also holds the layout, the input and the band names.
    `save_encoder` keeps it. Nothing in the file is run.

    Args:
        path: our ``encoder.safetensors`` or a run's folder, or weights of others (``torch.save`` or
            safetensors).
        layout: told from the keys when None. "geossl": ours. "moco": ``encoder_q.conv1.weight``
            (the paper's checkpoints, facebookresearch MoCo v1 and v2, SSL4EO-S12). "seco":
            ``encoder_q.0.weight`` (SeCo). "resnet": ``conv1.weight`` (torchvision, timm, torchgeo).
        input: what the network saw: a name of `foreign.INPUTS`, or (mean, std) of the chips' bands
            in the units of the chips. None where layout and bands say it: "moco" with 3 bands and a
            1000-class ResNet are "imagenet" (SSL4EO-S12's three-band files share these keys and
            want "ssl4eo"), "moco" with 13 "ssl4eo", "seco" with 3 "seco", and torchgeo's files
            are known by their SHA-256.
        full_scale: the value of a chip that stands for 1 (255: 8 bits; 10,000: Sentinel-2 and
            ``imagenet`` weights on reflectances); the named input's own when None. Not for a pair.
        bands: number or names of the chips' bands, in their order; the file's own when None.
        adapt: how the first convolution is fitted to ``bands``; see `with_bands`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or asks to run code; a key does not land or is missing; an
            unknown depth or layout; an input that has to be given; bands that do not fit.
    """
    path = _file(path)
    pair = None if isinstance(input, str) else input
    if pair is not None and len(pair) != 2:
        raise ValueError(f"expected input as a name or (mean, std), came {pair!r}")
    if layout == "geossl" or layout is None and _is_ours(path):
        if input is not None or full_scale is not None:
            raise ValueError(f"{path} has its own normalization; leave input and full_scale out")
        result = load_encoder(path)
    else:
        if pair is not None and full_scale is not None:
            raise ValueError("expected full_scale beside a named input; scale mean and std instead")
        result, note = pretrained.read_checkpoint(
            path, layout=layout, input=input, full_scale=full_scale
        )
        result = _noted(result, note)
    result = with_bands(result, bands, adapt=adapt)
    return result if pair is None else with_input(result, *pair)


def with_bands(
    encoder: models.Encoder, bands: int | Sequence[str] | None, *, adapt: str = "name"
) -> models.Encoder:
    """An encoder whose first convolution takes other bands, made from the weights it has.

    With weights ``W[:, c]`` of its C bands, those of C' bands are ``s * sum_c A[j, c] W[:, c]``;
    mean and std become ``A @ mean`` and ``A @ std``. "name": ``A[j, c]`` is 1 for the band of that
    name, else 0, and ``s = 1``: a band left out counts as one that is always at its mean. "mean":
    a band of an unknown name, or every band where only a number is given, gets ``A[j, c] = 1/C``,
    and ``s = C/C'``: an image whose normalized bands are all alike keeps its embedding.

    Args:
        encoder: left as it is; its ``note["bands"]`` are the names known.
        bands: number or names, in the order of the chips. Names are compared as words; ``B04`` is
            ``B4``, and among Sentinel-2's names red, green, blue and nir are B4, B3, B2 and B8.
        adapt: "name" refuses what it has no band for; "mean" makes the band up.

    Raises:
        ValueError: bands that "name" does not have, or an unknown ``adapt``.
    """
    if adapt not in ADAPT:
        raise ValueError(f"expected adapt of {', '.join(ADAPT)}; came {adapt!r}")
    note = encoder.note
    have = note["bands"] if isinstance(note.get("bands"), list) else []
    if bands is None or bands == encoder.bands:
        return encoder
    names = None if isinstance(bands, int) else list(bands)
    count = bands if isinstance(bands, int) else len(bands)
    if count < 1:
        raise ValueError(f"expected one band or more, came {bands!r}")
    if names is not None and not have and len(names) == encoder.bands:
        return _noted(copy.deepcopy(encoder), {**note, "bands": names})  # nothing to compare with
    index = _indices(have, names or [None] * count)
    if index == list(range(encoder.bands)):
        return encoder
    if adapt == "name" and -1 in index:
        raise ValueError(
            f"expected bands among {have or f'{encoder.bands} without names'}, came {bands!r}; "
            "name the chips' bands by these words, or have others made up with adapt='mean'"
        )
    rows = torch.eye(encoder.bands)[index]  # (C', C)
    rows[torch.tensor(index) == -1] = 1 / encoder.bands
    scale = 1.0 if adapt == "name" else encoder.bands / count
    result = models.build_encoder(encoder.name, bands=count, stem=encoder.stem)
    state = {key: value.detach().cpu() for key, value in encoder.state_dict().items()}
    first = next(key for key, value in state.items() if value.ndim == 4)
    state[first] = scale * torch.einsum("jc,ochw->ojhw", rows, state[first])
    state["mean"], state["std"] = rows @ state["mean"], rows @ state["std"]
    result.load_state_dict(state)
    note = {**note, "bands": names, "bands_from": have, "adapt": adapt}
    return _noted(result.train(encoder.training).to(encoder.mean.device), note)


def with_input(
    encoder: models.Encoder, mean: ArrayLike | Tensor, std: ArrayLike | Tensor
) -> models.Encoder:
    """A copy of an encoder that normalizes its input otherwise, e.g. by a store's own statistics.

    What fits images of another sensor, unit or range: ``with_input(e, store.mean, store.std)``.

    Args:
        encoder: left as it is.
        mean: ``(C,)`` of the bands, in the units of the chips to come.
        std: ``(C,)`` likewise, > 0.

    Raises:
        ValueError: another number of bands, or a std that is not > 0.
    """
    given = [torch.as_tensor(values, dtype=torch.float32) for values in (mean, std)]
    fits = all(values.shape == encoder.mean.shape for values in given)
    if not fits or not bool(torch.stack(given).isfinite().all() and (given[1] > 0).all()):
        raise ValueError(
            f"expected mean and std of {encoder.bands} bands with std > 0, came "
            f"{[values.tolist() for values in given]}"
        )
    result = copy.deepcopy(encoder)
    result.mean.copy_(given[0])
    result.std.copy_(given[1])
    return result


def export_torchvision(encoder: models.Encoder, path: str | os.PathLike[str]) -> None:
    """Write a plain state dict that torchvision, timm and torchgeo load; atomic.

    ``torchvision.models.resnet50().load_state_dict(torch.load(path), strict=False)`` misses ``fc``
    only; with other than 3 bands the model needs a ``conv1`` (timm: ``in_chans``) of that many.
    A state dict has no room for the normalization: it is written beside, to ``<path>.json``.

    Raises:
        ValueError: not a ResNet with the standard stem.
    """
    if not encoder.name.startswith("resnet") or encoder.stem != "standard":
        raise ValueError(
            "expected a ResNet with stem='standard', which is torchvision's, came "
            f"{encoder.name!r} with stem={encoder.stem!r}; use save_encoder or export_onnx"
        )
    state = {k: v.detach().cpu().clone() for k, v in encoder.backbone.state_dict().items()}
    about = {
        "model": encoder.name,
        "input": "(chips - mean) / std, band by band, in the units of the chips",
        "mean": encoder.mean.tolist(),
        "std": encoder.std.tolist(),
        "note": encoder.note,
    }
    path = Path(path)
    with atomic_write(path) as part:
        torch.save(state, part)
    with atomic_write(path.with_name(f"{path.name}.json")) as part:
        part.write_text(json.dumps(about, indent=1), "utf-8")


def export_onnx(encoder: models.Encoder, path: str | os.PathLike[str]) -> None:
    """Write an ONNX graph from chips to embeddings, normalization inside; atomic.

    Its input ``chips`` is ``(N, C, H, W)`` float32 in the units of the chips, its output
    ``embedding`` ``(N, E)``; N, H and W are free.

    Raises:
        ImportError: the package onnx is missing.
    """
    try:
        import onnx  # noqa: F401 (the exporter needs it)
    except ImportError:
        raise ImportError("export_onnx needs the package onnx; run: pip install onnx") from None
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
    def __init__(self, encoder: models.Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, chips: Tensor) -> Tensor:
        return self.encoder(self.encoder.normalize(chips))


def _file(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.is_dir():
        path = path / "encoder.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"expected an encoder at {path}, found no file; give the encoder.safetensors of a run "
            "or a file of weights"
        )
    return path


def _is_ours(path: Path) -> bool:
    return path.suffix == ".safetensors" and "encoder" in state_dicts.read_safetensors(path)[0]


def _noted(encoder: models.Encoder, note: dict[str, Any]) -> models.Encoder:
    encoder.note = note
    return encoder


def _indices(have: Sequence[str], want: Sequence[str | None]) -> list[int]:
    """Where each wanted band is among those at hand; -1 when it is not."""
    words = {_word(name): place for place, name in enumerate(have)}
    if "b2" in words:
        words.update({color: words[b] for color, b in _COLORS.items() if b in words})
    return [-1 if name is None else words.get(_word(name), -1) for name in want]


def _word(name: str) -> str:
    return re.sub(r"^b0+(?=\d)", "b", str(name).lower())
