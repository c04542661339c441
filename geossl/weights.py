"""Weights: encoders written and read as safetensors, with everything needed to use them again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from geossl import models
from geossl.files import atomic

FORMAT = 1


def save_encoder(
    encoder: models.Encoder, path: str | os.PathLike[str], *, note: dict[str, Any] | None = None
) -> None:
    """Write an encoder with its normalisation; atomic.

    Args:
        encoder: what to write.
        path: a ``.safetensors`` file; its folder is made when it is absent.
        note: anything json can hold, kept beside the weights (band names, units, source).
    """
    about = {"name": encoder.name, "bands": encoder.bands, "stem": encoder.stem}
    metadata = {"format": str(FORMAT), "encoder": json.dumps(about), "note": json.dumps(note or {})}
    tensors = {k: v.detach().cpu().contiguous() for k, v in encoder.state_dict().items()}
    with atomic(path) as part:
        save_file(tensors, part, metadata=metadata)


def load_encoder(path: str | os.PathLike[str]) -> models.Encoder:
    """Read an encoder written by `save_encoder`, in eval mode, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another kind, or written by a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"expected an encoder at {path}, found no file; give the encoder.safetensors of a run"
        )
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"expected a safetensors file at {path}, came a damaged one: {error}"
        ) from None
    if "encoder" not in metadata:
        raise ValueError(
            f"expected an encoder written by geossl at {path}, came a safetensors file without its "
            "description; write it with weights.save_encoder"
        )
    if int(metadata["format"]) > FORMAT:
        raise ValueError(
            f"{path} was written by a newer geossl (format {metadata['format']}, known {FORMAT}); "
            "update geossl"
        )
    about = json.loads(metadata["encoder"])
    result = models.encoder(about["name"], bands=about["bands"], stem=about["stem"])
    result.load_state_dict(tensors)
    return result.eval()
