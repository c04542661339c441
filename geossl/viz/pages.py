"""HTML of maps, reports and widgets: jinja2 templates that get all data as variables.

Nothing that comes from data is ever part of a template: words are escaped where they are shown.
"""

from __future__ import annotations

import base64
import io
import json
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

import numpy as np
import pandas as pd
from annotated_types import Interval
from jinja2 import Environment, StrictUndefined
from jinja2.loaders import FunctionLoader
from markupsafe import Markup

from geossl.utils.validate import validated

__all__ = ["date_text", "image_url", "jpeg_url", "pack_array", "render", "script_json"]

SHOWN_PX = 64  # at least so large is a chip for the eye where it can be computed in any size


def render(template: str, **data: Any) -> Markup:
    """Render a template of ``geossl/viz/templates``.

    Args:
        template: file name.
        data: variables of the template; text is escaped, `Markup` is not.

    Returns:
        HTML, which other templates do not escape again.

    Example:
        >>> render("status.html", text="1 < 2", error=False)
        Markup('<div role="status" aria-live="polite">1 &lt; 2</div>')
    """
    return Markup(_environment().get_template(template).render(data))


def pack_array(values: np.ndarray) -> str:
    """Encode the bytes of an array as base64 text."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def script_json(data: Any) -> str:
    """Write data as JSON that can stand inside ``<script>``: ASCII, and without ``<``."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


@validated
def jpeg_url(picture: np.ndarray, *, quality: Annotated[int, Interval(ge=1, le=95)] = 78) -> str:
    """Encode a picture ``(H, W, 3)`` uint8 as the ``data:`` URL of a JPEG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return image_url(file.getvalue(), "jpeg")


def image_url(content: bytes, kind: str = "png") -> str:
    """Encode the bytes of an image file as a ``data:`` URL."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def date_text(time: pd.Timestamp) -> str:
    """Write a date as ``2020-12-31``."""
    return "no date" if pd.isna(time) else f"{time:%Y-%m-%d}"


@cache
def _environment() -> Environment:
    folder = files("geossl.viz") / "templates"
    return Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text("utf-8")),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
