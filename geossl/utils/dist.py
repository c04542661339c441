"""Many devices: which rank this is, what its share is, what ranks tell each other and a GPU.

``torchrun`` starts one process a device. In a process alone everything here gives back what it was
given. All ranks call the same functions in the same order; gloo carries CPU tensors, NCCL those of
GPUs.
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
from torch import Tensor, nn

T = TypeVar("T")
_GROUPS: dict[int, Any] = {}  # by the number of ranks in each: the one that this rank is in


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def _launched() -> bool:
    return dist.is_available() and (dist.is_initialized() or dist.is_torchelastic_launched())


def world_size() -> int:
    """How many processes train together; 1 without torchrun."""
    if _joined():
        return dist.get_world_size()
    return int(os.environ.get("WORLD_SIZE", 1)) if _launched() else 1


def rank() -> int:
    """Which of them this is; rank 0 writes and speaks."""
    if _joined():
        return dist.get_rank()
    return int(os.environ.get("RANK", 0)) if _launched() else 0


def local_rank() -> int:
    """Which of this machine's this is, and so the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0)) if _launched() else 0


def local_world_size() -> int:
    """How many there are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if _launched() else 1


def init_process_group(device: torch.device) -> None:
    """Join the other processes that torchrun started, once; nothing to do in a process alone.

    Raises:
        ValueError: the caller's own process group carries no CPU tensors.
        ConnectionError: the others cannot be reached.
    """
    if world_size() == 1:
        return
    if not _joined():
        backend = "gloo"
        if device.type == "cuda":
            torch.cuda.set_device(device)
            backend = "cpu:gloo,cuda:nccl"
        with _told():
            dist.init_process_group(backend)
        atexit.register(dist.destroy_process_group)
    elif "gloo" not in str(dist.get_backend_config()):
        raise ValueError(
            f"expected a process group with gloo for the CPU, came {dist.get_backend_config()}; "
            "use init_process_group('cpu:gloo,cuda:nccl'), or leave it to geossl"
        )


def check_batch_divides(batch_size: int, splits: int) -> None:
    """Refuse a batch, or its parts for BatchNorm, that the ranks cannot share evenly.

    Raises:
        ValueError: every rank raises it alike.
    """
    if batch_size % world_size():
        raise ValueError(
            f"expected a batch that {world_size()} processes share evenly, came {batch_size}; give one "
            f"of {-(-batch_size // world_size()) * world_size()}, or another number of processes"
        )
    if world_size() > 1 and (
        splits % world_size() and world_size() % splits or batch_size % splits
    ):
        raise ValueError(
            f"expected bn_splits that {world_size()} processes and a batch of {batch_size} share "
            f"evenly, came {splits}; give bn_splits={world_size()}, or another number of processes"
        )


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; to a GPU it goes through pinned memory, so that nobody waits for it."""
    if device.type == "cuda" and x.device.type == "cpu":
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


