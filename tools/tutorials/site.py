"""The lessons as a site: executed, with figures, maps and downloads, readable without a network.

Sphinx with MyST-NB and the theme Furo render it; formulas become MathML, which browsers draw
themselves, so nothing is asked of any network. See `tools.tutorials.links` for the check of that.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

import nbformat
from nbformat import NotebookNode

import geossl
from geossl.utils.io import atomic_write
from tools.tutorials import copies, execute, links, stills

_CONF = """
from latex2mathml.converter import convert

project = "geossl lessons"
author = "geossl"
html_title = "geossl lessons"
extensions = ["myst_nb"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_merge_streams = True
html_theme = "furo"
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["static"]
html_css_files = ["lessons.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_math_renderer = "mathml"
html_extra_path = ["extra"]
exclude_patterns = ["extra"]
suppress_warnings = WARNINGS


def inline_math(self, node):
    self.body.append(convert(node.astext()))
    raise __import__("docutils").nodes.SkipNode


def block_math(self, node):
    self.body.append(convert(node.astext(), display="block"))
    raise __import__("docutils").nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
"""
_CSS = """
.content { width: 54em; }
.highlight pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.geossl-still { border: 1px solid var(--color-background-border); border-radius: 6px;
  padding: .6rem; overflow-x: auto; }
div.cell_output { overflow-x: auto; }
div.cell_output table { border-collapse: collapse; }
div.cell_output tr { border-bottom: 1px solid var(--color-background-border); }
div.cell_output iframe { max-width: 100%; }
math[display=block] { margin: 1rem 0; overflow-x: auto; }
@media (max-width: 480px) {
  .geossl-wide img, img[alt^="training curves"] {
    max-width: none !important; width: 40rem !important; }
}
"""
_INDEX = """# geossl lessons

Geography-aware self-supervised learning: encoders that learn from where and when an image was
taken, without labels. Read the lessons here, with everything they show, or download them as
notebooks and run them: they need no network, no GPU and no data of your own.

<a href="downloads/lessons.zip" download>Download all lessons as notebooks</a>

{lessons}

```{{toctree}}
:hidden:

{names}
GLOSSARY
```
"""


def build(
    out: Path,
    *,
    tutorials: Path = copies.TUTORIALS,
    cache: Path = Path("runs/executed"),
    only: Sequence[str] = (),
    quick: bool = False,
    say: Callable[[object], None],
) -> Path:
    """Execute and render the lessons; what was executed before and has not changed is reused.

    Args:
        out: folder of the site; replaced.
        tutorials: where the lessons are.
        cache: keeps executed lessons.
        only: beginnings of names of lessons, such as "02"; all when empty.
        quick: with the small knobs of the tests.
        say: takes the lines that a person reads.

    Returns:
        Path of ``index.html``.

    Raises:
        ImportError: Sphinx, MyST-NB, Furo or latex2mathml is not installed.
        ValueError: the site has broken links, or would ask a network.
    """
    try:
        import furo  # noqa: F401
        import latex2mathml  # noqa: F401
        import myst_nb  # noqa: F401
        import sphinx  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{error}; the site needs: pip install 'geossl[site]'") from None
    chosen = [
        path for path in copies.sources(tutorials) if not only or path.name.startswith(tuple(only))
    ]
    if not chosen:
        raise ValueError(f"expected lessons that begin with {', '.join(only)}, came none")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        _lay_out(source, chosen, tutorials, cache, quick=quick, say=say)
        warnings = ["myst.xref_missing"] if only else []
        (source / "conf.py").write_text(_CONF.replace("WARNINGS", repr(warnings)), "utf-8")
        say("rendering")
        page = source / "html"
        _render(source, page, strict=not only)
        problems = [] if only else links.problems(page)
        if problems:
            raise ValueError("the site has links that lead nowhere: " + "; ".join(problems[:5]))
        shutil.rmtree(page / ".doctrees", ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(page, out)
    return out / "index.html"


def _render(source: Path, page: Path, *, strict: bool) -> None:
    """Sphinx, in a process of its own: it changes settings of the one it runs in."""
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", *(["-W"] if strict else [])]
    done = subprocess.run(
        [*command, str(source), str(page)], capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "WARNING" in line or "rror" in line]
        told = " ".join(lines[:3]) or done.stderr[-500:]
        raise ValueError(f"Sphinx could not render the site: {told}")


def _lay_out(
    source: Path,
    chosen: Sequence[Path],
    tutorials: Path,
    cache: Path,
    *,
    quick: bool,
    say: Callable[[object], None],
) -> None:
    """What Sphinx reads: executed lessons, the glossary, an index, notebooks to download."""
    downloads = source / "extra" / "downloads"
    copies.write_copies(downloads, "learners", tutorials=tutorials)
    with zipfile.ZipFile(source / "lessons.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(downloads.iterdir()):
            packed.write(path, f"geossl_lessons/{path.name}")
    shutil.move(source / "lessons.zip", downloads / "lessons.zip")
    (source / "static").mkdir()
    (source / "static" / "lessons.css").write_text(_CSS, "utf-8")
    shutil.copyfile(tutorials / "GLOSSARY.md", source / "GLOSSARY.md")
    lines = []
    for path in chosen:
        book = nbformat.read(path, as_version=4)
        done = _executed(book, cache / path.name, quick=quick, say=say)
        stills.without_kernel(done)
        _dress(done, path.name)
        nbformat.write(done, source / path.name)
        minutes = f"{copies.person_minutes(book) or 0:.0f} minutes"
        lines.append(
            f"**[{copies.title(book)}]({path.name})** ({minutes})\\\n{copies.question(book)}\n"
        )
    names = "\n".join(path.stem for path in chosen)
    (source / "index.md").write_text(_INDEX.format(lessons="\n".join(lines), names=names), "utf-8")


def _executed(
    book: NotebookNode, kept: Path, *, quick: bool, say: Callable[[object], None]
) -> NotebookNode:
    """The learner's copy with its outputs; from the cache where neither it nor geossl changed."""
    copy = copies.copy_of(book, "learners")
    copy = copies.shrunk(copy) if quick else copy
    mark = _fingerprint(copy)
    if kept.is_file():
        found = nbformat.read(kept, as_version=4)
        if found.metadata.get("geossl_fingerprint") == mark:
            say(f"{kept.name}: as executed before")
            return found
    with tempfile.TemporaryDirectory() as folder:
        seconds = execute.execute(copy, Path(folder))
    say(f"{kept.name}: executed in {seconds / 60:.1f} min")
    copy.metadata["geossl_fingerprint"] = mark
    kept.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(kept) as part:
        nbformat.write(copy, part)
    return copy


def _fingerprint(book: NotebookNode) -> str:
    """Of a notebook's cells and of everything in geossl that could change what they show."""
    told = hashlib.blake2b(geossl.__version__.encode(), digest_size=16)
    for cell in book.cells:
        told.update(cell.source.encode())
    for path in sorted(Path(str(files("geossl"))).rglob("*")):
        if path.suffix in (".py", ".js", ".css"):
            told.update(path.read_bytes())
    return told.hexdigest()


def _dress(book: NotebookNode, name: str) -> None:
    """What only the site has: the link to the notebook; the cell for Colab is left out."""
    book.cells[
        0
    ].source += f'\n\n<a href="downloads/{name}" download>Download this lesson as a notebook</a>'
    book.cells = [cell for cell in book.cells if "colab" not in copies.tags(cell)]
