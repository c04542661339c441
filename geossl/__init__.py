"""Geography-aware self-supervised learning: learn from where and when an image was taken.

Source: Ayush et al., "Geography-Aware Self-Supervised Learning", ICCV 2021, arXiv 2011.09980.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geossl import (  # noqa: F401
        augment,
        detect,
        embedding,
        explore,
        geo,
        losses,
        maps,
        metrics,
        models,
        pairs,
        plots,
        plots_detect,
        plots_probe,
        plots_segment,
        probe,
        projection,
        readers,
        scenes,
        segment,
        streams,
        transfer,
        weights,
        world_tasks,
    )
    from geossl.chips import ChipStore  # noqa: F401
    from geossl.clusters import GeoClusters  # noqa: F401
    from geossl.config import PretrainConfig, paper_config  # noqa: F401
    from geossl.description import describe  # noqa: F401
    from geossl.embedding import Embeddings, embed  # noqa: F401
    from geossl.fetching import fetch  # noqa: F401
    from geossl.harvesting import harvest  # noqa: F401
    from geossl.pretraining import pretrain  # noqa: F401

__version__ = "0.1.0"

_NAMES = {
    "ChipStore": "chips",
    "Embeddings": "embedding",
    "GeoClusters": "clusters",
    "PretrainConfig": "config",
    "describe": "description",
    "embed": "embedding",
    "fetch": "fetching",
    "harvest": "harvesting",
    "paper_config": "config",
    "pretrain": "pretraining",
}
_ROOMS = (
    "augment", "detect", "embedding", "explore", "geo", "losses", "maps", "metrics", "models",
    "pairs", "plots", "plots_detect", "plots_probe", "plots_segment", "probe", "projection",
    "readers", "scenes", "segment", "streams", "transfer", "weights", "world_tasks",
)  # fmt: skip

__all__ = sorted([*_NAMES, *_ROOMS])


def __getattr__(name: str) -> Any:
    """Rooms load when they are entered, so that importing geossl is quick."""
    if name in _NAMES:
        return getattr(importlib.import_module(f"geossl.{_NAMES[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"geossl.{name}")
    raise AttributeError(f"module 'geossl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
