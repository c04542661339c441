"""What lesson 00 says of this machine."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

import pandas as pd

from geossl.cli.doctor import Finding
from geossl_lessons.showing import Shown

# Of the machine that the stated minutes come from: an Intel Xeon with bf16, one thread, idle.
REFERENCE_PAIRS_PER_S = 1200.0


def findings_table(findings: Sequence[Finding]) -> pd.DataFrame:
    """The findings of `geossl.cli.doctor.run`, a row each."""
    return pd.DataFrame(
        {
            "": ["ok" if finding.ok else "look here" for finding in findings],
            "what": [finding.what for finding in findings],
            "found, or what to do": [finding.said for finding in findings],
        }
    )


def verdict(findings: Sequence[Finding]) -> Shown:
    """In a sentence: are the lessons possible here, and how long do they compute?"""
    fine = sum(finding.ok for finding in findings)
    said = {finding.what: finding.said for finding in findings}
    rate = re.search(r"([\d.]+) pairs/s", said.get("training", ""))
    lines = [f"{fine} of {len(findings)} findings are ok."]
    if fine < len(findings):
        todo = ", ".join(finding.what for finding in findings if not finding.ok)
        lines.append(f"Not ready yet: {todo}. The table above says what to do.")
    else:
        lines.append("This machine is ready.")
    if rate:
        factor = REFERENCE_PAIRS_PER_S / max(float(rate[1]), 1e-9)
        lines.append(
            f"It trains on {float(rate[1]):,.0f} pairs a second: a lesson that states 2 minutes of "
            f"computing takes about {2 * factor:.1f} here."
        )
    words = " ".join(lines)
    return Shown(f"<p><b>{html.escape(words)}</b></p>", words)
