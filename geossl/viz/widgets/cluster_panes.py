"""What the panes of the ClusterExplorer say: plain functions from numbers to HTML."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from geossl.clusters import GeoClusters
from geossl.evaluate import PlaceInformation
from geossl.viz import plots
from geossl.viz.pages import render
from geossl.viz.widgets.common import bars_html, count_by_year

_MOST_YEARS = 10


def sentence(text: str) -> str:
    """Render a paragraph."""
    return render("paragraph.html", text=text)


def count_by_period(times: pd.Series) -> pd.Series:
    """Count dates by year, or by periods of 5, 10, ... years where there are more than ten."""
    years = count_by_year(times)
    if len(years) <= _MOST_YEARS:
        return years
    span = int(years.index[-1] - years.index[0]) + 1
    step = next(n for n in (2, 5, 10, 20, 50, 100, 10_000) if span / n < _MOST_YEARS)
    counts = years.groupby(years.index // step * step).sum()
    counts.index = [f"{first}–{first + step - 1}" for first in counts.index]
    return counts


def _km(length: float) -> str:
    return f"{length:,.0f} km" if length >= 10 else f"{1000 * length:,.0f} m"


def list_options(clusters: GeoClusters, purity: pd.DataFrame | None) -> list[tuple[str, int]]:
    """Return the lines of the list of clusters, the largest first."""
    texts = [f"{i:3d}: {int(size):,} locations" for i, size in enumerate(clusters.sizes)]
    for row in () if purity is None else purity[purity["size"] > 0].itertuples():
        texts[row.cluster] += f"  {row.purity:.0%} {row.label}"
    order = np.argsort(-clusters.sizes, kind="stable")
    return [("all clusters", -1), *((texts[i][:60], int(i)) for i in order)]


def facts_html(
    rows: pd.DataFrame,
    values: dict[str, float],
    purity: pd.DataFrame | None,
    *,
    cluster: int | None,
    label: str,
) -> str:
    """Render purity, balance, labels and years of the rows of a cluster, or of all."""
    text = f"balance of sizes {values['balance']:.2f}, {_km(values['mean_km'])} to the middle"
    if cluster is None and purity is not None:
        text = (
            f"mean purity {values['purity']:.0%} (by chance {values['purity_chance']:.0%}), mean "
            f"entropy {values['entropy_bits']:.2f} bits; {text}"
        )
    elif purity is not None:
        row = purity.set_index("cluster").loc[cluster]
        text = f"purity {row['purity']:.0%}, entropy {row['entropy_bits']:.2f} bits"
        text = text if pd.notna(row["purity"]) else "no labels"
    elif cluster is not None:
        text = ""
    blocks = []
    if purity is not None:
        blocks.append(bars_html(rows[label].value_counts(), title=label))
    if "time" in rows and rows["time"].notna().any():
        blocks.append(bars_html(count_by_period(rows["time"]), title="year", most=_MOST_YEARS))
    inside = render("join.html", blocks=blocks)
    return sentence(text) + render("scroll.html", name="labels and years", inside=inside)


def curves_html(table: pd.DataFrame) -> str:
    """Render what is known by K, with its numbers as the text of the figure."""
    if len(table) < 2:
        return sentence("“try many K” measures K from 5 to 200 beside clusters of random labels.")
    has_labels = table["purity"].notna().any()
    points = [
        f"{row.on} K={row.k} "
        + (f"{row.purity:.2f} (by chance {row.purity_chance:.2f}) and {row.entropy_bits:.2f} bits"
           if has_labels else f"balance {row.balance:.2f} and {_km(row.mean_km)}")
        for row in table.sort_values(["on", "k"]).itertuples()
    ]  # fmt: skip
    what = "mean purity and mean entropy by K" if has_labels else "balance and distance by K"
    said = (
        "Higher purity is worth something only above the dashed line: the same sizes with labels "
        "dealt out at random."
        if has_labels
        else "Without labels: how even the sizes are (1: all equal), and how wide the clusters."
    )
    figure = plots.figure_svg(plots.plot_purity_by_k(table), alt=f"{what}: {', '.join(points)}")
    return sentence(said) + figure


def moves_html(moved: pd.DataFrame, names: tuple[str, str]) -> str:
    """Render the share of locations that change their cluster, and of which clusters."""
    share, count = moved["changed"].mean(), len(moved)
    by_cluster = moved.groupby("first")["changed"].agg(["sum", "size"])
    by_cluster = by_cluster[by_cluster["sum"] > 0].sort_values("sum", ascending=False)
    text = (
        f"{share:.1%} of {count:,} locations change their cluster from {names[0]} to {names[1]} "
        "under the best matching of the two: they are orange on the second map, the others blue."
    )
    rows = pd.Series({f"cluster {i}": int(n) for i, n in by_cluster["sum"].items()}, dtype=int)
    bars = bars_html(rows, title="change their cluster")
    return sentence(text) + (bars if len(rows) else "")


def place_html(found: PlaceInformation, k: int) -> str:
    """Render how much place explains of embeddings."""
    return sentence(
        f"Clusters of place and of embedding ({k} each) share an adjusted mutual information of "
        f"{found.ami:.2f}: 0 is chance (embeddings permuted between locations give "
        f"{found.chance:.3f} ± {found.chance_std:.3f}), 1 means that place explains all of it. "
        "On the second map dots have the color of their embedding's cluster; eight colors repeat."
    )


def usage_html(path: Path) -> str:
    """Say what reads a file of clusters."""
    if path.suffix == ".csv":
        return render(
            "command.html", lines=[],
            text=f"Columns cluster and path, as the paper's released code reads them: {path}",
        )  # fmt: skip
    if path.suffix == ".geojson":
        return render("command.html", lines=[], text=f"Cells for a GIS or geopandas: {path}")
    return render(
        "command.html", text="Pre-train with these clusters:",
        lines=[f"geossl pretrain CHIPS --geo {path} --output-dir RUN",
               f'geossl.pretrain(store, geo=geossl.GeoClusters.load("{path}"))'],
    )  # fmt: skip
