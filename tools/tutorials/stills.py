"""Widgets for a page without a kernel: what they show as HTML, small drawing widgets alive."""

from __future__ import annotations

import base64
import html
import json
from typing import Any

from nbformat import NotebookNode

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
_NOTE = "As it stood when the page was made. In the notebook the controls move it."
# The few calls of anywidget's model that our widgets make; what is chosen lights up by itself.
_LIVE = """
const raw = JSON.parse(atob("%s")), state = {...raw.state}, heard = {};
for (const {path, data} of raw.buffers) {
  state[path[0]] = new DataView(Uint8Array.from(atob(data), (c) => c.charCodeAt(0)).buffer);
}
const fire = (name) => (heard[name] || []).forEach((call) => call());
const model = {
  get: (name) => state[name],
  set: (name, value) => {
    if (value?.buffer) value = new DataView(value.buffer, value.byteOffset, value.byteLength);
    state[name] = value; fire("change:" + name); fire("change");
  },
  on: (names, call) => names.split(" ").forEach((name) => (heard[name] ||= []).push(call)),
  off: () => {}, save_changes: () => {}, send: () => {},
};
const code = "data:text/javascript;charset=utf-8;base64," + raw.code;
import(code).then((found) => {
  const widget = found.default ?? found;
  (widget.initialize ?? (() => {}))({model});
  (widget.render ?? found.render)({model, el: document.getElementById("%s")});
});
"""


def without_kernel(book: NotebookNode) -> int:
    """Replace the widgets in a notebook's outputs by HTML; returns how many there were."""
    states = book.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    count = 0
    for cell in book.cells:
        for output in cell.get("outputs", []):
            view = output.get("data", {}).get(VIEW)
            if view is None:
                continue
            count += 1
            page = _page(states, view["model_id"])
            output["data"] = {
                "text/html": f'<div class="geossl-still">{page}<p><small>{_NOTE}</small></p></div>',
                "text/plain": "a widget",
            }
    book.metadata.pop("widgets", None)
    return count


def _page(states: dict[str, Any], reference: str) -> str:
    """A widget and its children as HTML."""
    model = states.get(reference.removeprefix("IPY_MODEL_"))
    if model is None:
        return ""
    name, state = model["model_name"].removesuffix("Model"), model["state"]
    inside = [_page(states, child) for child in state.get("children", [])]
    if name in ("HTML", "HTMLMath"):
        return f"<div>{state['value']}</div>"
    if name in ("Tab", "Accordion"):
        titles = state.get("titles") or [""] * len(inside)
        parts = zip(titles, inside, strict=False)
        return "".join(f"<p><b>{html.escape(t)}</b></p>{page}" for t, page in parts)
    if "children" in state:
        row = name in ("HBox", "Box")
        style = "display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: center" if row else ""
        return f'<div style="{style}">{"".join(inside)}</div>'
    if name == "Image":
        data = _buffer(model, "value")
        return f'<img src="data:image/{state.get("format", "png")};base64,{data}" alt="picture">'
    if name == "Any" or "_esm" in state:
        return _alive(model, reference.removeprefix("IPY_MODEL_"))
    return _control(name, state)


def _control(name: str, state: dict[str, Any]) -> str:
    """A slider, a choice or a tick as words; buttons do nothing here and are left out."""
    if name in ("Button", "Play", "Output", "ColorPicker"):
        return ""
    value = state.get("value")
    labels = state.get("_options_labels")
    if labels:
        index = state.get("index")
        chosen = index if isinstance(index, list) else [index]
        value = ", ".join(str(labels[i]) for i in chosen if i is not None)
    elif isinstance(value, bool):
        value = "yes" if value else "no"
    elif isinstance(value, float):
        value = f"{value:.3g}"
    if value is None:
        return ""
    told = html.escape(str(state.get("description") or "")), html.escape(str(value))
    return f'<span style="margin-right: 1.5em">{told[0]} <b>{told[1]}</b></span>'


def _buffer(model: dict[str, Any], name: str) -> str:
    found = [b["data"] for b in model.get("buffers", []) if b["path"] == [name]]
    return found[0] if found else ""


def _alive(model: dict[str, Any], reference: str) -> str:
    """An anywidget that draws from its own state needs no kernel: its script comes with it."""
    state = {k: v for k, v in model["state"].items() if not k.startswith("_")}
    told = {
        "state": state,
        "buffers": [{"path": b["path"], "data": b["data"]} for b in model.get("buffers", [])],
        "code": base64.b64encode(model["state"]["_esm"].encode()).decode(),
    }
    packed = base64.b64encode(json.dumps(told).encode()).decode()
    style = model["state"].get("_css", "")
    place = f"geossl-{reference}"
    return (
        f'<style>{style}</style><div id="{place}"></div>'
        f'<script type="module">{_LIVE % (packed, place)}</script>'
    )
