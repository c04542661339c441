"""Look inside an encoder: its projection beside the map, a selection, places like this."""

from __future__ import annotations

import html
import time
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd

from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, neighbors
from geossl.evaluate import ProbeResult
from geossl.utils.colors import color_by_column
from geossl.viz.maps import leaflet
from geossl.viz.projection import Method, project
from geossl.viz.widgets.common import Status, bars_html, by_year
from geossl.viz.widgets.linked import Gallery, LinkedViews

_SHOWN = 32  # chips in the gallery
_PURITY_K, _PURITY_ROWS = 10, 30_000
_PROJECTIONS: dict[Method, str] = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
_DATES = ("any date", "the same date", "other dates", "the same month, other years")


class EmbeddingExplorer(widgets.VBox):
    """A 2-d projection of embeddings beside the map, linked: drag a box or a lasso in either.

    Attributes:
        selection: rows ``(n,)`` selected now, in the order of the embeddings given; settable.
        selected: the `geossl.Embeddings` of the selection.

    Args:
        embeddings: vectors and their scenes; rows with NaN or without a position are left out, and
            said.
        store: chip store whose row i is row i of the embeddings, for the pictures.
        other: embeddings of the same rows by another encoder, shown beside.
        names: what to call the two encoders.
        probe: result of a probe of these embeddings, to color right and wrong.
        clusters: geo clusters, to color by them.
        label: column of labels.
        seed: of t-SNE and UMAP.

    Raises:
        ValueError: another number of rows in the store or in ``other``; no usable row.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        *,
        store: ChipStore | None = None,
        other: Embeddings | None = None,
        names: tuple[str, str] = ("encoder", "other encoder"),
        probe: ProbeResult | None = None,
        clusters: Any = None,
        label: str = "label",
        seed: int = 0,
    ):
        for what, given in (("store", store), ("other embeddings", other)):
            if given is not None and len(given) != len(embeddings):
                raise ValueError(
                    f"expected {what} of the same {len(embeddings)} rows, came {len(given)}"
                )
        table = embeddings.scenes
        good = np.isfinite(table[["lon", "lat"]].to_numpy(float)).all(1)
        for given in (embeddings, other):
            if given is not None:
                good &= np.isfinite(given.vectors).all(1)
        if not good.any():
            raise ValueError("expected rows with a position and finite vectors, came none")
        self._row = np.flatnonzero(good)
        self._own, self._store = embeddings.subset(self._row), store
        self._other = None if other is None else other.subset(self._row)
        self._names, self._label, self._seed = names, label, seed
        self._extra = _extra_columns(self._own.scenes, self._row, clusters, probe)
        self._left_out = int((~good).sum())
        self._status = Status()
        self._query: int | None = None
        self._make()
        parts = [self._controls, self.views, self._below, self._status.widget]
        super().__init__(parts)
        self._project()
        self._color()
        self._show()

    # --- what a person sets -------------------------------------------------------------------

    def _make(self) -> None:
        self.projection = widgets.Dropdown(
            options=[(name, method) for method, name in _PROJECTIONS.items()],
            description="projection", tooltip="how vectors become two numbers; PCA is done at once",
        )  # fmt: skip
        self.progress = widgets.FloatProgress(
            0.0, max=1.0, description="", layout=widgets.Layout(width="160px", display="none"),
            tooltip="how much of the projection is done",
        )  # fmt: skip
        self._flat: dict[str, list[bytes]] = {}  # method -> one projection an encoder
        plain = [c for c in (self._label, "split", "time") if c in self._own.scenes]
        more = ["neighbor purity"] if self._label in self._own.scenes else []
        self.color = widgets.Dropdown(
            options=list(dict.fromkeys([*plain, *self._extra, *more, "location"])),
            description="color by", tooltip="what colors the points",
        )  # fmt: skip
        self.dates = widgets.Dropdown(
            options=_DATES, description="places like this", style={"description_width": "initial"},
            tooltip="which dates the search for similar places may find",
        )  # fmt: skip
        self.views = LinkedViews(
            place=self._own.scenes[["lon", "lat"]].to_numpy("<f4").tobytes(), region=self._region(),
        )  # fmt: skip
        self.gallery = Gallery()
        self._legend, self._counts = widgets.HTML(), widgets.HTML()
        self._controls = widgets.HBox(
            [self.projection, self.progress, self.color, self.dates],
            layout=widgets.Layout(flex_flow="row wrap"),
        )
        right = widgets.VBox([self._legend, self._counts], layout=widgets.Layout(width="300px"))
        left = widgets.VBox([self.gallery], layout=widgets.Layout(flex="1 1 380px"))
        self._below = widgets.HBox([left, right], layout=widgets.Layout(flex_flow="row wrap"))
        guarded = self._status.shown
        self.projection.observe(guarded(lambda _: self._project()), "value")
        self.color.observe(guarded(lambda _: self._color()), "value")
        self.dates.observe(guarded(lambda _: self._like(self._query)), "value")
        self.views.observe(guarded(self._selected), "selection")
        self.gallery.observe(guarded(lambda _: self._like(self.gallery.chosen)), "times")

    def _region(self) -> list[float]:
        """What the map shows at first: the world, or the region where all places are."""
        lon, lat = (self._own.scenes[c].to_numpy(float) for c in ("lon", "lat"))
        wide = max(np.ptp(lon), 1.9 * np.ptp(lat))
        if wide > 120:
            return [-180.0, -60.0, 180.0, 85.0]
        half = max(0.55 * wide, 0.05)
        x, y = (lon.min() + lon.max()) / 2, (lat.min() + lat.max()) / 2
        return [float(v) for v in (x - half, y - half / 1.9, x + half, y + half / 1.9)]

    # --- what happens -------------------------------------------------------------------------

    def _project(self) -> None:
        """Draw by the method that is set; one that was drawn before comes back at once."""
        method, began = self.projection.value, time.monotonic()
        name = _PROJECTIONS[method]
        if method not in self._flat:
            self._status.say(f"{name} of {len(self._own):,} vectors has begun")
            self._flat[method] = self._flattened(method)
        with self.views.hold_trait_notifications():
            self.views.first, self.views.second = self._flat[method]
            self.views.titles = ["map", *(f"{n}: {name}" for n in self._names)]
        self._status.say(
            f"{name} of {len(self._own):,} vectors in {time.monotonic() - began:.1f} s"
        )

    def _flattened(self, method: Method) -> list[bytes]:
        """The projections as bytes; empty for a second encoder that is none."""
        given = [one for one in (self._own, self._other) if one is not None]
        flat = [b"", b""]
        self.progress.layout.display = ""
        try:
            for i, one in enumerate(given):

                def tell(share: float, done: int = i) -> None:
                    self.progress.value = (done + share) / len(given)

                found = project(one, method=method, seed=self._seed, progress=tell)
                flat[i] = found.astype("<f4").tobytes()
        finally:
            self.progress.layout.display = "none"
            self.progress.value = 0.0
        return flat

    def _color(self) -> None:
        name = self.color.value
        values = self._purity() if name == "neighbor purity" else self._column(name)
        paint, legend = color_by_column(values.rename(name))
        with self.views.hold_trait_notifications():
            self.views.codes, self.views.palette = _bytes_of(paint), paint["palette"]
        self._legend.value = _legend_html(legend)

    def _column(self, name: str) -> pd.Series:
        return self._extra[name] if name in self._extra else self._own.scenes[name]

    def _purity(self) -> pd.Series:
        """Share of the ten nearest vectors of other places that have the row's own label."""
        if "neighbor purity" not in self._extra:
            label = self._own.scenes[self._label]
            rows = np.arange(len(self._own))
            if len(rows) > _PURITY_ROWS:
                rows = np.sort(np.random.default_rng(self._seed).permutation(rows)[:_PURITY_ROWS])
            found, _ = neighbors(self._own, rows, k=_PURITY_K)
            codes = pd.factorize(label)[0]
            share = (codes[found] == codes[rows][:, None]).mean(1)
            purity = np.full(len(label), np.nan)
            purity[rows] = np.where(codes[rows] >= 0, share, np.nan)
            self._extra["neighbor purity"] = pd.Series(purity)
        return self._extra["neighbor purity"]

    def _selected(self, _: Any) -> None:
        self._query = None
        self._show()

    def _show(self) -> None:
        """Gallery and counts of the selection, or of a sample of everything."""
        rows = self.views.rows()
        part = self._own.scenes.iloc[rows] if len(rows) else self._own.scenes
        note = f"{len(rows):,} selected" if len(rows) else "nothing is selected; a random sample"
        pick = rows if len(rows) else np.arange(len(self._own))
        if len(pick) > _SHOWN:
            pick = np.sort(np.random.default_rng(0).permutation(pick)[:_SHOWN])
            note += f", {_SHOWN} shown"
        self._fill(pick, note=f"{note}. Choose one to see places like it.")
        blocks = []
        if self._label in part:
            of = "of the selection" if len(rows) else "of all"
            counts = part[self._label].value_counts()
            blocks.append(bars_html(counts, title=f"{self._label} {of}"))
        if part["time"].notna().any():
            blocks.append(bars_html(by_year(part["time"]), title="year", most=20))
        self._counts.value = "".join(blocks)
        left = f"; {self._left_out:,} rows without position or finite vector are left out"
        self._status.say(note + (left if self._left_out else ""))

    def _like(self, row: int | None) -> None:
        """The places most like a chip, by cosine similarity, at the dates that are asked for."""
        if row is None or row < 0:
            return
        self._query = row
        times = self._own.scenes["time"]
        own, asked = times.iloc[row], self.dates.value
        allowed = {
            "any date": pd.Series(True, times.index),
            "the same date": times == own,
            "other dates": times != own,
            "the same month, other years": (times.dt.month == own.month)
            & (times.dt.year != own.year),
        }[asked].to_numpy(bool)
        kept = np.union1d(np.flatnonzero(allowed), [row])
        if len(kept) < 2:
            self._status.say(f"no other image at {asked}")
            return
        at = int(np.searchsorted(kept, row))
        found, similar = neighbors(
            self._own.subset(kept), [at], k=_SHOWN - 1, exclude_location=False
        )
        rows = np.r_[row, kept[found[0]]]
        words = ["the chip itself", *(f"similarity {s:.2f}" for s in similar[0])]
        note = f"The {len(rows) - 1} images most like the first, at {asked}."
        self._fill(rows, note=note, captions=words)
        self._status.say(note)

    def _fill(self, rows: np.ndarray, *, note: str, captions: list[str] | None = None) -> None:
        pictures = [""] * len(rows)
        if self._store is not None and len(rows):
            try:
                chips = self._store.preview(self._row[rows])
                pictures = [leaflet.jpeg(chip, quality=85) for chip in chips]
            except (OSError, ValueError) as error:
                note += f" The pictures cannot be read: {error}"
        chips_ = []
        for i, (row, picture) in enumerate(zip(rows, pictures, strict=True)):
            about = self._own.scenes.iloc[row]
            day = "no date" if pd.isna(about["time"]) else f"{about['time']:%Y-%m-%d}"
            caption = day if captions is None else captions[i]
            told = [f"place {about['location']}", day, *([] if captions is None else [captions[i]])]
            if self._label in about and pd.notna(about[self._label]):
                told.append(str(about[self._label]))
            chips_.append(
                {"row": int(row), "image": picture, "words": ", ".join(told), "caption": caption}
            )
        with self.gallery.hold_trait_notifications():
            self.gallery.chips, self.gallery.note = chips_, note

    # --- for Python ---------------------------------------------------------------------------

    @property
    def selection(self) -> np.ndarray:
        """Rows ``(n,)`` of the embeddings given that are selected."""
        return self._row[self.views.rows()]

    @selection.setter
    def selection(self, rows: Any) -> None:
        wanted = np.flatnonzero(np.isin(self._row, np.asarray(rows)))
        self.views.select(wanted)

    @property
    def selected(self) -> Embeddings:
        """The embeddings of the selection."""
        return self._own.subset(self.views.rows())


