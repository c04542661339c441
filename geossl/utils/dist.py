"""Train on many devices: ranks, shares of a batch, and what the ranks send each other.

``torchrun`` starts one process a device. In a process alone every function returns its input. All
ranks call the same functions in the same order; gloo carries CPU tensors, NCCL those of GPUs.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def _is_initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


def _is_launched() -> bool:
    return dist.is_available() and (dist.is_initialized() or dist.is_torchelastic_launched())


def world_size() -> int:
    """Return how many processes train together; 1 without torchrun."""
    if _is_initialized():
        return dist.get_world_size()
    return int(os.environ.get("WORLD_SIZE", 1)) if _is_launched() else 1


def rank() -> int:
    """Return the number of this process; rank 0 writes files and prints."""
    if _is_initialized():
        return dist.get_rank()
    return int(os.environ.get("RANK", 0)) if _is_launched() else 0


def local_rank() -> int:
    """Return the number of this process on its machine, which is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0)) if _is_launched() else 0


def local_world_size() -> int:
    """Return how many processes run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if _is_launched() else 1


def init_process_group(device: torch.device) -> None:
    """Join the other processes that torchrun started, once.

    Raises:
        ValueError: the caller's own process group carries no CPU tensors.
        ConnectionError: the others cannot be reached.
    """
    if world_size() == 1:
        return
    if not _is_initialized():
        backend = "gloo"
        if device.type == "cuda":
            torch.cuda.set_device(device)
            backend = "cpu:gloo,cuda:nccl"
        with _connection_errors():
            dist.init_process_group(backend)
        atexit.register(dist.destroy_process_group)
    elif "gloo" not in str(dist.get_backend_config()):
        raise ValueError(
            f"The process group needs gloo for CPU tensors, got {dist.get_backend_config()}. Use "
            "init_process_group('cpu:gloo,cuda:nccl'), or leave it to geossl."
        )


def check_batch_divides(batch_size: int, bn_splits: int) -> None:
    """Check that the ranks can share a batch, and its parts for BatchNorm, evenly.

    Raises:
        ValueError: they cannot; every rank raises it alike.
    """
    processes = world_size()
    if batch_size % processes:
        raise ValueError(
            f"`batch_size` must be a multiple of the {processes} processes, got {batch_size}. Use "
            f"{-(-batch_size // processes) * processes}, or another number of processes."
        )
    uneven = bn_splits % processes and processes % bn_splits
    if processes > 1 and (uneven or batch_size % bn_splits):
        raise ValueError(
            f"`bn_splits` must divide the batch of {batch_size} and fit {processes} processes, got "
            f"{bn_splits}. Use bn_splits={processes}, or another number of processes."
        )


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; to a GPU through pinned memory, so that the host does not wait."""
    if device.type == "cuda" and x.device.type == "cpu":
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


def local_slice(count: int) -> slice:
    """Return this rank's rows of ``count``; the shares are in the order of the ranks."""
    size = -(-count // world_size())
    return slice(min(rank() * size, count), min((rank() + 1) * size, count))


@torch.no_grad()
def all_gather(mine: Tensor, count: int) -> Tensor:
    """Return all ``(count, ...)`` rows on every rank from each one's `local_slice`; no gradient."""
    if world_size() == 1 or count == 0:
        return mine
    size = -(-count // world_size())
    if len(mine) < size:
        mine = torch.cat([mine, mine.new_zeros(size - len(mine), *mine.shape[1:])])
    rows = mine.new_empty(size * world_size(), *mine.shape[1:])
    with _connection_errors():
        dist.all_gather(list(rows.split(size)), mine.contiguous())
    return rows[:count]


@torch.no_grad()
def broadcast_shards(rows: Tensor) -> None:
    """Send each rank's `local_slice` of the rows to all others, in place."""
    if world_size() == 1 or len(rows) == 0:
        return
    with _connection_errors():
        for source, part in enumerate(rows.split(-(-len(rows) // world_size()))):
            dist.broadcast(part.view(torch.uint8), source)  # NCCL knows no 16-bit integers


@torch.no_grad()
def all_reduce_mean(tensors: list[Tensor]) -> None:
    """Replace each float tensor by its mean over all ranks; they travel as one."""
    if world_size() == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    with _connection_errors():
        dist.all_reduce(flat)
    parts = flat.div_(world_size()).split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [p.view_as(t) for p, t in zip(parts, tensors, strict=True)])


def run_on_rank_zero(work: Callable[[], T]) -> T:
    """Return on every rank what ``work()`` returns, or the error it raises, on rank 0."""
    if world_size() == 1:
        return work()
    answer: list[Any] = [None, None]
    if rank() == 0:
        try:
            answer[0] = work()
        except (ValueError, OSError) as error:
            answer[1] = error
    with _connection_errors():
        dist.broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


def gather_objects(mine: T) -> list[T]:
    """Return a small object of every rank, in their order."""
    if world_size() == 1:
        return [mine]
    objects: list[Any] = [None] * world_size()
    with _connection_errors():
        dist.all_gather_object(objects, mine)
    return objects


@contextmanager
def stop_together() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C or SIGTERM on any rank stop all of them after the same step.

    Yields:
        A function to be called after each step, which returns whether to stop. Its answer lags by
        one step, so that nobody waits for it. In a process alone it is always False, and signals
        are left alone.
    """
    if world_size() == 1:
        yield lambda: False
        return
    signals: list[int] = []
    pending: list[tuple[Any, Tensor]] = []

    def answer() -> bool:
        if not pending:
            return False
        work, flag = pending.pop()
        with _connection_errors():
            work.wait()
        return bool(flag)

    def should_stop() -> bool:
        stop = answer()
        flag = torch.tensor([len(signals)])
        with _connection_errors():
            pending.append((dist.all_reduce(flag, async_op=True), flag))
        return stop

    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handlers[number] = signal.signal(number, lambda number, frame: signals.append(number))
    try:
        yield should_stop
        answer()
    except KeyboardInterrupt:
        answer()
        gather_objects(None)  # rank 0 may still write, and torchrun ends all when one leaves
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _connection_errors() -> Iterator[None]:
    """Turn failed communication into a ConnectionError of one sentence."""
    try:
        yield
    except RuntimeError as error:
        atexit.unregister(dist.destroy_process_group)  # it may wait for those who are gone
        raise ConnectionError(
            f"Rank {rank()} of {world_size()} lost touch with another rank, which has died or was "
            f"stopped ({str(error).splitlines()[0]:.120}). Start the same line again, with any "
            "number of processes, to resume from the last checkpoint."
        ) from error
