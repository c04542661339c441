"""Right answers and hints of lesson 03."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from geossl_lessons.checking import NotYet, as_array, as_choice, grade_share

_GAP_DAYS = 180
_DAY_S = 86_400


def exercise_1(answer: object, data: Any) -> None:
    """Check the possible keys of a query; ``data`` is ``(scenes, row of the query)``."""
    table, query = data
    values = as_array(answer).ravel()
    if not ((values % 1 == 0) & (values >= 0) & (values < len(table))).all():
        raise NotYet(f"The answer must be row numbers from 0 to {len(table) - 1}.")
    rows = {int(value) for value in values}
    location, time = table["location"].tolist(), table["time"].tolist()
    gap = [abs((t - time[query]).total_seconds()) / _DAY_S for t in time]
    truth = {i for i, at in enumerate(location) if at == location[query] and gap[i] >= _GAP_DAYS}
    if rows == truth:
        return
    if any(location[row] != location[query] for row in rows):
        raise NotYet("Some of these rows are of another location; compare the column location.")
    if query in rows:
        raise NotYet("The query itself is among them; it is 0 days from itself.")
    if any(gap[row] < _GAP_DAYS for row in rows):
        raise NotYet(f"Some of these dates are nearer than {_GAP_DAYS} days, before or after.")
    raise NotYet(f"You have {len(rows)} of {len(truth)} rows. Dates before the query count too.")


def exercise_2(answer: object, data: Any) -> None:
    """Check the policy that keeps the season; ``data`` is ``(policies, scenes)``."""
    policies, table = data
    choice = as_choice(answer, list(policies))
    generator = torch.Generator().manual_seed(0)
    query, key = (part.tolist() for part in policies[choice].prepare(table)(generator))
    months = table["time"].dt.month.tolist()
    season = ["DJF MAM JJA SON".split()[month % 12 // 3] for month in months]
    differ = [season[q] != season[k] for q, k in zip(query, key, strict=True) if q != k]
    if any(differ):
        raise NotYet(
            f"In {sum(differ) / len(differ):.0%} of the pairs of that policy the seasons differ, "
            "so the encoder learns to ignore them."
        )


def exercise_3(answer: object, data: Any) -> None:
    """Check the share of pictures without a partner; ``data`` is ``(scenes, max_gap_days)``."""
    table, most = data
    alone = 0
    for _, own in table.groupby("location"):
        days = [t.timestamp() / _DAY_S for t in own["time"]]
        alone += sum(not any(0 < abs(a - b) <= most for b in days) for a in days)
    truth = alone / len(table)
    mistakes = {
        alone: "That is the number of pairs; divide it by all pairs.",
        1 - truth: "That is the share that does have a partner.",
    }
    hint = "pairs.report(policy, scenes) has an entry degenerate_share."
    grade_share(answer, truth, mistakes, hint=hint, abs_tol=1e-3)


def exercise_4(answer: object, data: Any) -> None:
    """Check how often a changed pair scores higher; ``data`` is ``(score (P,), changed (P,))``."""
    score, changed = np.asarray(data[0], np.float64), np.asarray(data[1], bool)
    truth = float(np.mean([(high > score[~changed]).mean() for high in score[changed]]))
    mistakes = {1 - truth: "That is how often the unchanged pair scores higher."}
    hint = "Compare every score of `yes` with every score of `no`: yes[:, None] > no[None]."
    grade_share(answer, truth, mistakes, hint=hint, abs_tol=3e-3)
