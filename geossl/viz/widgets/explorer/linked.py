"""The part of the explorer that keeps its columns, colors and projections."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, cast

import pandas as pd

from geossl.embeddings import Embeddings
from geossl.utils.validate import check_choice
from geossl.viz.projection import SAMPLE, Method, project
from geossl.viz.widgets.background import Background
from geossl.viz.widgets.explorer.columns import encode
from geossl.viz.widgets.explorer.front import Explorer
from geossl.viz.widgets.explorer.measures import MEASURES

PROJECTIONS: dict[Method, str] = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
_MOST_WORDS = 600  # characters of a message


def guarded(action: Callable[..., None]) -> Callable[..., None]:
    """Show the errors of a callback, which would be lost."""

    @functools.wraps(action)
    def guarded(self: LinkedExplorer, *args: Any) -> None:
        try:
            action(self, *args)
        except Exception as error:  # any error must reach the person at the screen
            self.say_error(error)

    return guarded


class LinkedExplorer(Explorer):
    """Columns that filter and color, and projections, of one or two encoders.

    Args:
        embeddings: of the rows that are shown.
        other: of the same rows by another encoder.
        names: of the two encoders.
        label: column of labels.
        columns: name -> values, the panels.
        map_title: caption of the map.
        seed: of t-SNE and UMAP.
        **traits: of the front end.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        other: Embeddings | None,
        *,
        names: tuple[str, str],
        label: str,
        columns: dict[str, pd.Series],
        map_title: str,
        seed: int,
        **traits: Any,
    ):
        self.embeddings, self.other, self.label, self.seed = embeddings, other, label, seed
        self.values = columns
        self._names, self._map_title = names, map_title
        self._projections: dict[Method, list[bytes]] = {}  # method -> points of both encoders
        self._method: Method = "pca"  # the one that is shown
        super().__init__(**traits)
        self._background = Background(functools.partial(setattr, self, "progress"), self._return)
        shared = MEASURES["neighbors in common"]
        if shared.is_possible(self) and len(embeddings) <= shared.most_eager:
            self._add_measure("neighbors in common")
        self.publish_columns()
        self.color = self._first_color()
        self._project()
        self.observe(lambda _: self._project(), "projection")
        self.observe(lambda _: self._on_color(), "color")

    def _first_color(self) -> str:
        """Return a column with values: labels, else what else tells images apart."""
        wanted = ["neighbors in common"] if self.other is not None else []
        for name in [*wanted, self.label, "geo cluster", "month", "time"]:
            if name in self.values and self.values[name].nunique() > 1:
                return name
        return ""

    def publish_columns(self) -> None:
        """Send the columns to the browser."""
        encoded = [encode(values, name) for name, values in self.values.items()]
        lazy = [n for n, m in MEASURES.items() if n not in self.values and m.is_possible(self)]
        with self.hold_sync():
            self.columns = [column for column, _ in encoded]
            self.codes = b"".join(codes.tobytes() for _, codes in encoded)
            self.lazy = lazy

    def _add_measure(self, name: str) -> None:
        self.values[name] = MEASURES[name].compute(self)

    @guarded
    def _on_color(self) -> None:
        if self.color in self.lazy:
            self.say(f"computing {self.color}")
            self._add_measure(self.color)
            self.publish_columns()
            self.say(MEASURES[self.color].text)
        check_choice("color", self.color, ["", *self.values])

    @guarded
    def _project(self) -> None:
        method, start = cast(Method, self.projection), time.monotonic()
        check_choice("projection", method, PROJECTIONS)
        if method in self._projections:
            self._background.stop()
            self._draw(method, start)
            return
        if method == "pca":  # takes no longer than to say so
            self._finish(method, start, self._points(method, lambda share: None))
            return
        self.say(f"computing {self._describe(method)}")
        self._background.run(
            lambda report: self._points(method, report),
            lambda points: self._finish(method, start, points),
        )

    @guarded
    def _finish(self, method: Method, start: float, points: list[bytes] | Exception) -> None:
        if isinstance(points, Exception):
            self.projection = self._method
            raise points
        self._projections[method] = points
        self._draw(method, start)

    def _draw(self, method: Method, start: float) -> None:
        name, self._method = PROJECTIONS[method], method
        with self.hold_sync():
            self.first, self.second = self._projections[method]
            self.titles = [self._map_title, *(f"{n}: {name}" for n in self._names)]
        self.say(f"{self._describe(method)} in {time.monotonic() - start:.1f} s")

    def _return(self) -> None:
        """Return to the projection that is shown: the other was cancelled."""
        self.projection = self._method
        self.say(f"stopped; the picture is still {PROJECTIONS[self._method]}")

    def cancel(self) -> None:
        """Stop the computation of a projection; the picture stays."""
        self._background.cancel()

    def _describe(self, method: Method) -> str:
        count = len(self.embeddings)
        words = f"{PROJECTIONS[method]} of {count:,} vectors"
        if method == "pca" or count <= SAMPLE:
            return words
        return f"{words}, fitted to {SAMPLE:,} of them,"

    def _points(self, method: Method, report: Callable[[float], None]) -> list[bytes]:
        """Compute the projections as bytes; those of an absent second encoder are empty."""
        encoders = [one for one in (self.embeddings, self.other) if one is not None]
        points = [b"", b""]
        for i, embeddings in enumerate(encoders):

            def share_of_all(share: float, done: int = i) -> None:
                report((done + share) / len(encoders))

            xy = project(embeddings, method=method, seed=self.seed, progress=share_of_all)
            points[i] = xy.astype("<f4").tobytes()
        return points

    def say(self, text: str, *, is_error: bool = False) -> None:
        """Show a sentence in the status line."""
        with self.hold_sync():
            self.status, self.is_error = text, is_error

    def say_error(self, error: BaseException) -> None:
        """Show what went wrong."""
        is_sentence = isinstance(error, (ImportError, OSError, ValueError))
        text = str(error) if is_sentence else f"{type(error).__name__}: {error}"
        self.say(text[:_MOST_WORDS], is_error=True)
