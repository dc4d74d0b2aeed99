"""Every example runs as it is, and what it prints says what its text claims."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
NOTEBOOKS = sorted(path.name for path in EXAMPLES.glob("*.ipynb"))


def output(name: str, folder: Path) -> list[list[str]]:
    """Words of each line below the heading."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], text=True, capture_output=True, cwd=folder, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split() for line in done.stdout.splitlines()[1:]]


def number(word: str) -> float:
    return float(word.replace(",", "").rstrip("%"))


def test_all_examples_are_looked_at_here() -> None:
    assert SCRIPTS == ["architecture.py", "database.py", "kernel.py"]
    assert NOTEBOOKS == ["shared_page_tables.ipynb"]
    told = (EXAMPLES / "README.md").read_text()
    assert all(f"]({name})" in told for name in SCRIPTS + NOTEBOOKS)


def test_kernel(tmp_path: Path) -> None:
    stale = {row[0]: number(row[1]) for row in output("kernel.py", tmp_path)}
    assert list(stale) == ["caller-only", "all-cpus", "sharers", "lazy"]
    assert stale.pop("caller-only") > 0
    assert set(stale.values()) == {0}


def test_database(tmp_path: Path) -> None:
    rows = {row[0]: row for row in output("database.py", tmp_path)}
    assert rows["private"][1:4] == ["880.6", "GiB", "361"]
    assert rows["ptshare"][1:4] == ["2.3", "GiB", "1,500"]


def test_architecture(tmp_path: Path) -> None:
    rows = output("architecture.py", tmp_path)
    misses = {(row[0], row[1]): number(row[2]) for row in rows}
    assert misses["ptshare", "own"] == misses["private", "own"]
    assert misses["ptshare", "shared"] < misses["ptshare", "own"] / 2


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook(name: str) -> None:
    """Its cells in order, without a Jupyter kernel: they use none of its magic."""
    notebook = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))
    known: dict[str, object] = {}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 3
    for cell in cells:
        assert not cell["outputs"], "kept without output"
        exec(compile("".join(cell["source"]), name, "exec"), known)
    table = known["table"]
    assert table.loc["pt.bytes", "ptshare"] < table.loc["pt.bytes", "private"]  # type: ignore[attr-defined]
