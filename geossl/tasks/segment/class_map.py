"""A map of classes, and the GeoTIFF that QGIS opens with its colors and names."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from geossl.datasets.raster.area import Grid
from geossl.datasets.raster.files import is_tiff
from geossl.tasks.segment.masks import IGNORE
from geossl.utils.colors import PALETTE
from geossl.utils.io import atomic_write

_GROUND = "#dddddd"  # of the class "background"
_BLOCK_PX = 256


@dataclass(frozen=True, eq=False)
class ClassMap:
    """What a network sees in a scene.

    Attributes:
        values: ``(H, W)`` uint8 numbers of the classes, 255 where the scene holds no data.
        classes: their names.
        grid: of the scene.
        probabilities: ``(classes, H, W)`` float32, where they were asked for.
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

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a GeoTIFF on the scene's grid; atomic.

        One band of uint8 in deflated tiles, 255 for no data, with a color table (Okabe and Ito's
        colors, again from the first after eight; "background" is gray). The names of the classes
        are tags of the band (``class_0``, ...) and, as GDAL and QGIS want it, lie in
        ``<path>.aux.xml``.

        Raises:
            ValueError: the path does not end in .tif or .tiff.
        """
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning

        path = tif_path(path)
        grid, colors = self.grid, class_colors(self.classes)
        table = {i: tuple(bytes.fromhex(c[1:])) + (255,) for i, c in enumerate(colors)}
        table[IGNORE] = (0, 0, 0, 0)
        place = {} if grid.transform.is_identity else {"transform": grid.transform}
        with atomic_write(path) as part, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(
                part, "w", driver="GTiff", height=grid.height, width=grid.width, count=1,
                dtype="uint8", nodata=IGNORE, crs=grid.crs, tiled=True, blockxsize=_BLOCK_PX,
                blockysize=_BLOCK_PX, compress="deflate", BIGTIFF="IF_SAFER", **place,
            ) as file:  # fmt: skip
                file.write_colormap(1, table)
                file.write(self.values, 1)
                file.set_band_description(1, "class")
                file.update_tags(1, **{f"class_{i}": name for i, name in enumerate(self.classes)})
                file.update_tags(classes=json.dumps(self.classes))
        about = ElementTree.Element("PAMDataset")
        names = ElementTree.SubElement(about, "PAMRasterBand", band="1")
        names = ElementTree.SubElement(names, "CategoryNames")
        for name in self.classes:
            ElementTree.SubElement(names, "Category").text = name
        with atomic_write(path.with_name(f"{path.name}.aux.xml")) as part:
            part.write_bytes(ElementTree.tostring(about, "utf-8"))


def tif_path(path: str | os.PathLike[str]) -> Path:
    """The path of a GeoTIFF to be written.

    Raises:
        ValueError: it ends otherwise.
    """
    path = Path(path)
    if not is_tiff(path):
        raise ValueError(f"expected a path that ends in .tif for the map, came {path}")
    return path


def class_colors(classes: tuple[str, ...]) -> list[str]:
    """A color for each class, as ``#rrggbb``; those of the palette come again after eight."""
    found, place = [], 0
    for name in classes:
        if name == "background":
            found.append(_GROUND)
        else:
            found.append(PALETTE[place % len(PALETTE)])
            place += 1
    return found


def class_shares(values: np.ndarray, classes: tuple[str, ...]) -> pd.Series:
    """Share of each class of the pixels that are not 255; nan without any."""
    counts = np.bincount(values.ravel(), minlength=len(classes))[: len(classes)]
    with np.errstate(invalid="ignore"):
        return pd.Series(counts / counts.sum(), index=pd.Index(classes))


def format_shares(share: pd.Series) -> str:
    """Shares in words, the first few classes."""
    most = share[share > 0].sort_values(ascending=False, kind="stable")
    words = ", ".join(f"{name} {value:.1%}" for name, value in most[:4].items())
    return words + (", ..." if len(most) > 4 else "") if len(most) else "no data"
