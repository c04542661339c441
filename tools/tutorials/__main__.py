"""``python -m tools.tutorials``: copies of the lessons, timed runs, the site, the workshop's folder.

Every error a person can cause ends as one sentence and exit status 2.
"""

from __future__ import annotations

import os
import sys

# Idle threads that spin cost up to 4x on a busy machine; kernels inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from tools.tutorials import copies


def _say(text: object = "") -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@dataclass(frozen=True)
class Learners:
    """Write the learner's copy of every lesson, without solutions, and the glossary."""

    out: Positional[Path]
    """Folder to write."""
    tutorials: Path = copies.TUTORIALS
    """Folder of the lessons."""

    def run(self) -> None:
        """Write and tell."""
        _tell(copies.write_copies(self.out, "learners", tutorials=self.tutorials), self.out)


@dataclass(frozen=True)
class Instructors:
    """Write the instructor's copy of every lesson, solutions folded under the exercises."""

    out: Positional[Path]
    """Folder to write."""
    tutorials: Path = copies.TUTORIALS
    """Folder of the lessons."""

    def run(self) -> None:
        """Write and tell."""
        _tell(copies.write_copies(self.out, "instructors", tutorials=self.tutorials), self.out)


@dataclass(frozen=True)
class RunAll:
    """Run notebooks with their solutions; print computing time beside the stated one."""

    notebooks: Positional[tuple[Path, ...]] = ()
    """The notebooks; all lessons and workbenches when none is given."""
    quick: bool = False
    """With the small knobs of the tests."""
    keep: Path | None = None
    """Folder for the notebooks as they ran."""

    def run(self) -> None:
        """Run; exit status 1 when one failed, or took another time than it states."""
        from tools.tutorials.execute import time_notebooks

        chosen = self.notebooks or (*copies.sources(), *sorted(Path("notebooks").glob("*.ipynb")))
        if not time_notebooks(chosen, quick=self.quick, keep=self.keep, say=_say):
            raise SystemExit(1)


@dataclass(frozen=True)
class Site:
    """Execute the lessons and render them as a site that needs no network."""

    out: Positional[Path] = Path("runs/site")
    """Folder of the site; replaced."""
    tutorials: Path = copies.TUTORIALS
    """Folder of the lessons."""
    only: tuple[str, ...] = ()
    """Beginnings of names, such as 02; all when none is given."""
    quick: bool = False
    """With the small knobs of the tests."""

    def run(self) -> None:
        """Build and tell."""
        from tools.tutorials import site

        page = site.build(
            self.out, tutorials=self.tutorials, only=self.only, quick=self.quick, say=_say
        )
        _say(f"{page}: open it in a browser")


@dataclass(frozen=True)
class Workshop:
    """Bundle wheels, lessons and the site into a folder that installs without a network."""

    out: Positional[Path] = Path("runs/workshop")
    """The folder."""
    platforms: tuple[str, ...] = ()
    """Of the attendees: linux-x86_64, linux-aarch64, macos-arm64, windows-amd64; this one's."""
    python: str | None = None
    """Version of the attendees' Python, such as 3.12; this one's."""
    site: Path | None = None
    """Folder of a built site to take along."""

    def run(self) -> None:
        """Bundle and tell."""
        from tools.tutorials import workshop

        workshop.bundle(
            self.out, platforms=self.platforms, python=self.python, site=self.site, say=_say
        )
        _say(f"{self.out}: copy it to the attendees; README.txt says how it installs")


def _tell(written: list[Path], out: Path) -> None:
    _say(f"{out}: {len(written)} lessons; open them with: jupyter lab {out}")


_Command = (
    Annotated[Learners, tyro.conf.subcommand("learners")]
    | Annotated[Instructors, tyro.conf.subcommand("instructors")]
    | Annotated[RunAll, tyro.conf.subcommand("run")]
    | Annotated[Site, tyro.conf.subcommand("site")]
    | Annotated[Workshop, tyro.conf.subcommand("workshop")]
)


def main(args: list[str] | None = None) -> None:
    """The entry point."""
    command: Any = tyro.cli(_Command, prog="python -m tools.tutorials", args=args)  # type: ignore
    try:
        command.run()
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"geossl_lessons: {error}\n")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
