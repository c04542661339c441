"""Plots, maps, notebook widgets and reports."""

from geossl.utils.lazy import submodules

__all__ = ["maps", "plots", "projection", "report", "widgets"]

__getattr__ = submodules(__name__, *__all__)
