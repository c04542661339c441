"""Is this machine ready? Ten findings, each with what to do where the answer is no."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

_GB = 1024**3
_TRAINING_S = 5.0


@dataclass(frozen=True)
class Finding:
    """One line of the check.

    Attributes:
        ok: False where something a user needs is missing.
        what: what was looked at.
        said: what was found, or what to do.
    """

    ok: bool
    what: str
    said: str

    def __str__(self) -> str:
        return f"{'ok' if self.ok else '!!':3} {self.what:12} {self.said}"


def run() -> list[Finding]:
    """Look at this machine; takes about ten seconds and needs no network."""
    looks: list[tuple[str, Callable[[], str]]] = [
        ("python", _python),
        ("packages", _packages),
        ("device", _device),
        ("disk", _disk),
        ("imagery", _imagery),
        ("labels", _labels),
        ("GeoTIFF", _geotiff),
        ("training", _training),
        ("map", _map),
        ("widgets", _widgets),
    ]
    return [_look(what, look) for what, look in looks]


def _look(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(True, what, look())
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return Finding(False, what, str(error))


def _python() -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _packages() -> str:
    missing, found = [], []
    for line in importlib.metadata.requires("geossl") or []:
        name = line.split(";")[0].split(">")[0].strip()
        extra = re.search(r"extra == ['\"](\w+)['\"]", line)
        if extra and extra[1] not in ("data", "notebooks"):
            continue
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if name in ("torch", "torchvision", "pandas", "folium"):
            found.append(f"{name} {version}")
    if missing:
        raise ImportError(
            f"missing: {', '.join(missing)}; run: pip install 'geossl[data,notebooks]'"
        )
    return ", ".join(found)


def _device() -> str:
    from geossl.utils.device import select_device, select_precision

    device = select_device("auto")
    name = f"{torch.get_num_threads()} threads"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return f"{device.type} ({name}), trains in {select_precision('auto', device)}"


def _disk() -> str:
    free = shutil.disk_usage(".").free / _GB
    if free < 1:
        raise OSError(f"{free:.1f} GB free in this folder, the demo needs 1; make room")
    return f"{free:.0f} GB free in this folder"


def _imagery() -> str:
    from geossl import datasets

    table = datasets.blue_marble(places=200, dates=2)
    return f"Blue Marble found, {table['location'].nunique()} places drawn; no download needed"


def _labels() -> str:
    from geossl import datasets

    return (
        f"Koeppen zones found: {', '.join(sorted(set(datasets.blue_marble(places=200)['label'])))}"
    )


def _geotiff() -> str:
    if importlib.util.find_spec("rasterio") is None:
        raise ImportError("rasterio is missing, GeoTIFFs cannot be read; pip install rasterio")
    import rasterio

    return f"rasterio {rasterio.__version__} with GDAL {rasterio.__gdal_version__}"


def _training() -> str:
    from geossl import models
    from geossl.train import throughput
    from geossl.utils.device import select_device, select_precision

    device = select_device("auto")
    fast = select_precision("auto", device) == "bf16"
    rate = throughput.measure_throughput(
        models.build_encoder("small"), size_px=32, batch_size=128, device=device, bf16=fast,
        channels_last=fast, seconds=_TRAINING_S, repeats=1,
    ).value  # fmt: skip
    demo_min = 3 * 8 * 14_000 / rate / 60 + 1
    return f"{rate:.0f} pairs/s in {_TRAINING_S:.0f} s; geossl demo takes about {demo_min:.0f} min"


def _map() -> str:
    from geossl import datasets
    from geossl.viz import maps

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.html"
        maps.map_scenes(datasets.blue_marble(places=200, dates=1)).save(str(path))
        size = path.stat().st_size / 1e6
    return f"written without a network, {size:.1f} MB"


def _widgets() -> str:
    for name in ("jupyterlab", "ipywidgets", "anywidget"):
        if importlib.util.find_spec(name) is None:
            raise ImportError(f"{name} is missing; run: pip install 'geossl[notebooks]'")
    folder = Path(sys.prefix) / "share" / "jupyter" / "labextensions"
    wanted = ("@jupyter-widgets/jupyterlab-manager", "anywidget")
    absent = [name for name in wanted if not (folder / name).is_dir()]
    if absent:
        raise RuntimeError(
            f"JupyterLab lacks the extension {absent[0]}; "
            "run: pip install --force-reinstall jupyterlab_widgets anywidget"
        )
    versions = [f"{n} {importlib.metadata.version(n)}" for n in ("jupyterlab", "ipywidgets")]
    return ", ".join(versions) + ", extensions in place"
