"""Semantic segmentation: an encoder with a head of torchvision, from masks to GeoTIFFs.

tuned = geossl.segment.train(scenes, encoder, classes=("background", "plant"), mask="mask")
tuned.segment("scene.tif", out="classes.tif")
geossl.segment.measure(tuned, scenes[test])
"""

from geossl.segment.masks import Masks
from geossl.segment.measuring import SegmentResult, measure
from geossl.segment.segmenter import Segmenter, load
from geossl.segment.training import SegmentConfig, train
from geossl.segment.writing import ClassMap

__all__ = [
    "ClassMap",
    "Masks",
    "SegmentConfig",
    "SegmentResult",
    "Segmenter",
    "load",
    "measure",
    "train",
]
