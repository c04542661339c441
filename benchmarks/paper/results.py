"""Results on disk: one small json for each step and method, with the settings that made it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from settings import OF_DATA, Settings

import geossl
from geossl.train.throughput import processor_name
from geossl.utils import dist
from geossl.utils.device import select_device
from geossl.utils.io import atomic_write, load_json


class Results:
    """The results of a task in its folder.

    Args:
        settings: the options; a result that others made is refused.
    """

    def __init__(self, settings: Settings):
        self._settings = settings

    def path(self, step: str, method: str) -> Path:
        """Return the file of a result."""
        return self._settings.folder / "results" / step / f"{method}.json"

    def load(self, step: str, method: str) -> dict[str, Any] | None:
        """Return a result, or None where there is none yet.

        Raises:
            ValueError: other settings made it, or the file is damaged.
        """
        path = self.path(step, method)
        if not path.exists():
            return None
        result = read(path)
        ours, theirs = self.settings_of(step, method), result["settings"]
        for name in {**ours, **theirs}:
            if ours.get(name) != theirs.get(name):
                raise ValueError(
                    f"{path} was made with another `{name}` ({theirs.get(name)}, not "
                    f"{ours.get(name)}). Use the same settings or another `output_dir`, or remove "
                    "that file to measure again."
                )
        return result

    def require(self, step: str, method: str) -> dict[str, Any]:
        """Return a result that another step needs.

        Raises:
            ValueError: there is none.
        """
        result = self.load(step, method)
        if result is None:
            what = "" if step in OF_DATA else f" of {method}"
            raise ValueError(
                f"The step {step}{what} must come first: {self.path(step, method)} is absent. Add "
                f"{step} to `step`, or leave `step` out to do all of them."
            )
        return result

    def save(self, step: str, method: str, values: dict[str, Any], *, seconds: float) -> None:
        """Write a result; atomic."""
        content = {
            "step": step, "method": method, "settings": self.settings_of(step, method),
            "values": values, "seconds": round(seconds, 1), "machine": machine(self._settings.device),
            "geossl": geossl.__version__, "torch": torch.__version__,
        }  # fmt: skip
        with atomic_write(self.path(step, method)) as part:
            part.write_text(json.dumps(content, indent=1) + "\n", "utf-8")

    def settings_of(self, step: str, method: str) -> dict[str, Any]:
        """Return the settings of a result; where fmow trained the encoder, those of that too."""
        settings = self._settings
        values = settings.shaping(step, method)
        if step not in OF_DATA and not settings.trains_encoders and is_pretrained(settings, method):
            made = read(trained_by_fmow(settings, method))["settings"]
            values |= {f"fmow {name}": value for name, value in made.items()}
        return values

    def all(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return all results by step and method, whatever settings made them."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for path in sorted(self.path("*", "*").parent.parent.glob("*/*.json")):
            found.setdefault(path.parent.name, {})[path.stem] = read(path)
        return found


def is_pretrained(settings: Settings, method: str) -> bool:
    """Return whether a row is one of the methods that pre-train an encoder."""
    return method != "random" and settings.weights_of(method) is None


def trained_by_fmow(settings: Settings, method: str) -> Path:
    """Return the result of fmow's pre-training of a method.

    Raises:
        ValueError: fmow has not trained it in this output folder.
    """
    path = settings.output_dir / "fmow" / "results" / "pretrain" / f"{method}.json"
    if not path.exists():
        raise ValueError(
            f"`output_dir` must contain the encoder of {method} that fmow trained, but {path} is "
            "absent. Run fmow with the step pretrain first, or name other `methods`."
        )
    return path


def read(path: Path) -> dict[str, Any]:
    """Read a result.

    Raises:
        ValueError: it is damaged.
    """
    advice = "Remove it, and run the same command again."
    content = load_json(path, advice=advice)
    if not isinstance(content, dict) or not {"settings", "values"} <= content.keys():
        raise ValueError(f"{path} must hold settings and values. {advice}")
    return content


def machine(name: str) -> str:
    """Return what works here: GPUs, or the processor."""
    device, count = select_device(name), dist.world_size()
    if device.type == "cuda":
        model = torch.cuda.get_device_name(device)
    else:
        model = f"{processor_name()}, {torch.get_num_threads()} threads"
    return f"{count} x {model}" if count > 1 else model
