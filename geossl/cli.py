"""The command line: one frozen dataclass a command, read by tyro.

Only this room prints. Every error a person can cause ends as one sentence and exit status 2.
"""

from __future__ import annotations

import os
import sys

# Idle threads that spin cost up to 4x on a busy machine; this has to be set before torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes, Positional, subcommand

from geossl.config import PretrainConfig

Command = Any  # each has run()


def _say(text: object = "") -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


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
        from geossl import readers

        _write_scenes(
            readers.blue_marble(places=self.places, dates=self.dates, seed=self.seed), self.out
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
    """Lowest and highest value, which become 1 and 65535; for files of other types than uint8, uint16."""
    test_side: Literal["north", "east", "south", "west"] | None = None
    """Hold this side of the area out as the test split."""
    test_share: float = 1 / 3
    """Share of the area on that side."""
    skip_bad: bool = False
    """Leave unreadable files out, and list them, in place of stopping."""

    def run(self) -> None:
        """Write the scene table."""
        from geossl import readers

        table = readers.geotiff(
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
        for path, reason in table.attrs.get("skipped", {}).items():
            _say(f"left out {path}: {reason}")
        _write_scenes(table, self.out)


def _write_scenes(table: Any, out: Path) -> None:
    from geossl import scenes

    scenes.write(table, out)
    places = table["location"].nunique()
    _say(f"{out}: {len(table):,} scenes of {places:,} places; next: geossl chips {out}")


@dataclass(frozen=True)
class Scenes:
    """Make a scene table: what there is, where and when."""

    source: OmitArgPrefixes[
        OmitSubcommandPrefixes[
            Annotated[BlueMarble, subcommand("blue-marble")]
            | Annotated[GeoTiff, subcommand("geotiff")]
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
    """Threads that decode; all cores when not given."""
    skip_bad: bool = False
    """Leave unreadable scenes out, and list them, in place of stopping."""

    def run(self) -> None:
        """Build the store."""
        from geossl import ChipStore, scenes

        store = ChipStore.build(
            self.out,
            scenes.read(self.scenes, positions=False),
            size_px=self.size_px,
            workers=self.workers,
            skip_bad=self.skip_bad,
        )
        for path, reason in store.info.get("bad", {}).items():
            _say(f"left out {path}: {reason}")
        _say(f"{self.out}: {len(store):,} chips of {store.size_px} px, bands {store.bands}")


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
    seed: int = 0
    """Of k-means."""

    def run(self) -> None:
        """Fit and write."""
        from geossl import GeoClusters

        table = _read_table(self.scenes)
        clusters = GeoClusters.fit(table, k=self.k, seed=self.seed, on=self.on)
        clusters.save(self.out)
        clusters.to_csv(self.out.with_suffix(".csv"), table)
        _say(
            f"{self.out}: {clusters.k} clusters of {min(clusters.sizes)} to "
            f"{max(clusters.sizes)} places"
        )


def _read_table(path: Path) -> Any:
    from geossl import ChipStore, scenes

    return ChipStore.open(path).scenes if path.is_dir() else scenes.read(path)


@dataclass(frozen=True)
class Pretrain:
    """Pre-train an encoder; the same line goes on with a run that was stopped."""

    store: Positional[Path]
    """The chip store."""
    out: Path
    """Folder of the run."""
    pairs: Literal["same-image", "temporal", "spatial", "none"] = "temporal"
    """Which two chips are a positive pair; none leaves the contrastive loss out."""
    min_gap_days: float = 0
    """Temporal: the dates lie at least so far apart."""
    max_gap_days: float | None = None
    """Temporal: and at most so far."""
    season: Literal["same", "other"] | None = None
    """Temporal: of the same season of the year, or of another."""
    single_date: Literal["self", "drop"] = "self"
    """Temporal: a chip without a partner is paired with itself, or left out."""
    radius_km: float = 10.0
    """Spatial: the partner lies within this distance."""
    geo: Path | None = None
    """Geo clusters (.json) to predict as well."""
    label: str | None = None
    """Column of labels to predict as well: supervised training."""
    seed: int = 0
    """Of the weights, the pairs and the views."""
    config: OmitArgPrefixes[PretrainConfig] = field(default_factory=PretrainConfig)

    def run(self) -> None:
        """Train, with a progress bar."""
        from geossl import ChipStore, GeoClusters, pairs, pretrain

        policies: dict[str, Any] = {
            "same-image": pairs.same_image,
            "temporal": lambda: pairs.temporal(
                min_gap_days=self.min_gap_days,
                max_gap_days=self.max_gap_days,
                season=self.season,
                single_date=self.single_date,
            ),
            "spatial": lambda: pairs.spatial(radius_km=self.radius_km),
            "none": lambda: None,
        }
        policy = policies[self.pairs]()
        store = ChipStore.open(self.store)
        if policy is not None:
            seen = pairs.report(policy, store.scenes)
            _say(f"pairs: {seen['n_pairs']:,}, of which {seen['degenerate_share']:.1%} self-pairs")
        run = pretrain(
            store,
            pairs=policy,
            geo=None if self.geo is None else GeoClusters.load(self.geo),
            label=self.label,
            config=self.config,
            out=self.out,
            seed=self.seed,
        ).finish()
        last = run.logs.iloc[-1]
        _say(
            f"{self.out}: {run.step} steps in {last['seconds']:.0f} s, loss {last['loss']:.3f}, "
            f"effective rank {last['effective_rank']:.0f}, kNN {last['knn']:.3f}"
        )


@dataclass(frozen=True)
class Embed:
    """Embed every chip of a store."""

    store: Positional[Path]
    """The chip store."""
    encoder: str
    """A run's folder, an encoder.safetensors, or "random" or "hog" for comparison."""
    out: Path
    """The .parquet or .geoparquet to write."""
    seed: int = 0
    """Of random weights."""

    def run(self) -> None:
        """Embed and write."""
        from geossl import ChipStore, embed, probe, weights

        store = ChipStore.open(self.store)
        if self.encoder == "random":
            vectors = probe.random_features(store, name="small", seed=self.seed)
        elif self.encoder == "hog":
            vectors = probe.hog(store)
        else:
            path = Path(self.encoder)
            encoder = weights.load_encoder(path / "encoder.safetensors" if path.is_dir() else path)
            vectors = embed(store, encoder, progress=True)
        vectors.save(self.out)
        _say(f"{self.out}: {vectors.vectors.shape[0]:,} x {vectors.vectors.shape[1]}")


@dataclass(frozen=True)
class Probe:
    """How much do embeddings know of a label? Tested on places held out in space."""

    embeddings: Positional[tuple[Path, ...]]
    """One file or more of `geossl embed`."""
    label: str = "label"
    """Column of labels."""
    kind: Literal["linear", "knn"] = "linear"
    """Which probe."""
    split: Literal["column", "blocks"] = "column"
    """The table's own split, or a new one by blocks of space."""
    seed: int = 0
    """Of the split and the bootstrap."""

    def run(self) -> None:
        """Probe and print."""
        from geossl import Embeddings, probe

        measure = probe.linear if self.kind == "linear" else probe.knn
        for path in self.embeddings:
            loaded = Embeddings.load(path)
            _say(f"{path}: {measure(loaded, label=self.label, split=self.split, seed=self.seed)}")


@dataclass(frozen=True)
class Retrieve:
    """Is the same place found again at another date? Recall among all places."""

    embeddings: Positional[tuple[Path, ...]]
    """One file or more of `geossl embed`."""
    split: str | None = "test"
    """Only places of this split, when the table has one."""
    seed: int = 0
    """Of the bootstrap."""

    def run(self) -> None:
        """Search and print."""
        from geossl import Embeddings, probe

        for path in self.embeddings:
            loaded = Embeddings.load(path)
            split = self.split if loaded.scenes["split"].notna().any() else None
            _say(f"{path}: {probe.same_place(loaded, split=split, seed=self.seed)}")


@dataclass(frozen=True)
class Map:
    """Write a map as one HTML file that opens without a network."""

    source: Positional[Path]
    """A scene table, a chip store, embeddings, or geo clusters (.json)."""
    out: Path
    """The .html to write."""
    colour: str | None = None
    """Column that colours the points; embeddings: PCA to RGB when not given."""

    def run(self) -> None:
        """Draw and write."""
        from geossl import Embeddings, GeoClusters, maps, scenes
        from geossl.files import atomic

        if self.source.suffix == ".json":
            drawn = maps.map_clusters(GeoClusters.load(self.source))
        elif self.source.is_dir():
            drawn = maps.map_scenes(_read_table(self.source), colour=self.colour or "label")
        elif Embeddings.is_file(self.source):
            embeddings = Embeddings.load(self.source)
            drawn = maps.map_embeddings(embeddings, colour=self.colour or "rgb")
        else:
            drawn = maps.map_scenes(scenes.read(self.source), colour=self.colour or "label")
        with atomic(self.out) as part:
            drawn.save(str(part))
        _say(f"{self.out}: open it in a browser")


@dataclass(frozen=True)
class Demo:
    """The main job on the embedded world: about five minutes on two cores, no network."""

    out: Path = Path("runs/demo")
    """Folder of everything it makes; the page is index.html."""
    places: int = 6_000
    """Number of places."""
    epochs: float = 8
    """Of each pre-training."""
    seed: int = 0
    """Of everything."""

    def run(self) -> None:
        """Run the demo."""
        from geossl import demo

        demo.run(self.out, places=self.places, epochs=self.epochs, seed=self.seed, say=_say)


@dataclass(frozen=True)
class Check:
    """Is this machine ready? Ten lines, and what to do where the answer is no."""

    def run(self) -> None:
        """Check and print; exit status 1 when something needed is missing."""
        from geossl import check

        findings = check.run()
        for finding in findings:
            _say(finding)
        if not all(finding.ok for finding in findings):
            raise SystemExit(1)


_COMMANDS: tuple[tuple[str, type], ...] = (
    ("scenes", Scenes),
    ("chips", Chips),
    ("clusters", Clusters),
    ("pretrain", Pretrain),
    ("embed", Embed),
    ("probe", Probe),
    ("retrieve", Retrieve),
    ("map", Map),
    ("demo", Demo),
    ("check", Check),
)


def main(args: list[str] | None = None) -> None:
    """The entry point of ``geossl`` and ``python -m geossl``."""
    commands: dict[str, Any] = dict(_COMMANDS)
    command = tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="geossl",
        description="Learn from where and when an image was taken.",
        args=args,
    )
    try:
        command.run()
    except KeyboardInterrupt:
        sys.stderr.write("geossl: stopped; the same line goes on where it was\n")
        raise SystemExit(130) from None
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"geossl: {error}\n")
        raise SystemExit(2) from None
