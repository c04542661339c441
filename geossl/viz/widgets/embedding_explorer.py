"""Explore embeddings: a projection linked with the map, a selection, and similar places."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd

from geossl.clusters import GeoClusters
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, neighbors
from geossl.evaluate import ProbeResult
from geossl.utils.colors import color_by_column
from geossl.utils.validate import Seed, validated
from geossl.viz.frame import Frame
from geossl.viz.maps.markers import check_table
from geossl.viz.pages import SHOWN_PX, date_text, jpeg_url, render
from geossl.viz.projection import SAMPLE, Method, project
from geossl.viz.widgets.common import Background, Status, bars_html, count_by_year
from geossl.viz.widgets.linked import Gallery, LinkedViews

_MOST_CHIPS = 32  # in the gallery
_PURITY_K, _PURITY_ROWS = 10, 30_000
_PROJECTIONS: dict[Method, str] = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
_DATES = ("any date", "the same date", "other dates", "the same month, other years")


class EmbeddingExplorer(widgets.VBox):
    """Show a 2-d projection of embeddings and a map, linked: select in either, see both.

    In a notebook t-SNE and UMAP are computed in a thread, so that the page answers meanwhile.

    Attributes:
        selection: rows ``(n,)`` that are selected, of the embeddings; can be set.
        selected: the `geossl.Embeddings` of the selection.

    Args:
        embeddings: vectors and their scenes; rows with NaN, or without a position where others
            have one, are left out, and the status line says so.
        store: chip store whose row i is row i of the embeddings, for the pictures.
        other: embeddings of the same rows by another encoder, for comparison.
        names: of the two encoders.
        probe: result of a probe of these embeddings, to color right and wrong.
        clusters: geo clusters, to color by them.
        label: column of labels.
        seed: of t-SNE and UMAP.

    Raises:
        ValueError: another number of rows in ``store`` or ``other``; no usable row.
    """

    @validated
    def __init__(
        self,
        embeddings: Embeddings,
        *,
        store: ChipStore | None = None,
        other: Embeddings | None = None,
        names: tuple[str, str] = ("encoder", "other encoder"),
        probe: ProbeResult | None = None,
        clusters: GeoClusters | None = None,
        label: str = "label",
        seed: Seed = 0,
    ):
        for argument, value in (("store", store), ("other", other)):
            if value is not None and len(value) != len(embeddings):
                raise ValueError(
                    f"`{argument}` must have the same {len(embeddings)} rows as the embeddings, "
                    f"got {len(value)}."
                )
        check_table(embeddings.scenes, label=label)
        positions = np.isfinite(embeddings.scenes[["lon", "lat"]].to_numpy(float)).all(1)
        self._map_title = "map" if positions.any() else "map: no row has a position"
        usable = positions | (not positions.any())
        for one in (embeddings, other):
            if one is not None:
                usable &= np.isfinite(one.vectors).all(1)
        if not usable.any():
            raise ValueError("`embeddings` needs rows with finite vectors, got none.")
        self._rows = np.flatnonzero(usable)
        self._embeddings, self._store = embeddings.subset(self._rows), store
        self._other = None if other is None else other.subset(self._rows)
        self._names, self._label, self._seed = names, label, seed
        self._columns = _extra_columns(self._embeddings.scenes, self._rows, clusters, probe)
        self._omitted = int((~usable).sum())
        self._status = Status()
        self._query: int | None = None
        self._projections: dict[Method, list[bytes]] = {}  # method -> points of both encoders
        self._method: Method = "pca"  # the one that is shown
        self._make_controls()
        super().__init__([self._controls, self.views, self._below, self._status.widget])
        self._project()
        self._color()
        self._show()

    def _make_controls(self) -> None:
        scenes = self._embeddings.scenes
        self.projection = widgets.Dropdown(
            options=[(name, method) for method, name in _PROJECTIONS.items()],
            description="projection",
            tooltip="how vectors become two numbers; PCA is fast, t-SNE and UMAP are slow",
        )  # fmt: skip
        self._background = Background(self._return)
        self.progress, self.cancel = self._background.progress, self._background.cancel
        columns = [c for c in (self._label, "split", "time") if c in scenes]
        purity = ["neighbor purity"] if self._label in scenes else []
        self.color = widgets.Dropdown(
            options=list(dict.fromkeys([*columns, *self._columns, *purity, "location"])),
            description="color by", tooltip="what colors the points",
        )  # fmt: skip
        self.dates = widgets.Dropdown(
            options=_DATES, description="search similar at", style={"description_width": "initial"},
            tooltip="dates of the similar images to search",
        )  # fmt: skip
        lon, lat = scenes[["lon", "lat"]].to_numpy(float).T
        frame = Frame.around(lon, lat)
        place = np.stack([frame.unwrap(lon), lat], 1)
        box = frame.padded(0.05)
        if frame.is_world:
            box = Frame(-180.0, min(-60.0, box.bottom), 180.0, max(85.0, box.top))
        self.views = LinkedViews(
            place=place.astype("<f4").tobytes(),
            place_rest=(place - place.astype("<f4")).astype("<f4").tobytes(),
            region=[box.left, box.bottom, box.right, box.top],
        )
        self.gallery = Gallery()
        self._legend, self._counts = widgets.HTML(), widgets.HTML()
        left = widgets.VBox([self.gallery], layout={"flex": "1 1 380px"})
        right = widgets.VBox([self._legend, self._counts], layout={"width": "300px"})
        self._below = widgets.HBox([left, right], layout={"flex_flow": "row wrap"})
        controls = [self.projection, self.progress, self.cancel, self.color, self.dates]
        self._controls = widgets.HBox(controls, layout={"flex_flow": "row wrap"})
        guard = self._status.guard
        self.projection.observe(guard(lambda _: self._project()), "value")
        self.color.observe(guard(lambda _: self._color()), "value")
        self.dates.observe(guard(lambda _: self._show_similar(self._query)), "value")
        self.views.observe(guard(self._on_selection), "selection")
        self.gallery.observe(guard(lambda _: self._show_similar(self.gallery.chosen)), "times")

    def _project(self) -> None:
        """Show the chosen projection; one that was computed before is reused."""
        method, start = self.projection.value, time.monotonic()
        self._background.stop()
        if method == "pca" and method not in self._projections:
            self._projections[method] = self._points(method, lambda share: None)
        if method in self._projections:
            self._draw(method, start)
            return
        self._status.show(f"computing {self._describe(method)}")
        self._background.run(
            lambda report: self._points(method, report),
            self._status.guard(lambda points: self._finish(method, start, points)),
        )

    def _finish(self, method: Method, start: float, points: list[bytes] | Exception) -> None:
        if isinstance(points, Exception):
            self.projection.value = self._method
            self._status.show_error(points)
        else:
            self._projections[method] = points
            self._draw(method, start)

    def _draw(self, method: Method, start: float) -> None:
        name, self._method = _PROJECTIONS[method], method
        with self.views.hold_trait_notifications():
            self.views.first, self.views.second = self._projections[method]
            self.views.titles = [self._map_title, *(f"{n}: {name}" for n in self._names)]
        self._status.show(f"{self._describe(method)} in {time.monotonic() - start:.1f} s")

    def _return(self) -> None:
        """Return to the projection that is shown: the other was cancelled."""
        self.projection.value = self._method
        self._status.show(f"stopped; the picture is still {_PROJECTIONS[self._method]}")

    def _describe(self, method: Method) -> str:
        count = len(self._embeddings)
        words = f"{_PROJECTIONS[method]} of {count:,} vectors"
        if method == "pca" or count <= SAMPLE:
            return words
        return f"{words}, fitted to {SAMPLE:,} of them,"

    def _points(self, method: Method, report: Callable[[float], None]) -> list[bytes]:
        """Compute the projections as bytes; those of an absent second encoder are empty."""
        encoders = [one for one in (self._embeddings, self._other) if one is not None]
        points = [b"", b""]
        for i, embeddings in enumerate(encoders):

            def share_of_all(share: float, done: int = i) -> None:
                report((done + share) / len(encoders))

            xy = project(embeddings, method=method, seed=self._seed, progress=share_of_all)
            points[i] = xy.astype("<f4").tobytes()
        return points

    def _color(self) -> None:
        name = self.color.value
        if name == "neighbor purity" and name not in self._columns:
            self._columns[name] = self._neighbor_purity()
        table = self._columns if name in self._columns else self._embeddings.scenes
        colors, legend = color_by_column(table[name].rename(name))
        with self.views.hold_trait_notifications():
            self.views.codes, self.views.palette = colors.values.tobytes(), list(colors.palette)
        self._legend.value = render("legend.html", **legend)

    def _neighbor_purity(self) -> pd.Series:
        """Return the share of each row's ten nearest at other locations that have its label."""
        rows = np.arange(len(self._embeddings))
        if len(rows) > _PURITY_ROWS:
            rows = np.sort(np.random.default_rng(self._seed).permutation(rows)[:_PURITY_ROWS])
        nearest, _ = neighbors(self._embeddings, rows, k=_PURITY_K)
        codes = pd.factorize(self._embeddings.scenes[self._label])[0]
        share = (codes[nearest] == codes[rows][:, None]).mean(1)
        purity = np.full(len(codes), np.nan)
        purity[rows] = np.where(codes[rows] >= 0, share, np.nan)
        return pd.Series(purity)

    def _on_selection(self, _: Any) -> None:
        self._query = None
        self._show()

    def _show(self) -> None:
        """Show gallery and counts of the selection, or of a sample of all rows."""
        rows = self.views.rows()
        scenes = self._embeddings.scenes
        table = scenes.iloc[rows] if len(rows) else scenes
        note = f"{len(rows):,} selected" if len(rows) else "nothing selected; a random sample"
        sample = rows if len(rows) else np.arange(len(scenes))
        if len(sample) > _MOST_CHIPS:
            sample = np.sort(np.random.default_rng(0).permutation(sample)[:_MOST_CHIPS])
            note += f", {_MOST_CHIPS} shown"
        self._fill_gallery(sample, note=f"{note}. Click one to see similar places.")
        blocks = []
        if self._label in table:
            title = f"{self._label} of {'the selection' if len(rows) else 'all'}"
            blocks.append(bars_html(table[self._label].value_counts(), title=title))
        if table["time"].notna().any():
            blocks.append(bars_html(count_by_year(table["time"]), title="year", most=20))
        self._counts.value = "".join(blocks)
        if self._omitted:
            note += f"; {self._omitted:,} rows without a position or a finite vector are left out"
        self._status.show(note)

    def _show_similar(self, row: int | None) -> None:
        """Show the images most similar to a chip by cosine similarity, at the chosen dates."""
        if row is None or row < 0:
            return
        self._query = row
        times, dates = self._embeddings.scenes["time"], self.dates.value
        own = times.iloc[row]
        allowed = {
            "any date": pd.Series(True, times.index),
            "the same date": times == own,
            "other dates": times != own,
            "the same month, other years": (times.dt.month == own.month)
            & (times.dt.year != own.year),
        }[dates].to_numpy(bool)
        gallery = np.union1d(np.flatnonzero(allowed), [row])
        if len(gallery) < 2:
            self._status.show(f"there is no other image at {dates}")
            return
        query = int(np.searchsorted(gallery, row))
        nearest, similarity = neighbors(
            self._embeddings.subset(gallery), [query], k=_MOST_CHIPS - 1, exclude_location=False
        )
        rows = np.r_[row, gallery[nearest[0]]]
        captions = ["the chip itself", *(f"similarity {value:.2f}" for value in similarity[0])]
        note = f"The {len(rows) - 1} images most similar to the first, at {dates}."
        self._fill_gallery(rows, note=note, captions=captions)
        self._status.show(note)

    def _fill_gallery(
        self, rows: np.ndarray, *, note: str, captions: list[str] | None = None
    ) -> None:
        pictures = [""] * len(rows)
        if self._store is not None and len(rows):
            try:
                chips = self._store.preview(self._rows[rows], min_px=SHOWN_PX)
                pictures = [jpeg_url(chip, quality=85) for chip in chips]
            except (OSError, ValueError) as error:
                note += f" The pictures cannot be read: {error}"
        items = []
        for i, (row, picture) in enumerate(zip(rows, pictures, strict=True)):
            scene = self._embeddings.scenes.iloc[row]
            date = date_text(scene["time"])
            words = [
                f"location {scene['location']}",
                date,
                *(captions[i : i + 1] if captions else []),
            ]
            if self._label in scene and pd.notna(scene[self._label]):
                words.append(str(scene[self._label]))
            caption = captions[i] if captions else date
            items.append(
                {"row": int(row), "image": picture, "words": ", ".join(words), "caption": caption}
            )
        with self.gallery.hold_trait_notifications():
            self.gallery.chips, self.gallery.note = items, note

    @property
    def selection(self) -> np.ndarray:
        """Rows ``(n,)`` of the embeddings that are selected."""
        return self._rows[self.views.rows()]

    @selection.setter
    def selection(self, rows: Any) -> None:
        self.views.select(np.flatnonzero(np.isin(self._rows, np.asarray(rows))))

    @property
    def selected(self) -> Embeddings:
        """The embeddings of the selection."""
        return self._embeddings.subset(self.views.rows())


def _extra_columns(
    scenes: pd.DataFrame,
    rows: np.ndarray,
    clusters: GeoClusters | None,
    probe: ProbeResult | None,
) -> dict[str, pd.Series]:
    """Return columns to color by that the table does not have."""
    columns = {}
    if clusters is not None:
        numbers = clusters.assign(scenes["lon"], scenes["lat"])
        columns["geo cluster"] = pd.Series(numbers).astype(str)
    if probe is not None:
        hits = probe.predictions.set_index("row")["hit"].reindex(rows)
        words = hits.map({True: "right", False: "wrong"}).fillna("not tested")
        columns["probe error"] = words.reset_index(drop=True)
    return columns