def _extra_columns(
    scenes: pd.DataFrame, rows: np.ndarray, clusters: Any, probe: ProbeResult | None
) -> dict[str, pd.Series]:
    """Columns to color by that the table does not have."""
    extra = {}
    if clusters is not None:
        extra["geo cluster"] = pd.Series(clusters.assign(scenes["lon"], scenes["lat"])).astype(str)
    if probe is not None:
        seen = probe.predictions.set_index("row")["hit"].reindex(rows)
        words = seen.map({True: "right", False: "wrong"}).fillna("not tested")
        extra["probe error"] = words.reset_index(drop=True)
    return extra


def _bytes_of(paint: dict[str, Any]) -> bytes:
    import base64

    return base64.b64decode(paint["color"])


def _legend_html(legend: dict[str, Any]) -> str:
    dot = '<span style="display: inline-block; width: 10px; height: 10px; background: {}"></span> '
    lines = [f"<b>{html.escape(legend['title'])}</b>"]
    if "ramp" in legend:
        lines.append(
            f'<div style="width: 160px; height: 9px; background: linear-gradient(to right, '
            f'{", ".join(legend["ramp"])})"></div><div style="width: 160px; display: flex; '
            f'justify-content: space-between"><span>{legend["low"]}</span>'
            f"<span>{legend['high']}</span></div>"
        )
    lines += [
        f"<div>{dot.format(color)}{html.escape(name)}</div>"
        for color, name in legend.get("entries", [])
    ]
    return "".join(lines)
