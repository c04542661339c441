"""Commands from files to scene tables, chip stores and geo clusters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from geossl.cli.output import (
    Output,
    print_left_out,
    print_line,
    read_scenes,
    write_scenes,
)

__all__ = [
    "chips", "clusters", "fetch", "scenes_blue_marble", "scenes_describe", "scenes_geotiff",
    "scenes_open", "stream",
]  # fmt: skip


def fetch(
    names: Positional[tuple[str, ...]] = (), *, output_dir: Output[Path] = Path("data")
) -> None:
    """Download public data sets and check them; without a name, list them.

    Args:
        names: data sets to download.
        output_dir: folder of all data sets; each gets a folder of its own name there.
    """
    from geossl.datasets import download

    if not names:
        print_line("\n".join(download.describe_sets()))
    for name in names:
        print_line(f"{download.fetch(name, output_dir=output_dir)}: complete")


def scenes_blue_marble(
    *, output: Output[Path], places: int = 6_000, dates: int = 4, seed: int = 0
) -> None:
    """List the embedded world: real imagery and labels, simulated acquisitions; no network.

    Args:
        output: scene table to write (.csv, .parquet or .geoparquet).
        places: number of random locations on land.
        dates: simulated acquisitions of each location.
        seed: seed of the locations, their dates and the simulation.
    """
    from geossl import datasets

    write_scenes(datasets.blue_marble(places=places, dates=dates, seed=seed), output)


def scenes_geotiff(
    folder: Positional[Path],
    *,
    output: Output[Path],
    chip_px: int | None = None,
    stride_px: int | None = None,
    bands: tuple[int, ...] | None = None,
    band_names: tuple[str, ...] | None = None,
    date_pattern: str | None = None,
    date_tag: str | None = None,
    dates_csv: Path | None = None,
    scale: tuple[float, float] | Literal["tags"] | None = None,
    nodata: float | None = None,
    warp: bool = False,
    test_side: Literal["north", "east", "south", "west"] | None = None,
    test_share: float = 1 / 3,
    skip_bad: bool = False,
) -> None:
    """Cut georeferenced files into chips: scenes of one area, tiles or patches.

    Args:
        folder: folder of the files, which may lie in subfolders; or one file.
        output: scene table to write (.csv, .parquet or .geoparquet).
        chip_px: side of a chip in pixels of the scenes; 64 by default, or what fits into most.
        stride_px: distance between two chips in pixels; chip_px by default.
        bands: bands to keep, counted from 1; all by default.
        band_names: names of these bands, e.g. red green blue nir.
        date_pattern: form of strptime such as %d-%m-%Y, or regular expression with a group that
            matches the date, in a file's name or its path; '' if names hold no date. By default all
            usual forms are read.
        date_tag: TIFF tag that holds the date.
        dates_csv: csv with the columns path and time of every file.
        scale: lowest and highest value, which become 1 and 65535; for files other than uint8 and
            uint16. tags: the files' own scale and offset.
        nodata: value of pixels without data that the files do not declare.
        warp: warp files that have ground control points or RPCs in place of a transform.
        test_side: side of the area to hold out as the test split.
        test_share: share of the area on that side.
        skip_bad: leave unreadable files out and list them, instead of stopping.
    """
    from geossl import datasets

    table = datasets.geotiff(
        folder, chip_px=chip_px, stride_px=stride_px, bands=bands, band_names=band_names,
        date_pattern=date_pattern, date_tag=date_tag, dates_csv=dates_csv, scale=scale,
        nodata=nodata, warp=warp,
        test_side=test_side, test_share=test_share, skip_bad=skip_bad,
    )  # fmt: skip
    write_scenes(table, output)


def scenes_open(
    path: Positional[Path],
    *,
    output: Output[Path],
    reader: str | None = None,
    same_location_m: float | None = None,
    option: tuple[str, ...] = (),
    skip_bad: bool = False,
) -> None:
    """List a data set of any known layout: fMoW, EuroSAT, SSL4EO-S12, COCO, a csv, photos, ...

    Args:
        path: folder or file; its layout is recognized.
        output: scene table to write (.csv, .parquet or .geoparquet).
        reader: name of the layout, if two of them fit.
        same_location_m: make locations within so many meters one, e.g. where GPS jitters.
        option: options of the reader as NAME=VALUE, e.g. boxes=true; see geossl.datasets.
        skip_bad: leave unreadable files out and list them, instead of stopping.
    """
    from geossl import datasets

    options: dict[str, Any] = {"skip_bad": True} if skip_bad else {}
    for text in option:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"`option` must be NAME=VALUE, got {text!r}.")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    table = datasets.open_scenes(path, reader=reader, same_location_m=same_location_m, **options)
    print_line(": ".join(table.attrs["opened"]))
    write_scenes(table, output)


def scenes_describe(table: Positional[Path]) -> None:
    """Describe a scene table: how many, where, when, of what, and what looks wrong.

    Args:
        table: scene table (.csv, .parquet or .geoparquet) or chip store.
    """
    from geossl import ChipStore, describe
    from geossl.data.table_files import read_table

    store = ChipStore.open(table) if table.is_dir() else None
    print_line(describe(read_table(table) if store is None else store.scenes))
    for name, text in ({} if store is None else store.check_sources()).items():
        print_line(f"{name}  {text}")


def chips(
    scenes: Positional[Path],
    *,
    output_dir: Output[Path],
    size_px: int = 32,
    num_workers: int | None = None,
    dask: str | None = None,
    skip_bad: bool = False,
    max_nodata_share: float = 0.9,
    verify: bool = False,
    normalize_lon: bool = False,
) -> None:
    """Decode the scenes of a table into a chip store; the same command resumes a stopped build.

    It also decodes those chips of a finished store again whose files have changed.

    Args:
        scenes: scene table.
        output_dir: folder of the chip store.
        size_px: side of a chip.
        num_workers: chunks decoded at a time; one per core, or all of the cluster, by default.
        dask: Dask cluster instead of threads: tcp://host:8786, or local:3 for three processes.
        skip_bad: leave unreadable scenes out and list them, instead of stopping.
        max_nodata_share: leave chips out that have no data in a larger share of their pixels.
        verify: read all chips of a finished store, and decode those again that are damaged.
        normalize_lon: turn longitudes of 0..360 into -180..180.
    """
    from geossl import ChipStore
    from geossl.data.scenes import read

    store = ChipStore.build(
        output_dir, read(scenes, positions=False, normalize_lon=normalize_lon), size_px=size_px,
        num_workers=num_workers, skip_bad=skip_bad, max_nodata_share=max_nodata_share,
        verify=verify, dask=dask,
    )  # fmt: skip
    print_left_out(store.info["bad"])
    print_line(f"{output_dir}: {len(store):,} chips of {store.size_px} px, bands {store.bands}")


def stream(
    store: Positional[Path],
    *,
    output_dir: Output[str],
    seed: int = 0,
    chunk_mb: float = 32.0,
    num_workers: int | None = None,
    dask: str | None = None,
) -> None:
    """Write a chip store as a stream, for folders and object stores larger than a disk.

    The same command resumes a stopped one.

    Args:
        store: chip store.
        output_dir: folder, or s3://bucket/prefix (with AWS_ENDPOINT_URL and the like).
        seed: seed of the order of the locations.
        chunk_mb: approximate size of a file in megabytes.
        num_workers: files written at a time; one per core, or all of the cluster, by default.
        dask: Dask cluster instead of threads: tcp://host:8786, or local:3 for three processes.
    """
    from geossl import ChipStore
    from geossl.data import streaming

    written = streaming.write(
        ChipStore.open(store), output_dir, seed=seed, chunk_mb=chunk_mb, num_workers=num_workers,
        dask=dask,
    )  # fmt: skip
    locations, files = len(written.location.unique()), len(written.info["locations"])
    print_line(
        f"{output_dir}: {len(written):,} chips of {locations:,} locations in {files:,} files"
    )


def clusters(
    scenes: Positional[Path],
    *,
    output: Output[Path],
    k: int = 100,
    on: Literal["sphere", "degrees"] = "sphere",
    split: str | None = "train",
    seed: int = 0,
    normalize_lon: bool = False,
) -> None:
    """Group the locations of a scene table into geo clusters (k-means on the sphere).

    Args:
        scenes: scene table, or chip store.
        output: .json to write; a .csv of the split's rows in the paper's format goes beside it.
        k: number of clusters.
        on: raw degrees are for comparison: they split clusters at the antimeridian.
        split: fit to the locations of this split only, if the table has one; None for all.
        seed: seed of k-means.
        normalize_lon: turn longitudes of 0..360 into -180..180.
    """
    from geossl import GeoClusters
    from geossl.data.scenes import rows_of_split

    table = read_scenes(scenes, normalize_lon=normalize_lon)
    table = table.iloc[rows_of_split(table, split).numpy()]
    fitted = GeoClusters.fit(table, k=k, seed=seed, on=on)
    fitted.save(output)
    fitted.to_csv(output.with_suffix(".csv"), table)
    print_line(
        f"{output}: {fitted.k} clusters of {min(fitted.sizes)} to {max(fitted.sizes)} locations, "
        f"{sum(fitted.sizes):,} in all"
    )
