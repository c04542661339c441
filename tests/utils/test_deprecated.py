"""Module names of version 0.1: every form of import, one warning, the same objects."""

import importlib
import subprocess
import sys
import warnings

import pytest

from geossl.utils import deprecated

A_NAME_OF = {  # something public in each old module that has kept its name
    "augment": "moco_v2", "check": "doctor", "chips": "ChipStore", "config": "PretrainConfig",
    "demo": "METHODS", "description": "describe", "detect": "DetectConfig",
    "distributed": "all_gather", "embedding": "embed", "explore": "ClusterExplorer",
    "fetching": "fetch", "harvesting": "harvest", "layers": "split_batchnorm",
    "lessons": "checking", "maps": "map_scenes", "metrics": "accuracy", "plots": "plot_losses",
    "plots_detect": "plot_detections", "plots_probe": "plot_confusion",
    "plots_segment": "plot_segmentation", "pretraining": "pretrain", "probe": "linear",
    "projection": "project", "rates": "Throughput", "readers": "blue_marble",
    "report": "write_page", "scenes": "split_by_blocks", "segment": "SegmentConfig",
    "streams": "batches", "transfer": "classification", "weights": "load", "world": "on_land",
    "world_tasks": "islands",
}  # fmt: skip


@pytest.fixture(autouse=True)
def forget_old_names():
    """Forget what was imported by an old name before, and in, a test."""
    forget()
    yield
    forget()


def forget():
    for name in [module for module in sys.modules if is_old(module)]:
        del sys.modules[name]
    for name in deprecated.MODULES:
        vars(importlib.import_module("geossl")).pop(name, None)


def is_old(module):
    package, _, rest = module.partition(".")
    return package == "geossl" and rest.partition(".")[0] in deprecated.MODULES


def run(code):
    """Run a line of a user's code; return its variables and the warnings."""
    scope = {"__name__": "a_user"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile(code, "user.py", "exec"), scope)
    return scope, caught


@pytest.mark.parametrize("old", deprecated.MODULES)
@pytest.mark.parametrize(
    "code",
    [
        "import geossl.{old} as module; thing = module.{name}",
        "from geossl.{old} import {name} as thing",
        "import geossl; thing = geossl.{old}.{name}",
        "from geossl import {old}; thing = {old}.{name}",
    ],
)
def test_every_form_of_import_gives_the_same_object_and_one_warning(old, code):
    new, name = deprecated.MODULES[old], A_NAME_OF[old]
    importlib.import_module("geossl_lessons.checking")
    wanted = getattr(importlib.import_module(new), name)
    line = code.format(old=old, name=name)
    scope, caught = run(f"{line}\n{line}")
    assert scope["thing"] is wanted
    caught = [w for w in caught if w.category is DeprecationWarning]
    assert [str(w.message) for w in caught] == [
        f"`geossl.{old}` is now `{new}`; the old name goes in version 0.3."
    ]
    assert (caught[0].filename, caught[0].lineno) == ("user.py", 1)


def test_the_new_module_stays_as_it_was():
    new = importlib.import_module("geossl.datasets")
    before = (new.__name__, new.__spec__, new.__loader__, new.__path__)
    scope, _ = run("import geossl.readers as module")
    assert scope["module"] is new
    assert (new.__name__, new.__spec__, new.__loader__, new.__path__) == before


def test_submodules_are_those_of_the_new_package(monkeypatch):
    package = importlib.import_module("geossl.datasets")
    monkeypatch.setattr(package, "fmow", package.fmow)  # the import writes the module over it
    scope, caught = run("import geossl.readers.fmow, sys; m = sys.modules['geossl.readers.fmow']")
    assert scope["m"] is importlib.import_module("geossl.datasets.fmow")
    assert len(caught) == 1
    with pytest.raises(ModuleNotFoundError, match="geossl.datasets.no_such_module"):
        run("import geossl.readers.no_such_module")


@pytest.mark.slow
def test_other_names_are_unknown_and_new_ones_do_not_warn():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("geossl.no_such_module")
    with pytest.raises(AttributeError, match="no_such_module"):
        run("import geossl; geossl.no_such_module")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import geossl; geossl.datasets, geossl.evaluate"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_module_that_the_library_had_is_named():
    assert set(A_NAME_OF) == set(deprecated.MODULES)
