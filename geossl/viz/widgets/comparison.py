"""Watch a comparison of encoders in a notebook cell: a table that grows row by row."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial

from markupsafe import Markup

from geossl.tasks import compare
from geossl.utils.validate import validated
from geossl.viz import plots
from geossl.viz.pages import render
from geossl.viz.widgets.common import LiveOutput


@validated
def watch_comparison(rows: Iterable[compare.Row]) -> list[compare.Row]:
    """Show the rows of `geossl.tasks.compare.compare` as they are measured, with a plot.

    Works where `TrainingMonitor` does. Interrupting the kernel ends the comparison; the rows
    measured so far are shown and returned.

    Args:
        rows: of `geossl.tasks.compare.compare`.

    Returns:
        All rows.
    """
    output, measured = LiveOutput(), []
    start = time.monotonic()
    try:
        for row in rows:
            measured.append(row)
            text = (
                f"{row.method}, seed {row.seed}: {row.metric} {row.value:.3f} "
                f"({row.low:.3f} to {row.high:.3f}), {time.monotonic() - start:.0f} s so far"
            )
            output.update(text, partial(_page, measured, text))
    except KeyboardInterrupt:
        text = f"stopped after {len(measured)} measurements"
        output.update(text, partial(_page, measured, text))
    return measured


def _page(rows: list[compare.Row], text: str) -> str:
    if not rows:
        return render("progress.html", text=text, picture="", table=None)
    table = compare.table(rows)
    alt = "; ".join(f"{row.method} {row.value:.3f}" for row in table.itertuples())
    picture = plots.figure_html(plots.plot_comparison(rows), alt=alt)
    columns = {
        "low": "95 % from", "high": "to", "n_test": "test chips", "std": "± between seeds",
    }  # fmt: skip
    formatted = table.assign(
        std=table["std"].map("{:.3f}".format).where(table["seeds"] > 1, ""),
        n_test=table["n_test"].round().astype(int),
        seconds=table["seconds"].map("{:.1f}".format),
    ).rename(columns=columns)
    page = formatted.to_html(index=False, float_format="{:.3f}".format, border=0)  # escapes text
    return render("progress.html", text=text, picture=picture, table=Markup(page))
