"""Commands that measure embeddings and draw maps."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from geossl.cli.output import Output, print_line, read_scenes

__all__ = ["map", "probe", "retrieve"]


def probe(
    embeddings: Positional[tuple[Path, ...]],
    *,
    label: str = "label",
    kind: Literal["linear", "knn"] = "linear",
    split: Literal["column", "blocks"] = "column",
    test_split: str = "test",
    block_deg: float = 10.0,
    l2: float | None = None,
    solver: Literal["lbfgs", "sgd"] = "lbfgs",
    temporal: bool = False,
    seed: int = 0,
    column: str | None = None,
    skip_bad: bool = False,
) -> None:
    """Predict a label from embeddings, tested on locations held out in space.

    Args:
        embeddings: files of geossl embed, or vectors of another tool (parquet, csv, npy, npz).
        label: column of labels.
        kind: linear classifier, or vote of the nearest neighbors.
        split: the table's own split, or a new one by blocks of space.
        test_split: split to test on, e.g. val or test_gt of fMoW.
        block_deg: side of the blocks in degrees.
        l2: penalty of a linear classifier; by default the best of several on val.
        solver: of a linear classifier: lbfgs to its optimum, or sgd, the paper's protocol.
        temporal: classify each location by all its dates, as the paper does.
        seed: seed of the split and the bootstrap.
        column: column or prefix of the vectors, where a file of another tool has several.
        skip_bad: leave out rows whose vector is missing or damaged.
    """
    from geossl import Embeddings, evaluate

    measure: Any = evaluate.linear if kind == "linear" else evaluate.knn
    options: dict[str, Any] = {} if l2 is None else {"l2": l2}
    options |= {"solver": solver} if solver != "lbfgs" else {}
    for name in options:
        if kind == "knn":
            what = "penalty" if name == "l2" else "choice"
            raise ValueError(
                f"`{name}` is a {what} of `--kind linear`. Leave it out for neighbors."
            )
    if len(options) == 2:
        raise ValueError("`l2` is of `--solver lbfgs`: the paper's protocol has no penalty.")
    measure = functools.partial(measure, **options)
    _require_files(embeddings)
    for path in embeddings:
        result = measure(
            Embeddings.load(path, column=column, skip_bad=skip_bad), label=label, split=split,
            test_split=test_split, block_deg=block_deg, device="auto", seed=seed,
        )  # fmt: skip
        result = evaluate.temporal(result, seed=seed) if temporal else result
        print_line(f"{path}: {result}; macro F1 {result.per_class['f1'].mean():.3f}")


def retrieve(
    embeddings: Positional[tuple[Path, ...]],
    *,
    split: str | None = "test",
    seed: int = 0,
    column: str | None = None,
    skip_bad: bool = False,
) -> None:
    """Find each location again at another date, among all of them: recall.

    Args:
        embeddings: files of geossl embed, or vectors of another tool (parquet, csv, npy, npz).
        split: only locations of this split, if the table has one; None for all.
        seed: seed of the bootstrap.
        column: column or prefix of the vectors, where a file of another tool has several.
        skip_bad: leave out rows whose vector is missing or damaged.
    """
    from geossl import Embeddings, evaluate

    _require_files(embeddings)
    for path in embeddings:
        loaded = Embeddings.load(path, column=column, skip_bad=skip_bad)
        has_split = loaded.scenes["split"].notna().any()
        result = evaluate.same_location(
            loaded, split=split if has_split else None, device="auto", seed=seed
        )
        print_line(f"{path}: {result}")


def map(
    source: Positional[Path],
    *,
    output: Output[Path],
    color: str | None = None,
    column: str | None = None,
    skip_bad: bool = False,
) -> None:
    """Draw a map into one HTML file that opens without a network.

    Args:
        source: scene table, chip store, embeddings, or geo clusters (.json).
        output: .html to write.
        color: column that colors the points; by default the label, or the embedding (its first
            principal components as red, green and blue).
        column: column or prefix of the vectors, where a file of another tool has several.
        skip_bad: leave out rows whose vector is missing or damaged.
    """
    from geossl import Embeddings, GeoClusters
    from geossl.data import scenes
    from geossl.utils.io import atomic_write
    from geossl.viz import maps

    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"`--output` must end in .html, got {output.name!r}.")
    if source.suffix == ".json":
        if color is not None:
            raise ValueError("`color` is of places, but geo clusters have their own. Leave it out.")
        drawing = maps.map_clusters(GeoClusters.load(source))
    elif not source.is_dir() and (column or Embeddings.is_file(source)):
        loaded = Embeddings.load(source, column=column, skip_bad=skip_bad)
        drawing = maps.map_embeddings(loaded, color=color or "rgb")
    elif source.is_dir():
        drawing = maps.map_scenes(read_scenes(source), color=color)
    else:  # rows without a place are left out, and the map says so
        table = scenes.read(source, positions=False, normalize_lon=True)
        drawing = maps.map_scenes(table, color=color)
    with atomic_write(output) as part:
        drawing.save(str(part))
    print_line(f"{output}: open it in a browser")


def _require_files(embeddings: tuple[Path, ...]) -> None:
    if not embeddings:
        raise ValueError("`embeddings` must be one file or more, got none.")
