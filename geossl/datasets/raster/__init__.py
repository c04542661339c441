"""Georeferenced files: headers, grids, windows and pixels."""
