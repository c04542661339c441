"""Nothing in the library needs POSIX: Windows and macOS do what Linux does."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from other_systems import MODULES, OF_OS, OF_SIGNAL
from test_house import ROOT, source_files

# what has another way where it is missing, and is asked for first
ALLOWED = {
    ("geossl/utils/io.py", "fcntl"),
    ("geossl/utils/device.py", "os.sysconf"),
    ("geossl/data/store_files.py", "os.sysconf"),
    ("tools/tutorials/execute.py", "os.getloadavg"),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="takes away what Linux has, by /proc")
def test_a_first_session_without_what_other_systems_lack(tmp_path):
    script = Path(__file__).with_name("other_systems.py")
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", str(script), str(tmp_path)],
        capture_output=True, text=True, encoding="utf-8", cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "usage: geossl" in done.stdout and "chips" in done.stdout
    assert (tmp_path / "map.html").stat().st_size > 10_000


def test_only_what_has_another_way_is_of_one_system():
    """Names of POSIX in the library: each stands in the list above, for a reason."""
    found = set()
    of_modules = {"os": set(OF_OS), "signal": set(OF_SIGNAL)}
    for path in source_files():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names if alias.name in MODULES]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module] if node.module in MODULES else []
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                module = node.value.id
                if node.attr in of_modules.get(module, ()):
                    names = [f"{module}.{node.attr}"]
            found |= {(path.relative_to(ROOT).as_posix(), name) for name in names}
    assert found == ALLOWED


def test_text_is_read_and_written_as_utf_8():
    """Without `encoding` Windows writes in the code page of its country."""
    for path in source_files():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = {keyword.arg for keyword in node.keywords}
            place = f"{path.relative_to(ROOT)}:{node.lineno}"
            if name == "read_text":
                assert node.args or "encoding" in given, place
            elif name == "write_text":
                assert len(node.args) > 1 or "encoding" in given, place
            elif name in ("run", "Popen") and "text" in given:
                assert "encoding" in given, place
            elif isinstance(node.func, ast.Name) and name == "open" and len(node.args) > 1:
                mode = getattr(node.args[1], "value", "b")
                assert "b" in str(mode) or {"encoding", "opener"} & given, place


def test_the_workflow_runs_the_fast_tests_on_every_python_and_system():
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    pythons = re.findall(r"Programming Language :: Python :: (3\.\d+)", project)
    path = ROOT / ".github" / "workflows" / "tests.yml"
    (job,) = yaml.safe_load(path.read_text("utf-8"))["jobs"].values()
    matrix = job["strategy"]["matrix"]
    assert matrix["python"] == pythons and pythons[0] == "3.11"
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    makefile = (ROOT / "Makefile").read_text("utf-8")
    workers = re.search(r"^WORKERS = .*\$\(RUN\) -m (pytest.*)$", makefile, re.MULTILINE)[1]
    rest = re.search(r"^test-fast:.*\n\t\$\(WORKERS\)( .*)$", makefile, re.MULTILINE)[1]
    fast = workers + rest
    assert any(step.get("run") == f"python -m {fast}" for step in job["steps"])
