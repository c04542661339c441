"""Explore embeddings: map, projection, dates and labels linked, similar places, own labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from geossl.clusters import GeoClusters
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, row_numbers
from geossl.evaluate import ProbeResult
from geossl.models.encoder import Encoder
from geossl.tasks.labels import Labels
from geossl.utils.validate import Seed, validated
from geossl.viz.maps.markers import check_table
from geossl.viz.widgets.explorer import finder, page, still
from geossl.viz.widgets.explorer.front import HOW_TO_LABEL
from geossl.viz.widgets.explorer.linked import LinkedExplorer, guarded
from geossl.viz.widgets.explorer.measures import own_columns
from geossl.viz.widgets.explorer.messages import check_message, unpack_rows
from geossl.viz.widgets.explorer.pictures import describe, encode_chips

_MOST_PICTURES = 512  # in one answer


class EmbeddingExplorer(LinkedExplorer):
    """Explore embeddings on a linked map, 2-d projection, timeline, histograms and gallery.

    A box or a lasso, a value of a legend, a span of a histogram: each is a filter, and what passes
    all of them is the selection. A click on an image shows its place at all dates and the images
    that are similar. Give images names (keys 1 to 9), and a probe learns from them at once. In a
    notebook t-SNE and UMAP are computed in a thread, so that the page answers meanwhile.

    Attributes:
        selection: rows ``(n,)`` that are selected, of the embeddings; can be set, also to a mask.
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
        imagery: draw the scenes' own files on the map, the newest of each place among the dates
            that are chosen.
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
        imagery: bool = False,
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
        usable = positions | (not positions.any())
        for one in (embeddings, other):
            if one is not None:
                usable &= np.isfinite(one.vectors).all(1)
        if not usable.any():
            raise ValueError("`embeddings` needs rows with finite vectors, got none.")
        self._rows, self._omitted = np.flatnonzero(usable), int((~usable).sum())
        self._store, self._encoder, self._serial = store, encoder, 0
        shown = embeddings.subset(self._rows)
        scenes = shown.scenes
        self._clusters = None
        if clusters is not None:
            self._clusters = clusters.assign(scenes["lon"], scenes["lat"])
        self._labels = Labels(shown, seed=seed)
        self._liked: tuple[list[int], list[int]] = ([], [])  # rows to be like, and unlike
        super().__init__(
            shown, other and other.subset(self._rows), names=names, label=label, seed=seed,
            columns=own_columns(scenes, self._rows, label, self._clusters, probe),
            map_title="map" if positions.any() else "map: no row has a position",
            abilities=self._abilities(scenes), **page.pack(scenes, store),
        )  # fmt: skip
        if labels is not None:
            self._show_labels(f"{self._labels.load(labels):,} labels restored")
        self._skipped = ""
        if imagery:
            self.scenes, self._skipped = page.scenes_of(scenes)
        self.observe(lambda _: self._search_again(), "dates")
        self.on_msg(self._on_message)
        self.say(self.summary())

    def _abilities(self, scenes: pd.DataFrame) -> list[str]:
        abilities = ["pictures", "similar", "project", "search", "gazetteer", "label"]
        abilities += ["image"] if self._encoder is not None else []
        if scenes["time"].notna().any() and scenes["location"].duplicated().any():
            abilities.append("changed")
        return abilities

    def summary(self) -> str:
        """Say what is not shown."""
        notes = []
        if self._omitted:
            notes.append(
                f"{self._omitted:,} rows without a position or a finite vector are left out."
            )
        if self._skipped:
            notes.append(self._skipped)
        if self._store is None:
            notes.append("Pass `store` to see the chips.")
        return " ".join(notes)

    # --- questions of the browser

    def _on_message(self, _: Any, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        handlers: dict[str, Callable[[dict[str, Any], Sequence[Any]], Any]] = {
            "pictures": self._send_pictures,
            "cancel": lambda content, _: self.cancel(),
            "similar": lambda content, _: self._show_similar(content["row"]),
            "changed": lambda content, _: self._show_changed(),
            "search": lambda content, _: self._show(
                finder.search(self.embeddings, content["text"], self._clusters)
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
            check_message(content, buffers, len(self.embeddings))
            reply = handlers[content["type"]](content, buffers)
        except Exception as error:  # any error must reach the person at the screen
            self.say_error(error)
        if isinstance(reply, tuple):
            reply, pictures = reply
        self.send({"id": content.get("id"), **(reply or {"rows": [], "words": []})}, pictures)

    def _send_pictures(
        self, content: dict[str, Any], _: Sequence[Any]
    ) -> tuple[dict[str, Any], list[bytes]]:
        rows = np.asarray(content["rows"], np.int64)[:_MOST_PICTURES]
        words = describe(self.embeddings.scenes.iloc[rows], self.label)
        pictures: list[bytes] = []
        if self._store is not None:
            try:
                pictures = encode_chips(self._store, self._rows[rows])
            except (OSError, ValueError) as error:
                self.say(f"The pictures cannot be read: {error}", is_error=True)
        return {"rows": rows.tolist(), "words": words}, pictures

    def _show(self, answer: finder.Answer) -> None:
        self._serial += 1
        self.answer = {
            "serial": self._serial, "rows": answer.rows, "captions": answer.captions,
            "note": answer.note, "query": answer.query,
            "view": answer.rows if answer.is_view else None,
        }  # fmt: skip
        self.say("")

    def _show_similar(self, row: int) -> None:
        self._show(finder.similar(self.embeddings, row, cast(finder.Dates, self.dates)))

    @guarded
    def _search_again(self) -> None:
        if self.answer.get("query", -1) >= 0:
            self._show_similar(self.answer["query"])

    def _show_changed(self) -> None:
        answer, values = finder.changed_most(self.embeddings)
        self.values["change"] = pd.Series(values)
        self.publish_columns()
        self._show(answer)

    def _show_like_picture(self, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        if self._encoder is None or self._store is None:
            raise ValueError("A picture needs `encoder` and `store`. Pass both to the explorer.")
        name = str(content["name"])
        vector = finder.embed_picture(bytes(buffers[0]), name, self._encoder, self._store)
        self._show(finder.similar_to_vector(self.embeddings, vector, name))

    # --- labels of one's own

    def _give(self, rows: list[int], name: str) -> None:
        self._labels.give(rows, name)
        self._liked = ([], [])
        self._show_labels(f"{len(rows):,} named {name}")

    def _undo(self) -> None:
        count = self._labels.undo()
        self._show_labels(f"{count:,} labels taken back" if count else "Nothing is left to undo.")

    def _show_labels(self, text: str) -> None:
        counts, prediction = self._labels.counts(), self._labels.predict()
        names = pd.Series(self._labels.names)
        for name in ("my label", "predicted", "confidence"):
            self.values.pop(name, None)
        if counts:
            self.values["my label"] = names
        if prediction is not None:
            self.values["predicted"] = pd.Series(prediction.names)
            self.values["confidence"] = pd.Series(prediction.confidence)
        measured = self._labels.accuracy()
        note = HOW_TO_LABEL
        if measured is not None:
            share, low, high, places = measured
            note = (
                f"right at {share:.0%} of {places} labeled locations held out in turn "
                f"({low:.0%} to {high:.0%})"
            )
        elif counts:
            note = "three locations a name, and the accuracy is measured"
        self.labels = {"names": list(counts), "counts": [*counts.values()], "note": note}
        self.publish_columns()
        if prediction is not None and self.color not in ("my label", "predicted", "confidence"):
            self.color = "predicted"
        self.say(text)

    def _show_uncertain(self) -> None:
        rows = self._labels.least_certain(finder.MOST).tolist()
        confidence = self.values["confidence"]
        captions = [f"{self.values['predicted'][r]}? {confidence[r]:.0%}" for r in rows]
        self._show(finder.Answer(rows, captions, "The images of which the probe is least certain."))

    def _show_more_like(self, rows: list[int], is_liked: bool) -> None:
        chosen = self._liked[0] if is_liked else self._liked[1]
        chosen.extend(row for row in rows if row not in chosen)
        liked, unliked = self._liked
        found, scores = self._labels.more_like(liked, unliked)
        note = f"Like {len(liked)} image{'s' * (len(liked) != 1)}"
        note += f", unlike {len(unliked)}" if unliked else ""
        captions = [f"{score:.2f}" for score in scores]
        self._show(finder.Answer(found.tolist(), captions, f"{note}, the best first."))

    def _save_labels(self, path: str) -> None:
        self._labels.save(path)
        self.say(f"wrote {path}")

    # --- for Python

    @validated
    def save(self, path: str | os.PathLike[str], *, title: str = "geossl explorer") -> None:
        """Write one file that opens without a kernel or a network, also on a phone.

        It has the map, the projections computed so far, brushing, timeline, gallery and search by
        similarity. Without chips it has 0.7 MB; a chip adds some 0.5 kB, so that 20,000 make 11 MB.
        Of more, a random sample of 20,000 is saved, and the page says so.

        Args:
            path: of the page, ending in .html.
            title: of the page.

        Raises:
            ValueError: another suffix.
        """
        page.save(
            self, path, title=title, store=self._store, store_rows=self._rows, note=self.summary()
        )
        self.say(f"wrote {path}")

    @property
    def labeled(self) -> pd.DataFrame:
        """The scene table of the rows that are shown, with the names given in ``my_label``."""
        return self._labels.table()

    @property
    def selection(self) -> np.ndarray:
        """Rows ``(n,)`` of the embeddings that are selected."""
        return self._rows[unpack_rows(self.selected_rows, len(self._rows))]

    @selection.setter
    def selection(self, rows: Any) -> None:
        rows = row_numbers("selection", np.atleast_1d(rows), len(self._rows) + self._omitted)
        shown = np.flatnonzero(np.isin(self._rows, rows))
        self._serial += 1
        self.selected_rows = shown.astype("<u4").tobytes()
        self.chosen_by_python = {"serial": self._serial, "rows": shown.tolist()}

    @property
    def selected(self) -> Embeddings:
        """The embeddings of the selection."""
        return self.embeddings.subset(unpack_rows(self.selected_rows, len(self._rows)))

    def __repr__(self) -> str:
        """Return a line: that of widgets would hold all packed numbers."""
        places = self.embeddings.scenes["location"].nunique()
        return f"EmbeddingExplorer({len(self.embeddings):,} images of {places:,} locations)"

    def _ipython_display_(self) -> None:
        """Show a still picture, which the explorer hides while there is a kernel."""
        self.still = f"geossl-still-{self.model_id}"
        still.display_with_picture(self, super()._repr_mimebundle_())
