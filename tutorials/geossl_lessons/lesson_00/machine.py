"""Summarize what `geossl doctor` finds on this machine."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

import pandas as pd

from geossl.cli.doctor import Finding
from geossl.train.throughput import REFERENCE_PAIRS_PER_S
from geossl.utils.progress import format_duration
from geossl_lessons.showing import Html


def findings_table(findings: Sequence[Finding]) -> pd.DataFrame:
    """Return the findings of `geossl.cli.doctor.check_machine`, one row each."""
    return pd.DataFrame(
        {
            "": ["ok" if finding.ok else "look here" for finding in findings],
            "what": [finding.subject for finding in findings],
            "result, or what to do": [finding.message for finding in findings],
        }
    )


def verdict(findings: Sequence[Finding]) -> Html:
    """Say whether this machine can run the lessons, and how long they take on it."""
    good = sum(finding.ok for finding in findings)
    text = {finding.subject: finding.message for finding in findings}.get("training", "")
    rate = re.search(r"([\d.]+) pairs/s", text)
    lines = [f"{good} of {len(findings)} findings are ok."]
    if good < len(findings):
        bad = ", ".join(finding.subject for finding in findings if not finding.ok)
        lines.append(f"Not ready yet: {bad}. The table above says what to do.")
    else:
        lines.append("This machine is ready.")
    if rate:
        here = format_duration(120 * REFERENCE_PAIRS_PER_S / max(float(rate[1]), 1e-9))
        lines.append(
            f"It trains on {float(rate[1]):,.0f} pairs per second: a lesson that states 2 minutes "
            f"of computing takes about {here} here."
        )
    words = " ".join(lines)
    return Html(f"<p><b>{html.escape(words)}</b></p>", words)
