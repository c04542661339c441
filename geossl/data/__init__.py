"""Scene tables, chip stores and what is known of the world."""

from geossl.utils.lazy import submodules

__all__ = ["earth", "scenes", "store", "streaming", "summary"]

__getattr__ = submodules(__name__, *__all__)
