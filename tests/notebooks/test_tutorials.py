"""Every lesson: its form, and that it runs for learners, instructors, twice, from the middle."""

import ast
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from kernels import Kernel, error_text
from labs import QUICK_DOCTOR, cells_with_widgets, move_sliders

from tools.tutorials import copies

TUTORIALS = Path(__file__).parent.parent.parent / "tutorials"
LESSONS = copies.find_lessons(TUTORIALS)
MISSING = "This section needs"


def read(path):
    return nbformat.read(path, as_version=4)


def tagged(book, tag):
    return [cell for cell in book.cells if tag in copies.cell_tags(cell)]


def code_of(cell):
    """A code cell without its IPython magics."""
    lines = cell.source.splitlines()
    return "\n".join(re.sub(r"^(\s*)%.*", r"\1pass", line) for line in lines)


def prose(book):
    return "\n\n".join(c.source for c in book.cells if c.cell_type == "markdown")


def slug(heading):
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


def glossary():
    text = (TUTORIALS / "GLOSSARY.md").read_text("utf-8")
    return re.findall(r"^## (.+)$", text, re.MULTILINE)


@pytest.fixture(scope="module", params=LESSONS, ids=lambda path: path.stem)
def lesson(request):
    return request.param


# --- the form -------------------------------------------------------------------------------------


def test_the_first_cell_says_what_it_is(lesson):
    book = read(lesson)
    head = book.cells[0].source
    assert book.cells[0].cell_type == "markdown"
    assert re.match(rf"# {lesson.name[:2]} · \S", head), head[:60]
    assert copies.read_question(book).rstrip().endswith("?")
    assert len(re.findall(r"^- ", head, re.MULTILINE)) in (3, 4, 5), "three to five things to learn"
    assert 15 <= copies.read_person_minutes(book) <= 45
    assert 0 < copies.read_computing_minutes(book) <= 4
    assert "**You need:**" in head and "no network" in head


def test_the_cells_stand_in_their_order(lesson):
    book = read(lesson)
    assert copies.cell_tags(book.cells[1]) == ["source-only"] and "learners" in book.cells[1].source
    assert copies.cell_tags(book.cells[2]) == ["colab"] and "google.colab" in book.cells[2].source
    assert copies.cell_tags(book.cells[3]) == ["parameters"]
    assert all(len(tagged(book, tag)) == 1 for tag in ("parameters", "colab", "source-only"))
    headings = re.findall(r"^## (.+)$", prose(book), re.MULTILINE)
    assert headings[-4:] == ["The answer", "Limits", "Summary", "References"]
    assert prose(book).count("**What do you expect?**") >= 2


def test_the_knobs_are_plain_and_shrink(lesson):
    cell = tagged(read(lesson), "parameters")[0]
    names = {}
    for node in ast.parse(cell.source).body:
        assert isinstance(node, ast.Assign) and node.targets[0].id.isupper(), ast.unparse(node)
        names[node.targets[0].id] = ast.literal_eval(node.value)
    assert "SEED" in names and names["OUT"] == f"runs/lesson_{lesson.name[:2]}"
    assert all("#" in line for line in cell.source.splitlines()), "a comment for each knob"
    mock = cell.metadata["nbmake"]["mock"]
    assert mock and set(mock) <= set(names)


def test_cells_are_short_and_lead_nowhere(lesson):
    for cell in read(lesson).cells:
        if cell.cell_type != "code":
            continue
        assert len(cell.source.splitlines()) <= 30, cell.source
        assert max(map(len, cell.source.splitlines()), default=0) <= 100, cell.source
        ast.parse(code_of(cell))
        for path in ("/home", "/work", "/tmp", "/root", "C:\\", "file://"):
            assert path not in cell.source
        assert ".show()" not in cell.source and "http://" not in cell.source


def test_it_is_stripped(lesson):
    book = read(lesson)
    assert book.nbformat == 4 and book.nbformat_minor >= 5
    ids = [cell.id for cell in book.cells]
    assert len(set(ids)) == len(ids)
    for cell in book.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
    assert "widgets" not in book.metadata


