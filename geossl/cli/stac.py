"""The command that builds a time series out of a STAC API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geossl.cli.output import print_line, print_written

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Stac:
    """Build your own time series: chips of places at several dates, out of a STAC API."""

    out: Path
    """Folder of the harvest; the same line goes on with one that was stopped."""
    start: str
    """First day, e.g. 2019-01-01."""
    end: str
    """Last day."""
    place: tuple[float, float] | None = None
    """Longitude and latitude of a single place."""
    points: Path | None = None
    """A table with lon and lat (csv, parquet, GeoJSON, GeoPackage): these places."""
    box: tuple[float, float, float, float] | None = None
    """Left, bottom, right, top in degrees: places on land all over this box."""
    grid_km: float = 50.0
    """Distance between the places in the box."""
    api: str = "earth-search"
    """A STAC API: earth-search or planetary-computer, which need no key, or an address."""
    collection: str = "sentinel-2-l2a"
    """Collection of the API."""
    dates: int = 4
    """Dates of each place, spread well over the range."""
    max_cloud: float = 20.0
    """Highest cloud cover of a scene in percent."""
    chip_px: int = 128
    """Side of a chip in pixels."""
    resolution_m: float | None = 10.0
    """Side of a pixel in meters; None for that of the scenes."""
    bands: tuple[str, ...] = ("red", "green", "blue")
    """Bands: keys of assets, key:number, or (common) names of bands."""
    scale: tuple[float, float] | None = None
    """Lowest and highest value, which become 1 and 65535; for types other than uint8, uint16."""
    max_nodata: float = 0.05
    """Share of a chip that may be without data."""
    workers: int = 8
    """Places at a time."""
    dask: str | None = None
    """A Dask cluster to work on: tcp://host:8786, or local:3 for three processes."""

    def places(self) -> pd.DataFrame:
        """The place, the points, or the land in the box.

        Raises:
            ValueError: not exactly one of these is given.
        """
        import pandas as pd

        from geossl.datasets.stac.locations import land_grid
        from geossl.datasets.table import table

        given = [n for n in ("place", "points", "box") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                "expected one of --place LON LAT, --points FILE and --box LEFT BOTTOM RIGHT TOP, "
                f"came {' and '.join(given) or 'none'}"
            )
        if self.place is not None:
            return pd.DataFrame([(0, *self.place)], columns=["location", "lon", "lat"])
        if self.points is not None:
            return table(self.points)
        assert self.box is not None
        return land_grid(self.box, spacing_km=self.grid_km)

    def run(self) -> None:
        """Harvest, with a progress bar."""
        from geossl.datasets.stac import harvest

        asked = {
            key: value
            for key, value in vars(self).items()
            if key not in ("out", "place", "points", "box", "grid_km")
        }
        table = harvest(self.out, self.places(), **asked)
        for place, reason in table.attrs["short"].items():
            print_line(f"place {place}: {reason}")
        print_written(table, self.out / "scenes.parquet", f" --size-px {self.chip_px}")
