"""Many small tasks worked off at once: by threads, or by a Dask cluster past one machine."""

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

Task = TypeVar("Task")
Result = TypeVar("Result")
Made = Generator[tuple[Task, Result], None, None]

_CONNECT_S = 5
_NO_SCHEDULER = (OSError, ValueError, TypeError, LookupError, MemoryError, struct.error)
_LET_THE_PARENT_STOP = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
_AHEAD = 32  # tasks sent to a cluster beyond two a thread, so that one that grows has work


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    num_workers: int | None = None,
    dask: str | None = None,
) -> Made[Task, Result]:
    """Call ``function`` on every task, many at a time; yields as they finish, in any order.

    Tasks are taken from ``tasks`` only when there is room, so it may be endless or lazy. The first
    error of a task is raised here; then, and when the generator is closed, those that have not
    started are given up. By threads, those that have started are waited for.

    On a cluster a task whose worker dies runs again elsewhere, also when it was half done or
    done: ``function`` must give the same when it is repeated. Function and task are pickled, so
    keep them small, and geossl of the same version must be installed there. Give ``dask`` only
    addresses of clusters you trust. A script that says "local" needs the usual
    ``if __name__ == "__main__":``, for the processes import it.

    Args:
        function: called with one task.
        tasks: what to work off.
        num_workers: tasks at a time. None: all cores, or what the cluster has.
        dask: None for threads; the address of a Dask scheduler such as "tcp://host:8786"; "local"
            or "local:3" for a cluster of so many processes on this machine while it lasts.

    Yields:
        (task, result) of each.

    Raises:
        ValueError: ``num_workers`` < 1, or ``dask`` is none of these.
        ImportError: ``dask`` without the package distributed.
        ConnectionError: no scheduler answers at the address, or it is lost on the way.
        ChildProcessError: one task made several workers die.
    """
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"expected workers >= 1, came {num_workers}")
    if dask is not None:
        yield from _by_dask(function, iter(tasks), num_workers, dask)
        return
    n = num_workers or os.cpu_count() or 1
    with ThreadPoolExecutor(n, thread_name_prefix="geossl") as pool:
        try:
            yield from _loop(
                lambda task: pool.submit(function, task), wait, lambda: n + 1, iter(tasks)
            )
        finally:
            pool.shutdown(cancel_futures=True)


def _loop(
    submit: Callable[[Task], Any], wait: Any, room: Callable[[], int], tasks: Iterator[Task]
) -> Made[Task, Any]:
    """Keep ``room()`` tasks under way; the futures of threads and of Dask are alike in this."""
    running = {submit(task): task for task in islice(tasks, room())}
    while running:
        done = wait(list(running), return_when="FIRST_COMPLETED").done
        finished = [(running.pop(job), job) for job in done]
        failed = [job for _, job in finished if job.exception() is not None]
        if not failed:
            running |= {submit(task): task for task in islice(tasks, max(0, room() - len(running)))}
        for task, job in finished:
            if job not in failed:
                yield task, job.result()
        if failed:
            failed[0].result()


def _by_dask(
    function: Callable[[Task], Result], tasks: Iterator[Task], num_workers: int | None, dask: str
) -> Made[Task, Result]:
    with _client(dask, num_workers) as client:
        import distributed

        def wait(jobs: list[Any], return_when: str) -> Any:
            with client.as_current():
                return distributed.wait(jobs, return_when=return_when)

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
                f"a task made {error.allowed_failures + 1} workers of the Dask cluster {dask} die, "
                "most likely for want of memory; look into the workers' logs"
            ) from error
        except RuntimeError as error:  # so Dask says that a worker cannot unpickle a task
            if not isinstance(error.__cause__, ImportError):
                raise
            raise ImportError(
                f"the workers of the Dask cluster {dask} lack what the work needs "
                f"({error.__cause__}); install the same geossl there as here"
            ) from error
        except CancelledError as error:
            raise ConnectionError(
                f"the Dask scheduler {dask} was lost, or somebody took the "
                "work off it; start it and give the same command again"
            ) from error


@contextmanager
def _client(dask: str, num_workers: int | None) -> Iterator[Any]:
    """A client of the cluster; a local cluster ends with it."""
    local = re.fullmatch(r"local(?::([1-9][0-9]{0,3}))?", dask)
    if not local and not re.fullmatch(r"[a-z]+://\S+", dask):
        raise ValueError(
            "expected for dask the address of a scheduler such as tcp://host:8786, or local, or "
            f"local:3 for three processes, came {dask!r}"
        )
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ImportError(
            f"dask={dask!r} needs the package distributed ({error}); "
            "pip install 'geossl[dask]', or leave dask out to work on this machine alone"
        ) from None
    if local:
        n = int(local[1] or num_workers or os.cpu_count() or 1)
        with (
            _environment_left_alone(),
            LocalCluster(
                n_workers=n,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address=None,
                scheduler_kwargs={
                    "dashboard_address": "127.0.0.1:0"
                },  # else a second warns of 8787
                preload=_LET_THE_PARENT_STOP,
            ) as cluster,
        ):
            with Client(cluster, set_as_default=False) as client:
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
            f"no Dask scheduler answers at {dask} ({reason}); start one with `dask scheduler` and "
            "workers with `dask worker`, or leave dask out to work on this machine alone"
        ) from None
    with client:
        if not client.nthreads():
            warnings.warn(
                f"the Dask cluster {dask} has no worker yet; the work starts when one joins",
                stacklevel=2,
            )
        yield client


@contextmanager
def _environment_left_alone() -> Iterator[None]:
    """Dask sets OMP_NUM_THREADS and the like for its workers in this process, and leaves them."""
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


Item = TypeVar("Item")
Result = TypeVar("Result")


def map_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """``function`` of each item, in order, by threads that wait for the disk together."""
    parts = [items[i : i + 64] for i in range(0, len(items), 64)]
    with ThreadPoolExecutor(thread_name_prefix="geossl-tiles") as pool:
        done = pool.map(lambda part: [function(item) for item in part], parts)
        return list(chain.from_iterable(done))
