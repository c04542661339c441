"""Look at geo clusters: how many, where, of what, and what they are confounded with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd

from geossl.clusters import GeoClusters, On
from geossl.data.store import ChipStore
from geossl.utils.io import atomic_write
from geossl.viz import maps, plots
from geossl.viz.widgets.common import Status, bars_html, by_year, gallery_html, map_html

_MOST_K = 200
_SWEEP = (5, 10, 20, 40, 80, 120, 200)


class ClusterExplorer(widgets.VBox):
    """Geo clusters of a scene table: slide K, light a cluster, see its chips, labels and dates.

    Attributes:
        clusters: the `geossl.GeoClusters` shown now.
        cluster: number of the one that is lit, or None.
        rows: rows ``(n,)`` of the table in it; of all clusters when none is lit.

    Args:
        scenes: scene table; rows without a position are left out, and said.
        store: chip store whose row i is row i of the table, for the pictures.
        label: column of labels.
        k: clusters to begin with.
        on: "sphere" or "degrees", for comparison.
        seed: of k-means.

    Raises:
        ValueError: fewer than two places with a position, or a store of another length.
    """

    def __init__(
        self,
        scenes: pd.DataFrame,
        *,
        store: ChipStore | None = None,
        label: str = "label",
        k: int = 20,
        on: On = "sphere",
        seed: int = 0,
    ):
        if store is not None and len(store) != len(scenes):
            raise ValueError(
                f"expected the store of these {len(scenes)} rows, came one of {len(store)} chips"
            )
        placed = np.isfinite(scenes[["lon", "lat"]].to_numpy(float)).all(1)
        self._row = np.flatnonzero(placed)
        self._table = scenes.iloc[self._row].reset_index(drop=True)
        places = self._table["location"].nunique()
        if places < 2:
            raise ValueError(f"expected at least two places with a position, came {places}")
        self._store, self._label, self._seed = store, label, seed
        self._labelled = label in self._table and self._table[label].notna().any()
        self._dropped = int((~placed).sum())
        self._seen: dict[tuple[int, str], tuple[float, float]] = {}
        self.cluster: int | None = None
        self._status = Status()
        self._make_controls(min(_MOST_K, places), min(k, places), on)
        super().__init__([self._controls, self._body, self._status.widget])
        self._recluster()

    # --- what a person sets -------------------------------------------------------------------

    def _make_controls(self, most: int, k: int, on: On) -> None:
        wide = widgets.Layout(width="330px")
        self.k_slider = widgets.IntSlider(
            k, 2, most, description="K clusters", continuous_update=False, layout=wide,
            tooltip="number of geo clusters",
        )  # fmt: skip
        self.on_buttons = widgets.ToggleButtons(
            options=["sphere", "degrees"], value=on, description="k-means on",
            tooltips=["distances on the ground", "raw longitude and latitude: seam and poles tear"],
        )  # fmt: skip
        self.highlight = widgets.IntSlider(
            -1, -1, k - 1, description="light one", continuous_update=False, layout=wide,
            tooltip="number of the cluster to light; -1 lights all",
        )  # fmt: skip
        self.search = widgets.Text(
            placeholder="a label or a place", description="find", continuous_update=False,
            tooltip="lights the cluster that has most of it",
        )  # fmt: skip
        self.table = widgets.Select(
            description="by size", rows=9, layout=widgets.Layout(width="330px"),
            tooltip="clusters, the largest first; choose one to light it",
        )  # fmt: skip
        self.save_name = widgets.Text("clusters.csv", description="save as",
                                      tooltip="a name ending in .csv or .geojson")  # fmt: skip
        self.save_button = widgets.Button(
            description="save", tooltip="write the clusters to that file"
        )
        self.sweep_button = widgets.Button(
            description="try many K", tooltip="purity and entropy from K = 5 to 200",
            layout=widgets.Layout(display="" if self._labelled else "none"),
        )  # fmt: skip
        self._map, self._chips, self._facts, self._growth = (widgets.HTML() for _ in range(4))
        guarded = self._status.shown
        self.k_slider.observe(guarded(lambda _: self._recluster()), "value")
        self.on_buttons.observe(guarded(lambda _: self._recluster()), "value")
        self.highlight.observe(guarded(lambda change: self._light(change["new"])), "value")
        self.table.observe(guarded(self._pick), "value")
        self.search.observe(guarded(lambda change: self._find(change["new"])), "value")
        self.sweep_button.on_click(guarded(lambda _: self.sweep()))
        self.save_button.on_click(guarded(lambda _: self.save(self.save_name.value)))
        self._controls = widgets.HBox([self.k_slider, self.on_buttons, self.search])
        side = widgets.VBox(
            [self.highlight, self.table, self._facts, self._growth, self.sweep_button,
             widgets.HBox([self.save_name, self.save_button])],
            layout=widgets.Layout(width="360px"),
        )  # fmt: skip
        main = widgets.VBox([self._map, self._chips], layout=widgets.Layout(flex="1 1 480px"))
        self._body = widgets.HBox([main, side], layout=widgets.Layout(flex_flow="row wrap"))

    # --- what happens -------------------------------------------------------------------------

    def _recluster(self) -> None:
        k, on = self.k_slider.value, self.on_buttons.value
        self.clusters = GeoClusters.fit(self._table, k=k, seed=self._seed, on=on)
        self._own = self.clusters.assign(self._table["lon"], self._table["lat"])
        self._purity = None
        if self._labelled:
            self._purity = self._weigh(self.clusters, on)
        order = np.argsort(-self.clusters.sizes, kind="stable")
        told = {} if self._purity is None else dict(
            zip(self._purity["cluster"], self._purity.itertuples(), strict=True)
        )  # fmt: skip
        rows = [("all clusters", -1)]
        for i in order:
            of = told.get(i)
            more = f"  {of.purity:.0%} {of.label}" if of is not None and of.size else ""
            rows.append((f"{i:3d}: {int(self.clusters.sizes[i]):,} places{more}"[:60], int(i)))
        with self.hold_trait_notifications():
            self.table.options = rows
            self.highlight.max = k - 1
        if self._labelled:
            self._growth.value = self._growth_html()
        self._light(-1)

    def sweep(self) -> None:
        """Measure purity and entropy at many K on the side, and draw them; the map stays."""
        on = self.on_buttons.value
        for k in _SWEEP:
            if k <= self.k_slider.max and (k, on) not in self._seen:
                self._status.say(f"clustering with K = {k}")
                self._weigh(GeoClusters.fit(self._table, k=k, seed=self._seed, on=on), on)
        self._growth.value = self._growth_html()
        self._status.say(f"purity and entropy of {len(self._seen)} values of K")

    def _weigh(self, clusters: GeoClusters, on: On) -> pd.DataFrame:
        """Purity of each cluster; its mean over places is kept for the curves."""
        purity = clusters.purity(self._table, label=self._label)
        known = purity.dropna(subset="purity")
        weight = known["size"] / known["size"].sum()
        self._seen[clusters.k, on] = (
            float((weight * known["purity"]).sum()),
            float((weight * known["entropy_bits"]).sum()),
        )
        return purity

    def _pick(self, change: dict[str, Any]) -> None:
        if change["new"] is not None and change["new"] != self.highlight.value:
            self.highlight.value = change["new"]

    def _light(self, number: int) -> None:
        self.cluster = None if number < 0 else number
        if self.highlight.value != number:
            self.highlight.value = number
            return  # the change of the slider comes back here
        if self.table.value != number:
            self.table.value = number
        here = np.arange(len(self._own)) if number < 0 else np.flatnonzero(self._own == number)
        self.rows = self._row[here]
        drawn = maps.map_clusters(
            self.clusters, self._table, highlight=self.cluster, label=self._label
        )
        alt = f"map of {self.clusters.k} geo clusters"
        self._map.value = map_html(drawn, alt=alt if number < 0 else f"{alt}, number {number} lit")
        some = np.random.default_rng(0).permutation(self.rows)[:24]
        self._chips.value = gallery_html(
            self._store, np.sort(some) if len(self.rows) > 24 else self.rows
        )
        self._facts.value = self._facts_html(here)
        name = f"{self.clusters.k} clusters" if number < 0 else f"cluster {number}"
        places = self._table["location"].iloc[here].nunique()
        left = f"; {self._dropped:,} rows without a position are left out" if self._dropped else ""
        self._status.say(f"{name}: {places:,} places, {len(here):,} rows{left}")

    def _find(self, text: str) -> None:
        """Light the cluster with most rows of a label, or the one that a place is in."""
        if not text:
            return
        words = self._table["location"].astype(str).str.casefold() == text.casefold()
        if self._labelled and not words.any():
            found = self._table[self._label].astype("string").str.casefold()
            words = found.str.contains(text.casefold(), regex=False).fillna(False)
        if not words.any():
            self._status.say(f"no label and no place is called {text!r}")
            return
        self._light(int(np.bincount(self._own[words.to_numpy(bool)]).argmax()))

    def _facts_html(self, here: np.ndarray) -> str:
        part = self._table.iloc[here]
        blocks = []
        if self._purity is not None:
            known = self._purity.dropna(subset="purity")
            if self.cluster is None:
                share, bits = self._seen[self.k_slider.value, self.on_buttons.value]
                blocks.append(f"<p>mean purity {share:.0%}, mean entropy {bits:.2f} bits</p>")
            else:
                one = known[known["cluster"] == self.cluster]
                blocks += [
                    f"<p>purity {row.purity:.0%}, entropy {row.entropy_bits:.2f} bits</p>"
                    for row in one.itertuples()
                ]
            blocks.append(bars_html(part[self._label].value_counts(), title=self._label))
        if "time" in part and part["time"].notna().any():
            blocks.append(bars_html(by_year(part["time"]), title="year", most=20))
        return "".join(blocks)

    def _growth_html(self) -> str:
        """Purity and entropy by K for all K seen so far: how the picture changes."""
        if len(self._seen) < 2:
            return "<p>Slide K, or try many, to see how purity and entropy change with it.</p>"
        rows = [(k, on, *found) for (k, on), found in sorted(self._seen.items())]
        table = pd.DataFrame(rows, columns=["k", "on", "purity", "entropy_bits"])
        told = ", ".join(
            f"{r.on} K={r.k} {r.purity:.2f} and {r.entropy_bits:.2f} bits"
            for r in table.itertuples()
        )
        words = f"mean purity and mean entropy by K: {told}"
        return plots.figure_html(plots.plot_growth(table), alt=words, width="100%")

    # --- for Python ---------------------------------------------------------------------------

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
            raise ValueError(f"expected a file ending in .csv or .geojson, came {path.name!r}")
        self._status.say(f"wrote {path}")
