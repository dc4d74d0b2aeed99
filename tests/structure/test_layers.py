"""Does the check of the layers fail when a package uses one above it?

The order stands in pyproject.toml, for ``lint-imports``.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ptshare_plugin"
NATIVE = PACKAGE / "native"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package's Python files and their configuration, to be spoilt.

    By another name, under which no installed package is found in their place.
    """
    sources = [path for path in PACKAGE.rglob("*.py") if NATIVE not in path.parents]
    for source in [ROOT / "pyproject.toml", *sources]:
        target = tmp_path / str(source.relative_to(ROOT)).replace("ptshare_plugin", "spoilt")
        target.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text(encoding="utf-8")
        target.write_text(text.replace("ptshare_plugin", "spoilt"), encoding="utf-8")
    return tmp_path


def test_layers(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "told"),
    [
        (
            "common/units.py",
            "import spoilt.show.terminal",
            "spoilt.common is not allowed to import spoilt.show",
        ),
        (
            "metrics/vocabulary.py",
            "def later() -> None:\n    from spoilt.records import frames",
            "spoilt.metrics is not allowed to import spoilt.records",
        ),
        (
            "show/terminal.py",
            "from spoilt.spec import program",
            "spoilt.show is not allowed to import spoilt.spec",
        ),
        (
            "machine/schema.py",
            "from spoilt.machine import config",
            "No cycles are allowed in spoilt.machine",
        ),
    ],
)
def test_a_violation_is_found(copy: Path, file: str, line: str, told: str) -> None:
    with (copy / "spoilt" / file).open("a") as module:
        module.write(f"\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1
    assert told in done.stdout


def test_a_package_without_a_layer_is_found(copy: Path) -> None:
    (copy / "spoilt" / "elsewhere.py").touch()
    done = lint(copy)
    assert done.returncode == 1
    assert "elsewhere" in done.stdout + done.stderr


def names_of_the_package(tree: ast.Module) -> set[str]:
    """What a module takes from ``ptshare_plugin`` itself."""
    taken: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "ptshare_plugin":
            taken |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            taken.add("." * node.level)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            taken |= {node.attr} if node.value.id == "ptshare_plugin" else set()
    return taken


def test_modules_take_no_name_of_the_package_but_version_and_extension() -> None:
    """What pyproject.toml leaves out of the layers: imports of the package itself."""
    layers = {place.stem for place in PACKAGE.iterdir() if place.stem != "__init__"}
    for path in PACKAGE.rglob("*.py"):
        if path == PACKAGE / "__init__.py" or NATIVE in path.parents:
            continue
        taken = names_of_the_package(ast.parse(path.read_text(encoding="utf-8")))
        assert taken - layers <= {"__version__", "_core"}, path


def test_a_name_of_the_package_is_found() -> None:
    source = "from ptshare_plugin import load\nfrom . import x\nptshare_plugin.run('scan')"
    assert names_of_the_package(ast.parse(source)) == {"load", ".", "run"}
