"""Run many small tasks at once, in threads or on a Dask cluster of several machines."""

from __future__ import annotations

import asyncio
import os
import re
import struct
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from typing import Any, TypeVar

from geossl.utils.validate import PositiveInt, validated

__all__ = ["map_threads", "run_tasks"]

Task = TypeVar("Task")
Result = TypeVar("Result")
Pairs = Generator[tuple[Task, Result], None, None]

_CONNECT_S = 5
_NO_SCHEDULER = (OSError, ValueError, TypeError, LookupError, MemoryError, struct.error)
_IGNORE_INTERRUPT = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"  # parent stops it
_AHEAD = 32  # tasks sent to a cluster beyond two a thread, so that one that grows has work
_ITEMS_AT_ONCE = 64


@validated
def run_tasks(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    num_workers: PositiveInt | None = None,
    dask: str | None = None,
) -> Pairs[Task, Result]:
    """Call ``function`` on every task, many at a time, and yield results as they finish.

    Tasks are taken from ``tasks`` only when there is room, so it may be endless or lazy. The first
    error of a task is raised here; then, and when the generator is closed, tasks that have not
    started are dropped. Threads finish those that have started.

    On a cluster a task whose worker dies runs again elsewhere, also when it was done: ``function``
    must give the same when it is repeated. Function and task are pickled, so keep them small, and
    the same geossl must be installed there. Use only addresses of clusters you trust. A script with
    "local" needs the usual ``if __name__ == "__main__":``, for the processes import it.

    Args:
        function: called with one task.
        tasks: arguments of the function.
        num_workers: tasks at a time; None for all cores, or the whole cluster.
        dask: None for threads; the address of a Dask scheduler such as "tcp://host:8786"; "local"
            or "local:3" for a temporary cluster of so many processes on this machine.

    Yields:
        (task, result) of each.

    Raises:
        ValueError: ``num_workers`` < 1, or ``dask`` is none of these.
        ImportError: ``dask`` without the package distributed.
        ConnectionError: no scheduler answers at the address, or it is lost on the way.
        ChildProcessError: one task killed several workers.
    """
    if dask is not None:
        return _run_on_dask(function, iter(tasks), num_workers, dask)
    return _run_in_threads(function, iter(tasks), num_workers or os.cpu_count() or 1)


@validated
def map_threads(function: Callable[[Task], Result], items: Sequence[Task]) -> list[Result]:
    """Return ``function`` of each item, in order, from threads that wait for the disk together."""
    parts = [items[i : i + _ITEMS_AT_ONCE] for i in range(0, len(items), _ITEMS_AT_ONCE)]
    with ThreadPoolExecutor(thread_name_prefix="geossl-map") as pool:
        results = pool.map(lambda part: [function(item) for item in part], parts)
        return list(chain.from_iterable(results))


def _run_in_threads(
    function: Callable[[Task], Result], tasks: Iterator[Task], num_workers: int
) -> Pairs[Task, Result]:
    with ThreadPoolExecutor(num_workers, thread_name_prefix="geossl") as pool:
        try:
            yield from _loop(
                lambda task: pool.submit(function, task), wait, lambda: num_workers + 1, tasks
            )
        finally:
            pool.shutdown(cancel_futures=True)


def _loop(
    submit: Callable[[Task], Any], wait: Any, room: Callable[[], int], tasks: Iterator[Task]
) -> Pairs[Task, Any]:
    """Keep ``room()`` tasks running; the futures of threads and of Dask are alike in this."""
    running = {submit(task): task for task in islice(tasks, room())}
    while running:
        done = wait(list(running), return_when="FIRST_COMPLETED").done
        finished = [(running.pop(future), future) for future in done]
        failed = [future for _, future in finished if future.exception() is not None]
        if not failed:
            running |= {submit(task): task for task in islice(tasks, max(0, room() - len(running)))}
        for task, future in finished:
            if future not in failed:
                yield task, future.result()
        if failed:
            failed[0].result()


