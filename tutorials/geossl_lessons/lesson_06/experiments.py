"""What lessons 06 and 07 judge with: figures drawn again, paired differences, words for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from geossl.data import scenes
from geossl.evaluate import ProbeResult, bootstrap
from geossl.utils.colors import GRAY, PALETTE
from geossl.viz.plots.base import get_axes, style_axes

# Linear probe of the main climate, mean and standard deviation of three seeds: what
# benchmarks/blue_marble.json holds (a test keeps the two alike). The benchmarks do not travel with
# a learner's copy.
STUDY = {
    "random": (0.516, 0.005),
    "MoCo-v2": (0.549, 0.009),
    "+TP": (0.570, 0.006),
    "+Geo": (0.569, 0.003),
    "+Geo+TP": (0.578, 0.001),
}
# fMoW, linear probe of the frozen encoder, top-1: arXiv 2011.09980, its table of fMoW results.
PAPER = {"MoCo-v2": 0.6069, "+TP": 0.6832, "+Geo": 0.6407, "+Geo+TP": 0.6633}


@dataclass(frozen=True)
class Difference:
    """One method less another on the same test chips, with a 95 % interval over test places."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Better, worse, or "cannot tell" where the interval holds zero."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "cannot tell"

    def __str__(self) -> str:
        told = f"{100 * self.value:+.1f} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"
        return f"{told}: {self.verdict}"


def difference(result: ProbeResult, baseline: ProbeResult, *, seed: int = 0) -> Difference:
    """How much better a method is than another that was asked the same chips.

    The bootstrap draws places and takes the difference of the two on them, so that what makes a
    place hard for both falls out.

    Args:
        result: of one method.
        baseline: of the other; the same test chips.
        seed: of the bootstrap.

    Raises:
        ValueError: the two were asked other chips.
    """
    ours, theirs = result.predictions, baseline.predictions
    if not np.array_equal(ours["row"], theirs["row"]):
        raise ValueError(
            f"expected two results of the same test chips, came {len(ours)} and {len(theirs)} of "
            "others; measure both with the same split"
        )
    gain = ours["hit"].to_numpy(int) - theirs["hit"].to_numpy(int)
    return Difference(*bootstrap.share_interval(gain, scenes.location_codes(ours), seed))


def resampled(
    result: ProbeResult,
    *,
    by: Literal["place", "chip"] = "place",
    count: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """Figures ``(count,)`` that might have come out, had the test places been others.

    Args:
        result: of a probe.
        by: what is drawn, with replacement: places with all their chips, or single chips.
        count: draws.
        seed: of the draws.
    """
    seen = result.predictions
    group = scenes.location_codes(seen) if by == "place" else np.arange(len(seen))
    size, hits = np.bincount(group), np.bincount(group, weights=seen["hit"])
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(size), np.full(len(size), 1 / len(size)), count)
    return np.asarray(times @ hits / (times @ size))


