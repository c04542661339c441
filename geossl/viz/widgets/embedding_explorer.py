"""Explore embeddings: map, projection, dates and labels linked, similar places, own labels."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from geossl.clusters import GeoClusters
from geossl.data.scenes import location_codes
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings
from geossl.evaluate import ProbeResult
from geossl.models.encoder import Encoder
from geossl.tasks.labels import Labels
from geossl.utils.validate import Seed, check_choice, validated
from geossl.viz.frame import Frame
from geossl.viz.maps.markers import check_table
from geossl.viz.projection import SAMPLE, Method, project
from geossl.viz.widgets.explorer import finder, page, still
from geossl.viz.widgets.explorer.background import Background
from geossl.viz.widgets.explorer.columns import day_numbers, encode
from geossl.viz.widgets.explorer.front import Explorer
from geossl.viz.widgets.explorer.measures import MEASURES, own_columns
from geossl.viz.widgets.explorer.pictures import describe, encode_chips

_PROJECTIONS: dict[Method, str] = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
_MOST_PICTURES = 512  # in one answer


def _guarded(action: Callable[..., None]) -> Callable[..., None]:
    """Show the errors of a callback, which would be lost."""

    @functools.wraps(action)
    def guarded(self: EmbeddingExplorer, *args: Any) -> None:
        try:
            action(self, *args)
        except Exception as error:  # any error must reach the person at the screen
            self._say_error(error)

    return guarded


class EmbeddingExplorer(Explorer):
    """Explore embeddings on a linked map, 2-d projection, timeline, histograms and gallery.

    A box or a lasso, a value of a legend, a span of a histogram: each is a filter, and what passes
    all of them is the selection. A click on an image shows its place at all dates and the images
    that are similar. Give images names (keys 1 to 9), and a probe learns from them at once. In a
    notebook t-SNE and UMAP are computed in a thread, so that the page answers meanwhile.

    Attributes:
        selection: rows ``(n,)`` that are selected, of the embeddings; can be set.
        selected: the `geossl.Embeddings` of the selection.
        labeled: table of the rows that are shown, with the names given in ``my_label``.
        color: column that colors the points; can be set.
        projection: "pca", "tsne" or "umap"; can be set.

    Args:
        embeddings: vectors and their scenes; rows with NaN, or without a position where others
            have one, are left out, and the status line says so.
        store: chip store whose row i is row i of the embeddings, for the pictures.
        other: embeddings of the same rows by another encoder: its projection stands beside, and
            "neighbors in common" colors where the two differ.
        names: of the two encoders.
        probe: result of a probe of these embeddings, to color right and wrong.
        clusters: geo clusters, to color by them.
        label: column of labels.
        encoder: that made the embeddings, to search by a picture that is dropped on the explorer.
        labels: file of labels given earlier, to go on with.
        seed: of t-SNE and UMAP, and of the folds of the probe.

    Raises:
        ValueError: another number of rows in ``store`` or ``other``; no usable row.

    Example:
        >>> scenes = pd.DataFrame({"location": [0, 1], "lon": [5.0, 6.0], "lat": [50.0, 51.0]})
        >>> explorer = EmbeddingExplorer(Embeddings(np.eye(2, dtype=np.float32), scenes))
        >>> explorer.selection = [1]
        >>> explorer.selected.scenes["lon"].tolist()
        [6.0]
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
        encoder: Encoder | None = None,
        labels: str | os.PathLike[str] | None = None,
        seed: Seed = 0,
    ):
        for argument, value in (("store", store), ("other", other)):
            if value is not None and len(value) != len(embeddings):
                raise ValueError(
                    f"`{argument}` must have the same {len(embeddings)} rows as the embeddings, "
                    f"got {len(value)}."
                )
        if encoder is not None and store is None:
            raise ValueError("`encoder` needs `store`, whose bands and size its pictures have.")
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
        self._names, self._label, self._seed, self._encoder = names, label, seed, encoder
        self._omitted = int((~usable).sum())
        scenes = self._embeddings.scenes
        self._clusters = clusters and clusters.assign(scenes["lon"], scenes["lat"])
        self._columns = own_columns(scenes, self._rows, label, self._clusters, probe)
        self._own_labels = Labels(self._embeddings, seed=seed)
        self._liked: tuple[list[int], list[int]] = ([], [])
        self._projections: dict[Method, list[bytes]] = {}  # method -> points of both encoders
        self._method: Method = "pca"  # the one that is shown
        self._serial = 0
        super().__init__(**self._first_state())
        self._background = Background(functools.partial(setattr, self, "progress"), self._return)
        if labels is not None:
            count = self._own_labels.load(labels)
            self._show_labels(f"{count:,} labels restored")
        if self._other is not None and len(self._rows) <= MEASURES["neighbors in common"].most_eager:
            self._add_measure("neighbors in common")
        self._publish_columns()
        self.color = self._first_color()
        self.observe(_bound(self._project), "projection")
        self.observe(_bound(self._on_color), "color")
        self.observe(_bound(self._search_again), "dates")
        self.on_msg(self._on_message)
        self._project()
        self._say(self._summary())

    # --- what is shown first

    def _first_state(self) -> dict[str, Any]:
        scenes = self._embeddings.scenes
        lon, lat = scenes[["lon", "lat"]].to_numpy(float).T
        frame = Frame.around(lon, lat)
        place = np.stack([frame.unwrap(lon), lat], 1)
        box = frame.padded(0.05)
        if frame.is_world:
            box = Frame(-180.0, min(-60.0, box.bottom), 180.0, max(85.0, box.top))
        abilities = ["similar", "project", "search", "label"]
        abilities += ["pictures"] if self._store is not None else ["words"]
        abilities += ["image"] if self._encoder is not None else []
        if scenes["time"].notna().any() and scenes["location"].duplicated().any():
            abilities.append("changed")
        return {
            "place": place.astype("<f4").tobytes(),
            "place_rest": (place - place.astype("<f4")).astype("<f4").tobytes(),
            "region": [box.left, box.bottom, box.right, box.top],
            "locations": location_codes(scenes).astype("<i4").tobytes(),
            "days": day_numbers(scenes["time"]).astype("<i4").tobytes(),
            "corners": page.corners_of(self._store, scenes, place),
            "abilities": abilities,
            "methods": [[method, name] for method, name in _PROJECTIONS.items()],
            "all_dates": list(finder.DATES), "dates": finder.DATES[0],
            "titles": [self._map_title, *self._names],
        }  # fmt: skip

    def _first_color(self) -> str:
        """Return a column with values: labels, else what else tells images apart."""
        wanted = ["neighbors in common"] if self._other is not None else []
        for name in [*wanted, self._label, "geo cluster", "month", "time"]:
            if name in self._columns and self._columns[name].nunique() > 1:
                return name
        return ""

    def _summary(self) -> str:
        if self._omitted:
            return f"{self._omitted:,} rows without a position or a finite vector are left out."
        return ""

    # --- columns and colors

    def _publish_columns(self) -> None:
        encoded = [encode(values, name) for name, values in self._columns.items()]
        lazy = [n for n, m in MEASURES.items() if n not in self._columns and m.is_possible(self)]
        with self.hold_trait_notifications():
            self.columns = [column for column, _ in encoded]
            self.codes = b"".join(codes.tobytes() for _, codes in encoded)
            self.lazy = lazy

    def _add_measure(self, name: str) -> None:
        self._columns[name] = MEASURES[name].compute(self)

    @_guarded
    def _on_color(self) -> None:
        if self.color in self.lazy:
            self._say(f"computing {self.color}")
            self._add_measure(self.color)
            self._publish_columns()
            self._say(MEASURES[self.color].text)
        check_choice("color", self.color, ["", *self._columns])

    # --- projections

    @_guarded
    def _project(self) -> None:
        method, start = self.projection, time.monotonic()
        check_choice("projection", method, _PROJECTIONS)
        if method in self._projections:
            self._background.stop()
            self._draw(method, start)
            return
        self._say(f"computing {self._describe(method)}")
        self._background.run(
            lambda report: self._points(method, report),
            lambda points: self._finish(method, start, points),
        )

    @_guarded
    def _finish(self, method: Method, start: float, points: list[bytes] | Exception) -> None:
        if isinstance(points, Exception):
            self.projection = self._method
            raise points
        self._projections[method] = points
        self._draw(method, start)

    def _draw(self, method: Method, start: float) -> None:
        name, self._method = _PROJECTIONS[method], method
        with self.hold_trait_notifications():
            self.first, self.second = self._projections[method]
            self.titles = [self._map_title, *(f"{n}: {name}" for n in self._names)]
        self._say(f"{self._describe(method)} in {time.monotonic() - start:.1f} s")

    def _return(self) -> None:
        """Return to the projection that is shown: the other was cancelled."""
        self.projection = self._method
        self._say(f"stopped; the picture is still {_PROJECTIONS[self._method]}")

    def cancel(self) -> None:
        """Stop the computation of a projection; the picture stays."""
        self._background.cancel()

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

    # --- questions of the browser

    def _on_message(self, _: Any, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        handlers: dict[str, Callable[[dict[str, Any], Sequence[Any]], Any]] = {
            "pictures": self._send_pictures,
            "cancel": lambda content, _: self.cancel(),
            "similar": lambda content, _: self._show_similar(content["row"]),
            "changed": lambda content, _: self._show_changed(),
            "search": lambda content, _: self._show(
                finder.search(self._embeddings, content["text"], self._clusters)
            ),
            "image": self._show_like_picture,
            "label": lambda content, _: self._give(content["rows"], content["name"]),
            "undo": lambda content, _: self._undo(),
            "uncertain": lambda content, _: self._show_uncertain(),
            "like": lambda content, _: self._show_more_like(content["rows"], content["like"]),
            "save_labels": lambda content, _: self._save_labels(content["path"]),
        }
        reply, pictures = None, []
        try:
            reply = handlers[content["type"]](content, buffers)
        except Exception as error:  # any error must reach the person at the screen
            self._say_error(error)
        if isinstance(reply, tuple):
            reply, pictures = reply
        self.send({"id": content.get("id"), **(reply or {"rows": [], "words": []})}, pictures)

    def _send_pictures(
        self, content: dict[str, Any], _: Sequence[Any]
    ) -> tuple[dict[str, Any], list[bytes]]:
        rows = np.asarray(content["rows"], np.int64)[:_MOST_PICTURES]
        words = describe(self._embeddings.scenes.iloc[rows], self._label)
        pictures: list[bytes] = []
        if self._store is not None:
            try:
                pictures = encode_chips(self._store, self._rows[rows])
            except (OSError, ValueError) as error:
                self._say(f"The pictures cannot be read: {error}", is_error=True)
        return {"rows": rows.tolist(), "words": words}, pictures

    def _show(self, answer: finder.Answer) -> None:
        self._serial += 1
        self.answer = {
            "serial": self._serial, "rows": answer.rows, "captions": answer.captions,
            "note": answer.note, "query": answer.query,
            "view": answer.rows if answer.is_view else None,
        }  # fmt: skip
        self._say(answer.note)

    def _show_similar(self, row: int) -> None:
        self._show(finder.similar(self._embeddings, row, self.dates))

    @_guarded
    def _search_again(self) -> None:
        if self.answer.get("query", -1) >= 0:
            self._show_similar(self.answer["query"])

    def _show_changed(self) -> None:
        answer, values = finder.changed_most(self._embeddings)
        self._columns["change"] = pd.Series(values)
        self._publish_columns()
        self._show(answer)

    def _show_like_picture(self, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        assert self._encoder is not None and self._store is not None
        name = str(content["name"])
        vector = finder.embed_picture(bytes(buffers[0]), name, self._encoder, self._store)
        self._show(finder.similar_to_vector(self._embeddings, vector, name))

    # --- labels of one's own

    def _give(self, rows: list[int], name: str) -> None:
        self._own_labels.give(rows, name)
        self._liked = ([], [])
        self._show_labels(f"{len(rows):,} named {name}")

    def _undo(self) -> None:
        count = self._own_labels.undo()
        self._show_labels(f"{count:,} labels taken back" if count else "Nothing is left to undo.")

    def _show_labels(self, text: str) -> None:
        counts, prediction = self._own_labels.counts(), self._own_labels.predict()
        names = pd.Series(self._own_labels.names)
        for name in ("my label", "predicted", "confidence"):
            self._columns.pop(name, None)
        if counts:
            self._columns["my label"] = names
        if prediction is not None:
            self._columns["predicted"] = pd.Series(prediction.names)
            self._columns["confidence"] = pd.Series(prediction.confidence)
        measured = self._own_labels.accuracy()
        note = "choose an image, or draw a box; then type a name or press its key, 1 to 9"
        if measured is not None:
            share, low, high, places = measured
            note = f"right at {share:.0%} of {places} other labeled locations ({low:.0%} to {high:.0%})"
        elif counts:
            note = "three locations a name, and the accuracy is measured"
        self.labels = {"names": list(counts), "counts": list(counts.values()), "note": note}
        self._publish_columns()
        if prediction is not None and self.color not in ("my label", "predicted", "confidence"):
            self.color = "predicted"
        self._say(text)

    def _show_uncertain(self) -> None:
        rows = self._own_labels.least_certain(finder.MOST).tolist()
        confidence = self._columns["confidence"]
        captions = [f"{self._columns['predicted'][r]}? {confidence[r]:.0%}" for r in rows]
        self._show(finder.Answer(rows, captions, "The images of which the probe is least certain."))

    def _show_more_like(self, rows: list[int], is_liked: bool) -> None:
        chosen = self._liked[0] if is_liked else self._liked[1]
        chosen.extend(row for row in rows if row not in chosen)
        liked, unliked = self._liked
        found, scores = self._own_labels.more_like(liked, unliked)
        note = f"Like {len(liked)} image{'s' * (len(liked) != 1)}"
        note += f", unlike {len(unliked)}" if unliked else ""
        captions = [f"{score:.2f}" for score in scores]
        self._show(finder.Answer(found.tolist(), captions, f"{note}, the best first."))

    def _save_labels(self, path: str) -> None:
        self._own_labels.save(path)
        self._say(f"wrote {path}")

    # --- for Python

    @validated
    def save(self, path: str | os.PathLike[str], *, title: str = "geossl explorer") -> None:
        """Write one file that opens without a kernel or a network, also on a phone.

        It has the map, the projections computed so far, brushing, timeline, gallery and search by
        similarity. A chip takes some 0.7 kB with its picture, so that 20,000 make some 20 MB;
        of more, a random sample of 20,000 is saved, and the page says so.

        Args:
            path: of the page, ending in .html.
            title: of the page.

        Raises:
            ValueError: another suffix.
        """
        page.save(self, path, title=title)
        self._say(f"wrote {path}")

    @property
    def labeled(self) -> pd.DataFrame:
        """The scene table of the rows that are shown, with the names given in ``my_label``."""
        return self._own_labels.table()

    @property
    def selection(self) -> np.ndarray:
        """Rows ``(n,)`` of the embeddings that are selected."""
        return self._rows[np.frombuffer(self.selected_rows, "<u4").astype(np.int64)]

    @selection.setter
    def selection(self, rows: Any) -> None:
        shown = np.flatnonzero(np.isin(self._rows, np.asarray(rows)))
        self._serial += 1
        self.selected_rows = shown.astype("<u4").tobytes()
        self.chosen_by_python = {"serial": self._serial, "rows": shown.tolist()}

    @property
    def selected(self) -> Embeddings:
        """The embeddings of the selection."""
        return self._embeddings.subset(np.frombuffer(self.selected_rows, "<u4").astype(np.int64))

    def _ipython_display_(self) -> None:
        """Show a still picture, which the explorer hides while there is a kernel."""
        self.still = f"geossl-still-{self.model_id}"
        still.display_with_picture(self, super()._repr_mimebundle_())

    def _say(self, text: str, *, is_error: bool = False) -> None:
        with self.hold_trait_notifications():
            self.status, self.is_error = text, is_error

    def _say_error(self, error: BaseException) -> None:
        self._say(f"{type(error).__name__}: {error}", is_error=True)


def _bound(action: Callable[[], None]) -> Callable[[Any], None]:
    return lambda _: action()
