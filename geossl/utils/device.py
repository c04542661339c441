"""Device, precision and interrupts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from geossl.utils import dist


def select_device(name: str) -> torch.device:
    """The device of a name; "auto" takes a GPU, else the CPU.

    Under torchrun each process takes the GPU of its number on its machine.

    Raises:
        ValueError: the name is no device, or the machine lacks it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"expected a device such as auto, cpu or cuda; came {name!r}") from None
    found = {"cpu": 1, "cuda": torch.cuda.device_count()}
    found["mps"] = int(torch.backends.mps.is_available())
    if (device.index or 0) >= found.get(device.type, 0):
        raise ValueError(
            f"expected the device {name!r}, but torch finds {found.get(device.type, 0)} of that "
            "kind here; use device='auto' or 'cpu'"
        )
    if device.type == "cuda" and device.index is None and dist.world_size() > 1:
        if dist.local_world_size() > found["cuda"]:
            raise ValueError(
                f"expected a GPU for each of the {dist.local_world_size()} processes of this "
                f"machine, but torch finds {found['cuda']}; start as many, or use device='cpu'"
            )
        device = torch.device("cuda", dist.local_rank())
    return device


def select_precision(name: str, device: torch.device) -> str:
    """The precision of a name; "auto" is bf16 where the hardware is faster in it, else fp32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    capabilities: dict = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if device.type == "cpu" and capabilities.get("amx_bf16") else "fp32"


def use_fused(device: torch.device) -> bool | None:
    """Whether an optimizer should go over its parameters in one pass there; None: as it likes."""
    return True if device.type in ("cpu", "cuda") else None


@contextmanager
def defer_interrupt() -> Iterator[None]:
    """Let a Ctrl-C (or a notebook's interrupt) that comes inside take effect at the end."""
    plain = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not plain or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt
