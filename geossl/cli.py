"""The command line: one frozen dataclass a command, read by tyro.

Every error a person can cause ends as one sentence and exit status 2.
"""

from __future__ import annotations

import os
import sys

# Idle threads that spin cost up to 4x on a busy machine; this has to be set before torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from typing import Any

import tyro

from geossl.commands.data import Chips, Clusters, Fetch, Scenes
from geossl.commands.harvest import Stac
from geossl.commands.learning import Embed, Pretrain
from geossl.commands.results import Check, Demo, Map, Probe, Retrieve

_COMMANDS: tuple[tuple[str, type], ...] = (
    ("fetch", Fetch),
    ("stac", Stac),
    ("scenes", Scenes),
    ("chips", Chips),
    ("clusters", Clusters),
    ("pretrain", Pretrain),
    ("embed", Embed),
    ("probe", Probe),
    ("retrieve", Retrieve),
    ("map", Map),
    ("demo", Demo),
    ("check", Check),
)


def main(args: list[str] | None = None) -> None:
    """The entry point of ``geossl`` and ``python -m geossl``."""
    commands: dict[str, Any] = dict(_COMMANDS)
    command = tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="geossl",
        description="Learn from where and when an image was taken.",
        args=args,
    )
    try:
        command.run()
    except KeyboardInterrupt:
        sys.stderr.write("geossl: stopped; the same line goes on where it was\n")
        raise SystemExit(130) from None
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"geossl: {error}\n")
        raise SystemExit(2) from None
