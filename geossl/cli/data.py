"""Commands from files to chips and clusters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes, Positional, subcommand

from geossl.cli.output import print_left_out, print_line, print_written, read_table


@dataclass(frozen=True)
class BlueMarble:
    """The embedded world: real imagery and labels, simulated acquisitions; no network needed."""

    out: Path
    """The scene table to write (.csv, .parquet or .geoparquet)."""
    places: int = 6_000
    """Number of random places on land."""
    dates: int = 4
    """Simulated acquisitions of each."""
    seed: int = 0
    """Of the places, their dates and what is simulated."""

    def run(self) -> None:
        """Write the scene table."""
        from geossl import datasets

        _write_scenes(
            datasets.blue_marble(places=self.places, dates=self.dates, seed=self.seed), self.out
        )


@dataclass(frozen=True)
class GeoTiff:
    """A folder of dated GeoTIFF scenes of one area, cut on a grid in the scenes' own CRS."""

    folder: Positional[Path]
    """Where the .tif files are, in any sub-folder."""
    out: Path
    """The scene table to write (.csv, .parquet or .geoparquet)."""
    chip_px: int = 64
    """Side of a chip in pixels of the scenes."""
    stride_px: int | None = None
    """Distance between two chips; chip_px when not given."""
    bands: tuple[int, ...] | None = None
    """Bands to keep, counted from 1; all when not given."""
    band_names: tuple[str, ...] | None = None
    """Names for these bands, e.g. red green blue nir."""
    date_pattern: str | None = None
    """Regular expression with a group that catches the date in a file's name."""
    date_tag: str | None = None
    """TIFF tag that holds the date."""
    dates_csv: Path | None = None
    """A csv with the columns path and time."""
    scale: tuple[float, float] | None = None
    """Lowest and highest value, which become 1 and 65535; for files other than uint8 and uint16."""
    test_side: Literal["north", "east", "south", "west"] | None = None
    """Hold this side of the area out as the test split."""
    test_share: float = 1 / 3
    """Share of the area on that side."""
    skip_bad: bool = False
    """Leave unreadable files out, and list them, in place of stopping."""

    def run(self) -> None:
        """Write the scene table."""
        from geossl import datasets

        table = datasets.geotiff(
            self.folder,
            chip_px=self.chip_px,
            stride_px=self.stride_px,
            bands=self.bands,
            band_names=self.band_names,
            date_pattern=self.date_pattern,
            date_tag=self.date_tag,
            dates_csv=self.dates_csv,
            scale=self.scale,
            test_side=self.test_side,
            test_share=self.test_share,
            skip_bad=self.skip_bad,
        )
        _write_scenes(table, self.out)


@dataclass(frozen=True)
class Open:
    """A data set of any known layout: fMoW, EuroSAT, SSL4EO-S12, COCO, a csv, photos, ..."""

    path: Positional[Path]
    """A folder or a file; its layout is recognized."""
    out: Path
    """The scene table to write (.csv, .parquet or .geoparquet)."""
    reader: str | None = None
    """Name of the layout, needed only where two fit."""
    option: tuple[str, ...] = ()
    """Options of the reader as NAME=VALUE, e.g. boxes=true; see geossl.datasets."""
    skip_bad: bool = False
    """Leave unreadable files out, and list them, in place of stopping."""

    def run(self) -> None:
        """Write the scene table."""
        import json

        from geossl import datasets

        options: dict[str, Any] = {"skip_bad": True} if self.skip_bad else {}
        for text in self.option:
            name, equals, value = text.partition("=")
            if not equals or not name.isidentifier():
                raise ValueError(f"expected an option as NAME=VALUE, came {text!r}")
            try:
                options[name] = json.loads(value)
            except ValueError:
                options[name] = value
        table = datasets.open_scenes(self.path, reader=self.reader, **options)
        name, why = table.attrs["opened"]
        print_line(f"{name}: {why}")
        _write_scenes(table, self.out)


@dataclass(frozen=True)
class Describe:
    """What is in a scene table: how many, where, when, of what, and what looks wrong."""

    table: Positional[Path]
    """A scene table (.csv, .parquet or .geoparquet) or a chip store."""

    def run(self) -> None:
        """Print the description."""
        from geossl import ChipStore, describe
        from geossl.data.table_files import load

        folder = self.table.is_dir()
        print_line(describe(ChipStore.open(self.table).scenes if folder else load(self.table)))


def _write_scenes(table: Any, out: Path) -> None:
    from geossl.data.table_files import write

    print_left_out(table.attrs.get("skipped", {}))
    write(table, out)
    print_written(table, out)


