"""Watch a comparison of encoders in a notebook cell: its table grows as figures come in."""

from __future__ import annotations

import html
import time
from collections.abc import Iterable
from functools import partial

from geossl.tasks import compare
from geossl.viz import plots
from geossl.viz.plots import evaluation
from geossl.viz.widgets.common import Screen


def watch_comparison(rows: Iterable[compare.Row]) -> list[compare.Row]:
    """Show the figures of `transfer.compare` as they come, beside a picture; returns all rows.

    Works where `TrainingMonitor` does. Interrupting the kernel ends it; what was measured is
    shown and returned.

    Args:
        rows: of `transfer.compare`.
    """
    screen, found = Screen(), []
    began = time.monotonic()
    try:
        for row in rows:
            found.append(row)
            words = (
                f"{row.method}, seed {row.seed}: {row.metric} {row.value:.3f} "
                f"({row.low:.3f} to {row.high:.3f}), {time.monotonic() - began:.0f} s so far"
            )
            screen.update(words, partial(_page, found, words))
    except KeyboardInterrupt:
        words = f"stopped after {len(found)} figures"
        screen.update(words, partial(_page, found, words))
    return found


def _page(rows: list[compare.Row], words: str) -> str:
    status = f'<div role="status">{html.escape(words)}</div>'
    if not rows:
        return status
    table = compare.table(rows)
    shown = table.assign(
        std=table["std"].map("{:.3f}".format).where(table["seeds"] > 1, ""),
        n_test=table["n_test"].round().astype(int),
        seconds=table["seconds"].map("{:.1f}".format),
    )
    names = {"low": "95 % from", "high": "to", "n_test": "tested on", "std": "± between seeds"}
    picture = plots.figure_html(
        evaluation.plot_comparison(rows),
        alt="; ".join(f"{r.method} {r.value:.3f}" for r in table.itertuples()),
    )
    page = shown.rename(columns=names).to_html(index=False, float_format="{:.3f}".format, border=0)
    return f"{page}{picture}{status}"
