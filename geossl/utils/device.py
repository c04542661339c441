"""Choose a device and a precision, know its memory, and hold back interrupts."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from geossl.utils import dist


def select_device(name: str) -> torch.device:
    """Return the device of a name; "auto" is a GPU if there is one, else the CPU.

    Under torchrun each process gets the GPU of its number on its machine.

    Raises:
        ValueError: the name is no device, or the machine lacks it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"`device` must be 'auto', 'cpu', 'cuda', ..., got {name!r}.") from None
    counts = {"cpu": 1, "cuda": torch.cuda.device_count()}
    counts["mps"] = int(torch.backends.mps.is_available())
    available = counts.get(device.type, 0)
    if (device.index or 0) >= available:
        raise ValueError(
            f"`device` is {name!r}, but torch finds {available} of that kind on this machine. Use "
            "device='auto' or 'cpu'."
        )
    if device.type == "cuda" and device.index is None and dist.world_size() > 1:
        if dist.local_world_size() > available:
            raise ValueError(
                f"The {dist.local_world_size()} processes of this machine need a GPU each, but "
                f"torch finds {available}. Start as many, or use device='cpu'."
            )
        device = torch.device("cuda", dist.local_rank())
    return device


def select_precision(name: str, device: torch.device) -> str:
    """Return a precision; "auto" is bf16 where the hardware is faster in it, else fp32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if device.type == "cpu" and _uses_amx() else "fp32"


def _uses_amx() -> bool:
    """Return whether torch and oneDNN multiply bf16 in hardware: AMX that no variable forbids."""
    capabilities: dict = getattr(torch.cpu, "get_capabilities", dict)()
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    return (
        bool(capabilities.get("amx_bf16"))
        and ("AMX" in allowed or allowed in ("ALL", "DEFAULT"))
        and torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")
    )


def use_fused(device: torch.device) -> bool | None:
    """Return whether an optimizer should be fused on a device; None: its own default."""
    return True if device.type in ("cpu", "cuda") else None


def available_memory(device: torch.device) -> int | None:
    """Return the bytes that a GPU has, or that are free in RAM; None where that is not known.

    Of a container, which may use a part of the machine's RAM, it is the smaller of the two.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    sizes = []
    with suppress(OSError, ValueError, AttributeError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        free = next(line for line in lines if line.startswith("MemAvailable:"))
        sizes.append(int(free.split()[1]) * 1024)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):
            group = Path("/sys/fs/cgroup")
            sizes.append(int((group / limit).read_bytes()) - int((group / used).read_bytes()))
    return max(min(sizes), 0) if sizes else None


def check_memory(needed: Mapping[str, int], device: torch.device) -> None:
    """Refuse options that need more memory than there is.

    Args:
        needed: bytes, at least so many, by what to lower: "`batch_size` or `size_px`".
        device: where they are needed.

    Raises:
        ValueError: the sum of them is too large.
    """
    total, available = sum(needed.values()), available_memory(device)
    if available is not None and total > available:
        options = max(needed, key=lambda name: needed[name])
        raise ValueError(
            f"A run with these options needs at least {total / 2**30:,.1f} GiB of memory on "
            f"{device}, but {available / 2**30:,.1f} GiB are available. Lower {options}."
        )


@contextmanager
def defer_interrupt() -> Iterator[None]:
    """Hold back a Ctrl-C (or a notebook's interrupt) until the end of the block."""
    plain = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not plain or threading.current_thread() is not threading.main_thread():
        yield
        return
    signals: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: signals.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signals:
        raise KeyboardInterrupt
