"""Do the steps, on one device or, under torchrun, on several.

Pre-training uses all devices for one method after the other. All other steps use one device for
each method: geossl does not share them among processes, so each process does its share of the
methods, in a process of its own that knows nothing of the others.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from results import Results
from settings import OF_DATA, Settings

from geossl.utils import dist
from geossl.utils.device import select_device
from geossl.utils.progress import format_duration

_OF_TORCHRUN = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)
_PREFIXES = ("TORCHELASTIC_", "GROUP_", "ROLE_")
_POLL_S = 0.2


def run_step(
    settings: Settings,
    step: str,
    work: Callable[[Settings, str], dict[str, Any]],
    *,
    words: Sequence[str],
) -> None:
    """Do what is left of a step.

    Args:
        settings: the options.
        step: its name.
        work: measures a method and returns its values.
        words: of the command line, for further processes.

    Raises:
        ValueError: a result of other settings is in the way.
    """
    results, methods = Results(settings), settings.methods_of(step)
    if dist.world_size() > 1:
        dist.init_process_group(select_device(settings.device))

    def find_done() -> list[str]:
        for method in methods:
            results.settings_of(step, method)  # raises where an encoder is absent
        return [method for method in methods if results.load(step, method) is not None]

    done = dist.run_on_rank_zero(find_done)
    for method in done:
        say(f"{name_of(settings, step, method)}: done before")
    left = [method for method in methods if method not in done]
    if dist.world_size() == 1 or step == "pretrain":
        for method in left:
            _do(settings, step, method, work)
        return
    with _terminate_as_interrupt():
        for method in left[dist.rank() :: dist.world_size()]:
            _do_in_child(
                [*words, "--step", step, *([] if step in OF_DATA else ["--methods", method])]
            )
        while not all(results.path(step, method).exists() for method in left):
            time.sleep(_POLL_S)  # no collective: its time limit is shorter than these steps


def name_of(settings: Settings, step: str, method: str) -> str:
    """Return the name of a part of the work."""
    return f"{settings.task} {step}" + ("" if step in OF_DATA else f" {method}")


def say(text: str) -> None:
    """Print a line, unless another process does."""
    if dist.rank() == 0:
        print(text, flush=True)


def _do(
    settings: Settings, step: str, method: str, work: Callable[[Settings, str], dict[str, Any]]
) -> None:
    say(f"{name_of(settings, step, method)}: ...")
    began = time.monotonic()
    values = work(settings, method)
    seconds = values.pop("seconds", time.monotonic() - began)
    if dist.rank() == 0:
        Results(settings).save(step, method, values, seconds=seconds)
    shown = ", ".join(
        f"{name} {_short(value)}"
        for name, value in values.items()
        if not name.endswith(("low", "high", "n_test"))
    )
    say(f"{name_of(settings, step, method)}: {shown} (in {format_duration(seconds)})")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"


def _do_in_child(words: Sequence[str]) -> None:
    """Run a part of the command line on this process's device, in a process without torchrun."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in _OF_TORCHRUN and not name.startswith(_PREFIXES)
    }
    if torch.cuda.is_available():
        shown = environment.get("CUDA_VISIBLE_DEVICES", "")
        devices = shown.split(",") if shown else [str(i) for i in range(torch.cuda.device_count())]
        environment["CUDA_VISIBLE_DEVICES"] = devices[dist.local_rank()]
        torch.cuda.empty_cache()
    child = subprocess.Popen([sys.executable, sys.argv[0], *words], env=environment)
    try:
        if child.wait():
            raise SystemExit(child.returncode)  # it has said why
    finally:
        if child.poll() is None:
            child.terminate()


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, with which torchrun stops this process, stop its child too."""

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
