"""Figures: plain functions that return an Axes or a Figure."""

from geossl.viz.plots.base import figure_html, figure_png
from geossl.viz.plots.detection import plot_detections, plot_outcomes
from geossl.viz.plots.evaluation import (
    plot_calibration,
    plot_comparison,
    plot_confusion,
    plot_label_efficiency,
)
from geossl.viz.plots.pretraining import (
    plot_chips,
    plot_growth,
    plot_losses,
    plot_pairs,
    plot_results,
    plot_retrievals,
    plot_training,
    plot_world,
)
from geossl.viz.plots.segmentation import plot_segmentation

__all__ = [
    "figure_html",
    "figure_png",
    "plot_calibration",
    "plot_chips",
    "plot_comparison",
    "plot_confusion",
    "plot_detections",
    "plot_growth",
    "plot_label_efficiency",
    "plot_losses",
    "plot_outcomes",
    "plot_pairs",
    "plot_results",
    "plot_retrievals",
    "plot_segmentation",
    "plot_training",
    "plot_world",
]
