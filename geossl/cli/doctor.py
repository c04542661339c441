"""Check whether this machine is ready, and say what to do where it is not."""

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

from tyro.conf import Positional

from geossl.cli.output import print_line

__all__ = ["Finding", "check_machine", "check_store", "doctor"]

_GB = 1024**3
_TRAINING_S = 5.0


def doctor(store: Positional[str | None] = None) -> None:
    """Check in ten lines whether this machine is ready, and what to do where it is not.

    Args:
        store: chip store or stream to check instead: all of its chips are read.
    """
    checks = check_machine() if store is None else check_store(store)
    for check in checks:
        print_line(check)
    if not all(check.ok for check in checks):
        raise SystemExit(1)


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        ok: False where something that a user needs is missing.
        subject: what was checked.
        message: what was found, or what to do.
    """

    ok: bool
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{'ok' if self.ok else '!!':3} {self.subject:12} {self.message}"


def check_store(path: str) -> list[Finding]:
    """Check the files of a chip store or stream, and whether its scenes' files have changed."""
    from geossl.data import streaming

    store = streaming.open_store(path)
    problems = store.check()
    harmless = ("checksums", "gone", "scenes.parquet")
    findings = [Finding(name in harmless, name, text) for name, text in problems.items()]
    if not {"chips", "checksums"} & set(problems):
        text = f"{len(store):,} chips of {store.size_px} px are as they were written"
        findings.insert(0, Finding(True, "chips", text))
    if store.nodata_summary():
        findings.append(Finding(True, "no data", store.nodata_summary()))
    return findings


def check_machine() -> list[Finding]:
    """Check this machine; takes about ten seconds and needs no network."""
    checks: dict[str, Callable[[], str]] = {
        "python": _python,
        "packages": _packages,
        "device": _device,
        "disk": _disk,
        "imagery": _imagery,
        "labels": _labels,
        "GeoTIFF": _geotiff,
        "training": _training,
        "map": _map,
        "widgets": _widgets,
    }
    return [_run(subject, check) for subject, check in checks.items()]


def _run(subject: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(True, subject, check())
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return Finding(False, subject, str(error))


def _python() -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _packages() -> str:
    missing, versions = [], []
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
            versions.append(f"{name} {version}")
    if missing:
        raise ImportError(
            f"missing: {', '.join(missing)}; run: pip install 'geossl[data,notebooks]'"
        )
    return ", ".join(versions)


def _device() -> str:
    import torch

    from geossl.utils.device import select_device, select_precision

    device = select_device("auto")
    name = f"{torch.get_num_threads()} threads"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return f"{device.type} ({name}), trains in {select_precision('auto', device)}"


def _disk() -> str:
    free = shutil.disk_usage(".").free / _GB
    if free < 1:
        raise OSError(f"{free:.1f} GB free in this folder; the demo needs 1 GB, free some space")
    return f"{free:.0f} GB free in this folder"


def _imagery() -> str:
    from geossl import datasets

    locations = datasets.blue_marble(places=200, dates=2)["location"].nunique()
    return f"Blue Marble is installed, {locations} locations sampled; no download needed"


def _labels() -> str:
    from geossl import datasets

    zones = sorted(set(datasets.blue_marble(places=200)["label"]))
    return f"Koeppen zones are installed: {', '.join(zones)}"


def _geotiff() -> str:
    if importlib.util.find_spec("rasterio") is None:
        raise ImportError("rasterio is missing, GeoTIFFs cannot be read; run: pip install rasterio")
    import rasterio

    return f"rasterio {rasterio.__version__} with GDAL {rasterio.__gdal_version__}"


def _training() -> str:
    from geossl.train import throughput
    from geossl.utils.progress import format_rate

    speed = throughput.measure_speed(seconds=_TRAINING_S).value
    factor = format_rate(throughput.REFERENCE_PAIRS_PER_S / speed)
    demo_min = 3 * 6 * 14_200 / speed / 60 + 1  # three runs of six passes, and the rest
    return (
        f"{speed:.0f} pairs/s: the lessons take about {factor} x the stated minutes here, "
        f"geossl demo about {demo_min:.0f} min"
    )


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
    needed = ("@jupyter-widgets/jupyterlab-manager", "anywidget")
    missing = [name for name in needed if not (folder / name).is_dir()]
    if missing:
        raise RuntimeError(
            f"JupyterLab lacks the extension {missing[0]}; "
            "run: pip install --force-reinstall jupyterlab_widgets anywidget"
        )
    versions = [f"{n} {importlib.metadata.version(n)}" for n in ("jupyterlab", "ipywidgets")]
    return f"{', '.join(versions)}, extensions are installed"
