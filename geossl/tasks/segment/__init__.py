"""Semantic segmentation: an encoder with a head of torchvision, from masks to GeoTIFFs.

segmenter = segment.train(scenes, encoder, classes=("background", "plant"), mask="mask")
segmenter.segment("scene.tif", output="classes.tif")
segment.measure(segmenter, test_scenes)
"""

from geossl.tasks.segment.class_map import ClassMap
from geossl.tasks.segment.evaluate import SegmentResult, measure
from geossl.tasks.segment.masks import Masks
from geossl.tasks.segment.segmenter import Segmenter, load
from geossl.tasks.segment.train import SegmentConfig, train

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
