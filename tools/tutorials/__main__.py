"""``python -m tools.tutorials``: copies of the lessons, timed runs, the site, the workshop bundle.

Every error a user can cause ends as one sentence and exit status 2.
"""

from __future__ import annotations

import os
import sys
from typing import Any

# As in geossl/cli/main.py; kernels inherit the settings.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import tyro

from tools.tutorials import copies, execute, site, workshop

COMMANDS: dict[str, Any] = {
    "learners": copies.write_learners,
    "instructors": copies.write_instructors,
    "run": execute.time_notebooks,
    "reference": execute.measure_reference,
    "site": site.build_site,
    "workshop": workshop.bundle,
}


def main(args: list[str] | None = None) -> None:
    """Run a command of ``python -m tools.tutorials``."""
    try:
        ok: Any = tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="python -m tools.tutorials", args=args
        )
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"tools.tutorials: {error}\n")
        raise SystemExit(2) from None
    if ok is False:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
