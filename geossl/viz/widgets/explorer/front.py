"""The front end of the explorer: what Python and the browser share, in a notebook and on a page."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import anywidget
import numpy as np
import traitlets

from geossl.data.earth import coastlines, world_image
from geossl.viz.base_layer import CREDIT, pale
from geossl.viz.pages import jpeg_url

_FOLDER = files("geossl.viz.widgets.explorer")
_SCRIPTS = ("filters", "view", "ground", "density", "panels", "gallery", "labels", "explorer")
HOW_TO_LABEL = "choose an image, or draw a box; then type a name or press its key, 1 to 9"


def read_script(*names: str) -> str:
    """Return scripts of this folder, one after the other."""
    return "\n".join((_FOLDER / f"{name}.js").read_text("utf-8") for name in names)


def _packed() -> Any:
    return traitlets.Bytes(b"", help="packed numbers").tag(sync=True)


class Explorer(anywidget.AnyWidget):
    """What the browser shows: map, scatters, panels, gallery. `EmbeddingExplorer` fills it.

    A row is a row that is shown; all numbers are little-endian.
    """

    _esm = read_script(*_SCRIPTS)
    _css = (_FOLDER / "explorer.css").read_text("utf-8")
    abilities = traitlets.List(traitlets.Unicode()).tag(sync=True)  # what can be asked for
    place = _packed()  # float32 lon, lat
    place_rest = _packed()  # float32, what they lack to float64
    corners = _packed()  # float32, four corners lon, lat from the place; empty if unknown
    locations = _packed()  # int32, number of the location
    days = _packed()  # int32 since 1970
    first = _packed()  # float32 x, y of a scatter
    second = _packed()  # of another one; empty when there is none
    columns = traitlets.List(traitlets.Dict()).tag(sync=True)  # see `columns.Column`
    codes = _packed()  # uint8, column by column
    lazy = traitlets.List(traitlets.Unicode()).tag(sync=True)  # columns that are computed if chosen
    color = traitlets.Unicode("").tag(sync=True)  # name of a column
    titles = traitlets.List(traitlets.Unicode()).tag(sync=True)
    region = traitlets.List(traitlets.Float()).tag(sync=True)  # left, bottom, right, top
    scenes = traitlets.List(traitlets.Dict()).tag(sync=True)  # bounds, place, day, url
    methods = traitlets.List(traitlets.List(traitlets.Unicode())).tag(
        sync=True
    )  # [name, text] of projections
    projection = traitlets.Unicode("pca").tag(sync=True)
    progress = traitlets.Float(-1.0).tag(sync=True)  # of a projection; below 0 nothing runs
    all_dates = traitlets.List(traitlets.Unicode()).tag(sync=True)
    dates = traitlets.Unicode("").tag(sync=True)  # to search
    selected_rows = traitlets.Bytes(b"").tag(sync=True, from_json=lambda v, _: bytes(v))  # uint32
    chosen = traitlets.Int(-1).tag(sync=True)  # the chip that was clicked
    chosen_by_python: traitlets.Dict[str, Any] = traitlets.Dict({"serial": 0, "rows": []}).tag(
        sync=True
    )
    answer: traitlets.Dict[str, Any] = traitlets.Dict({"serial": 0}).tag(
        sync=True
    )  # rows, captions, note, query to show
    labels: traitlets.Dict[str, Any] = traitlets.Dict(
        {"names": [], "counts": [], "note": HOW_TO_LABEL}
    ).tag(sync=True)
    label_path = traitlets.Unicode("labels.csv").tag(sync=True)
    still = traitlets.Unicode("").tag(sync=True)  # class of a picture to hide
    status = traitlets.Unicode("").tag(sync=True)
    is_error = traitlets.Bool(False).tag(sync=True)
    credit = traitlets.Unicode(CREDIT).tag(sync=True)
    world = traitlets.Unicode().tag(sync=True)
    coast = _packed()
    coast_lengths = _packed()

    def __init__(self, **traits: Any) -> None:
        picture, coast, lengths = _background()
        super().__init__(world=picture, coast=coast, coast_lengths=lengths, **traits)


@cache
def _background() -> tuple[str, bytes, bytes]:
    """Return the world in plate carree, with a sea on which points stand out, and its coasts."""
    picture = pale(world_image()[::4, ::4])
    lines = [line for line in coastlines(min_area_km2=2500) if len(line) > 3]
    points = np.concatenate(lines).astype("<f4")
    lengths = np.array([len(x) for x in lines], "<u2").tobytes()
    return jpeg_url(picture, quality=72), points.tobytes(), lengths