def local_slice(count: int) -> slice:
    """This rank's rows of ``count``; the shares lie in the order of the ranks."""
    size = -(-count // world_size())
    return slice(min(rank() * size, count), min((rank() + 1) * size, count))


@torch.no_grad()
def all_gather(mine: Tensor, count: int) -> Tensor:
    """All ``(count, ...)`` rows on every rank, from the `local_slice` of each; no gradient flows."""
    if world_size() == 1 or count == 0:
        return mine
    size = -(-count // world_size())
    if len(mine) < size:
        mine = torch.cat([mine, mine.new_zeros(size - len(mine), *mine.shape[1:])])
    whole = mine.new_empty(size * world_size(), *mine.shape[1:])
    with _told():
        dist.all_gather(list(whole.split(size)), mine.contiguous())
    return whole[:count]


@torch.no_grad()
def broadcast_shards(whole: Tensor) -> None:
    """Bring each rank's `local_slice` of the rows of ``whole`` to all others, in place."""
    if world_size() == 1 or len(whole) == 0:
        return
    with _told():
        for source, part in enumerate(whole.split(-(-len(whole) // world_size()))):
            dist.broadcast(part.view(torch.uint8), source)  # NCCL knows no 16-bit integers


@torch.no_grad()
def all_reduce_mean(tensors: list[Tensor]) -> None:
    """Put the mean over all ranks in place of each float tensor; they travel as one."""
    if world_size() == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    with _told():
        dist.all_reduce(flat)
    parts = flat.div_(world_size()).split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [p.view_as(t) for p, t in zip(parts, tensors, strict=True)])


class _Neighbors(torch.autograd.Function):
    """``(R, ...)`` of the R ranks of a group, with gradient."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, size: int) -> Tensor:
        """Gather."""
        ctx.size = size
        whole = mine.new_empty(size, *mine.shape)
        with _told():
            dist.all_gather(list(whole), mine.contiguous(), group=_GROUPS[size])
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Each rank's loss depends on the statistics of all: their gradients add up."""
        total = gradients[0].contiguous()
        with _told():
            dist.all_reduce(total, group=_GROUPS[ctx.size])
        return total[rank() % ctx.size], None


def neighbors(mine: Tensor, size: int) -> Tensor:
    """``(size, ...)`` of the ``size`` ranks beside each other that this rank is one of.

    Gradients of all their losses flow back.
    """
    return _Neighbors.apply(mine, size)


def group_up(size: int) -> None:
    """Make groups of ``size`` ranks beside each other, before `neighbors` are asked for."""
    if size not in _GROUPS:
        _GROUPS[size] = dist.group.WORLD if size == world_size() else dist.new_subgroups(size)[0]


def run_on_rank_zero(work: Callable[[], T]) -> T:
    """What rank 0's ``work()`` gives, on every rank; so do the errors that a person can cause."""
    if world_size() == 1:
        return work()
    found: list[Any] = [None, None]
    if rank() == 0:
        try:
            found[0] = work()
        except (ValueError, OSError) as error:
            found[1] = error
    with _told():
        dist.broadcast_object_list(found)
    if found[1] is not None:
        raise found[1]
    return found[0]


def gather_objects(mine: T) -> list[T]:
    """A small object of every rank, in their order."""
    if world_size() == 1:
        return [mine]
    found: list[Any] = [None] * world_size()
    with _told():
        dist.all_gather_object(found, mine)
    return found


class RunningStatistics:
    """BatchNorm's running statistics on many processes, as one process has them.

    One process takes the parts of a batch in turn, and each decays what those before it left. A
    running statistic is a linear recursion: those of the processes, each weighted by the decay of
    the parts that follow its own, add up to the whole one.

    Args:
        module: holds the BatchNorms, all of one momentum.
        splits: parts of the whole batch.
    """

    def __init__(self, module: nn.Module, splits: int):
        norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
        self._live = [b for m in norms for b in (m.running_mean, m.running_var) if b is not None]
        keep = 1 - (norms[0].momentum or 0.0) if norms else 1.0
        own = max(1, splits // world_size())
        self._own, self._whole = keep**own, keep**splits
        after = splits - rank() * splits // world_size() - own  # parts that follow this process's
        self._weight = keep**after * min(world_size(), splits)

    @torch.no_grad()
    def begin(self) -> None:
        """Before a step."""
        self._old = [buffer.clone() for buffer in self._live]
        self._sum = [buffer.clone() for buffer in self._live]

    @torch.no_grad()
    def add(self) -> None:
        """After a batch passed."""
        torch._foreach_mul_(self._sum, self._whole)
        torch._foreach_add_(self._sum, self._live, alpha=self._weight)
        torch._foreach_sub_(self._sum, self._old, alpha=self._weight * self._own)
        torch._foreach_copy_(self._old, self._live)

    @torch.no_grad()
    def average(self, gradients: list[Tensor]) -> None:
        """After a step: the mean over all processes, of gradients too; they travel as one."""
        all_reduce_mean([*gradients, *self._sum])
        torch._foreach_copy_(self._live, self._sum)


@contextmanager
def stop_together() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C or SIGTERM on any rank stop all of them after the same step.

    Yields:
        A function to be called after each step: whether to stop. What it says lags by one step,
        so that nobody waits for it. In a process alone it says no, and signals are left alone.
    """
    if world_size() == 1:
        yield lambda: False
        return
    came: list[int] = []
    waiting: list[tuple[Any, Tensor]] = []

    def answer() -> bool:
        if not waiting:
            return False
        work, flag = waiting.pop()
        with _told():
            work.wait()
        return bool(flag)

    def asked() -> bool:
        stop = answer()
        flag = torch.tensor([len(came)])
        with _told():
            waiting.append((dist.all_reduce(flag, async_op=True), flag))
        return stop

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield asked
        answer()
    except KeyboardInterrupt:
        answer()
        gather_objects(
            None
        )  # rank 0 may still be writing, and torchrun ends all when the first one leaves
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _told() -> Iterator[None]:
    """Failed communication in one sentence."""
    try:
        yield
    except RuntimeError as error:
        atexit.unregister(dist.destroy_process_group)  # it may wait for those who are gone
        raise ConnectionError(
            f"rank {rank()} of {world_size()} lost touch with another rank, which has died or was "
            f"stopped ({str(error).splitlines()[0]:.120}); start the same line again, with any "
            "number of processes, to go on from the last checkpoint"
        ) from error
