"""Georeferenced files: headers, grids, windows and pixels."""

__all__ = ["area", "chips", "files", "folders", "grid", "header", "pixel_vectors", "window"]
