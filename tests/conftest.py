"""What holds for all tests."""

import os

import pytest


@pytest.fixture(scope="module", autouse=True)
def environment_of_the_next_module_is_untouched():
    """A Dask cluster, for one, leaves OMP_NUM_THREADS behind: programs started later differ."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)
