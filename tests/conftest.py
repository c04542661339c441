"""What holds for all tests."""

import os
import signal
import socket

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call():
    """Skip the rest of a test where it needs what Windows lacks: named pipes, SIGKILL, fork."""
    try:
        return (yield)
    except AttributeError as error:
        if os.name == "posix" or error.obj not in (os, signal, socket):
            raise
        pytest.skip(f"this system has no {error.name}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Deal the long tests to two workers, first of all: what they leave for the end is short."""
    if not hasattr(config, "workerinput"):
        return
    long = [item for item in items if item.path.parent.name in ("browser", "notebooks")]
    short = [item for item in items if item.path.parent.name not in ("browser", "notebooks")]
    half, rest = len(long) // 2, len(items) // 2 - len(long) // 2
    items[:] = long[:half] + short[:rest] + long[half:] + short[rest:]


@pytest.fixture(scope="module", autouse=True)
def environment_of_the_next_module_is_untouched():
    """A Dask cluster, for one, leaves OMP_NUM_THREADS behind: programs started later differ."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def demo_made(tmp_path_factory):
    """The small demo, made once: its folder, its page and what the terminal said."""
    from geossl.cli import demo

    folder, lines = tmp_path_factory.mktemp("with a space"), []
    page = demo.run_demo(
        folder, places=240, epochs=1, seed=0, echo=lambda line: lines.append(str(line))
    )
    return folder, page, lines
