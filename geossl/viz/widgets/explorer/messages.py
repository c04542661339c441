"""Check what a front end sends: a page that is older than its kernel may ask for other rows."""

from __future__ import annotations

from typing import Any

import numpy as np

_NEEDED: dict[str, tuple[str, ...]] = {
    "pictures": ("rows",), "cancel": (), "similar": ("row",), "changed": (), "search": ("text",),
    "image": ("name",), "label": ("rows", "name"), "undo": (), "uncertain": (),
    "like": ("rows",), "save_labels": ("path",),
}  # fmt: skip


def check_message(content: dict[str, Any], buffers: Any, count: int) -> None:
    """Raise unless a message is a question that the explorer knows, about rows that it shows.

    Raises:
        ValueError: another question, a field that is missing or of another type, or a row that
            is not there.
    """
    kind = content.get("type")
    if kind not in _NEEDED:
        raise ValueError(_describe(f"something unknown, {kind!r}"))
    for name in _NEEDED[kind]:
        value = content.get(name)
        if name in ("text", "name", "path"):
            if not isinstance(value, str):
                raise ValueError(_describe(f"{kind} without a {name}"))
            continue
        rows = value if name == "rows" else [value]
        if not isinstance(rows, list) or not all(type(row) is int for row in rows):
            raise ValueError(_describe(f"{kind} with {name} that are no numbers of images"))
        if any(not 0 <= row < count for row in rows):
            raise ValueError(_describe(f"{kind} of an image that is not among these {count:,}"))
    if kind == "image" and not buffers:
        raise ValueError(_describe("a picture without its file"))


def unpack_rows(packed: bytes, count: int) -> np.ndarray:
    """Return row numbers ``(n,)`` that a front end selected.

    Raises:
        ValueError: they are damaged, or not among ``count`` rows.
    """
    rows = np.frombuffer(packed[: len(packed) // 4 * 4], "<u4").astype(np.int64)
    if len(packed) % 4 or (len(rows) and rows.max() >= count):
        raise ValueError(_describe(f"a selection of images that are not among these {count:,}"))
    return rows


def _describe(what: str) -> str:
    return f"The page asked for {what}. Run the cell again, and close other copies of it."
