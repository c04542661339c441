"""Write the learner's copy of a lesson, without solutions, and the instructor's, with them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from tyro.conf import Positional

from geossl.cli.output import print_line

TUTORIALS = Path("tutorials")
_REMOVED_TAGS = {"learners": {"solution", "source-only"}, "instructors": {"source-only"}}
_PAGES = {"learners": ["GLOSSARY.md"], "instructors": ["GLOSSARY.md", "INSTRUCTORS.md"]}
_NUMBERS = {
    "a quarter of a": 0.25, "half a": 0.5, "three quarters of a": 0.75,
    "one": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0,
}  # fmt: skip


def make_copy(notebook: NotebookNode, kind: str) -> NotebookNode:
    """Make the learner's or the instructor's copy of a lesson.

    Args:
        notebook: the source; not changed.
        kind: "learners" or "instructors".
    """
    from nbconvert.preprocessors import ClearOutputPreprocessor, TagRemovePreprocessor

    copy = nbformat.from_dict(notebook)
    for step in (
        TagRemovePreprocessor(remove_cell_tags=_REMOVED_TAGS[kind], enabled=True),
        ClearOutputPreprocessor(enabled=True),
    ):
        copy, _ = step.preprocess(copy, {})
    for cell in copy.cells:
        if cell.cell_type == "markdown":  # links out of the directory lead nowhere in a copy
            cell.source = re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", cell.source)
    return copy


def shrink_knobs(notebook: NotebookNode) -> NotebookNode:
    """Copy a notebook with the small values of ``nbmake.mock`` for its knobs."""
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        for name, value in cell.metadata.get("nbmake", {}).get("mock", {}).items():
            cell.source += f"\n{name} = {value!r}"
    return copy


def find_lessons(tutorials: Path = TUTORIALS) -> list[Path]:
    """List the lessons of a directory in their order.

    Raises:
        FileNotFoundError: there is none.
    """
    paths = sorted(tutorials.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise FileNotFoundError(
            f"No lessons NN_topic.ipynb in {tutorials}. Run this in the root of the repository, or "
            "pass --tutorials."
        )
    return paths


def write_learners(output_dir: Positional[Path], *, tutorials: Path = TUTORIALS) -> None:
    """Write the learner's copy of every lesson, without solutions, and the glossary.

    Args:
        output_dir: directory to write.
        tutorials: directory of the lessons.
    """
    write_copies(output_dir, "learners", tutorials=tutorials)


def write_instructors(output_dir: Positional[Path], *, tutorials: Path = TUTORIALS) -> None:
    """Write the instructor's copy of every lesson, with solutions folded under the exercises.

    Args:
        output_dir: directory to write.
        tutorials: directory of the lessons.
    """
    write_copies(output_dir, "instructors", tutorials=tutorials)


def write_copies(output_dir: Path, kind: str, *, tutorials: Path = TUTORIALS) -> None:
    """Write copies of all lessons and what belongs to them; files of the same names are replaced.

    Args:
        output_dir: directory to write.
        kind: "learners" or "instructors".
        tutorials: directory of the lessons.

    Raises:
        ValueError: ``output_dir`` is the directory of the lessons.
        FileNotFoundError: there are no lessons.
    """
    if output_dir.resolve() == tutorials.resolve():
        raise ValueError(f"`output_dir` must not be {tutorials}, which holds the sources.")
    sources = find_lessons(tutorials)
    output_dir.mkdir(parents=True, exist_ok=True)
    for source in sources:
        copy = make_copy(nbformat.read(source, as_version=4), kind)
        nbformat.write(copy, output_dir / source.name)
    for name in _PAGES[kind]:
        if (tutorials / name).is_file():
            shutil.copyfile(tutorials / name, output_dir / name)
    print_line(f"{output_dir}: {len(sources)} lessons; open them with: jupyter lab {output_dir}")


def read_title(notebook: NotebookNode) -> str:
    """Return the first heading of a notebook."""
    match = re.search(r"^# (.+)$", notebook.cells[0].source, re.MULTILINE)
    return match[1].strip() if match else "untitled"


def read_question(notebook: NotebookNode) -> str:
    """Return the question that opens a lesson."""
    match = re.search(r"\*\*The question\.\*\*\s*(.+?)\n\n", notebook.cells[0].source, re.DOTALL)
    return " ".join(match[1].split()) if match else ""


def read_computing_minutes(notebook: NotebookNode) -> float | None:
    """Return the minutes on an ordinary laptop that the first cell states, or None."""
    pattern = rf"([\d.]+|{'|'.join(_NUMBERS)})\s+minutes?\s+on\s+an\s+ordinary\s+laptop"
    match = re.search(pattern, notebook.cells[0].source, re.IGNORECASE)
    if not match:
        return None
    word = match[1].lower()
    return _NUMBERS[word] if word in _NUMBERS else float(word)


def read_person_minutes(notebook: NotebookNode) -> float | None:
    """Return the minutes for a person that the first cell states; None when it states none."""
    match = re.search(r"\*\*For a person:\*\*\s*(\d+)\s+minutes", notebook.cells[0].source)
    return float(match[1]) if match else None


def cell_tags(cell: Any) -> list[str]:
    """Return the tags of a cell."""
    return list(cell.metadata.get("tags", []))
