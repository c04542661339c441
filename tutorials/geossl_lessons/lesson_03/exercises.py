"""What `check` knows of lesson 03."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from geossl_lessons.checking import NotYet, as_array, as_choice, as_number

_GAP_DAYS = 180
_DAY_S = 86_400


def exercise_1(answer: object, given: Any) -> None:
    """Rows that may be the key of a query; ``given`` is ``(scenes, row of the query)``."""
    table, query = given
    rows = as_array(answer).ravel()
    if not ((rows % 1 == 0) & (rows >= 0) & (rows < len(table))).all():
        raise NotYet(f"Row numbers from 0 to {len(table) - 1} are asked for.")
    found = {int(row) for row in rows}
    place, when = table["location"].tolist(), table["time"].tolist()
    gap = [abs((t - when[query]).total_seconds()) / _DAY_S for t in when]
    truth = {i for i in range(len(table)) if place[i] == place[query] and gap[i] >= _GAP_DAYS}
    if found == truth:
        return
    if any(place[row] != place[query] for row in found):
        raise NotYet("Some of these rows are of another place; compare the column location.")
    if query in found:
        raise NotYet("The query itself is among them; it lies 0 days from itself.")
    if any(gap[row] < _GAP_DAYS for row in found):
        raise NotYet(f"Some of these dates are nearer than {_GAP_DAYS} days, before or after.")
    raise NotYet(f"{len(found)} of {len(truth)} rows are there. Dates before the query count too.")


def exercise_2(answer: object, given: Any) -> None:
    """The policy that keeps the season; ``given`` is ``(policies, scenes)``."""
    policies, table = given
    chosen = as_choice(answer, list(policies))
    generator = torch.Generator().manual_seed(0)
    query, key = (part.tolist() for part in policies[chosen].prepare(table)(generator))
    months = table["time"].dt.month.tolist()
    quarter = ["DJF MAM JJA SON".split()[month % 12 // 3] for month in months]
    apart = [quarter[q] != quarter[k] for q, k in zip(query, key, strict=True) if q != k]
    if any(apart):
        share = sum(apart) / len(apart)
        raise NotYet(
            f"In {share:.0%} of the pairs of that policy the seasons differ, so the encoder learns "
            "to ignore them."
        )


def exercise_3(answer: object, given: Any) -> None:
    """Share of pictures without a partner; ``given`` is ``(scenes, largest gap in days)``."""
    value, (table, most) = as_number(answer), given
    alone = 0
    for _, own in table.groupby("location"):
        when = [t.timestamp() / _DAY_S for t in own["time"]]
        alone += sum(not any(0 < abs(a - b) <= most for b in when) for a in when)
    truth = alone / len(table)
    if math.isclose(value, truth, abs_tol=1e-3):
        return
    if math.isclose(value, 100 * truth, abs_tol=0.1):
        raise NotYet("That is in percent; a share from 0 to 1 is asked for.")
    if math.isclose(value, alone, abs_tol=0.5):
        raise NotYet("That is the number of pairs; divide it by all pairs.")
    if math.isclose(value, 1 - truth, abs_tol=1e-3):
        raise NotYet("That is the share that does have a partner.")
    raise NotYet("pairs.report(policy, table) has an entry degenerate_share.")


def exercise_4(answer: object, given: Any) -> None:
    """How often a changed pair scores higher; ``given`` is ``(score (P,), changed (P,))``."""
    value, (score, changed) = as_number(answer), given
    score, changed = np.asarray(score, np.float64), np.asarray(changed, bool)
    wins = [(score[i] > score[~changed]).mean() for i in np.flatnonzero(changed)]
    truth = float(np.mean(wins))
    if math.isclose(value, truth, abs_tol=3e-3):
        return
    if math.isclose(value, 1 - truth, abs_tol=3e-3):
        raise NotYet("That is how often the unchanged pair scores higher.")
    if math.isclose(value, 100 * truth, abs_tol=0.3):
        raise NotYet("That is in percent; a share from 0 to 1 is asked for.")
    raise NotYet("Compare every score of `yes` with every score of `no`: yes[:, None] > no[None].")
