import itertools
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import Future, wait

import pytest

from geossl.utils import parallel
from geossl.utils.parallel import run_tasks


def doubled(task):
    return task * 2


def described(task):
    return repr(task), os.getpid()


def slow(task):
    time.sleep(0.05)
    return os.getpid()


def wait_until(condition, *, within_s=30):
    """Wait for other threads and processes to fulfill a condition."""
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "the condition stayed false"
        time.sleep(0.02)


def refuse_three(task):
    if task == 3:
        raise ValueError("`task` must not be 3.")
    time.sleep(0.02)
    return task


def kill_once(task):
    marker, number = task
    if number == 5 and not os.path.exists(marker):
        with open(marker, "w"):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def die(task):
    os.kill(os.getpid(), signal.SIGKILL)


def span(task):
    start = time.monotonic()
    time.sleep(0.05)
    return start, time.monotonic()


QUIET = {"dashboard_address": None, "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"}}


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, memory_limit=0, **QUIET
    ) as cluster:
        yield cluster


@pytest.fixture(params=["threads", "cluster"])
def where(request):
    if request.param == "threads":
        return None
    return request.getfixturevalue("cluster").scheduler_address


@pytest.mark.slow
def test_a_local_cluster_leaves_the_environment_alone(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    before = dict(os.environ)
    assert sorted(r for _, r in run_tasks(doubled, range(3), dask="local:1")) == [0, 2, 4]
    assert dict(os.environ) == before


@pytest.mark.parametrize("n", [0, 1, 50])
def test_every_task_is_done_once(where, n):
    assert sorted(run_tasks(doubled, range(n), dask=where)) == [(i, 2 * i) for i in range(n)]


def test_equal_tasks_are_tasks_too(where):
    assert list(run_tasks(doubled, [7] * 9, dask=where)) == [(7, 14)] * 9


def test_what_has_not_started_is_given_up():
    started = []

    def start(task):
        started.append(task)
        time.sleep(0.1)

    work = run_tasks(start, range(9), num_workers=1)
    next(work)
    work.close()
    assert len(started) <= 2


def test_a_task_may_be_anything(where):
    tasks = [(sum, [1, 2]), {"a": (max, 3, 4)}, ["x", ("y",)], "told", None, b"b", ()]
    found = [(task, text) for task, (text, _) in run_tasks(described, tasks, dask=where)]
    assert len(found) == len(tasks)
    assert all(text == repr(task) and task in tasks for task, text in found)


def test_tasks_are_taken_when_there_is_room_and_closing_ends_it(where):
    taken = itertools.count()
    work = run_tasks(slow, (next(taken) for _ in itertools.count()), num_workers=2, dask=where)
    for _ in range(6):
        next(work)
    before = time.monotonic()
    work.close()
    assert time.monotonic() - before < 5
    assert next(taken) <= 6 + 2 * 3
    assert not [t for t in threading.enumerate() if t.name.startswith("geossl")]


def test_the_first_error_ends_it(where):
    taken = itertools.count()
    with pytest.raises(ValueError, match="^`task` must not be 3.$"):
        list(run_tasks(refuse_three, (next(taken) for _ in itertools.count()), dask=where))
    assert next(taken) < 200


def test_what_is_done_beside_an_error_is_not_lost():
    taken, seen = itertools.count(), []

    def done(task):
        future = Future()
        future.set_exception(ValueError("it is 3")) if task == 3 else future.set_result(task)
        return future

    with pytest.raises(ValueError, match="it is 3"):
        for _, result in parallel._loop(
            done, wait, lambda: 6, (next(taken) for _ in itertools.count())
        ):
            seen.append(result)
    assert sorted(seen) == [0, 1, 2, 4, 5] and next(taken) == 6


def test_workers_bounds_how_many_run_at_once(where):
    spans = [s for _, s in run_tasks(span, range(6), num_workers=1, dask=where)]
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(sorted(spans)))
    spans = [s for _, s in run_tasks(span, range(12), num_workers=2, dask=where)]
    assert any(end > start for (_, end), (start, _) in itertools.pairwise(sorted(spans)))


