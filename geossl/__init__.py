"""Geography-aware self-supervised learning: learn from where and when an image was taken.

Source: Ayush et al., "Geography-Aware Self-Supervised Learning", ICCV 2021, arXiv 2011.09980.
"""

from __future__ import annotations

import importlib
from typing import Any

from geossl.utils import deprecated

__version__ = "0.2.0"

_OBJECTS = {
    "ChipStore": "geossl.data.store",
    "Embeddings": "geossl.embeddings",
    "GeoClusters": "geossl.clusters",
    "PretrainConfig": "geossl.train.config",
    "describe": "geossl.data.summary",
    "embed": "geossl.embeddings",
    "fetch": "geossl.datasets.download",
    "harvest": "geossl.datasets.stac",
    "open_scenes": "geossl.datasets",
    "paper_config": "geossl.train.config",
    "pretrain": "geossl.train.pretrain",
}
_MODULES = (
    "clusters", "data", "datasets", "embeddings", "evaluate", "geo", "losses", "models", "pairs",
    "tasks", "train", "transforms", "utils", "viz",
)  # fmt: skip

__all__ = sorted([*_OBJECTS, *_MODULES])

deprecated.install()


def __getattr__(name: str) -> Any:
    """Load a module or an object on first use, so that importing geossl is quick."""
    if name in _OBJECTS:
        return getattr(importlib.import_module(_OBJECTS[name]), name)
    if name in _MODULES or name in deprecated.MODULES:
        return importlib.import_module(f"geossl.{name}")
    raise AttributeError(f"module 'geossl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
