"""Read and write files of tensors, also foreign and damaged ones.

A file is read as tensors and plain values only; nothing in it is ever run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from geossl.models.pickles import READ_ERRORS, CheckpointError, read_pickle
from geossl.utils.io import atomic_write, check_file, digest, parse_json

_AGAIN = "Get it again; in the directory of a run the same training call writes it again."
# Keys that hold a state dict. Where a file has several, the first of these counts.
_NESTED = (
    "state_dict_ema", "model_ema", "ema", "teacher", "state_dict", "model", "model_state_dict",
    "student",
)  # fmt: skip
_FEW = 8  # tensors; fewer are settings, such as the decay of a moving average


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the metadata and the tensors of a safetensors file.

    Raises:
        CheckpointError: the file is damaged.
    """
    with _open_safetensors(path) as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file alone.

    Raises:
        CheckpointError: the file is damaged.
    """
    with _open_safetensors(path) as file:
        return file.metadata() or {}


@contextmanager
def _open_safetensors(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or not a safetensors file ({error}). {_AGAIN}"
        ) from None


def save_model(
    kind: str,
    module: nn.Module,
    metadata: Mapping[str, Any],
    *,
    path: str | os.PathLike[str],
    format: int,
    half: bool = False,
) -> None:
    """Write a module with its description and a checksum of both; atomic.

    Args:
        kind: "encoder", "detector" or "segmenter": the name of the file in a directory.
        module: its weights are written.
        metadata: anything json can hold; the value of ``kind`` is the description.
        path: a ``.safetensors`` file, or a directory for one.
        format: number of the metadata's format.
        half: write the parameters, not the buffers, in half precision.
    """
    path = Path(path)
    path = path if path.suffix == ".safetensors" else path / f"{kind}.safetensors"
    texts = {"format": str(format)} | {key: json.dumps(value) for key, value in metadata.items()}
    state = module.state_dict()
    plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    if half:
        plain |= {name: plain[name].half() for name, _ in module.named_parameters()}
    with atomic_write(path) as part:
        save_file(plain, part, texts | {"checksum": _checksum(texts, plain)})


def _checksum(texts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of the content of a file, whatever the order in it."""
    names = sorted(tensors)
    heads = [[name, str(tensors[name].dtype), list(tensors[name].shape)] for name in names]
    about = json.dumps([sorted(texts.items()), heads]).encode()
    return digest(about, *(_bytes_of(tensors[name]) for name in names), size=16)


def load_model(
    kind: str, path: str | os.PathLike[str], *, format: int
) -> tuple[Path, dict[str, Any], dict[str, Tensor]]:
    """Read a file of `save_model`: its path, its metadata (of any content), its tensors.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, of another kind, or of a newer format.
    """
    path = find_file(path, kind)
    texts, tensors = read_safetensors(path)
    if kind not in texts:
        raise CheckpointError(
            f"{path} has no description of a geossl {kind}. Write it with geossl, or read weights "
            "of others with geossl.models.load()."
        )
    checksum = texts.pop("checksum", None)
    if checksum is not None and checksum != _checksum(texts, tensors):
        raise CheckpointError(f"{path} is damaged: its checksum is another one. {_AGAIN}")
    number = texts.pop("format", "1")
    if number.isdecimal() and int(number) > format:
        raise CheckpointError(
            f"{path} has format {number} of a newer geossl; this one reads up to {format}. "
            "Update geossl."
        )
    try:
        if checksum is None and int(number) > 1:
            raise ValueError
        return path, {key: parse_json(texts[key], finite=False) for key in texts}, tensors
    except ValueError:
        raise CheckpointError(f"The description in {path} is damaged. {_AGAIN}") from None


