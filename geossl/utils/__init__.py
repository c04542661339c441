"""What every other package may use; nothing here knows a chip."""

from geossl.utils.lazy import submodules

__all__ = ["colors", "cpu", "device", "dist", "io", "parallel", "seeds"]

__getattr__ = submodules(__name__, *__all__)
