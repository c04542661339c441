"""How lessons 06 and 07 judge: resampled accuracies, paired differences, and verdicts."""

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
from geossl.utils.validate import PositiveInt, Seed, validated
from geossl.viz.plots.base import get_axes, style_axes
from geossl_lessons.showing import interval_text

# Linear probe of the main climate, mean and standard deviation of three seeds, from
# benchmarks/blue_marble.json (a test compares them): a learner's copy has no benchmarks.
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
    """One method minus another on the same test chips, with a 95 % interval over locations."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Better, worse, or "cannot tell" where the interval holds zero."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "cannot tell"

    def __str__(self) -> str:
        value, low, high = (100 * x for x in (self.value, self.low, self.high))
        return f"{value:+.1f} ({low:+.1f} to {high:+.1f}): {self.verdict}"


@validated
def difference(result: ProbeResult, baseline: ProbeResult, *, seed: Seed = 0) -> Difference:
    """Compute how much better a method is than a baseline on the same test chips.

    The bootstrap draws locations and takes the difference on them: what makes a location hard for
    both cancels out.

    Raises:
        ValueError: the test chips differ.
    """
    ours, theirs = result.predictions, baseline.predictions
    if not np.array_equal(ours["row"], theirs["row"]):
        raise ValueError(
            "`result` and `baseline` must have the same test chips, got "
            f"{len(ours)} and {len(theirs)} that differ. Measure both with the same split."
        )
    gain = ours["hit"].to_numpy(int) - theirs["hit"].to_numpy(int)
    return Difference(*bootstrap.share_interval(gain, scenes.location_codes(ours), seed))


@validated
def resample(
    result: ProbeResult,
    *,
    by: Literal["location", "chip"] = "location",
    count: PositiveInt = 2000,
    seed: Seed = 0,
) -> np.ndarray:
    """Compute the accuracy ``(count,)`` on test sets drawn again, with replacement.

    Locations are drawn with all their chips, or single chips.
    """
    table = result.predictions
    group = scenes.location_codes(table) if by == "location" else np.arange(len(table))
    size, hits = np.bincount(group), np.bincount(group, weights=table["hit"])
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(size), np.full(len(size), 1 / len(size)), count)
    return np.asarray(times @ hits / (times @ size))


@validated
def three_splits(table: pd.DataFrame, *, seed: Seed = 0) -> dict[str, pd.Series]:
    """Split the table three times, with the same test pictures and training pictures ever nearer.

    The test is half of the locations of the split "test", at their first date. Pictures of near
    locations replace as many other training pictures. Returns what the training shows -> a split
    ``(M,)`` of "train", "test" and missing.
    """
    rng = np.random.default_rng(seed)
    location, split = scenes.location_codes(table), table["split"].to_numpy()
    test = rng.permutation(np.unique(location[split == "test"]))
    own = np.isin(location, test[: max(1, len(test) // 2)])
    first = (table["time"] == table.groupby("location")["time"].transform("min")).to_numpy()
    train = np.flatnonzero(split == "train")
    near = {
        "other dates of the same locations": own & ~first,
        "neighbors of these locations": (split == "test") & ~own,
        "only other blocks": np.zeros(len(table), bool),
    }
    splits = {}
    for name, added in near.items():
        part = pd.Series([None] * len(table), index=table.index, dtype=object)
        part[own & first] = "test"
        part.iloc[rng.permutation(train)[: max(1, len(train) - int(added.sum()))]] = "train"
        part[added] = "train"
        splits[name] = part
    return splits


@validated
def scoreboard(
    results: Mapping[str, ProbeResult], *, against: Sequence[str], seed: Seed = 0
) -> pd.DataFrame:
    """Put results on the same test chips into words, with differences to some of them in points."""
    board = pd.DataFrame({"method": list(results)})
    metric = next(iter(results.values())).metric
    board[metric] = [accuracy_text(result) for result in results.values()]
    for other in against:
        board[f"points more than {other}"] = [
            "–" if name == other else str(difference(result, results[other], seed=seed))
            for name, result in results.items()
        ]
    return board


def accuracy_text(result: ProbeResult) -> str:
    """Write a result in percent, with its interval."""
    return interval_text(result.value, result.low, result.high)


def compare_with_study(results: Mapping[str, ProbeResult]) -> pd.DataFrame:
    """Put the lesson's results next to those of the large study and of the paper."""
    study = [STUDY[name] for name in results]
    return pd.DataFrame({
        "method": list(results),
        "here, one seed (95 % over locations)": [accuracy_text(r) for r in results.values()],
        "large study, three seeds (± between seeds)": [
            f"{mean:.1%} ± {100 * std:.1f}" for mean, std in study
        ],
        "the paper, fMoW": [f"{PAPER[name]:.1%}" if name in PAPER else "–" for name in results],
    })  # fmt: skip


def plot_resamples(samples: Mapping[str, ArrayLike], *, ax: Axes | None = None) -> Axes:
    """Draw how resampled accuracies spread, with the interval that holds 95 % of each above."""
    ax = style_axes(get_axes(ax, 6.4, 3.2))
    percent = {name: 100 * np.asarray(values) for name, values in samples.items()}
    bins = np.histogram_bin_edges(np.concatenate(list(percent.values())), 25).tolist()
    styles = zip(percent.items(), (PALETTE[0], PALETTE[5]), ("-", "--"), strict=False)
    for line, ((name, values), color, dash) in enumerate(styles):
        low, high = np.percentile(values, [2.5, 97.5])
        ax.hist(values, bins, histtype="step", color=color, linestyle=dash, linewidth=1.8)
        ax.plot([low, high], [0.72 - 0.06 * line] * 2, color=color, linestyle=dash, linewidth=3,
                transform=ax.get_xaxis_transform(),
                label=f"{name}: {low:.1f} to {high:.1f} %")  # fmt: skip
    ax.set_ylim(top=1.65 * ax.get_ylim()[1])
    ax.set_xlabel("accuracy on the resampled test (%)")
    ax.set_ylabel("draws")
    ax.legend(frameon=False, fontsize=9, loc="upper left")
    return ax


def plot_differences(gaps: Mapping[str, Difference], *, ax: Axes | None = None) -> Axes:
    """Draw differences with their intervals and verdicts, one on each line, and a line at zero."""
    ax = style_axes(get_axes(ax, 6.4, 0.5 * len(gaps) + 1.0))
    for y, gap in enumerate(gaps.values()):
        color = GRAY if gap.verdict == "cannot tell" else PALETTE[0]
        ax.plot([100 * gap.low, 100 * gap.high], [y, y], color=color, linewidth=2)
        ax.plot(100 * gap.value, y, "o", color=color)
        ax.annotate(f"{100 * gap.value:+.1f}, {gap.verdict}", (100 * gap.value, y), (0, 7),
                    ha="center", textcoords="offset points", fontsize=8)  # fmt: skip
    ax.axvline(0, color="#444444", linestyle="--", linewidth=1)
    ax.set_yticks(range(len(gaps)), list(gaps))
    ax.set_ylim(len(gaps) - 0.5, -0.7)
    ax.grid(axis="y", alpha=0)
    ax.margins(x=0.12)
    ax.set_xlabel("difference in points of accuracy (line: 95 % over test locations)")
    return ax
