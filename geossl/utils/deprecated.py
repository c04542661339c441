"""Import the module names of version 0.1 for one more version, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

__all__ = ["MODULES", "install"]

MODULES = {
    "augment": "geossl.transforms",
    "check": "geossl.cli.doctor",
    "chips": "geossl.data.store",
    "config": "geossl.train.config",
    "demo": "geossl.cli.demo",
    "description": "geossl.data.summary",
    "detect": "geossl.tasks.detect",
    "distributed": "geossl.utils.dist",
    "embedding": "geossl.embeddings",
    "explore": "geossl.viz.widgets",
    "fetching": "geossl.datasets.download",
    "harvesting": "geossl.datasets.stac",
    "layers": "geossl.models.layers",
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
    "rates": "geossl.train.throughput",
    "readers": "geossl.datasets",
    "report": "geossl.viz.report",
    "scenes": "geossl.data.scenes",
    "segment": "geossl.tasks.segment",
    "streams": "geossl.data.streaming",
    "transfer": "geossl.tasks.compare",
    "weights": "geossl.models.weights",
    "world": "geossl.data.earth",
    "world_tasks": "geossl.datasets.blue_marble_tasks",
}

_IMPORTERS = {"geossl", "importlib", "_frozen_importlib"}


class _Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds old names, and loads the new module under each: the same object, not a copy."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.partition(".")
        old, dot, rest = name.partition(".")
        if package != "geossl" or old not in MODULES:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=f"{MODULES[old]}{dot}{rest}")

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        assert spec.origin is not None
        if spec.name.count(".") == 1:
            _warn(f"`{spec.name}` is now `{spec.origin}`; the old name goes in version 0.3.")
        module = importlib.import_module(spec.origin)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore what the import system wrote into the new module, which has run already."""
        spec = module.__spec__
        assert spec is not None
        module.__spec__ = spec.loader_state


def install() -> None:
    """Make the import system find old names; a second call does nothing."""
    if not any(isinstance(finder, _Loader) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Loader())  # first: packages would load copies of their modules


def _warn(message: str) -> None:
    """Warn at the line that imports, whatever part of the import system it went through."""
    frame = sys._getframe()
    while frame.f_back and frame.f_globals["__name__"].partition(".")[0] in _IMPORTERS:
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        DeprecationWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals["__name__"],
    )
