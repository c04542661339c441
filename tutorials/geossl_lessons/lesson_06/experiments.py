"""How lesson 07 judges: paired differences, and verdicts in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from geossl.data import scenes
from geossl.evaluate import ProbeResult, bootstrap
from geossl.utils.validate import Seed, validated
from geossl_lessons.showing import interval_text


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