@dataclass(frozen=True)
class Scenes:
    """Make a scene table (what there is, where and when), or describe one."""

    source: OmitArgPrefixes[
        OmitSubcommandPrefixes[
            Annotated[BlueMarble, subcommand("blue-marble")]
            | Annotated[GeoTiff, subcommand("geotiff")]
            | Annotated[Open, subcommand("open")]
            | Annotated[Describe, subcommand("describe")]
        ]
    ]

    def run(self) -> None:
        """Run the reader."""
        self.source.run()


@dataclass(frozen=True)
class Chips:
    """Decode the scenes of a table once into a chip store; a killed build goes on."""

    scenes: Positional[Path]
    """The scene table."""
    out: Path
    """Folder of the chip store."""
    size_px: int = 32
    """Side of a chip."""
    workers: int | None = None
    """Chunks decoded at a time; by all cores, or all of the cluster, when not given."""
    dask: str | None = None
    """A Dask cluster in place of threads: tcp://host:8786, or local:3 for three processes."""
    skip_bad: bool = False
    """Leave unreadable scenes out, and list them, in place of stopping."""

    def run(self) -> None:
        """Build the store."""
        from geossl import ChipStore
        from geossl.data import scenes

        store = ChipStore.build(
            self.out,
            scenes.read(self.scenes, positions=False),
            size_px=self.size_px,
            num_workers=self.workers,
            skip_bad=self.skip_bad,
            dask=self.dask,
        )
        print_left_out(store.info["bad"])
        print_line(f"{self.out}: {len(store):,} chips of {store.size_px} px, bands {store.bands}")


@dataclass(frozen=True)
class Stream:
    """Write a chip store as a stream, for folders and object stores past one disk; it goes on."""

    store: Positional[Path]
    """The chip store."""
    out: str
    """A folder, or s3://bucket/prefix (AWS_ENDPOINT_URL and the like say where that is)."""
    seed: int = 0
    """Of the order of the locations."""
    chunk_mb: float = 32.0
    """About the size of a file, in megabytes."""
    workers: int | None = None
    """Files written at a time; by all cores, or all of the cluster, when not given."""
    dask: str | None = None
    """A Dask cluster in place of threads: tcp://host:8786, or local:3 for three processes."""

    def run(self) -> None:
        """Write the stream."""
        from geossl import ChipStore
        from geossl.data import streaming

        stream = streaming.write(
            ChipStore.open(self.store),
            self.out,
            seed=self.seed,
            chunk_mb=self.chunk_mb,
            num_workers=self.workers,
            dask=self.dask,
        )
        places, files = len(stream.location.unique()), len(stream.info["locations"])
        print_line(f"{self.out}: {len(stream):,} chips of {places:,} places in {files:,} files")


@dataclass(frozen=True)
class Clusters:
    """Group the places of a scene table into geo clusters (k-means on the sphere)."""

    scenes: Positional[Path]
    """The scene table, or a chip store."""
    out: Path
    """The .json to write; a .csv in the paper's format is written beside it."""
    k: int = 100
    """Number of clusters."""
    on: Literal["sphere", "degrees"] = "sphere"
    """Raw degrees are for comparison: they split clusters at the antimeridian."""
    split: str | None = "train"
    """Learn from places of this split alone, when the table has one."""
    seed: int = 0
    """Of k-means."""

    def run(self) -> None:
        """Fit and write."""
        from geossl import GeoClusters

        table = read_table(self.scenes)
        known = table["split"].eq(self.split).fillna(False)
        learned = table[known] if known.any() else table
        clusters = GeoClusters.fit(learned, k=self.k, seed=self.seed, on=self.on)
        clusters.save(self.out)
        clusters.to_csv(self.out.with_suffix(".csv"), table)
        print_line(
            f"{self.out}: {clusters.k} clusters of {min(clusters.sizes)} to "
            f"{max(clusters.sizes)} places"
        )


@dataclass(frozen=True)
class Fetch:
    """Download public data sets, checked; without a name: list those there are."""

    names: Positional[tuple[str, ...]] = ()
    """Which sets."""
    out: Path = Path("data")
    """The folder of all sets; each comes to out/NAME."""

    def run(self) -> None:
        """Fetch, or list."""
        from geossl.datasets import download

        if not self.names:
            print_line("\n".join(download.describe_sets()))
        for name in self.names:
            print_line(f"{download.fetch(name, output_dir=self.out)}: complete")
