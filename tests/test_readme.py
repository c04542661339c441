"""The README and the documentation: their program runs, their commands and names exist."""

import ast
import functools
import importlib
import re
import shlex
from pathlib import Path

import pytest
import tyro

import geossl
from geossl.cli.main import _COMMANDS, _load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


def blocks(text, *languages):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
    return [code for language, code in fenced if language in languages]


def command_lines(text):
    """Words of every `geossl ...` in a page's shell blocks, and of complete ones in its prose."""
    for block in blocks(text, "sh", "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for start in ("geossl",), ("-m", "geossl"):
                at = [i for i in range(len(words)) if tuple(words[i : i + len(start)]) == start]
                if at and (len(start) == 2 or at[0] == 0):
                    yield words[at[0] + len(start) :]
    for code in re.findall(r"`geossl ([a-z][^`]*)`", text):
        yield shlex.split(code)


def parse(words):
    """Parse a command line as `geossl` does, without running the command."""
    length = 2 if words[0] == "scenes" else 1
    command = _load(" ".join(words[:length]))
    options = words[length:]
    if options or command.__name__ in ("fetch", "demo", "doctor"):  # else it is named in prose

        @functools.wraps(command)
        def parsed(**options):
            return options

        tyro.cli(parsed, args=options)
    return command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_command_lines_parse(page, capsys):
    for words in command_lines(page.read_text("utf-8")):
        if "--help" not in words:
            parse(words)


def test_the_readme_shows_most_commands():
    shown = {" ".join(words[: 1 + (words[0] == "scenes")]) for words in command_lines(README)}
    assert len(shown & set(_COMMANDS)) >= 13, set(_COMMANDS) - shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_in_python_blocks_exist(page):
    for block in blocks(page.read_text("utf-8"), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "geossl":
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
            name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if re.fullmatch(r"geossl(\.\w+)+", name):
                functools.reduce(getattr, name.split(".")[1:], geossl)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        assert link.startswith("http") or (page.parent / link).exists(), link


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.M))
    assert named and named <= targets, named - targets


@pytest.mark.slow
def test_the_program_runs_in_small(tmp_path, monkeypatch, capsys):
    program = blocks(README, "python")[0]
    for large, small in (("places=6_000", "places=240"), ("k=100", "k=4")):
        assert large in program
        program = program.replace(large, small)
    config = geossl.PretrainConfig(epochs=1, batch_size=64, queue_size=64)
    monkeypatch.setattr(geossl, "pretrain", functools.partial(geossl.pretrain, config=config))
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README.md", "exec"), {"__name__": "readme"})
    text = capsys.readouterr().out
    assert "pairs/s" in text and "chance" in text
    assert (tmp_path / "world.html").stat().st_size > 100_000
    assert (tmp_path / "runs/world/geo_tp/encoder.safetensors").exists()