def test_every_exercise_has_its_four_cells(lesson):
    book, number = read(lesson), lesson.name[:2]
    tasks = [c for c in tagged(book, "exercise") if c.cell_type == "markdown"]
    assert len(tasks) >= 3
    for n, task in enumerate(tasks, 1):
        at = book.cells.index(task)
        assert task.source.startswith(f"**Exercise {number}.{n} · "), task.source[:40]
        ask, solution, check = book.cells[at + 1 : at + 4]
        assert copies.cell_tags(ask) == ["exercise"]
        assert ask.source.splitlines()[-1] == f"answer_{n} = ..."
        assert copies.cell_tags(solution) == ["solution"]
        assert solution.metadata["jupyter"]["source_hidden"] is True
        assert f"answer_{n} = " in solution.source
        assert copies.cell_tags(check) == ["check"]
        given = rf'check\("{number}\.{n}", answer_{n}(, .+)?\)'
        assert re.fullmatch(given, check.source), check.source
    assert len(tagged(book, "solution")) == len(tagged(book, "check")) == len(tasks)
    told = {c.source for c in tagged(book, "check") + tagged(book, "exercise")}
    for cell in copies.make_copy(book, "learners").cells:
        if cell.cell_type == "code" and cell.source not in told:
            assert not re.search(r"\banswer_\d", cell.source), "an answer is read by its check only"


def test_words_are_explained(lesson):
    book, words = read(lesson), glossary()
    del book.cells[0]  # the header only names things
    text = prose(book)
    linked = set(re.findall(r"\]\(GLOSSARY\.md#([^)]+)\)", text))
    assert linked <= {slug(word) for word in words}, linked - {slug(word) for word in words}
    plain = re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$", " ", text, flags=re.DOTALL)
    for word in words:
        if re.search(rf"\b{re.escape(word)}s?\b", plain, re.IGNORECASE):
            assert slug(word) in linked, f"{word!r} is used and not linked to the glossary"


def test_the_glossary_is_in_order_and_short():
    words = glossary()
    assert words == sorted(words, key=str.casefold) and len(set(map(slug, words))) == len(words)
    text = (TUTORIALS / "GLOSSARY.md").read_text("utf-8")
    for entry in text.split("\n## ")[1:]:
        assert len(re.findall(r"[.!?](?=\s|$)", entry)) <= 3, entry


def test_links_lead_somewhere(lesson):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose(read(lesson))):
        if not target.startswith("https://"):
            assert (TUTORIALS / target).is_file(), target


def test_the_readme_lists_every_lesson_as_it_is():
    text = (TUTORIALS / "README.md").read_text("utf-8")
    for path in LESSONS:
        book = read(path)
        minutes = copies.read_person_minutes(book), copies.read_computing_minutes(book)
        wanted = "| [{}]({}) | {:g} min | {:g} min |".format(
            copies.read_title(book), path.name, *minutes
        )
        assert wanted in text, wanted


def test_the_instructors_page_has_every_lesson():
    page = (TUTORIALS / "INSTRUCTORS.md").read_text("utf-8")
    for path in LESSONS:
        book = read(path)
        section = page.split(f"### {copies.read_title(book)}\n")[1].split("\n### ")[0]
        for word in ("Minutes", "Run beforehand", "Expected", "Questions", "goes wrong", "late"):
            assert word in section, f"{path.stem} lacks {word!r}"
        assert f"{copies.read_person_minutes(book):.0f} for a person" in section


def test_binder_gets_the_environment_of_everyone_else():
    plain, binder = (
        (TUTORIALS.parent / name).read_text("utf-8").split("\nname:")[1]
        for name in ("environment.yml", "binder/environment.yml")
    )
    assert binder == plain.replace("-e .[", "-e ..[")


# --- the runs -------------------------------------------------------------------------------------


