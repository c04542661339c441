"""The command line: one frozen dataclass a command, read by tyro.

Every error a person can cause ends as one sentence and exit status 2.
"""

from __future__ import annotations

import contextlib
import os
import sys

# Idle threads that spin cost up to 4x on a busy machine; this has to be set before torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from typing import Any

import tyro

from geossl.cli.compare import Transfer
from geossl.cli.data import Chips, Clusters, Fetch, Scenes, Stream
from geossl.cli.evaluate import Check, Demo, Map, Probe, Retrieve
from geossl.cli.stac import Stac
from geossl.cli.train import Embed, Pretrain

_COMMANDS: tuple[tuple[str, type], ...] = (
    ("fetch", Fetch),
    ("stac", Stac),
    ("scenes", Scenes),
    ("chips", Chips),
    ("stream", Stream),
    ("clusters", Clusters),
    ("pretrain", Pretrain),
    ("embed", Embed),
    ("probe", Probe),
    ("retrieve", Retrieve),
    ("transfer", Transfer),
    ("map", Map),
    ("demo", Demo),
    ("check", Check),
)


def main(args: list[str] | None = None) -> None:
    """The entry point of ``geossl`` and ``python -m geossl``."""
    commands: dict[str, Any] = dict(_COMMANDS)
    with contextlib.ExitStack() as silence:
        if _process() > 0:  # the first process of a machine speaks for all that torchrun started
            nowhere = silence.enter_context(open(os.devnull, "w"))
            silence.enter_context(contextlib.redirect_stdout(nowhere))
            silence.enter_context(contextlib.redirect_stderr(nowhere))
        command = tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="geossl",
            description="Learn from where and when an image was taken.",
            args=args,
        )
    try:
        command.run()
    except KeyboardInterrupt:
        _tell("stopped; the same line goes on where it was")
        raise SystemExit(130) from None
    except ConnectionError as error:
        _tell(error, processes=2)  # the first one may be the one that died
        raise SystemExit(2) from None
    except (ValueError, OSError, ImportError) as error:
        _tell(error)
        raise SystemExit(2) from None


def _process() -> int:
    """Which of the processes that torchrun started on this machine this is; 0 without it."""
    return int(os.environ.get("LOCAL_RANK", 0)) if "TORCHELASTIC_RUN_ID" in os.environ else 0


def _tell(words: object, *, processes: int = 1) -> None:
    if _process() < processes:
        sys.stderr.write(f"geossl: {words}\n")
        sys.stderr.flush()
