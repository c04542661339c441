"""The command that downloads a time series from a STAC API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from geossl.cli.output import Output, print_line, print_written

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["stac"]


def stac(
    *,
    output_dir: Output[Path],
    start: str,
    end: str,
    place: tuple[float, float] | None = None,
    points: Path | None = None,
    box: tuple[float, float, float, float] | None = None,
    grid_km: float = 50.0,
    api: str = "earth-search",
    collection: str = "sentinel-2-l2a",
    dates: int = 4,
    max_cloud: float = 20.0,
    chip_px: int = 128,
    resolution_m: float | None = 10.0,
    bands: tuple[str, ...] = ("red", "green", "blue"),
    scale: tuple[float, float] | None = None,
    max_nodata: float = 0.05,
    num_workers: int = 8,
    dask: str | None = None,
) -> None:
    """Download a time series of your own: chips of locations at several dates, from a STAC API.

    Args:
        output_dir: folder of the harvest; the same command resumes a stopped one.
        start: first day, e.g. 2019-01-01.
        end: last day.
        place: longitude and latitude of a single location.
        points: table with lon and lat (csv, parquet, GeoJSON, GeoPackage): these locations.
        box: left, bottom, right, top in degrees: locations on land all over this box.
        grid_km: distance between the locations in the box.
        api: earth-search or planetary-computer, which need no key, or the address of a STAC API.
        collection: collection of the API.
        dates: dates of each location, spread over the range.
        max_cloud: highest cloud cover of a scene in percent.
        chip_px: side of a chip in pixels.
        resolution_m: side of a pixel in meters; None for that of the scenes.
        bands: keys of assets, key:number, or (common) names of bands.
        scale: lowest and highest value, which become 1 and 65535; for types other than uint8 and
            uint16.
        max_nodata: largest share of a chip without data.
        num_workers: locations downloaded at a time.
        dask: Dask cluster instead of threads: tcp://host:8786, or local:3 for three processes.
    """
    from geossl.datasets.stac import harvest

    table = harvest(
        output_dir, _locations(place, points, box, grid_km), start=start, end=end, api=api,
        collection=collection, dates=dates, max_cloud=max_cloud, chip_px=chip_px,
        resolution_m=resolution_m, bands=bands, scale=scale, max_nodata=max_nodata,
        num_workers=num_workers, dask=dask,
    )  # fmt: skip
    for location, reason in table.attrs["short"].items():
        print_line(f"location {location}: {reason}")
    print_written(table, output_dir / "scenes.parquet", f" --size-px {chip_px}")


def _locations(place: Any, points: Path | None, box: Any, grid_km: float) -> pd.DataFrame:
    """Return the location, the points, or the land in the box as a table."""
    import pandas as pd

    from geossl.datasets.stac.locations import land_grid
    from geossl.datasets.table import table

    sources = {"--place": place, "--points": points, "--box": box}
    used = [name for name, value in sources.items() if value is not None]
    if len(used) != 1:
        raise ValueError(
            "Exactly one of --place LON LAT, --points FILE and --box LEFT BOTTOM RIGHT TOP is "
            f"needed, got {' and '.join(used) or 'none'}."
        )
    if place is not None:
        return pd.DataFrame([(0, *place)], columns=["location", "lon", "lat"])
    return land_grid(box, spacing_km=grid_km) if points is None else table(points)
