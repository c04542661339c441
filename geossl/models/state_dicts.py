"""Files of tensors that anyone may have written, and modules filled from them key by key.

A file is read as tensors and plain values only; nothing in it is ever run.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from geossl.utils.io import atomic_write

_WRAPPED = ("state_dict", "model", "model_state_dict")
_LIGHTNING = ("pytorch_lightning.", "lightning.", "lightning_fabric.")
# What reading a hostile or damaged file was seen to raise.
_DAMAGE = (
    RuntimeError, EOFError, OSError, ValueError, TypeError, LookupError, AttributeError,
    AssertionError, ArithmeticError, MemoryError, pickle.UnpicklingError, struct.error,
)  # fmt: skip


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Description and tensors of a safetensors file.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"expected a safetensors file at {path}, came a damaged one: {error}"
        ) from None


def write_safetensors(
    tensors: Mapping[str, Tensor], metadata: dict[str, str], path: str | os.PathLike[str]
) -> None:
    """Write a safetensors file of tensors from any device; atomic."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_write(path) as part:
        save_file(plain, part, metadata)


def save_task_model(
    kind: str, network: nn.Module, about: dict[str, Any], *, path: str | os.PathLike[str], form: int
) -> None:
    """Write a network with its description; atomic.

    Args:
        kind: "detector", "segmenter": the name of the file in a folder.
        network: what to write.
        about: what json can hold.
        path: a ``.safetensors`` file, or a folder for one.
        form: number of the description's format.
    """
    path = Path(path)
    path = path if path.suffix == ".safetensors" else path / f"{kind}.safetensors"
    write_safetensors(network.state_dict(), {"format": str(form), kind: json.dumps(about)}, path)


def load_task_model(
    kind: str, path: str | os.PathLike[str], *, known: int
) -> tuple[Path, str, dict[str, Tensor]]:
    """What `save_task_model` wrote: the file, its description as json that may be anything, its tensors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, of another kind, or written by a newer version.
    """
    path = Path(path)
    path = path / f"{kind}.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"expected a {kind} at {path}, found no file; give the folder of a finished training"
        )
    metadata, tensors = read_safetensors(path)
    if kind not in metadata:
        raise ValueError(
            f"expected a {kind} at {path}, came a file without its description; write it with "
            f"train(..., out=...) or {kind.capitalize()}.save"
        )
    check_format(metadata, known, path)
    return path, metadata[kind], tensors


def check_format(metadata: Mapping[str, str], known: int, path: Path) -> None:
    """Refuse a file whose "format" is of a later number than the one known.

    Raises:
        ValueError: which.
    """
    number = metadata.get("format", "")
    if number.isdecimal() and int(number) > known:
        raise ValueError(
            f"{path} was written by a newer geossl (format {number}, known {known}); update geossl"
        )


@contextmanager
def open_checkpoint(path: Path, content: BinaryIO | None = None) -> Iterator[Any]:
    """The content of a checkpoint, to take up a training from inside the block.

    Args:
        path: the file.
        content: what is in it, where another process has read it.

    Yields:
        What ``torch.save`` wrote, on the CPU; of a ``.safetensors`` file what `read_safetensors` gives.

    Raises:
        ValueError: the file is damaged, or its content raised inside the block.
    """
    try:
        yield read_safetensors(path) if path.suffix == ".safetensors" else _load(content or path)
    except _DAMAGE:
        raise ValueError(
            f"the checkpoint {path} is damaged; delete the folder and train again"
        ) from None


def weights_digest(module: nn.Module) -> str:
    """16 hexadecimal digits that tell the values of a module from others."""
    found = hashlib.blake2b(digest_size=8)
    for value in module.state_dict().values():
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def read_state_dict(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Dense tensors by key, ``module.`` taken off; and the names of what else is in the file.

    Raises:
        ValueError: the file is damaged, wants to run code, or holds no state dict.
    """
    content = read_safetensors(path)[1] if path.suffix == ".safetensors" else _unpickled(path)
    others: list[str] = []
    if isinstance(content, dict):
        inner = next((w for w in _WRAPPED if isinstance(content.get(w), dict)), None)
        if inner is not None:
            others = [str(key) for key in content if key != inner]
            content = content[inner]
    if not isinstance(content, dict) or not content:
        raise ValueError(
            f"expected a state dict (tensors by name) in {path}, came "
            f"{type(content).__name__ if content else 'an empty one'}"
        )
    for key, value in content.items():
        dense = isinstance(value, Tensor) and value.layout == torch.strided
        if not isinstance(key, str) or not dense or value.is_quantized or value.is_meta:
            raise ValueError(
                f"expected tensors by name in {path}, came {type(value).__name__} at {key!r}; "
                "give a file of the state dict alone"
            )
    if all(key.startswith("module.") for key in content):  # DistributedDataParallel
        content = {key.removeprefix("module."): value for key, value in content.items()}
    return content, others


def _unpickled(path: Path) -> Any:
    """What ``torch.load`` reads of tensors and plain values."""
    try:
        try:
            return _load(path)
        except pickle.UnpicklingError:
            # Lightning pickles its own classes beside the weights: a dict takes the place of each.
            wanted = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            if not wanted or not all(name.startswith(_LIGHTNING) for name in wanted):
                raise
            with torch.serialization.safe_globals([(dict, name) for name in wanted]):
                return _load(path)
    except _DAMAGE as error:
        asked = re.search(r"GLOBAL ([\w.]+)", f"{error} {error.__context__}")
        if asked:
            raise ValueError(
                f"expected weights alone in {path}, came a file that asks to run {asked[1]}, which "
                "is refused; if you trust its source, write its state dict alone where that is "
                "installed: torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW)"
            ) from None
    raise ValueError(
        f"expected a file of weights (torch.save or .safetensors) at {path}, came a damaged one or "
        "another kind of file; get it again"
    )


def _load(path: Path | BinaryIO) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle protocols and old storages: nothing to do
        return torch.load(path, map_location="cpu", weights_only=True)


@torch.no_grad()
def load_into(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Copy tensors into a module: every key lands, and everything in the module gets one.

    Raises:
        ValueError: a key too many or missing, another shape, a value that is not finite.
    """
    wanted = module.state_dict()
    extra = [key for key in tensors if key not in wanted]
    if extra:
        raise ValueError(
            f"expected no more than the encoder's keys in {path}, came also {format_keys(extra)}"
        )
    counters = "num_batches_tracked"  # absent from old files, and not used
    missing = [key for key in wanted if key not in tensors and not key.endswith(counters)]
    if missing:
        raise ValueError(
            f"expected every key of the encoder in {path}, missing {format_keys(missing)}"
        )
    for key, value in tensors.items():
        if value.shape != wanted[key].shape:
            raise ValueError(
                f"expected {key} of {tuple(wanted[key].shape)} in {path}, came {tuple(value.shape)}"
            )
        if not value.isfinite().all():
            raise ValueError(f"expected finite weights in {path}, came nan or infinity in {key}")
        wanted[key].copy_(value)  # shares its memory with the module


def format_keys(keys: Iterable[str]) -> str:
    """The first three of some keys, and how many more there are."""
    names = [repr(key) for key in keys]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
