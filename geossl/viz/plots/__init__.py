"""Figures: plain functions that return an Axes or a Figure, and change no matplotlib settings."""

from importlib import import_module
from typing import Any

from geossl.viz.plots.base import figure_html, figure_png, figure_svg
from geossl.viz.plots.chips import plot_chips, plot_pairs, plot_retrievals
from geossl.viz.plots.evaluation import (
    plot_calibration,
    plot_comparison,
    plot_confusion,
    plot_label_efficiency,
    plot_results,
)
from geossl.viz.plots.training import plot_losses, plot_training
from geossl.viz.plots.world import plot_purity_by_k, plot_world

__all__ = [
    "figure_html",
    "figure_png",
    "figure_svg",
    "plot_calibration",
    "plot_chips",
    "plot_comparison",
    "plot_confusion",
    "plot_detections",
    "plot_label_efficiency",
    "plot_losses",
    "plot_outcomes",
    "plot_pairs",
    "plot_purity_by_k",
    "plot_results",
    "plot_retrievals",
    "plot_segmentation",
    "plot_training",
    "plot_world",
]

# Their tasks take seconds to import, so they are loaded on first use.
_LAZY = {
    "plot_detections": "detection",
    "plot_outcomes": "detection",
    "plot_segmentation": "segmentation",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
