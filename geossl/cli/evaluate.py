"""Commands that measure, draw and check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from geossl.cli.output import print_line, read_table


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
        from geossl import Embeddings, evaluate

        measure = evaluate.linear if self.kind == "linear" else evaluate.knn
        for path in self.embeddings:
            loaded = Embeddings.load(path)
            found = measure(
                loaded, label=self.label, split=self.split, device="auto", seed=self.seed
            )
            print_line(f"{path}: {found}")


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
        from geossl import Embeddings, evaluate

        for path in self.embeddings:
            loaded = Embeddings.load(path)
            split = self.split if loaded.scenes["split"].notna().any() else None
            found = evaluate.same_location(loaded, split=split, device="auto", seed=self.seed)
            print_line(f"{path}: {found}")


@dataclass(frozen=True)
class Map:
    """Write a map as one HTML file that opens without a network."""

    source: Positional[Path]
    """A scene table, a chip store, embeddings, or geo clusters (.json)."""
    out: Path
    """The .html to write."""
    color: str | None = None
    """Column that colors the points; embeddings: PCA to RGB when not given."""

    def run(self) -> None:
        """Draw and write."""
        from geossl import Embeddings, GeoClusters
        from geossl.data import scenes
        from geossl.utils.io import atomic_write
        from geossl.viz import maps

        if self.source.suffix == ".json":
            drawn = maps.map_clusters(GeoClusters.load(self.source))
        elif self.source.is_dir():
            drawn = maps.map_scenes(read_table(self.source), color=self.color or "label")
        elif Embeddings.is_file(self.source):
            embeddings = Embeddings.load(self.source)
            drawn = maps.map_embeddings(embeddings, color=self.color or "rgb")
        else:
            drawn = maps.map_scenes(scenes.read(self.source), color=self.color or "label")
        with atomic_write(self.out) as part:
            drawn.save(str(part))
        print_line(f"{self.out}: open it in a browser")


@dataclass(frozen=True)
class Demo:
    """The main job on the embedded world: five to seven minutes on two cores, no network."""

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
        from geossl.cli import demo

        demo.run(self.out, places=self.places, epochs=self.epochs, seed=self.seed, say=print_line)


@dataclass(frozen=True)
class Check:
    """Is this machine ready? Ten lines, and what to do where the answer is no."""

    def run(self) -> None:
        """Check and print; exit status 1 when something needed is missing."""
        from geossl.cli import doctor

        findings = doctor.run()
        for finding in findings:
            print_line(finding)
        if not all(finding.ok for finding in findings):
            raise SystemExit(1)
