"""Turn widgets into HTML for a page without a kernel; widgets that draw themselves stay alive."""

from __future__ import annotations

import base64
import html
import json
from typing import Any

from nbformat import NotebookNode

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
_NOTE = "A still picture of the widget. In the notebook its controls work."
# The few calls of anywidget's model that our widgets make.
_LIVE = """
const raw = JSON.parse(atob("%s")), state = {...raw.state}, listeners = {};
for (const {path, data} of raw.buffers) {
  state[path[0]] = new DataView(Uint8Array.from(atob(data), (c) => c.charCodeAt(0)).buffer);
}
const fire = (name) => (listeners[name] || []).forEach((call) => call());
const model = {
  get: (name) => state[name],
  set: (name, value) => {
    if (value?.buffer) value = new DataView(value.buffer, value.byteOffset, value.byteLength);
    state[name] = value; fire("change:" + name); fire("change");
  },
  on: (names, call) => names.split(" ").forEach((name) => (listeners[name] ||= []).push(call)),
  off: () => {}, save_changes: () => {},  // no `send`: nobody would answer
};
const code = "data:text/javascript;charset=utf-8;base64," + raw.code;
import(code).then((module) => {
  const widget = module.default ?? module;
  (widget.initialize ?? (() => {}))({model});
  (widget.render ?? module.render)({model, el: document.getElementById("%s")});
});
"""


def replace_widgets(notebook: NotebookNode) -> int:
    """Replace the widgets in a notebook's outputs with HTML, and return their number.

    Progress bars go: on a page they have nothing to say.
    """
    states = notebook.metadata.pop("widgets", {}).get(STATE, {}).get("state", {})
    count = 0
    for cell in notebook.cells:
        for output in list(cell.get("outputs", [])):
            view = output.get("data", {}).get(VIEW)
            if view is None:
                continue
            if _is_progress_bar(states, view["model_id"]):
                cell.outputs.remove(output)
                continue
            count += 1
            page = _page(states, view["model_id"])
            output["data"] = {
                "text/html": f'<div class="geossl-still">{page}<p><small>{_NOTE}</small></p></div>',
                "text/plain": "a widget",
            }
    return count


def _is_progress_bar(states: dict[str, Any], reference: str) -> bool:
    """Return whether a widget is a bar of tqdm: a row with text on both sides of the bar."""
    children = states.get(reference, {}).get("state", {}).get("children", [])
    names = [states.get(c.removeprefix("IPY_MODEL_"), {}).get("model_name") for c in children]
    return "FloatProgressModel" in names


def _page(states: dict[str, Any], reference: str) -> str:
    """Return the HTML of a widget and its children."""
    model = states.get(reference.removeprefix("IPY_MODEL_"))
    if model is None:
        return ""
    name, state = model["model_name"].removesuffix("Model"), model["state"]
    children = [_page(states, child) for child in state.get("children", [])]
    if name in ("HTML", "HTMLMath"):
        return f"<div>{state['value']}</div>"
    if name in ("Tab", "Accordion"):
        titles = state.get("titles") or [""] * len(children)
        parts = zip(titles, children, strict=False)
        return "".join(f"<p><b>{html.escape(t)}</b></p>{page}" for t, page in parts)
    if "children" in state:
        row = name in ("HBox", "Box")
        style = "display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: center" if row else ""
        return f'<div style="{style}">{"".join(children)}</div>'
    if name == "Image":
        data = _buffer(model, "value")
        return f'<img src="data:image/{state.get("format", "png")};base64,{data}" alt="picture">'
    if name == "Any" or "_esm" in state:
        return _anywidget(model, reference.removeprefix("IPY_MODEL_"))
    return _control(name, state)


def _control(name: str, state: dict[str, Any]) -> str:
    """Return a slider, a choice or a checkbox as text; buttons are left out."""
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
    name, value = html.escape(str(state.get("description") or "")), html.escape(str(value))
    return f'<span style="margin-right: 1.5em">{name} <b>{value}</b></span>'


def _buffer(model: dict[str, Any], name: str) -> str:
    return next((b["data"] for b in model.get("buffers", []) if b["path"] == [name]), "")


def _anywidget(model: dict[str, Any], reference: str) -> str:
    """Return a page with an anywidget's script and state: it draws itself without a kernel."""
    content = {
        "state": {k: v for k, v in model["state"].items() if not k.startswith("_")},
        "buffers": [{"path": b["path"], "data": b["data"]} for b in model.get("buffers", [])],
        "code": base64.b64encode(model["state"]["_esm"].encode()).decode(),
    }
    packed = base64.b64encode(json.dumps(content).encode()).decode()
    style = model["state"].get("_css", "")
    element = f"geossl-{reference}"
    return (
        f'<style>{style}</style><div id="{element}"></div>'
        f'<script type="module">{_LIVE % (packed, element)}</script>'
    )
