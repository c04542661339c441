"""Readers: the scene table of a folder first, the pixels of a row only when the chip store asks.

A reader is a module with a function of its own name that returns a scene table, `pixel_info`,
`read_chips` and `fits`. The package's attributes are the functions, e.g.
``geossl.readers.eurosat(...)``; ``open_scenes`` finds the one that fits.
"""

from geossl.readers.bigearthnet import bigearthnet
from geossl.readers.blue_marble import blue_marble
from geossl.readers.coco import coco
from geossl.readers.eurosat import eurosat
from geossl.readers.fmow import fmow
from geossl.readers.fmow_sentinel import fmow_sentinel
from geossl.readers.gassl_csv import gassl_csv, write_gassl_csv
from geossl.readers.geoimagenet import geoimagenet
from geossl.readers.geotiff import geotiff
from geossl.readers.image_folder import image_folder
from geossl.readers.opening import open_scenes
from geossl.readers.photos import photos
from geossl.readers.satmae_csv import satmae_csv
from geossl.readers.seco import seco
from geossl.readers.spacenet import spacenet
from geossl.readers.ssl4eo import ssl4eo
from geossl.readers.table import table
from geossl.readers.tile2vec import tile2vec
from geossl.readers.torchgeo import torchgeo
from geossl.readers.wilds_fmow import wilds_fmow
from geossl.readers.xview import xview

__all__ = [
    "bigearthnet",
    "blue_marble",
    "coco",
    "eurosat",
    "fmow",
    "fmow_sentinel",
    "gassl_csv",
    "geoimagenet",
    "geotiff",
    "image_folder",
    "open_scenes",
    "photos",
    "satmae_csv",
    "seco",
    "spacenet",
    "ssl4eo",
    "table",
    "tile2vec",
    "torchgeo",
    "wilds_fmow",
    "write_gassl_csv",
    "xview",
]
