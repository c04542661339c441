"""The paper at full size, from the public data to its tables; each command resumes.

    python benchmarks/paper/reproduce.py fmow --data fMoW-rgb --output-dir runs/paper --plan
    python benchmarks/paper/reproduce.py fmow --data fMoW-rgb --output-dir runs/paper
    torchrun --nproc-per-node 4 benchmarks/paper/reproduce.py fmow --data fMoW-rgb --output-dir runs/paper
    python benchmarks/paper/reproduce.py xview --data xView --output-dir runs/paper     likewise spacenet, naip
    python benchmarks/paper/reproduce.py geoimagenet --data GeoImageNet --output-dir runs/paper

A laptop does all of it in small: --encoder tiny --size-px 64 --view-px 32 --epochs 1 ...
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Sequence

import tyro
from settings import Settings


def main(words: Sequence[str] | None = None) -> None:
    """Do what a command line says.

    Args:
        words: those after the program's name; those of this process if None.
    """
    words = list(sys.argv[1:] if words is None else words)
    settings = tyro.cli(Settings, prog="reproduce.py", args=words)
    try:
        with warnings.catch_warnings():
            _print_data_warnings()
            _run(settings, words)
    except KeyboardInterrupt:
        _print_error("Stopped. Run the same command again to resume.")
        raise SystemExit(130) from None
    except (ValueError, TypeError, OSError, ImportError) as error:
        _print_error(error)
        raise SystemExit(2) from None


def _run(settings: Settings, words: list[str]) -> None:
    import steps
    from launch import run_step, say
    from plan import plan
    from table import write_table

    from geossl.utils import dist

    settings.check()
    if settings.plan:
        if dist.world_size() > 1:
            raise ValueError("`plan` counts all devices of this machine. Run it without torchrun.")
        say(f"Reading the scenes of {settings.data}, then measuring ...\n")
        say(plan(settings))
        return
    for step in settings.steps:
        if step != "table":
            run_step(settings, step, steps.WORK[step], words=words)
        elif dist.rank() == 0:
            say(write_table(settings))


def _print_data_warnings() -> None:
    """Print what looks wrong with the data as a line, without its place in the code."""
    from geossl.data.notices import DataWarning

    show = warnings.showwarning
    warnings.simplefilter("always", DataWarning)
    warnings.showwarning = lambda text, kind, *rest: (
        _print_error(text) if issubclass(kind, DataWarning) else show(text, kind, *rest)
    )


def _print_error(message: object) -> None:
    """Print a message with options as on the command line, once a machine."""
    options = Settings.__dataclass_fields__
    text = re.sub(
        r"`(\w+)`",
        lambda match: f"`--{match[1].replace('_', '-')}`" if match[1] in options else match[0],
        str(message),
    )
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        print(f"reproduce.py: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
