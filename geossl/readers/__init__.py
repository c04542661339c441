"""Readers: the scene table of a folder first, the pixels of a row only when the chip store asks.

A reader is a module with a function of its own name that returns a scene table, `pixel_info` and
`read_chips`. The package's attributes are the functions: ``geossl.readers.blue_marble(...)``.
"""

from geossl.readers.blue_marble import blue_marble
from geossl.readers.geotiff import geotiff

__all__ = ["blue_marble", "geotiff"]
