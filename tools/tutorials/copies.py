"""One source, two copies: the learner's without solutions, the instructor's with them, folded."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

TUTORIALS = Path("tutorials")
KINDS = {"learners": {"solution", "source-only"}, "instructors": {"source-only"}}
_BESIDE = {"learners": ["GLOSSARY.md"], "instructors": ["GLOSSARY.md", "INSTRUCTORS.md"]}
_WORDS = {
    "a quarter of a": 0.25, "half a": 0.5, "three quarters of a": 0.75,
    "one": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0,
}  # fmt: skip


def copy_of(book: NotebookNode, kind: str) -> NotebookNode:
    """The learner's or the instructor's copy of a lesson.

    Args:
        book: the source.
        kind: "learners" or "instructors".
    """
    from nbconvert.preprocessors import ClearOutputPreprocessor, TagRemovePreprocessor

    made = nbformat.from_dict(book)
    for step in (
        TagRemovePreprocessor(remove_cell_tags=KINDS[kind], enabled=True),
        ClearOutputPreprocessor(enabled=True),
    ):
        made, _ = step.preprocess(made, {})
    for cell in made.cells:
        if cell.cell_type == "markdown":  # what lies outside the folder is not there in a copy
            cell.source = re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", cell.source)
    return made


def shrunk(book: NotebookNode) -> NotebookNode:
    """A notebook whose knobs have the small values of their ``nbmake.mock``."""
    made = nbformat.from_dict(book)
    for cell in made.cells:
        for name, value in cell.metadata.get("nbmake", {}).get("mock", {}).items():
            cell.source += f"\n{name} = {value!r}"
    return made


def sources(folder: Path = TUTORIALS) -> list[Path]:
    """The lessons of a folder, in their order.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise FileNotFoundError(
            f"expected lessons NN_topic.ipynb in {folder}, came none; run this in the folder of "
            "the repository, or give --tutorials"
        )
    return found


def write_copies(out: Path, kind: str, *, tutorials: Path = TUTORIALS) -> list[Path]:
    """Write a folder of copies, with the glossary beside them; what was there before is replaced.

    Args:
        out: the folder.
        kind: "learners" or "instructors".
        tutorials: where the sources are.

    Raises:
        ValueError: ``out`` is the folder of the sources.
        FileNotFoundError: there are no lessons.
    """
    if out.resolve() == tutorials.resolve():
        raise ValueError(f"expected a folder other than {tutorials}, which holds the sources")
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for source in sources(tutorials):
        written.append(out / source.name)
        nbformat.write(copy_of(nbformat.read(source, as_version=4), kind), written[-1])
    for name in _BESIDE[kind]:
        if (tutorials / name).is_file():
            shutil.copyfile(tutorials / name, out / name)
    return written


def title(book: NotebookNode) -> str:
    """The first heading of a notebook."""
    found = re.search(r"^# (.+)$", book.cells[0].source, re.MULTILINE)
    return found[1].strip() if found else "untitled"


def question(book: NotebookNode) -> str:
    """The question that opens a lesson."""
    found = re.search(r"\*\*The question\.\*\*\s*(.+?)\n\n", book.cells[0].source, re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def stated_minutes(book: NotebookNode) -> float | None:
    """Minutes of computing on two cores that the first cell states; None when it states none."""
    number = r"([\d.]+|" + "|".join(_WORDS) + r")\s+minutes?\s+on\s+two\s+cores"
    found = re.search(number, book.cells[0].source, re.IGNORECASE)
    if not found:
        return None
    word = found[1].lower()
    return _WORDS[word] if word in _WORDS else float(word)


def person_minutes(book: NotebookNode) -> float | None:
    """Minutes for a person that the first cell states; None when it states none."""
    found = re.search(r"\*\*For a person:\*\*\s*(\d+)\s+minutes", book.cells[0].source)
    return float(found[1]) if found else None


def tags(cell: Any) -> list[str]:
    """The tags of a cell."""
    return list(cell.metadata.get("tags", []))
