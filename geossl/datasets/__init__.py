"""Open data sets: the scene table first, the pixels of a row only when the chip store needs them.

Each data set is a function that returns a scene table, e.g. ``geossl.datasets.eurosat(folder)``;
`open_scenes` finds the one that fits a folder, and `register` adds your own.
"""

from geossl.datasets.bigearthnet import bigearthnet
from geossl.datasets.blue_marble import blue_marble
from geossl.datasets.coco import coco
from geossl.datasets.eurosat import eurosat
from geossl.datasets.fmow import fmow
from geossl.datasets.fmow_sentinel import fmow_sentinel
from geossl.datasets.gassl_csv import gassl_csv, write_gassl_csv
from geossl.datasets.geoimagenet import geoimagenet
from geossl.datasets.geotiff import geotiff
from geossl.datasets.image_folder import image_folder
from geossl.datasets.photos import photos
from geossl.datasets.raster.footprints import footprints
from geossl.datasets.raster.previews import scene_previews
from geossl.datasets.registry import open_scenes, register
from geossl.datasets.satmae_csv import satmae_csv
from geossl.datasets.seco import seco
from geossl.datasets.spacenet import spacenet
from geossl.datasets.ssl4eo import ssl4eo
from geossl.datasets.table import table
from geossl.datasets.tile2vec import tile2vec
from geossl.datasets.torchgeo import torchgeo
from geossl.datasets.wilds_fmow import wilds_fmow
from geossl.datasets.xview import xview

__all__ = [
    "bigearthnet",
    "blue_marble",
    "coco",
    "eurosat",
    "fmow",
    "fmow_sentinel",
    "gassl_csv",
    "footprints",
    "geoimagenet",
    "geotiff",
    "image_folder",
    "open_scenes",
    "photos",
    "register",
    "satmae_csv",
    "scene_previews",
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
