"""Results of two encoders in words; lesson 08 uses it too."""

from __future__ import annotations

import pandas as pd

from geossl_lessons.showing import interval_text


def summarize(results: pd.DataFrame) -> pd.DataFrame:
    """Put ``encoder, task, value, low, high`` into words; the first encoder is the baseline."""
    lines = []
    before, after = results["encoder"].unique()
    for task, rows in results.groupby("task", sort=False):
        base, new = (rows[rows["encoder"] == name].iloc[0] for name in (before, after))
        conclusion = "no difference shown: the intervals overlap"
        if new["low"] > base["high"]:
            conclusion = "yes, learned"
        elif new["high"] < base["low"]:
            conclusion = "no, worse than without learning"
        values = [interval_text(row["value"], row["low"], row["high"]) for row in (base, new)]
        lines.append([task, *values, conclusion])
    return pd.DataFrame(lines, columns=["task", before, after, "learned?"])