def find_file(path: str | os.PathLike[str], kind: str) -> Path:
    """Return the path of a file of weights, of that of its ``kind`` in a directory, or of ours.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(path)
    if kind == "encoder" and str(path) == "blue_marble" and not path.exists():
        path = Path(__file__).with_name("blue_marble.safetensors")
    path = path / f"{kind}.safetensors" if path.is_dir() else path
    try:
        return check_file(path, error=CheckpointError)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"There is no {kind} at {path}. Pass a file of weights or the directory of a run."
        ) from None


@contextmanager
def report_damage(path: Path) -> Iterator[None]:
    """Report what reading a checkpoint, or using its content, raises in the block as damage.

    Raises:
        CheckpointError: the block raised.
    """
    try:
        yield
    except READ_ERRORS:
        raise CheckpointError(
            f"The checkpoint {path} is damaged. Delete it and make the same call again, to train "
            "from the start."
        ) from None


def weights_digest(module: nn.Module) -> str:
    """Return 16 hexadecimal digits that identify the values of a module."""
    return digest(*map(_bytes_of, module.state_dict().values()))


def _bytes_of(value: Tensor) -> np.ndarray:
    return value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()


def read_state_dict(
    path: Path, *, outer: str | None = None
) -> tuple[dict[str, Tensor], list[str], str]:
    """Read dense tensors by key.

    Keys lose what wrappers put in front of all of them (``module.``) or between (``_orig_mod.``).
    Several state dicts of names that say nothing are read together, by ``NAME.key``.

    Args:
        path: a file of ``torch.save`` or safetensors.
        outer: which state dict to read of a file that has several by name; None: by `_NESTED`.

    Returns:
        The tensors, the names of what else is in the file, and the name of the state dict ("" if
        the file is one, or has several that are read together).

    Raises:
        CheckpointError: the file is damaged, asks to run code, or holds no state dict.
    """
    content = read_safetensors(path)[1] if path.suffix == ".safetensors" else read_pickle(path)
    others: list[str] = []
    name = ""
    if isinstance(content, dict):
        nested = [key for key in content if isinstance(key, str) and _is_state_dict(content[key])]
        nested = [key for key in nested if len(content[key]) >= _FEW] or nested
        inner = next((key for key in (outer, *_NESTED) if key in nested), None)
        if inner is None and len(nested) == 1 and not _is_state_dict(content):
            inner = nested[0]
        if inner is not None:
            others = [str(key) for key in content if key != inner]
            content, name = content[inner], inner
        elif nested and not _is_state_dict(content):
            others = [str(key) for key in content if key not in nested]
            parts: dict[str, Any] = {key: content[key] for key in nested}
            content = {f"{key}.{k}": v for key in parts for k, v in parts[key].items()}
    if not isinstance(content, dict) or not content:
        empty = isinstance(content, dict | list | tuple) and not content
        kind = "an empty object" if empty else type(content).__name__
        raise CheckpointError(f"{path} must hold a state dict (tensors by name), got {kind}.")
    for key, value in content.items():
        dense = isinstance(value, Tensor) and value.layout == torch.strided
        if not isinstance(key, str) or not dense or value.is_quantized or value.is_meta:
            raise CheckpointError(
                f"{path} must hold dense tensors by name, got {type(value).__name__} at {key!r}. "
                "Pass a file with the state dict alone."
            )
    content = {key.replace("_orig_mod.", ""): value for key, value in content.items()}
    if all(key.startswith("module.") for key in content):  # DistributedDataParallel
        content = {key.removeprefix("module."): value for key, value in content.items()}
    return content, others, name


def _is_state_dict(content: Any) -> bool:
    return isinstance(content, dict) and any(isinstance(v, Tensor) for v in content.values())


@torch.no_grad()
def load_into(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy tensors into all of a module's state, in place.

    Raises:
        CheckpointError: a key too many or missing, another shape, a value that is not finite.
    """
    state = module.state_dict()  # shares its memory with the module
    unknown = [key for key in tensors if key not in state]
    if unknown:
        raise CheckpointError(f"{path} has keys that the network lacks: {format_keys(unknown)}.")
    counters = "num_batches_tracked"  # absent from old files, and not used
    missing = [key for key in state if key not in tensors and not key.endswith(counters)]
    if missing:
        raise CheckpointError(f"{path} lacks keys of the network: {format_keys(missing)}.")
    for key, value in tensors.items():
        if value.shape != state[key].shape:
            raise CheckpointError(
                f"{key} in {path} must have shape {tuple(state[key].shape)}, got "
                f"{tuple(value.shape)}."
            )
        if value.is_floating_point() != state[key].is_floating_point() or value.is_complex():
            raise CheckpointError(f"{key} in {path} must be {state[key].dtype}, got {value.dtype}.")
        if not value.isfinite().all():
            raise CheckpointError(f"{key} in {path} must be finite, got nan or infinity.")
        if key.endswith("running_var") and (value < 0).any():
            raise CheckpointError(
                f"{key} in {path} is a variance and must be >= 0, got {value.min():.4g}. {_AGAIN}"
            )
        state[key].copy_(value)
        if not state[key].isfinite().all():
            raise CheckpointError(
                f"{key} in {path} must fit into {state[key].dtype}, got {value.abs().max():.4g} in "
                f"{value.dtype}."
            )


def format_keys(keys: Iterable[str]) -> str:
    """Return the first three of some keys, and the number of the others."""
    names = [repr(key) for key in keys]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