def _run_on_dask(
    function: Callable[[Task], Result], tasks: Iterator[Task], num_workers: int | None, dask: str
) -> Pairs[Task, Result]:
    with _client(dask, num_workers) as client:
        import distributed

        def wait(futures: list[Any], return_when: str) -> Any:
            with client.as_current():
                return distributed.wait(futures, return_when=return_when)

        def submit(task: Task) -> Any:  # partial: Dask looks into arguments, not into functions
            return client.submit(partial(function, task), pure=False)

        def room() -> int:
            try:
                return num_workers or _AHEAD + 2 * sum(client.nthreads().values())
            except OSError as error:
                raise CancelledError from error

        try:
            yield from _loop(submit, wait, room, tasks)
        except distributed.KilledWorker as error:
            raise ChildProcessError(
                f"A task killed {error.allowed_failures + 1} workers of the Dask cluster {dask}, "
                "most likely for lack of memory. Look into the workers' logs."
            ) from error
        except RuntimeError as error:  # so Dask says that a worker cannot unpickle a task
            if not isinstance(error.__cause__, ImportError):
                raise
            raise ImportError(
                f"The workers of the Dask cluster {dask} lack a package ({error.__cause__}). "
                "Install the same geossl there as here."
            ) from error
        except CancelledError as error:
            raise ConnectionError(
                f"The Dask scheduler {dask} is lost, or somebody canceled its tasks. Start it and "
                "run the same command again."
            ) from error


@contextmanager
def _client(dask: str, num_workers: int | None) -> Iterator[Any]:
    """Yield a client of the cluster; a local cluster ends with it."""
    local = re.fullmatch(r"local(?::([1-9][0-9]{0,3}))?", dask)
    if not local and not re.fullmatch(r"[a-z]+://\S+", dask):
        raise ValueError(
            "`dask` must be the address of a scheduler such as tcp://host:8786, or local, or "
            f"local:3 for three processes, got {dask!r}."
        )
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ImportError(
            f"`dask` needs the package distributed ({error}). Run: pip install 'geossl[dask]', or "
            "leave `dask` out to use this machine alone."
        ) from None
    if local:
        cluster = partial(
            LocalCluster,
            n_workers=int(local[1] or num_workers or os.cpu_count() or 1),
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # else a second warns of 8787
            preload=_IGNORE_INTERRUPT,
        )
        with _unchanged_environment(), cluster() as local_cluster:
            with Client(local_cluster, set_as_default=False) as client:
                yield client
        return
    try:
        with ThreadPoolExecutor(1) as thread:  # a notebook has a running loop in its own
            thread.submit(asyncio.run, _greet(dask)).result()
        client = Client(dask, timeout=_CONNECT_S, set_as_default=False)
    except _NO_SCHEDULER as error:
        known = isinstance(error, OSError | ValueError) and str(error)
        reason = str(error).splitlines()[0] if known else "another kind of server, or a hung one"
        raise ConnectionError(
            f"No Dask scheduler answers at {dask} ({reason}). Start one with `dask scheduler` and "
            "workers with `dask worker`, or leave `dask` out to use this machine alone."
        ) from None
    with client:
        if not client.nthreads():
            message = f"The Dask cluster {dask} has no worker yet; work starts when one joins."
            warnings.warn(message, stacklevel=2)
        yield client


@contextmanager
def _unchanged_environment() -> Iterator[None]:
    """Undo what Dask sets in this process for its workers, such as OMP_NUM_THREADS."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


async def _greet(address: str) -> None:
    """Connect once: Dask's client would wait without end for a server of another kind."""
    from distributed.comm import connect
    from distributed.security import Security

    arguments = Security().get_connection_args("client")
    comm = await asyncio.wait_for(connect(address, timeout=_CONNECT_S, **arguments), _CONNECT_S + 1)
    comm.abort()
