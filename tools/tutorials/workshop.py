"""A folder for a room without a network: wheels, lessons and the site; it installs with no index.

uv resolves what each platform needs (pip takes the markers of the machine it runs on), pip fetches
the wheels. The imagery of the lessons is itself a wheel, so there is no other data to carry.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.tutorials import copies

EXTRAS = ("data", "notebooks")
# name -> (what uv calls it, what pip calls it; pip adds older macOS by itself, not older glibc)
PLATFORMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "linux-x86_64": (
        "x86_64-manylinux_2_28",
        tuple(f"manylinux_2_{v}_x86_64" for v in (28, 27, 26, 24, 17)) + ("manylinux2014_x86_64",),
    ),
    "linux-aarch64": (
        "aarch64-manylinux_2_28",
        tuple(f"manylinux_2_{v}_aarch64" for v in (28, 27, 26, 24, 17))
        + ("manylinux2014_aarch64",),
    ),
    "macos-arm64": ("aarch64-apple-darwin", ("macosx_14_0_arm64",)),
    "windows-amd64": ("x86_64-pc-windows-msvc", ("win_amd64",)),
}
_SH = """#!/bin/sh
# Installs geossl and JupyterLab from this folder alone. Needs Python {python}.
set -e
cd "$(dirname "$0")"
PYTHON="${{PYTHON:-python{python}}}"
command -v "$PYTHON" >/dev/null || PYTHON=python3
"$PYTHON" -m venv venv
venv/bin/python -m pip install --disable-pip-version-check --no-index --find-links wheels "{what}"
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
 --find-links wheels "{what}" || exit /b 1\r
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


def bundle(
    out: Path,
    *,
    project: Path = Path("."),
    platforms: Sequence[str] = (),
    python: str | None = None,
    site: Path | None = None,
    tutorials: Path = copies.TUTORIALS,
    say: Callable[[object], None],
) -> Path:
    """Make the folder; needs a network, once. What it already fetched is not fetched again.

    Args:
        out: the folder.
        project: the repository, for geossl's own wheel.
        platforms: of the attendees, names of `PLATFORMS`; this machine's own when empty.
        python: version of the attendees' Python, such as "3.12"; this one's when None.
        site: folder of a built site to take along, or None.
        tutorials: where the lessons are.
        say: takes the lines that a person reads.

    Raises:
        ValueError: an unknown platform, or packages that one of them lacks.
        FileNotFoundError: the site is not there.
    """
    if site is not None and not (site / "index.html").is_file():
        raise FileNotFoundError(f"expected a site in {site}, came none; run: make site")
    wheels = out / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    say("building geossl's own wheel")
    for old in wheels.glob("geossl-*.whl"):
        old.unlink()
    _pip("wheel", "--no-deps", "--wheel-dir", str(wheels), str(project))
    extras = [part for name in EXTRAS for part in ("--extra", name)]
    source = [str(project / "pyproject.toml"), *extras]
    for platform in platforms or ("this",):
        say(f"fetching wheels for {platform}")
        collect(source, wheels, platform=platform, python=python)
    what = f"geossl[{','.join(EXTRAS)}]"
    write_kit(out, what, platforms=platforms, python=python, site=site, tutorials=tutorials)
    for name, size in sizes(out).items():
        say(f"{size / 1e9:8.2f} GB  {name}")
    return out


def collect(
    source: Sequence[str],
    wheels: Path,
    *,
    platform: str = "this",
    python: str | None = None,
    index: Sequence[str] = (),
) -> None:
    """Put all wheels that some requirements need on a platform into a folder.

    Args:
        source: what ``uv pip compile`` reads: a file of requirements, or a pyproject and extras.
        wheels: the folder.
        platform: a name of `PLATFORMS`, or "this".
        python: version such as "3.12"; this one's when None.
        index: where from, as pip and uv take it, such as ``["--no-index", "--find-links", "x"]``.

    Raises:
        ValueError: an unknown platform, or no wheel for one of the packages.
    """
    if platform != "this" and platform not in PLATFORMS:
        raise ValueError(f"expected a platform of {', '.join(PLATFORMS)}; came {platform!r}")
    python = python or f"{sys.version_info.major}.{sys.version_info.minor}"
    resolve, fetch = ["--python-version", python, *_constraints()], []
    if platform != "this":
        named, tags = PLATFORMS[platform]
        resolve += ["--python-platform", named]
        fetch = [part for tag in tags for part in ("--platform", tag)]
        fetch += ["--implementation", "cp", "--python-version", python]
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder) / "pinned.txt"
        _run(
            [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header",
             "--no-annotate", "--no-config", *resolve, *index, "--output-file", str(pinned),
             *source]
        )  # fmt: skip
        _pip("download", "--no-deps", "--only-binary=:all:", "--dest", str(wheels),
             "--find-links", str(wheels), *fetch, *index, "--requirement", str(pinned))  # fmt: skip


def write_kit(
    out: Path,
    what: str,
    *,
    platforms: Sequence[str] = (),
    python: str | None = None,
    site: Path | None = None,
    tutorials: Path = copies.TUTORIALS,
) -> None:
    """Write what lies beside the wheels: learners' lessons, the site, scripts, words.

    Args:
        out: the folder.
        what: the requirement that the scripts install.
        platforms: of the attendees.
        python: version of their Python; this one's when None.
        site: folder of a built site, or None.
        tutorials: where the lessons are.
    """
    copies.write_copies(out / "lessons", "learners", tutorials=tutorials)
    if site is not None:
        shutil.copytree(site, out / "site", dirs_exist_ok=True)
    python = python or f"{sys.version_info.major}.{sys.version_info.minor}"
    told = ", ".join(platforms) or f"{sys.platform}, as the machine that made it"
    room = f"about {max(1, round(3 * sum(sizes(out).values()) / 1e9))} GB of disk"
    page = "To read without running: open site/index.html in a browser.\n" if site else ""
    words = {
        "install.sh": _SH.format(python=python, what=what),
        "start.sh": _START_SH,
        "install.bat": _BAT.format(python=python, what=what),
        "start.bat": _START_BAT,
        "README.txt": _README.format(python=python, platforms=told, room=room, site=page),
    }
    for name, text in words.items():
        (out / name).write_text(text, "utf-8", newline="")


def sizes(out: Path) -> dict[str, int]:
    """Bytes of the parts of the folder, torch and its CUDA libraries apart."""
    parts = {"torch": 0, "CUDA libraries that torch's wheel for Linux asks for": 0,
             "other wheels": 0, "lessons, site, scripts": 0}  # fmt: skip
    for path in out.rglob("*"):
        if not path.is_file() or "venv" in path.relative_to(out).parts:
            continue
        name = "lessons, site, scripts"
        if path.suffix == ".whl":
            name = "other wheels"
            if path.name.startswith("torch-"):
                name = "torch"
            elif path.name.startswith(("nvidia_", "cuda_", "triton-")):
                name = "CUDA libraries that torch's wheel for Linux asks for"
        parts[name] += path.stat().st_size
    return parts


def _constraints() -> list[str]:
    """The constraints that pip is given on this machine: uv does not read pip's settings."""
    told = _run([sys.executable, "-m", "pip", "config", "list"])
    found = re.findall(r"^\S+\.constraint='(.+)'$", told, re.MULTILINE)
    return [part for line in found for path in line.split() for part in ("--constraint", path)]


def _pip(*arguments: str) -> None:
    _run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "WARNING" not in line]
        told = " ".join(" ".join(lines).split())[-600:] or "no words"
        raise ValueError(f"{command[2]} could not do it: {told}")
    return done.stdout