def three_splits(table: pd.DataFrame, *, seed: int = 0) -> dict[str, pd.Series]:
    """The same test pictures three times, with training pictures from nearer and nearer places.

    Half of the places of the split "test" are asked, at their first date. Where pictures of near
    places come to the training, as many others leave it.

    Args:
        table: a scene table with a column ``split`` by blocks.
        seed: which places are asked, and which pictures leave.

    Returns:
        What the training shows -> a split ``(M,)`` of "train", "test" and missing.
    """
    rng = np.random.default_rng(seed)
    place, split = scenes.location_codes(table), table["split"].to_numpy()
    held = rng.permutation(np.unique(place[split == "test"]))
    own = np.isin(place, held[: max(1, len(held) // 2)])
    first = (table["time"] == table.groupby("location")["time"].transform("min")).to_numpy()
    base = np.flatnonzero(split == "train")
    near = {
        "other dates of the same places": own & ~first,
        "neighbors of these places": (split == "test") & ~own,
        "only other blocks": np.zeros(len(table), bool),
    }
    found = {}
    for name, come in near.items():
        where = pd.Series([None] * len(table), index=table.index, dtype=object)
        where[own & first] = "test"
        stay = rng.permutation(base)[: max(1, len(base) - int(come.sum()))]
        where.iloc[np.concatenate([stay, np.flatnonzero(come)])] = "train"
        found[name] = where
    return found


def scoreboard(
    results: Mapping[str, ProbeResult], *, against: Sequence[str], seed: int = 0
) -> pd.DataFrame:
    """Methods in words: each with its interval, and its difference to some others in points.

    Args:
        results: method -> result of the same test chips.
        against: methods that the others are compared with.
        seed: of the bootstraps.
    """
    rows = []
    for method, result in results.items():
        row = {"method": method, result.metric: told(result)}
        for other in against:
            gap = difference(result, results[other], seed=seed)
            row[f"points more than {other}"] = "–" if method == other else str(gap)
        rows.append(row)
    return pd.DataFrame(rows)


def told(result: ProbeResult) -> str:
    """A result as percent with its interval."""
    return f"{result.value:.1%} ({result.low:.1%} to {result.high:.1%})"


def beside(results: Mapping[str, ProbeResult]) -> pd.DataFrame:
    """The lesson's figures beside those of the large study and of the paper."""
    rows = []
    for method, result in results.items():
        mean, std = STUDY[method]
        rows.append({
            "method": method,
            "here, one seed (95 % over places)": told(result),
            "large study, three seeds (± between seeds)": f"{mean:.1%} ± {100 * std:.1f}",
            "the paper, fMoW": f"{PAPER[method]:.1%}" if method in PAPER else "–",
        })  # fmt: skip
    return pd.DataFrame(rows)


def plot_resamples(samples: Mapping[str, ArrayLike], *, ax: Axes | None = None) -> Axes:
    """How figures drawn again spread; above them the intervals that hold 95 % of each.

    Args:
        samples: name -> figures as shares.
        ax: where to draw; a new figure when None.
    """
    ax = style_axes(get_axes(ax, 6.4, 3.2))
    every = 100 * np.concatenate([np.asarray(values) for values in samples.values()])
    bins = np.linspace(every.min(), every.max() + 1e-9, 26)
    styles = zip(samples.items(), (PALETTE[0], PALETTE[5]), ("-", "--"), strict=False)
    for line, ((name, values), color, dash) in enumerate(styles):
        percent = 100 * np.asarray(values)
        low, high = np.percentile(percent, [2.5, 97.5])
        ax.hist(percent, bins.tolist(), histtype="step", color=color, linestyle=dash, linewidth=1.8)
        ax.plot([low, high], [0.72 - 0.06 * line] * 2, color=color, linestyle=dash, linewidth=3,
                transform=ax.get_xaxis_transform(),
                label=f"{name}: {low:.1f} to {high:.1f} %")  # fmt: skip
    ax.set_ylim(top=1.65 * ax.get_ylim()[1])
    ax.set_xlabel("accuracy of the test, drawn again (%)")
    ax.set_ylabel("draws")
    ax.legend(frameon=False, fontsize=9, loc="upper left")
    return ax


def plot_differences(gaps: Mapping[str, Difference], *, ax: Axes | None = None) -> Axes:
    """Differences with their intervals beside zero, one line each; the verdict is written.

    Args:
        gaps: name -> difference.
        ax: where to draw; a new figure when None.
    """
    ax = style_axes(get_axes(ax, 6.4, 0.5 * len(gaps) + 1.0))
    for y, (_, gap) in enumerate(gaps.items()):
        color = GRAY if gap.verdict == "cannot tell" else PALETTE[0]
        low, value, high = 100 * gap.low, 100 * gap.value, 100 * gap.high
        ax.plot([low, high], [y, y], color=color, linewidth=2)
        ax.plot(value, y, "o", color=color)
        ax.annotate(f"{value:+.1f}, {gap.verdict}", (value, y), (0, 7), ha="center",
                    textcoords="offset points", fontsize=8)  # fmt: skip
    ax.axvline(0, color="#444444", linestyle="--", linewidth=1)
    ax.set_yticks(range(len(gaps)), list(gaps))
    ax.set_ylim(len(gaps) - 0.5, -0.7)
    ax.grid(axis="y", alpha=0)
    ax.margins(x=0.12)
    ax.set_xlabel("difference in points of accuracy (line: 95 % over test places)")
    return ax
