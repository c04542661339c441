"""A map of classes, and the GeoTIFF that QGIS opens with its colors and names."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from geossl.datasets.raster.area import Grid
from geossl.datasets.raster.files import is_tiff
from geossl.tasks.segment.masks import IGNORE
from geossl.utils.colors import CATEGORIES
from geossl.utils.io import atomic_write
from geossl.utils.validate import validated

_BACKGROUND = "#dddddd"  # of the class "background"
_BLOCK_PX = 256


@dataclass(frozen=True, eq=False)
class ClassMap:
    """The classes that a network predicts for a scene.

    Attributes:
        values: ``(H, W)`` uint8 numbers of the classes, 255 where the scene holds no data.
        classes: their names.
        grid: of the scene.
        probabilities: ``(classes, H, W)`` float32, when requested, else None.
    """

    values: np.ndarray
    classes: tuple[str, ...]
    grid: Grid
    probabilities: np.ndarray | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        height, width = self.values.shape
        return f"ClassMap({width} x {height} px; {format_shares(self.shares)})"

    @property
    def shares(self) -> pd.Series:
        """Share of each class of the pixels that hold data."""
        return class_shares(self.values, self.classes)

    @validated
    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a GeoTIFF on the scene's grid; atomic.

        One band of uint8 in deflated tiles, 255 for no data, with a color table (eight colors by
        Okabe and Ito, repeated; "background" is gray). The names of the classes are tags of the
        band (``class_0``, ...) and, where GDAL and QGIS look for them, in ``<path>.aux.xml``.

        Raises:
            ValueError: the path does not end in .tif or .tiff.
        """
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning

        path = tif_path(path)
        grid, colors = self.grid, class_colors(self.classes)
        table = {i: tuple(bytes.fromhex(c[1:])) + (255,) for i, c in enumerate(colors)}
        table[IGNORE] = (0, 0, 0, 0)
        georeference = {} if grid.transform.is_identity else {"transform": grid.transform}
        with atomic_write(path) as part, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(
                part, "w", driver="GTiff", height=grid.height, width=grid.width, count=1,
                dtype="uint8", nodata=IGNORE, crs=grid.crs, tiled=True, blockxsize=_BLOCK_PX,
                blockysize=_BLOCK_PX, compress="deflate", BIGTIFF="IF_SAFER", **georeference,
            ) as file:  # fmt: skip
                file.write_colormap(1, table)
                file.write(self.values, 1)
                file.set_band_description(1, "class")
                file.update_tags(1, **{f"class_{i}": name for i, name in enumerate(self.classes)})
                file.update_tags(classes=json.dumps(self.classes))
        about = ElementTree.Element("PAMDataset")
        band = ElementTree.SubElement(about, "PAMRasterBand", band="1")
        names = ElementTree.SubElement(band, "CategoryNames")
        for name in self.classes:
            ElementTree.SubElement(names, "Category").text = name
        with atomic_write(path.with_name(f"{path.name}.aux.xml")) as part:
            part.write_bytes(ElementTree.tostring(about, "utf-8"))


def tif_path(path: str | os.PathLike[str]) -> Path:
    """Check that a map is written as a GeoTIFF, and return its path."""
    path = Path(path)
    if not is_tiff(path):
        raise ValueError(f"`output` must end in .tif or .tiff, got {path}.")
    return path


def class_colors(classes: tuple[str, ...]) -> list[str]:
    """Return a color ``#rrggbb`` for each class; they repeat after twenty."""
    palette = cycle(CATEGORIES)
    return [_BACKGROUND if name == "background" else next(palette) for name in classes]


def class_shares(values: np.ndarray, classes: tuple[str, ...]) -> pd.Series:
    """Return the share of each class among the pixels that are not 255; nan without any."""
    counts = np.bincount(values.ravel(), minlength=len(classes))[: len(classes)]
    with np.errstate(invalid="ignore"):
        return pd.Series(counts / counts.sum(), index=pd.Index(classes))


def format_shares(share: pd.Series) -> str:
    """Describe the four largest shares, for people."""
    largest = share[share > 0].sort_values(ascending=False, kind="stable")
    parts = [f"{name} {value:.1%}" for name, value in largest[:4].items()]
    return ", ".join(parts + ["..."] * (len(largest) > 4)) or "no data"
