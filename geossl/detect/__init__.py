"""Object detection: RetinaNet on a pre-trained encoder, over scenes of any size."""

from geossl.detect.boxes import checked
from geossl.detect.finding import Detector, load
from geossl.detect.measuring import DetectionResult, measure
from geossl.detect.network import DetectConfig
from geossl.detect.training import train

__all__ = ["DetectConfig", "DetectionResult", "Detector", "checked", "load", "measure", "train"]
