"""Build a site of the lessons: executed, with figures, maps and downloads, without a network.

Sphinx with MyST-NB and the theme Furo render it; formulas become MathML, which browsers draw
themselves.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from tyro.conf import Positional

import geossl
from geossl.cli.output import print_line
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
taken, without labels. Read the lessons here with all their figures, or download them as
notebooks and run them: they need no network, no GPU and no data of your own.

<a href="downloads/lessons.zip" download>Download all lessons as notebooks</a>

{lessons}

```{{toctree}}
:hidden:

{names}
GLOSSARY
```
"""


def build_site(
    output_dir: Positional[Path] = Path("runs/site"),
    *,
    tutorials: Path = copies.TUTORIALS,
    cache: Path = Path("runs/executed"),
    only: tuple[str, ...] = (),
    quick: bool = False,
) -> Path:
    """Execute the lessons and render them as a site that needs no network.

    A lesson is executed again only if it or the code has changed.

    Args:
        output_dir: directory of the site; replaced.
        tutorials: directory of the lessons.
        cache: directory of executed lessons.
        only: beginnings of names of lessons, such as 02; all when none is given.
        quick: use the small knobs of the tests.

    Returns:
        Path of ``index.html``.

    Raises:
        ImportError: Sphinx, MyST-NB, Furo or latex2mathml is not installed.
        ValueError: no lesson was chosen, or the site has broken links or would use a network.
    """
    packages = ("furo", "latex2mathml", "myst_nb", "sphinx")
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"The site needs {missing}. Run: pip install 'geossl[site]'.")
    lessons = copies.find_lessons(tutorials)
    chosen = [path for path in lessons if not only or path.name.startswith(tuple(only))]
    if not chosen:
        raise ValueError(f"`only` must name beginnings of lessons, got {only}.")
    with tempfile.TemporaryDirectory() as folder:
        source, html = Path(folder) / "source", Path(folder) / "html"
        _write_pages(source, tutorials, chosen)
        for path in chosen:
            notebook = _execute(path, cache / path.name, quick=quick)
            stills.replace_widgets(notebook)
            _add_download(notebook, path.name)
            nbformat.write(notebook, source / path.name)
        warnings = ["myst.xref_missing"] if only else []
        (source / "conf.py").write_text(_CONF.replace("WARNINGS", repr(warnings)), "utf-8")
        print_line("rendering")
        _run_sphinx(source, html, strict=not only)
        problems = [] if only else links.find_problems(html)
        if problems:
            raise ValueError(f"The site has problems: {'; '.join(problems[:5])}.")
        shutil.rmtree(html / ".doctrees", ignore_errors=True)
        shutil.rmtree(output_dir, ignore_errors=True)
        shutil.copytree(html, output_dir)
    print_line(f"{output_dir / 'index.html'}: open it in a browser")
    return output_dir / "index.html"


def _run_sphinx(source: Path, html: Path, *, strict: bool) -> None:
    """Run Sphinx in a process of its own: it changes settings of the one it runs in."""
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", *(["-W"] if strict else [])]
    done = subprocess.run(
        [*command, str(source), str(html)], capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "WARNING" in line or "rror" in line]
        words = " ".join(lines[:3]) or done.stderr[-500:]
        raise ValueError(f"Sphinx could not render the site: {words}")


def _write_pages(source: Path, tutorials: Path, chosen: Sequence[Path]) -> None:
    """Write what Sphinx reads besides the lessons: glossary, index, downloads, styles."""
    downloads = source / "extra" / "downloads"
    copies.write_copies(downloads, "learners", tutorials=tutorials)
    pages = sorted(downloads.iterdir())
    with zipfile.ZipFile(downloads / "lessons.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in pages:
            archive.write(path, f"geossl_lessons/{path.name}")
    (source / "static").mkdir()
    (source / "static" / "lessons.css").write_text(_CSS, "utf-8")
    shutil.copyfile(tutorials / "GLOSSARY.md", source / "GLOSSARY.md")
    lines = []
    for path in chosen:
        notebook = nbformat.read(path, as_version=4)
        title, question = copies.read_title(notebook), copies.read_question(notebook)
        minutes = copies.read_person_minutes(notebook) or 0
        lines.append(f"**[{title}]({path.name})** ({minutes:.0f} minutes)\\\n{question}\n")
    names = "\n".join(path.stem for path in chosen)
    (source / "index.md").write_text(_INDEX.format(lessons="\n".join(lines), names=names), "utf-8")


def _execute(path: Path, cached: Path, *, quick: bool) -> NotebookNode:
    """Return the learner's copy with its outputs, from the cache if nothing has changed."""
    notebook = copies.make_copy(nbformat.read(path, as_version=4), "learners")
    if quick:
        notebook = copies.shrink_knobs(notebook)
    fingerprint = _fingerprint(notebook)
    if cached.is_file():
        before = nbformat.read(cached, as_version=4)
        if before.metadata.get("geossl_fingerprint") == fingerprint:
            print_line(f"{cached.name}: not changed, not executed again")
            return before
    with tempfile.TemporaryDirectory() as folder:
        seconds = execute.execute(notebook, Path(folder))
    print_line(f"{cached.name}: executed in {seconds / 60:.1f} min")
    notebook.metadata["geossl_fingerprint"] = fingerprint
    with atomic_write(cached) as part:
        nbformat.write(notebook, part)
    return notebook


def _fingerprint(notebook: NotebookNode) -> str:
    """Hash a notebook's cells and all code that could change their outputs."""
    digest = hashlib.blake2b(geossl.__version__.encode(), digest_size=16)
    for cell in notebook.cells:
        digest.update(cell.source.encode())
    for package in ("geossl", "geossl_lessons"):
        for path in sorted(Path(str(files(package))).rglob("*")):
            if path.suffix in (".py", ".js", ".css"):
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _add_download(notebook: NotebookNode, name: str) -> None:
    """Add the link to the notebook; leave out the cell for Colab."""
    link = f'<a href="downloads/{name}" download>Download this lesson as a notebook</a>'
    notebook.cells[0].source += f"\n\n{link}"
    notebook.cells = [cell for cell in notebook.cells if "colab" not in copies.cell_tags(cell)]
