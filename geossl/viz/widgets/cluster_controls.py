"""The controls of the ClusterExplorer, and where its panes lie."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from geossl.clusters import Metric
from geossl.viz.widgets.common import Progress, Status
from geossl.viz.widgets.map_view import MapView

METHODS = [
    ("k-means on the sphere", "sphere"), ("k-means on degrees", "degrees"),
    ("nested k-means", "nested"), ("clumps (HDBSCAN)", "density"),
]  # fmt: skip


class Controls:
    """All widgets of an explorer, laid out; they do nothing yet.

    Attributes:
        row: the controls above the panes.
        panes: map and chips, beside the tabs.
    """

    def __init__(
        self, *, most: int, k: int, on: Metric, least: int, largest: int, embeddings: bool
    ) -> None:
        def slider(value: int, low: int, high: int, name: str, hint: str) -> widgets.IntSlider:
            return widgets.IntSlider(
                value, low, high, description=name, continuous_update=False, tooltip=hint,
                layout={"flex": "1 1 260px", "width": "auto", "min_width": "240px",
                        "max_width": "420px"},
                style={"description_width": "initial"},
            )  # fmt: skip

        fit: dict[str, Any] = {"style": {"description_width": "initial"}}
        self.method = widgets.Dropdown(
            options=METHODS, value=on, description="clusters", layout={"width": "240px"},
            tooltip="degrees are wrong at the antimeridian and the poles; nested clusters lie in "
            "those of every smaller K; clumps need no K", **fit,
        )  # fmt: skip
        self.k_slider = slider(k, 2, most, "K", "number of geo clusters")
        self.size_slider = slider(
            least,
            2,
            largest,
            "least size",
            "locations in a clump; those between clumps join the nearest",
        )
        self.size_slider.layout.display = "none"
        self.search = widgets.Text(
            placeholder="a label or a location", description="find", continuous_update=False,
            tooltip="highlights the cluster that has most of it", layout={"width": "220px"}, **fit,
        )  # fmt: skip
        others = [("nothing", ""), ("the other metric", "metric")]
        self.compare = widgets.Dropdown(
            options=others + [("the embeddings", "embeddings")] * embeddings,
            description="compare with", layout={"width": "250px"},
            tooltip="shows a second map beside the first", **fit,
        )  # fmt: skip
        self.table = widgets.Select(
            rows=8, layout={"width": "calc(100% - 6px)"},
            tooltip="clusters, the largest first; choose one here or on the map",
        )  # fmt: skip
        small = {"width": "auto"}
        self.split_button = widgets.Button(
            description="split in 2", layout=small, tooltip="divide the highlighted cluster"
        )
        self.merge_choice = widgets.Dropdown(
            options=[("merge with …", -1)], layout={"width": "130px"},
            tooltip="makes one of the highlighted cluster and a neighbor",
        )  # fmt: skip
        self.undo_button = widgets.Button(
            description="undo", layout=small, tooltip="take the last split or merge back",
            disabled=True,
        )  # fmt: skip
        self.sweep_button = widgets.Button(
            description="try many K", tooltip="measure K from 5 to 200", layout=small
        )
        self.save_name = widgets.Text(
            "clusters.json", description="save as", layout={"width": "calc(100% - 6px)"},
            tooltip="a name ending in .json (for pretrain), .csv (the paper's) or .geojson", **fit,
        )  # fmt: skip
        self.save_button = widgets.Button(
            description="save",
            layout={"width": "auto", "align_self": "flex-start"},
            tooltip="write the clusters",
        )
        self.map, self.other_map = MapView(), MapView()
        self.chips, self.facts, self.curves, self.compared, self.usage = (
            widgets.HTML(layout={"width": "100%"}) for _ in range(5)
        )
        widgets.jslink((self.map, "view"), (self.other_map, "view"))

    def lay_out(self, background: Progress, status: Status) -> list[widgets.Widget]:
        """Return the rows of the explorer."""
        row = widgets.Box(
            [self.method, self.k_slider, self.size_slider, self.compare, self.search]
        )  # fmt: skip
        row.add_class("geossl-controls")
        maps = widgets.Box([self.map, self.other_map])
        maps.add_class("geossl-maps")
        for view in (self.map, self.other_map):
            view.layout = {"flex": "1 1 300px", "min_width": "280px"}
        main = widgets.VBox([maps, self.chips], layout={"flex": "3 1 480px", "min_width": "280px"})
        by_hand = widgets.Box([self.split_button, self.merge_choice, self.undo_button])
        by_hand.add_class("geossl-controls")
        sweeping = widgets.Box([self.sweep_button, background.progress, background.button])
        sweeping.add_class("geossl-controls")
        self.tabs = widgets.Tab(
            [
                widgets.VBox([self.table, by_hand, self.facts]),
                widgets.VBox([sweeping, self.curves]),
                widgets.VBox([self.compared]),
                widgets.VBox([self.save_name, self.save_button, self.usage]),
            ],
            titles=("clusters", "choose K", "compare", "save"),
            layout={"flex": "1 1 320px", "min_width": "300px", "max_width": "100%"},
        )
        self.tabs.add_class("geossl-side")
        panes = widgets.Box([main, self.tabs])
        panes.add_class("geossl-panes")
        return [row, status.widget, panes]
