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