class Pictures(HTMLParser):
    """The alt texts of the pictures in some HTML, frames and drawings included."""

    def __init__(self, page):
        super().__init__()
        self.told = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        has = dict(attrs)
        if tag == "img":
            self.told.append(has.get("alt"))
        elif tag == "iframe":
            self.told.append(has.get("title"))


@pytest.fixture(scope="module")
def kernel(lesson, lab_folder):
    """One kernel a lesson, in one folder: what learners train, instructors and JupyterLab find."""
    folder = lab_folder / lesson.stem
    folder.mkdir()
    with Kernel(folder) as started:
        yield started


@pytest.mark.slow
def test_learners_run_through_and_solve_nothing(lesson, kernel):
    book = copies.shrink_knobs(copies.make_copy(read(lesson), "learners"))
    assert not tagged(book, "solution") and not tagged(book, "source-only")
    exercises = len(tagged(book, "check"))
    kernel.open(book, strict=False)
    error, at = kernel.run()
    assert error is None, f"cell {at}: {error_text(error)}"
    kernel.set_strict(True)  # and the checks again
    kernel.skip = lambda output: output["ename"] == "NotYet"
    error, at = kernel.run(tag="check")
    assert error is None, f"cell {at}: {error_text(error)}"
    failed = Counter(
        "check" in copies.cell_tags(cell)
        for cell in book.cells for output in cell.get("outputs", [])
        if output["output_type"] == "error"
    )  # fmt: skip
    assert failed == {True: exercises}


@pytest.mark.slow
def test_instructors_pass_with_any_seed_and_from_the_middle(lesson, kernel):
    book = copies.shrink_knobs(copies.make_copy(read(lesson), "instructors"))
    kernel.open(book, strict=True)
    error, at = kernel.run()
    assert error is None, f"cell {at}: {error_text(error)}"
    check_outputs(book)
    tagged(book, "parameters")[0].source += "\nSEED += 1"  # and all of it again, in the same kernel
    error, at = kernel.run()
    assert error is None, f"with another seed, cell {at}: {error_text(error)}"
    check_outputs(book)
    starts = [n for n, c in enumerate(book.cells) if re.match("## ", c.source)]
    assert len(starts) >= 5
    for start in starts:
        kernel.reset(strict=True)
        error, at = kernel.run(start)
        section = book.cells[start].source.splitlines()[0]
        assert error is None or error["evalue"].startswith(MISSING), (
            f"from {section!r}, cell {at}: {error_text(error)}"
        )


@pytest.mark.slow
@pytest.mark.browser
def test_it_runs_in_jupyterlab_without_a_network_and_its_sliders_move(
    lesson, kernel, notebook, tmp_path_factory
):
    learners = copies.make_copy(read(lesson), "learners")
    nbformat.write(copies.shrink_knobs(learners), kernel.folder / lesson.name)
    book = notebook.open(f"{lesson.stem}/{lesson.name}")
    book.page.set_default_timeout(240_000)
    if "check_machine" in str(learners.cells):
        book.ask(QUICK_DOCTOR)
    book.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    book.wait_idle()
    assert book.failures() == []
    for number in cells_with_widgets(book):
        move_sliders(book, number)
        picture = tmp_path_factory.getbasetemp() / f"{lesson.stem}_{number}.png"
        book.page.screenshot(path=picture)
    assert book.failures() == [] and book.blocked == [] and book.errors == []


def check_outputs(book):
    """The answer is computed, pictures have words, and nothing complains."""
    (answer,) = tagged(book, "answer")
    shown = "".join(
        str(o.get("data", {}).get("text/html", o.get("text", ""))) for o in answer.outputs
    )
    assert re.search(r"\d|<img|<iframe", shown), "the answer shows no number and no figure"
    assert shown.strip() not in answer.source
    for cell in book.cells:
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", f"{cell.source}\n{output.get('text')}"
            data = output.get("data", {})
            assert not {"image/png", "image/svg+xml"} & set(data), f"no words: {cell.source}"
            for alt in Pictures(data.get("text/html", "")).told:
                assert alt and (alt.startswith(("chip", "key", "place")) or len(alt) >= 20), alt
