"""Scene tables, chip stores, streams, and maps of the world."""

from geossl.utils.lazy import submodules

__all__ = ["earth", "gazetteer", "scenes", "store", "streaming", "summary"]

__getattr__ = submodules(__name__, *__all__)
