"""Object detection: RetinaNet on a pre-trained encoder, over scenes of any size.

detector = detect.train(scenes, boxes, encoder, output_dir="runs/ships")
detect.measure(detector.detect(test_scenes), boxes, test_scenes)
"""

from geossl.tasks.detect.boxes import check_boxes
from geossl.tasks.detect.detector import Detector, load
from geossl.tasks.detect.evaluate import DetectionResult, measure
from geossl.tasks.detect.model import DetectConfig
from geossl.tasks.detect.train import train

__all__ = ["DetectConfig", "DetectionResult", "Detector", "check_boxes", "load", "measure", "train"]
