"""Explore geo clusters: how many, where, of what, and what they are confounded with."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd

from geossl.clusters import GeoClusters, Metric, match_clusters, measure
from geossl.data.store import ChipStore
from geossl.data.streaming import open_store
from geossl.data.streaming.writer import INFO
from geossl.datasets import open_scenes
from geossl.embeddings import Embeddings
from geossl.evaluate import place_information
from geossl.utils.validate import PositiveInt, Seed, validated
from geossl.viz import maps
from geossl.viz.maps.markers import check_table
from geossl.viz.widgets import cluster_panes as panes
from geossl.viz.widgets.cluster_controls import Controls
from geossl.viz.widgets.cluster_fits import Fits
from geossl.viz.widgets.common import Progress, Status, gallery_html

_MOST_K = 200
_SWEEP = (5, 10, 20, 40, 80, 120, 200)
_DRAWN = 10_000  # locations on the map
_NO_STORE = "Pictures appear here with a chip store, which the command geossl chips makes."
_NAMES = {"sphere": "the sphere", "degrees": "degrees"}


class ClusterExplorer(widgets.VBox):
    """Explore geo clusters of a scene table: choose K, a cluster, and what to compare it with.

    A cluster is chosen in the list or by a click on the map, and split or merged by hand.

    Attributes:
        clusters: the `geossl.GeoClusters` on the map.
        cluster: number of the highlighted one, or None.
        rows: rows ``(n,)`` of the table in it; of all clusters when none is highlighted.

    Args:
        scenes: scene table; rows without a position are left out, and the status line says so.
        store: chip store whose row i is row i of the table, for the pictures.
        embeddings: vectors whose row i is row i of the table, to compare place with.
        label: column of labels; a table without a column "label" has none.
        k: clusters to begin with; at most one for each location.
        on: "sphere" or "degrees", for comparison.
        seed: of k-means.

    Raises:
        ValueError: fewer than two locations with a position, or a store or embeddings of another
            length.
    """

    @validated
    def __init__(
        self,
        scenes: pd.DataFrame,
        *,
        store: ChipStore | None = None,
        embeddings: Embeddings | None = None,
        label: str = "label",
        k: PositiveInt = 20,
        on: Metric = "sphere",
        seed: Seed = 0,
    ):
        check_table(scenes, store, label=label)
        if embeddings is not None and len(embeddings) != len(scenes):
            raise ValueError(
                f"`embeddings` must have one vector for each of the {len(scenes)} rows, got "
                f"{len(embeddings)}. Pass the scenes that they were made from."
            )
        placed = np.isfinite(scenes[["lon", "lat"]].to_numpy(float)).all(1)
        self._store_rows = np.flatnonzero(placed)
        self._table = scenes.iloc[self._store_rows].reset_index(drop=True)
        spots = len(self._table[["lon", "lat"]].drop_duplicates())
        locations = min(self._table["location"].nunique(), spots)
        if locations < 2:
            raise ValueError(
                f"`scenes` needs at least two locations with a position, got {locations}. Fill lon "
                "and lat, in degrees."
            )
        self._store, self._label, self._seed = store, label, seed
        self._embeddings = None if embeddings is None else embeddings.subset(self._store_rows)
        self._has_labels = label in self._table and self._table[label].notna().any()
        self._omitted = int((~placed).sum())
        drawn = self._table["location"].drop_duplicates()
        if len(drawn) > _DRAWN:
            drawn = drawn.sample(_DRAWN, random_state=0)
        self._drawn = np.flatnonzero(self._table["location"].isin(drawn))
        self._measured: dict[tuple[int, str], dict[str, float]] = {}
        self._fits = Fits(self._table, most=min(_MOST_K, locations), seed=seed)
        self._history: list[GeoClusters] = []
        self._is_choosing = False  # map and list are being brought into agreement
        self.cluster: int | None = None
        self._status = Status()
        self._background = Progress(lambda: self._status.show("stopped"))
        total = self._table["location"].nunique()
        self._controls = Controls(
            most=min(_MOST_K, locations), k=max(2, min(k, locations)), on=on,
            least=int(np.clip(total // 100, 2, 500)), largest=max(3, min(1000, total // 3)),
            embeddings=embeddings is not None,
        )  # fmt: skip
        for name in ("method", "k_slider", "size_slider", "search", "compare", "table", "map",
                     "other_map", "split_button", "merge_choice", "undo_button", "sweep_button",
                     "save_name", "save_button"):  # fmt: skip
            setattr(self, name, getattr(self._controls, name))
        super().__init__(self._controls.lay_out(self._background, self._status))
        self.add_class("geossl-clusters")
        self._connect()
        self._fit()

    @classmethod
    @validated
    def open_source(cls, source: str | os.PathLike[str], **options: Any) -> ClusterExplorer:
        """Explore what is at a path: a chip store, or anything that `open_scenes` opens.

        Args:
            source: a chip store, whose chips are shown; a table (csv, parquet, GeoJSON), a folder
                of images, or another data set.
            options: of the explorer.

        Raises:
            FileNotFoundError: there is nothing at the path.
            ValueError: nothing that `open_scenes` knows, or what the explorer refuses.
        """
        inside = (Path(source) / name for name in ("store.json", INFO))
        if "://" in os.fspath(source) or any(path.exists() for path in inside):
            store = open_store(source)
            return cls(store.scenes, store=store, **options)
        return cls(open_scenes(source), **options)

    @property
    def scenes(self) -> pd.DataFrame:
        """The rows of the scene table that have a position."""
        return self._table

    def _connect(self) -> None:
        def on_change(widget: widgets.Widget, action: Callable[[Any], None]) -> None:
            guarded = self._status.guard(lambda change: action(change["new"]))
            widget.observe(guarded, "value")

        guard = self._status.guard
        on_change(self.method, lambda _: self._fit())
        on_change(self.k_slider, lambda _: self._fit())
        on_change(self.size_slider, lambda _: self._fit())
        on_change(self.compare, lambda _: self._show_other())
        on_change(self.search, self._find)
        on_change(self.table, self._highlight)
        on_change(self.merge_choice, self._merge)
        self.map.observe(guard(lambda change: self._highlight(change["new"])), "highlight")
        self.split_button.on_click(guard(lambda _: self._split()))
        self.undo_button.on_click(guard(lambda _: self._undo()))
        self.sweep_button.on_click(guard(lambda _: self.sweep()))
        self.save_button.on_click(guard(lambda _: self.save(self.save_name.value)))

    def _fit(self) -> None:
        """Cluster anew, and show it."""
        method = self.method.value
        by_size = method == "density"
        self.k_slider.layout.display = "none" if by_size else ""
        self.size_slider.layout.display = "" if by_size else "none"
        number = self.size_slider.value if by_size else self.k_slider.value
        self._status.show(f"clustering {self._table['location'].nunique():,} locations …")
        self._history.clear()
        self._show(self._fits.get(method, number))

    def _show(self, clusters: GeoClusters, highlight: int = -1) -> None:
        """Show other clusters; the map keeps zoom and pan."""
        self.clusters = clusters
        self._cluster_of_row = clusters.assign(self._table["lon"], self._table["lat"])
        self._purity = None
        if self._has_labels:
            self._purity = clusters.purity(self._table, label=self._label)
        self._values = measure(clusters, self._table, label=self._label, seed=self._seed)
        if not self._history and self.method.value != "density":
            self._measured[clusters.k, self.method.value] = self._values
        self.undo_button.disabled = not self._history
        self._controls.curves.value = self._curves_html()
        drawing, alt = self._drawing(clusters), f"map of {clusters.k} geo clusters"
        self._is_choosing = True
        self.table.options = panes.list_options(clusters, self._purity)
        self.map.draw(drawing, alt=alt, highlight=highlight)
        self._is_choosing = False
        self._draw_other()
        self._highlight(highlight)

    def _drawing(self, clusters: GeoClusters, groups: np.ndarray | None = None) -> Any:
        """Return a map of clusters, dots by ``groups`` of the rows."""
        drawn = self._table.iloc[self._drawn]
        groups = None if groups is None else groups[self._drawn]
        return maps.map_clusters(clusters, drawn, label=self._label, groups=groups, popups=False)

    def _show_other(self) -> None:
        self._draw_other()
        self._say()

    def _draw_other(self) -> None:
        """Show beside the map what the clusters are compared with."""
        what, own = self.compare.value, self._controls
        codes = pd.factorize(self._table["location"])[0]
        if not what:
            own.compared.value = panes.sentence(
                "Choose what to compare with above: k-means on degrees instead of the sphere, or "
                + ("the clusters of the embeddings." if self._embeddings else
                   "clusters of embeddings, where `embeddings` are passed.")
            )  # fmt: skip
            self.other_map.draw(None)
            return
        if what == "metric":
            on = "sphere" if self.clusters.on == "degrees" else "degrees"
            k = min(self.clusters.k, self.k_slider.max)
            other = self._fits.get(on, k)
            moved = match_clusters(self.clusters, other, self._table)
            groups = moved["changed"].to_numpy(int)[codes]
            own.compared.value = panes.moves_html(moved, (_NAMES[self.clusters.on], _NAMES[on]))
            alt = f"map of {k} geo clusters on {on}; orange dots change their cluster"
        else:
            assert self._embeddings is not None
            self._status.show("clustering the embeddings …")
            found = place_information(self._embeddings, self.clusters, seed=self._seed)
            other, groups = self.clusters, found.groups[codes]
            own.compared.value = panes.place_html(found, self.clusters.k)
            alt = "map of the locations, colored by the cluster of their embedding"
        self.other_map.draw(self._drawing(other, groups), alt=alt)
        own.tabs.selected_index = 2

    def _split(self) -> None:
        assert self.cluster is not None
        cluster = self.cluster
        new = self.clusters.split(self._table, cluster=cluster, k=2, seed=self._seed)
        self._change(new, f"split cluster {cluster}: its parts are {cluster} and {new.k - 1}")

    def _merge(self, other: int) -> None:
        if other is None or other < 0 or self.cluster is None:
            return  # the options are being replaced
        pair = sorted((self.cluster, other))
        self._change(self.clusters.merge(pair), f"merged clusters {pair[0]} and {pair[1]}", pair[0])

    def _change(self, clusters: GeoClusters, said: str, highlight: int | None = None) -> None:
        self._history.append(self.clusters)
        kept = self.cluster if highlight is None else highlight
        self._show(clusters, -1 if kept is None else kept)
        self._status.show(f"{said}; {clusters.k} clusters")

    def _undo(self) -> None:
        if self._history:
            self._show(self._history.pop())
            self._status.show(f"taken back; {self.clusters.k} clusters")

    def sweep(self) -> None:
        """Measure purity, entropy, balance and width at many K; the map stays as it is."""
        method = "sphere" if self.method.value == "density" else self.method.value
        wanted = [k for k in _SWEEP if k <= self.k_slider.max and (k, method) not in self._measured]

        def work(report: Callable[[float], None]) -> dict[tuple[int, str], dict[str, float]]:
            found = {}
            for i, k in enumerate(wanted):
                report(i / len(wanted))
                clusters = self._fits.get(method, k)
                found[k, method] = measure(
                    clusters, self._table, label=self._label, seed=self._seed
                )
            return found

        def finish(found: Any) -> None:
            if isinstance(found, BaseException):
                self._status.show_error(found)
                return
            self._measured |= found
            self._controls.curves.value = self._curves_html()
            self._status.show(f"measured {len(self._measured)} values of K")

        self._status.show("clustering with many K …")
        self._background.run(work, finish)

    def _curves_html(self) -> str:
        rows = [{"k": k, "on": on, **values} for (k, on), values in sorted(self._measured.items())]
        columns = ["k", "on", "purity"]
        return panes.curves_html(pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns))

    def _highlight(self, number: int) -> None:
        if self._is_choosing:
            return
        self.cluster, self._is_choosing = None if number < 0 else number, True
        self.map.highlight = self.table.value = number
        self._is_choosing = False
        others = [] if number < 0 else self.clusters.neighbors(number).tolist()
        self.merge_choice.options = [("merge with …", -1), *((str(i), i) for i in others)]
        self.merge_choice.disabled = self.split_button.disabled = number < 0
        members = np.arange(len(self._cluster_of_row))
        if number >= 0:
            members = np.flatnonzero(self._cluster_of_row == number)
        self.rows = self._store_rows[members]
        sample = np.random.default_rng(0).permutation(self.rows)[:24]
        self._controls.chips.value = panes.sentence(_NO_STORE)
        if self._store is not None:
            shown = np.sort(sample) if len(self.rows) > 24 else self.rows
            self._controls.chips.value = gallery_html(self._store, shown)
        rows = self._table.iloc[members]
        self._controls.facts.value = panes.facts_html(
            rows, self._values, self._purity, cluster=self.cluster, label=self._label
        )
        self._say()

    def _say(self) -> None:
        name = f"{self.clusters.k} clusters" if self.cluster is None else f"cluster {self.cluster}"
        left = f"; {self._omitted:,} rows without a position are left out" if self._omitted else ""
        locations = self._table["location"][np.isin(self._store_rows, self.rows)].nunique()
        self._status.show(f"{name}: {locations:,} locations, {len(self.rows):,} rows{left}")

    def _find(self, text: str) -> None:
        """Highlight the cluster of a location, or the one with most rows of a label."""
        if not text:
            return
        matches = self._table["location"].astype(str).str.casefold() == text.casefold()
        if self._has_labels and not matches.any():
            labels = self._table[self._label].astype("string").str.casefold()
            matches = labels.str.contains(text.casefold(), regex=False).fillna(False)
        if not matches.any():
            self._status.show(f"no label or location matches {text!r}")
            return
        self._highlight(int(np.bincount(self._cluster_of_row[matches.to_numpy(bool)]).argmax()))

    @validated
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the clusters: .json for `pretrain`, .csv as the paper has it, .geojson the cells.

        Raises:
            ValueError: another suffix.
        """
        path = Path(path)
        if path.suffix == ".json":
            self.clusters.save(path)
        elif path.suffix == ".csv":
            self.clusters.to_csv(path, self._table)
        elif path.suffix == ".geojson":
            self.clusters.to_geojson(path)
        else:
            raise ValueError(f"`path` must end in .json, .csv or .geojson, got {path.name!r}.")
        self._controls.usage.value = panes.usage_html(path)
        self._status.show(f"wrote {path}")
