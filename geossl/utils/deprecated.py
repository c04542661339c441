"""Import the module names of version 0.1 for one more version, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

MODULES = {
    "augment": "geossl.transforms",
    "chips": "geossl.data.store",
    "config": "geossl.train.config",
    "description": "geossl.data.summary",
    "detect": "geossl.tasks.detect",
    "embedding": "geossl.embeddings",
    "explore": "geossl.viz.widgets",
    "fetching": "geossl.datasets.download",
    "harvesting": "geossl.datasets.stac",
    "lessons": "geossl_lessons",
    "maps": "geossl.viz.maps",
    "metrics": "geossl.evaluate.metrics",
    "plots": "geossl.viz.plots",
    "plots_detect": "geossl.viz.plots",
    "plots_probe": "geossl.viz.plots",
    "plots_segment": "geossl.viz.plots",
    "pretraining": "geossl.train.pretrain",
    "probe": "geossl.evaluate",
    "projection": "geossl.viz.projection",
    "readers": "geossl.datasets",
    "scenes": "geossl.data.scenes",
    "segment": "geossl.tasks.segment",
    "streams": "geossl.data.streaming",
    "transfer": "geossl.tasks.compare",
    "weights": "geossl.models.weights",
    "world": "geossl.data.earth",
    "world_tasks": "geossl.datasets.blue_marble_tasks",
}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        parts = fullname.split(".")
        if parts[0] != "geossl" or len(parts) < 2 or parts[1] not in MODULES:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        _, old, *rest = spec.name.split(".")
        new = ".".join([MODULES[old], *rest])
        warnings.warn(
            f"`{spec.name}` is now `{new}`; the old name goes in version 0.3.",
            DeprecationWarning,
            stacklevel=2,
        )
        module = ModuleType(spec.name)
        module.__getattr__ = importlib.import_module(new).__getattribute__  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the new module has run already."""


def install() -> None:
    """Find old names where no module of that name exists."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
