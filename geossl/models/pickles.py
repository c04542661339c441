"""Read files of ``torch.save`` as tensors and plain values; nothing in them is ever run."""

from __future__ import annotations

import io
import pickle
import re
import struct
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

# Nothing of these names is imported or called: an empty object takes its place. Those that end with
# a dot are of a package.
_METADATA = (
    "argparse.Namespace", "types.SimpleNamespace", "numpy.", "pathlib.", "omegaconf.", "datetime.",
    "typing.Any", "decimal.Decimal", "fractions.Fraction", "uuid.UUID",
    "torch.torch_version.TorchVersion",
    *(
        f"builtins.{name}" for name in (
            "bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "range", "set",
            "slice", "str", "tuple",
        )
    ),
)  # fmt: skip
# Likewise a plain dict of the content in the file.
_DICTS = ("pytorch_lightning.", "lightning.", "lightning_fabric.", "collections.defaultdict")
# All that reading hostile or damaged files raised in tests.
READ_ERRORS = (
    RuntimeError, EOFError, OSError, ValueError, TypeError, LookupError, AttributeError,
    AssertionError, ArithmeticError, MemoryError, pickle.UnpicklingError, struct.error,
    zipfile.BadZipFile,
)  # fmt: skip


class CheckpointError(ValueError):
    """A file of weights that is damaged, of another kind, or of a newer geossl."""


def load_checkpoint(file: Path | io.BytesIO) -> Any:
    """Return the object that ``torch.save`` wrote, of tensors and plain values, on the CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle protocols and old storages: nothing to do
        return torch.load(file, map_location="cpu", weights_only=True)


def read_pickle(path: Path) -> Any:
    """Return the object of a file of others, whose settings become empty objects.

    Raises:
        CheckpointError: the file is damaged or asks to run code.
    """
    stand_ins: dict[str, type] = {}
    with suppress(*READ_ERRORS):  # all names at once, where the file is a zip
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        stand_ins = {name: _stand_in(name) for name in names if _is_harmless(name)}
    while True:
        pairs: list[Any] = [(kind, name) for name, kind in stand_ins.items()]
        try:
            with torch.serialization.safe_globals(pairs):
                return load_checkpoint(path)
        except READ_ERRORS as error:
            code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code is None:
            raise CheckpointError(
                f"{path} is damaged or not a file of weights (torch.save or .safetensors). Get it "
                "again."
            )
        name = code[1] if "." in code[1] else f"builtins.{code[1]}"
        if name in stand_ins or not _is_harmless(name):
            raise CheckpointError(
                f"{path} asks to run {name}, which is refused. If you trust its source, write its "
                "state dict alone where that is installed: "
                "torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW)."
            )
        stand_ins[name] = _stand_in(name)


def _is_harmless(name: str) -> bool:
    """Return whether a name is one that tools pickle with their settings."""
    return any(
        name.startswith(known) if known.endswith(".") else name == known
        for known in (*_DICTS, *_METADATA)
    )


def _stand_in(name: str) -> type:
    """Make a class of that name, which messages show."""
    base = _Dict if name.startswith(_DICTS) else _Empty
    return type(name.rpartition(".")[2], (base,), {})


class _Empty:
    """What stands where a file has an object that is no weight: it takes anything, and is empty."""

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, _: Any) -> None:
        pass


class _Dict:
    """What makes a plain dict, to which torch adds the items that the file has."""

    def __new__(cls, *_: Any) -> Any:
        return {}
