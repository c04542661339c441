"""Masks and polygons, read as classes on the grid of their scene."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geossl.data.shapes import SHAPE_SUFFIXES
from geossl.datasets.raster.area import Grid
from geossl.datasets.raster.files import is_picture, open_raster, raster_suffixes
from geossl.datasets.raster.grid import ALIGNED_PX, pixel_to_crs
from geossl.models.features import Window
from geossl.tasks.segment import polygons
from geossl.utils.validate import check_fields, validated

IGNORE = 255  # of a pixel without a class: left out of loss and metrics
RASTERS = (".tif", ".tiff", ".png")
POLYGONS = (".json", *SHAPE_SUFFIXES)
_MAX_RESAMPLED_PX = 2**28  # such a mask is read at once
_TOLERANCE_PX = 2  # how far a mask's footprint may miss its scene's: the sides of both are rounded


@dataclass(frozen=True)
class Masks:
    """How the masks of a table are read.

    Args:
        classes: names, in the order of their numbers. Where there are polygons, class 0 is what
            lies outside of them.
        column: of the path of each scene's mask: a GeoTIFF or PNG of one band, or polygons as
            GeoJSON, GeoPackage, Shapefile, FlatGeobuf or KML. An empty file has no polygon.
        values: what stands for each class in the masks; 0, 1, 2, ... when None. Other values are
            refused, except 255 and the mask's own nodata, which are left out unless they are a
            class's value.
        label: property of the polygons that names their class; without it all are class 1.
        resample: accept masks that do not lie on their scene's grid: by majority. Between files
            with a CRS by their coordinates; else both show the same ground, so their aspect ratios
            must agree.

    Raises:
        ValueError: fewer than two classes or more than 255, a name twice, or values that do not
            fit.
    """

    classes: Sequence[str]
    column: str = "mask"
    values: Sequence[int] | None = None
    label: str | None = None
    resample: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        names = tuple(map(str, self.classes))
        if not 2 <= len(names) <= IGNORE or len(set(names)) < len(names) or "" in names:
            raise ValueError(
                "`classes` must be 2 to 255 different names, such as ('background', 'building'), "
                f"got {names}."
            )
        object.__setattr__(self, "classes", names)
        if self.values is not None:
            values = tuple(map(int, self.values))
            if len(values) != len(names) or len(set(values)) < len(values):
                raise ValueError(
                    f"`values` must be {len(names)} different numbers, one per class, got {values}."
                )
            object.__setattr__(self, "values", values)

    @validated
    def read(self, path: str, *, grid: Grid, window: Window) -> np.ndarray:
        """Read the classes of the pixels of a window of a scene.

        Polygons are brought to the scene's CRS. A pixel belongs to one that contains its center, to
        the last of several; the inside of one that crosses itself follows the even-odd rule.

        Args:
            path: of the mask.
            grid: of the scene.
            window: within the scene.

        Returns:
            ``(H, W)`` uint8, 255 for no class.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it cannot be read, does not fit the scene, or has a value of no class.
        """
        suffix = Path(path).suffix.lower()
        is_raster = suffix in RASTERS or (suffix in raster_suffixes() and not is_picture(path))
        if not is_raster and suffix not in POLYGONS:
            raise ValueError(
                f"A mask must be one of {', '.join(RASTERS + POLYGONS)}, got {path}. Convert it "
                "first."
            )
        if not os.path.isfile(path):
            raise FileNotFoundError(f"There is no mask at {path}.")
        if is_raster:
            return self._read_raster(path, grid, window)
        return self._read_polygons(path, grid, window)

    def _read_raster(self, path: str, grid: Grid, window: Window) -> np.ndarray:
        from rasterio.windows import Window as RasterWindow

        left, top, right, bottom = window
        with open_raster(path) as file:
            if file.count != 1:
                raise ValueError(
                    f"The mask {path} must have one band of class numbers, but has {file.count}."
                )
            mismatch = _mismatch(file, grid)
            if not mismatch:
                part = RasterWindow(left, top, right - left, bottom - top)
                return self._to_codes(file.read(1, window=part), file.nodata, path)
            if not self.resample:
                raise ValueError(
                    f"The mask {path} must lie on the grid of its scene, but has {mismatch}. Pass "
                    "resample=True to resample it."
                )
            if file.width * file.height > _MAX_RESAMPLED_PX:
                raise ValueError(
                    f"The mask {path} has {file.width} x {file.height} pixels, more than the "
                    f"{_MAX_RESAMPLED_PX:,} that can be resampled. Bring it to the scene's grid "
                    "with gdalwarp."
                )
            codes = self._to_codes(file.read(1), file.nodata, path)
            crs, transform = file.crs, file.transform
        return _resample(codes, crs, transform, grid=grid, path=path)[top:bottom, left:right]

    def _to_codes(self, pixels: np.ndarray, nodata: float | None, path: str) -> np.ndarray:
        values = self.values or tuple(range(len(self.classes)))
        codes = np.full(pixels.shape, IGNORE, np.uint8)
        unknown = pixels != IGNORE
        if nodata is not None:
            unknown &= pixels != nodata
        if pixels.dtype.kind == "f":
            unknown &= ~np.isnan(pixels)
        for code, value in enumerate(values):
            match = pixels == value
            codes[match], unknown[match] = code, False
        if unknown.any():
            raise ValueError(
                f"The mask {path} must have the values {', '.join(map(str, values))}, or 255 for "
                f"no class, but {int(unknown.sum()):,} pixels have {pixels[unknown][0]}. Name all "
                "`classes`, and pass `values` if they are not 0, 1, 2, ..."
            )
        return codes

    def _read_polygons(self, path: str, grid: Grid, window: Window) -> np.ndarray:
        from affine import Affine
        from rasterio.features import rasterize

        left, top, right, bottom = window
        empty = np.zeros((bottom - top, right - left), np.uint8)
        if os.path.getsize(path) == 0:
            return empty
        if grid.crs is None:
            raise ValueError(
                f"The polygons {path} need a scene with a CRS, but theirs has none. Write a CRS "
                "and transform into it, or use a raster mask."
            )
        shapes = polygons.read_polygons(path, grid.crs, classes=self.classes, label=self.label)
        if not shapes:
            return empty
        transform = grid.transform @ Affine.translation(left, top)
        return rasterize(shapes, empty.shape, transform=transform, all_touched=False, out=empty)


def _mismatch(file: Any, grid: Grid) -> str:
    """How the grid of a mask differs from that of its scene, or ""."""
    from rasterio.crs import CRS

    if file.crs is not None and grid.crs is not None:
        if file.crs != CRS.from_user_input(grid.crs):
            return f"the CRS {file.crs.to_string()}, not {grid.crs}"
        across, down = np.array([0, grid.width, 0]), np.array([0, 0, grid.height])
        x, y = pixel_to_crs(~file.transform, *pixel_to_crs(grid.transform, across, down))
        if max(np.abs(x - across).max(), np.abs(y - down).max()) > ALIGNED_PX:
            return "pixels of another size or position"
    if (file.width, file.height) != (grid.width, grid.height):
        return f"{file.width} x {file.height} pixels, not {grid.width} x {grid.height}"
    return ""


def _resample(codes: np.ndarray, crs: Any, transform: Any, *, grid: Grid, path: str) -> np.ndarray:
    """The most frequent class ``(H, W)`` within each pixel of the scene."""
    from affine import Affine
    from rasterio.enums import Resampling
    from rasterio.warp import reproject

    height, width = codes.shape
    target, target_crs = grid.transform, grid.crs
    if crs is None or target_crs is None:
        if abs(height * grid.width / width - grid.height) > _TOLERANCE_PX:
            raise ValueError(
                f"The mask {path} must have the aspect ratio of its scene, but has {width} x "
                f"{height} pixels, not {grid.width} x {grid.height}. Does it belong to another "
                "scene?"
            )
        crs = target_crs = "EPSG:3857"  # of both, so that nothing is projected
        transform = Affine.scale(grid.width / width, grid.height / height)
        target = Affine.identity()
    result = np.full((grid.height, grid.width), IGNORE, np.uint8)
    reproject(
        codes, result, src_transform=transform, src_crs=crs, dst_transform=target,
        dst_crs=target_crs, src_nodata=IGNORE, dst_nodata=IGNORE, resampling=Resampling.mode,
    )  # fmt: skip
    if (result == IGNORE).all() and (codes != IGNORE).any():
        raise ValueError(f"The mask {path} must overlap its scene, but lies elsewhere.")
    return result