def test_after_a_close_the_cluster_is_free(cluster):
    work = run_tasks(slow, itertools.count(), dask=cluster.scheduler_address)
    next(work)
    wait_until(lambda: len(cluster.scheduler.tasks) > 20)
    work.close()
    wait_until(lambda: not cluster.scheduler.tasks, within_s=5)


def test_a_cluster_works_in_its_own_processes(cluster):
    pids = {pid for _, pid in run_tasks(slow, range(20), dask=cluster.scheduler_address)}
    assert len(pids) == 2 and os.getpid() not in pids


@pytest.mark.slow
def test_a_worker_that_dies_loses_nothing_and_no_process_stays(tmp_path):
    psutil = pytest.importorskip("psutil")
    pytest.importorskip("distributed")
    before = set(psutil.Process().children(recursive=True))
    tasks = [(str(tmp_path / "died"), i) for i in range(40)]
    found = list(run_tasks(kill_once, tasks, dask="local:3"))
    assert sorted(task for task, _ in found) == sorted(tasks)
    assert (tmp_path / "died").exists()
    left = {
        p
        for p in set(psutil.Process().children(recursive=True)) - before
        if "resource_tracker" not in " ".join(p.cmdline())
    }
    assert not left


@pytest.mark.slow
def test_a_task_that_kills_every_worker_is_given_up():
    distributed = pytest.importorskip("distributed")
    import dask

    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        with distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, memory_limit=0, **QUIET
        ) as cluster:
            with pytest.raises(ChildProcessError, match="A task killed 1 workers"):
                list(run_tasks(die, [1], dask=cluster.scheduler_address))


def test_a_cluster_that_is_lost_or_has_no_worker_is_told():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=0, processes=False, protocol="tcp://", **QUIET
    ) as cluster:
        work = run_tasks(doubled, range(9), dask=cluster.scheduler_address)
        with pytest.warns(UserWarning, match="has no worker yet; work starts when one joins"):
            closing = threading.Timer(1, cluster.close)
            closing.start()
            with pytest.raises(ConnectionError, match="is lost, or somebody canceled its tasks"):
                next(work)
        closing.join()


@pytest.mark.parametrize("greeting", [None, b"", b"SSH-2.0-OpenSSH_9.2\r\n", bytes(8)])
def test_an_address_without_a_scheduler_is_one_sentence_within_seconds(monkeypatch, greeting):
    pytest.importorskip("distributed")
    monkeypatch.setattr(parallel, "_CONNECT_S", 0.5)
    kept = []

    def greet(server):
        while True:
            try:
                kept.append(server.accept()[0])
                kept[-1].sendall(greeting)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        if greeting is not None:
            thread = threading.Thread(target=greet, args=(server,))
            thread.start()
        else:
            server.close()
        before = time.monotonic()
        with pytest.raises(ConnectionError, match=f"No Dask scheduler answers at {address} ") as e:
            next(run_tasks(doubled, [1], dask=address))
        assert time.monotonic() - before < 4
        assert "\n" not in str(e.value) and "leave `dask` out" in str(e.value)
        if greeting is not None:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
    for connection in kept:
        connection.close()


@pytest.mark.parametrize(
    "dask", ["", "3", "local:0", "local:", "local:x", "host:8786", "localhost"]
)
def test_what_is_no_address_is_refused(dask):
    with pytest.raises(
        ValueError, match="`dask` must be the address of a scheduler such as .*, got"
    ):
        next(run_tasks(doubled, [1], dask=dask))


def test_without_distributed_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"needs the package distributed .*'geossl\[dask\]'"):
        next(run_tasks(doubled, [1], dask="local:2"))
    assert list(run_tasks(doubled, [1])) == [(1, 2)]


def test_no_workers_is_refused():
    with pytest.raises(ValueError, match="`num_workers` must be > 0, got 0"):
        next(run_tasks(doubled, [1], num_workers=0))
