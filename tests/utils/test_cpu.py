"""Freed memory stays inside, and goes back at the end; only with glibc."""

import os
import resource
import subprocess
import sys

import pytest
import torch

from geossl.utils import cpu

BIG = 4_000_000  # numbers, 16 MB
glibc = pytest.mark.skipif(cpu._glibc() is None, reason="no glibc whose malloc is ours to set")


def faults_of(work):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def fewest_faults(work):
    """Of some times, for a busy system takes pages back when it likes."""
    return min(faults_of(work) for _ in range(5))


def held_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def a_step():
    pieces = [torch.ones(BIG) for _ in range(8)]
    return sum(float(piece[0]) for piece in pieces)


@glibc
def test_a_step_takes_the_memory_of_the_one_before():
    with cpu.kept():
        for _ in range(3):
            a_step()
        assert fewest_faults(a_step) < 3_000  # anew they are 31,250 pages
        with cpu.kept():
            pass
        assert fewest_faults(a_step) < 3_000  # an inner one ends nothing


@glibc
def test_at_the_end_it_goes_back_after_an_error_too():
    before = held_mb()
    with pytest.raises(ZeroDivisionError), cpu.kept():
        a_step()
        assert held_mb() > before + 100
        raise ZeroDivisionError
    assert held_mb() < before + 40
    assert cpu._depth == 0


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_who_sets_malloc_by_the_environment_is_left_alone(monkeypatch, name):
    monkeypatch.setenv(name, "2" if name.startswith("MALLOC") else "glibc.malloc.arena_max=2")
    assert cpu._glibc() is None
    with cpu.kept():
        assert cpu._depth == 0


def test_other_systems_do_without(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with cpu.kept():
        assert cpu._depth == 0


@glibc
def test_training_keeps_it_and_gives_it_back(tmp_path):
    script = """
import geossl
from geossl import memory, readers
store = geossl.ChipStore.build(
    {path!r}, readers.blue_marble(places=256, dates=2), size_px=16, progress=False
)
config = geossl.PretrainConfig(epochs=2, knn_every=0, queue_size=64, batch=64)
run = geossl.pretrain(store, pairs=geossl.pairs.temporal(), config=config)
depths = [memory._depth for _ in run]
assert set(depths) == {{1}}, depths
assert memory._depth == 0
""".format(path=str(tmp_path / "chips"))
    subprocess.run([sys.executable, "-c", script], check=True)
