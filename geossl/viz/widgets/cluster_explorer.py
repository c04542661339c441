"""Explore geo clusters: how many, where, of what, and what they are confounded with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd

from geossl.clusters import GeoClusters, Metric
from geossl.data.store import ChipStore
from geossl.utils.io import atomic_write
from geossl.utils.validate import PositiveInt, Seed, validated
from geossl.viz import maps, plots
from geossl.viz.maps.markers import check_table
from geossl.viz.pages import render
from geossl.viz.widgets.common import Status, bars_html, count_by_year, gallery_html, map_html

_MOST_K = 200
_SWEEP = (5, 10, 20, 40, 80, 120, 200)


class ClusterExplorer(widgets.VBox):
    """Explore geo clusters of a scene table: slide K, highlight a cluster, see what is in it.

    Attributes:
        clusters: the `geossl.GeoClusters` on the map.
        cluster: number of the highlighted one, or None.
        rows: rows ``(n,)`` of the table in it; of all clusters when none is highlighted.

    Args:
        scenes: scene table; rows without a position are left out, and the status line says so.
        store: chip store whose row i is row i of the table, for the pictures.
        label: column of labels.
        k: clusters to begin with; at most one for each location.
        on: "sphere" or "degrees", for comparison.
        seed: of k-means.

    Raises:
        ValueError: fewer than two locations with a position, or a store of another length.
    """

    @validated
    def __init__(
        self,
        scenes: pd.DataFrame,
        *,
        store: ChipStore | None = None,
        label: str = "label",
        k: PositiveInt = 20,
        on: Metric = "sphere",
        seed: Seed = 0,
    ):
        check_table(scenes, store, label=label)
        placed = np.isfinite(scenes[["lon", "lat"]].to_numpy(float)).all(1)
        self._store_rows = np.flatnonzero(placed)
        self._table = scenes.iloc[self._store_rows].reset_index(drop=True)
        locations = self._table["location"].nunique()
        if locations < 2:
            raise ValueError(
                f"`scenes` needs at least two locations with a position, got {locations}."
            )
        self._store, self._label, self._seed = store, label, seed
        self._has_labels = label in self._table and self._table[label].notna().any()
        self._omitted = int((~placed).sum())
        self._measured: dict[tuple[int, str], tuple[float, float]] = {}  # purity and entropy
        self.cluster: int | None = None
        self._status = Status()
        self._make_controls(min(_MOST_K, locations), max(2, min(k, locations)), on)
        super().__init__([self._controls, self._body, self._status.widget])
        self._fit()

    def _make_controls(self, most: int, k: int, on: Metric) -> None:
        wide = {"width": "330px"}
        self.k_slider = widgets.IntSlider(
            k, 2, most, description="clusters (K)", continuous_update=False, layout=wide,
            tooltip="number of geo clusters",
        )  # fmt: skip
        self.on_buttons = widgets.ToggleButtons(
            options=["sphere", "degrees"], value=on, description="k-means on",
            tooltips=["distances on the ground",
                      "raw longitude and latitude: wrong at the antimeridian and the poles"],
        )  # fmt: skip
        self.highlight = widgets.IntSlider(
            -1, -1, k - 1, description="highlight", continuous_update=False, layout=wide,
            tooltip="number of the cluster to highlight; -1 shows all alike",
        )  # fmt: skip
        self.search = widgets.Text(
            placeholder="a label or a location", description="find", continuous_update=False,
            tooltip="highlights the cluster that has most of it",
        )  # fmt: skip
        self.table = widgets.Select(
            description="by size", rows=9, layout=wide,
            tooltip="clusters, the largest first; choose one to highlight it",
        )  # fmt: skip
        self.save_name = widgets.Text(
            "clusters.csv", description="save as", tooltip="a name ending in .csv or .geojson"
        )
        self.save_button = widgets.Button(description="save", tooltip="write the clusters")
        self.sweep_button = widgets.Button(
            description="try many K", tooltip="purity and entropy from K = 5 to 200",
            layout={"display": "" if self._has_labels else "none"},
        )  # fmt: skip
        self._map, self._chips, self._facts, self._curves = (widgets.HTML() for _ in range(4))
        guard = self._status.guard
        self.k_slider.observe(guard(lambda _: self._fit()), "value")
        self.on_buttons.observe(guard(lambda _: self._fit()), "value")
        self.highlight.observe(guard(lambda change: self._highlight(change["new"])), "value")
        self.table.observe(guard(self._choose), "value")
        self.search.observe(guard(lambda change: self._find(change["new"])), "value")
        self.sweep_button.on_click(guard(lambda _: self.sweep()))
        self.save_button.on_click(guard(lambda _: self.save(self.save_name.value)))
        self._controls = widgets.HBox([self.k_slider, self.on_buttons, self.search])
        side = widgets.VBox(
            [self.highlight, self.table, self._facts, self._curves, self.sweep_button,
             widgets.HBox([self.save_name, self.save_button])],
            layout={"width": "360px"},
        )  # fmt: skip
        main = widgets.VBox([self._map, self._chips], layout={"flex": "1 1 480px"})
        self._body = widgets.HBox([main, side], layout={"flex_flow": "row wrap"})

    def _fit(self) -> None:
        """Cluster anew, and fill the list of clusters."""
        k, on = self.k_slider.value, self.on_buttons.value
        self.clusters = GeoClusters.fit(self._table, k=k, seed=self._seed, on=on)
        self._cluster_of_row = self.clusters.assign(self._table["lon"], self._table["lat"])
        self._purity = self._measure(self.clusters, on) if self._has_labels else None
        texts = [f"{i:3d}: {int(size):,} locations" for i, size in enumerate(self.clusters.sizes)]
        if self._purity is not None:
            for row in self._purity[self._purity["size"] > 0].itertuples():
                texts[row.cluster] += f"  {row.purity:.0%} {row.label}"
        order = np.argsort(-self.clusters.sizes, kind="stable")
        with self.hold_trait_notifications():
            self.table.options = [("all clusters", -1), *((texts[i][:60], int(i)) for i in order)]
            self.highlight.max = k - 1
        if self._has_labels:
            self._curves.value = self._curves_html()
        self._highlight(-1)

    def sweep(self) -> None:
        """Measure purity and entropy at many K and plot them; the map stays as it is."""
        on = self.on_buttons.value
        for k in _SWEEP:
            if k <= self.k_slider.max and (k, on) not in self._measured:
                self._status.show(f"clustering with K = {k}")
                self._measure(GeoClusters.fit(self._table, k=k, seed=self._seed, on=on), on)
        self._curves.value = self._curves_html()
        self._status.show(f"purity and entropy at {len(self._measured)} values of K")

    def _measure(self, clusters: GeoClusters, on: Metric) -> pd.DataFrame:
        """Return the purity of each cluster, and keep the means over locations for the curves."""
        purity = clusters.purity(self._table, label=self._label)
        known = purity.dropna(subset="purity")
        means = [np.average(known[c], weights=known["size"]) for c in ("purity", "entropy_bits")]
        self._measured[clusters.k, on] = (float(means[0]), float(means[1]))
        return purity

    def _choose(self, change: dict[str, Any]) -> None:
        if change["new"] is not None:  # the options are being replaced
            self.highlight.value = change["new"]

    def _highlight(self, number: int) -> None:
        self.cluster = None if number < 0 else number
        if self.highlight.value != number:
            self.highlight.value = number
            return  # the slider's callback calls this again
        if self.table.value != number:
            self.table.value = number
        members = np.arange(len(self._cluster_of_row))
        if number >= 0:
            members = np.flatnonzero(self._cluster_of_row == number)
        self.rows = self._store_rows[members]
        drawing = maps.map_clusters(
            self.clusters, self._table, highlight=self.cluster, label=self._label
        )
        name = f"{self.clusters.k} clusters" if number < 0 else f"cluster {number}"
        alt = f"map of {self.clusters.k} geo clusters"
        self._map.value = map_html(drawing, alt=alt if number < 0 else f"{alt}, {name} highlighted")
        sample = np.random.default_rng(0).permutation(self.rows)[:24]
        self._chips.value = gallery_html(
            self._store, np.sort(sample) if len(self.rows) > 24 else self.rows
        )
        self._facts.value = self._facts_html(members)
        locations = self._table["location"].iloc[members].nunique()
        left = f"; {self._omitted:,} rows without a position are left out" if self._omitted else ""
        self._status.show(f"{name}: {locations:,} locations, {len(members):,} rows{left}")

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

    def _facts_html(self, members: np.ndarray) -> str:
        """Render purity, labels and years of some rows."""
        table = self._table.iloc[members]
        blocks: list[str] = []
        if self._purity is not None:
            if self.cluster is None:
                share, bits = self._measured[self.clusters.k, self.clusters.on]
                text = f"mean purity {share:.0%}, mean entropy {bits:.2f} bits"
            else:
                row = self._purity.set_index("cluster").loc[self.cluster]
                text = f"purity {row['purity']:.0%}, entropy {row['entropy_bits']:.2f} bits"
                text = text if pd.notna(row["purity"]) else "no labels"
            blocks.append(render("paragraph.html", text=text))
            blocks.append(bars_html(table[self._label].value_counts(), title=self._label))
        if "time" in table and table["time"].notna().any():
            blocks.append(bars_html(count_by_year(table["time"]), title="year", most=20))
        return "".join(blocks)

    def _curves_html(self) -> str:
        """Render purity and entropy at all K measured so far."""
        if len(self._measured) < 2:
            text = "Slide K, or try many, to see how purity and entropy change with it."
            return render("paragraph.html", text=text)
        rows = [(k, on, *means) for (k, on), means in sorted(self._measured.items())]
        table = pd.DataFrame(rows, columns=["k", "on", "purity", "entropy_bits"])
        points = ", ".join(
            f"{row.on} K={row.k} {row.purity:.2f} and {row.entropy_bits:.2f} bits"
            for row in table.itertuples()
        )
        alt = f"mean purity and mean entropy by K: {points}"
        return plots.figure_html(plots.plot_purity_by_k(table), alt=alt, width="100%")

    @validated
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the clusters: .csv in the paper's format (cluster, path), .geojson the cells.

        Raises:
            ValueError: another suffix.
        """
        path = Path(path)
        if path.suffix == ".csv":
            self.clusters.to_csv(path, self._table)
        elif path.suffix == ".geojson":
            from shapely.geometry import mapping

            features = [
                {"type": "Feature", "geometry": mapping(cell),
                 "properties": {"cluster": i, "places": int(self.clusters.sizes[i])}}
                for i, cell in enumerate(self.clusters.cells())
            ]  # fmt: skip
            text = json.dumps({"type": "FeatureCollection", "features": features})
            with atomic_write(path) as part:
                part.write_text(text, "utf-8")
        else:
            raise ValueError(f"`path` must end in .csv or .geojson, got {path.name!r}.")
        self._status.show(f"wrote {path}")
