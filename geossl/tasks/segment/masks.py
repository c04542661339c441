"""What each pixel of a scene is: masks and polygons, as classes on the scene's own grid."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geossl.datasets.raster.area import Grid
from geossl.datasets.raster.files import open_raster
from geossl.datasets.raster.grid import ALIGNED_PX, pixel_to_crs
from geossl.models.features import Window
from geossl.tasks.segment import polygons

IGNORE = 255  # of a pixel that is no class: left out of loss and measure
RASTERS = (".tif", ".tiff", ".png")
POLYGONS = (".geojson", ".json", ".gpkg")
_MOST_PX = 2**28  # pixels of a mask that is resampled; it is read whole
_OFF_PX = 2  # how far a mask's footprint may miss its scene's: the sides of both were rounded


@dataclass(frozen=True)
class Masks:
    """How the masks of a table are read.

    Args:
        classes: names; the place of a name is its number. Where there are polygons, class 0 is
            what lies outside of them.
        column: of the path of each scene's mask: a GeoTIFF or PNG of one band, or polygons as
            GeoJSON or GeoPackage. A file of no bytes holds no polygon.
        values: what stands for each class in the masks; 0, 1, 2, ... when None. Other values are
            refused, but for 255 and the mask's own nodata, which are left out unless they are a
            class's value.
        label: property of the polygons that names their class; without it all are class 1.
        resample: take masks that do not lie on their scene's grid: by majority. Between files with
            a CRS by their coordinates; else both show the same ground, which their aspects must
            allow.

    Raises:
        ValueError: fewer than two classes or more than 255, a name twice, or values that do not
            fit.
    """

    classes: tuple[str, ...]
    column: str = "mask"
    values: tuple[int, ...] | None = None
    label: str | None = None
    resample: bool = False

    def __post_init__(self) -> None:
        names = [self.classes] if isinstance(self.classes, str) else list(map(str, self.classes))
        if not 2 <= len(names) <= IGNORE or len(set(names)) < len(names) or "" in names:
            raise ValueError(
                "expected the names of two to 255 classes, each once, such as "
                f"('background', 'building'), came {names}"
            )
        object.__setattr__(self, "classes", tuple(names))
        if self.values is not None:
            values = tuple(map(int, self.values))
            if len(values) != len(names) or len(set(values)) < len(values):
                raise ValueError(
                    f"expected a value of its own for each of {len(names)} classes, came {values}"
                )
            object.__setattr__(self, "values", values)

    def read(self, path: str, *, grid: Grid, window: Window) -> np.ndarray:
        """Classes of the pixels of a window of a scene.

        Polygons are brought to the scene's CRS. A pixel belongs to one that holds its center, to
        the last of several; inside of one that crosses itself is what its edge goes round an odd
        number of times.

        Args:
            path: of the mask.
            grid: of the scene.
            window: within the scene.

        Returns:
            ``(H, W)`` uint8, 255 where it is no class.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it cannot be read, does not fit the scene, or holds what is no class.
        """
        suffix = Path(path).suffix.lower()
        if suffix not in RASTERS + POLYGONS:
            raise ValueError(
                f"expected a mask of {', '.join(RASTERS + POLYGONS)}, came {path}; convert it first"
            )
        if not os.path.isfile(path):
            raise FileNotFoundError(f"expected a mask at {path}, found no file")
        if suffix in RASTERS:
            return self._of_raster(path, grid, window)
        return self._of_polygons(path, grid, window)

    # --- rasters ------------------------------------------------------------------------------

    def _of_raster(self, path: str, grid: Grid, window: Window) -> np.ndarray:
        from rasterio.windows import Window as Part

        left, top, right, bottom = window
        with open_raster(path) as file:
            if file.count != 1:
                raise ValueError(
                    f"expected one band of classes in the mask {path}, it has {file.count}; write "
                    "one band of class numbers"
                )
            reason = _off_grid(file, grid)
            if not reason:
                part = Part(left, top, right - left, bottom - top)
                return self._codes(file.read(1, window=part), file.nodata, path)
            if not self.resample:
                raise ValueError(
                    f"expected the mask {path} on the grid of its scene, {reason}; give "
                    "resample=True to have it brought there"
                )
            if file.width * file.height > _MOST_PX:
                raise ValueError(
                    f"expected at most {_MOST_PX:,} pixels to resample in the mask {path}, came "
                    f"{file.width} x {file.height}; bring it to the scene's grid by gdalwarp"
                )
            codes = self._codes(file.read(1), file.nodata, path)
            crs, transform = file.crs, file.transform
        return _resampled(codes, crs, transform, grid=grid, path=path)[top:bottom, left:right]

    def _codes(self, found: np.ndarray, nodata: float | None, path: str) -> np.ndarray:
        known = self.values or tuple(range(len(self.classes)))
        codes = np.full(found.shape, IGNORE, np.uint8)
        left = np.ones(found.shape, bool)
        for code, value in enumerate(known):
            hit = found == value
            codes[hit] = code
            left &= ~hit
        left &= found != IGNORE
        if nodata is not None:
            left &= found != nodata
        if found.dtype.kind == "f":
            left &= ~np.isnan(found)
        if left.any():
            raise ValueError(
                f"expected the values {', '.join(map(str, known))} or 255 (left out) in the mask "
                f"{path}, came {found[left][0]} in {int(left.sum()):,} pixels; name all classes, "
                "and give values=(...) where they are not 0, 1, 2, ..."
            )
        return codes

    # --- polygons -----------------------------------------------------------------------------

    def _of_polygons(self, path: str, grid: Grid, window: Window) -> np.ndarray:
        from affine import Affine
        from rasterio.features import rasterize

        left, top, right, bottom = window
        empty = np.zeros((bottom - top, right - left), np.uint8)
        if os.path.getsize(path) == 0:
            return empty
        if grid.crs is None:
            raise ValueError(
                f"expected a scene with a CRS for the polygons {path}, it has none; give a mask of "
                "its pixels, or write its CRS and transform into it"
            )
        shapes = polygons.shapes(path, grid.crs, classes=self.classes, label=self.label)
        if not shapes:
            return empty
        transform = grid.transform @ Affine.translation(left, top)
        return rasterize(shapes, empty.shape, transform=transform, all_touched=False, out=empty)


def _off_grid(file: Any, grid: Grid) -> str:
    """Why the pixels of a mask are not those of its scene, or ""."""
    from rasterio.crs import CRS

    if file.crs is not None and grid.crs is not None:
        if file.crs != CRS.from_user_input(grid.crs):
            return f"came {file.crs.to_string()} for {grid.crs}"
        across, down = np.array([0, grid.width, 0]), np.array([0, 0, grid.height])
        x, y = pixel_to_crs(~file.transform, *pixel_to_crs(grid.transform, across, down))
        if max(np.abs(x - across).max(), np.abs(y - down).max()) > ALIGNED_PX:
            return "came pixels of another size or place"
    if (file.width, file.height) != (grid.width, grid.height):
        return f"came {file.width} x {file.height} pixels for {grid.width} x {grid.height}"
    return ""


def _resampled(codes: np.ndarray, crs: Any, transform: Any, *, grid: Grid, path: str) -> np.ndarray:
    """The classes ``(H, W)`` of most of what lies within each pixel of the scene."""
    from affine import Affine
    from rasterio.enums import Resampling
    from rasterio.warp import reproject

    height, width = codes.shape
    target, to_crs = grid.transform, grid.crs
    if crs is None or to_crs is None:
        if abs(height * grid.width / width - grid.height) > _OFF_PX:
            raise ValueError(
                f"expected the mask {path} of the shape of its scene, came {width} x {height} "
                f"pixels for {grid.width} x {grid.height}; is it another scene's?"
            )
        crs = to_crs = "EPSG:3857"  # of both, so that nothing is projected
        transform, target = (
            Affine.scale(grid.width / width, grid.height / height),
            Affine.identity(),
        )
    found = np.full((grid.height, grid.width), IGNORE, np.uint8)
    reproject(
        codes, found, src_transform=transform, src_crs=crs, dst_transform=target, dst_crs=to_crs,
        src_nodata=IGNORE, dst_nodata=IGNORE, resampling=Resampling.mode,
    )  # fmt: skip
    if (found == IGNORE).all() and (codes != IGNORE).any():
        raise ValueError(f"expected the mask {path} where its scene lies, it lies elsewhere")
    return found
