"""Does a built wheel have all that ptshare needs and nothing else, and work where nothing else is?

    pip wheel . --no-deps -w build/wheel && pytest tests/packaging --wheel build/wheel/ptshare-*.whl

It is installed into an empty environment with its dependencies alone, and used in another folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ptshare_plugin

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "ptshare_plugin" / "native"
WORKLOADS = {path.stem for path in (ROOT / "se_workloads").glob("*.c")}
RECORDER = {path.name for path in (NATIVE / "recorder").iterdir()}
HELPERS = {"guard", "launch", "measure"}
SCRIPT = """
import sys

import ptshare_plugin as pt


def saved(private: pt.Result, shared: pt.Result) -> float:
    return 1 - shared.metrics["pt.bytes"] / private.metrics["pt.bytes"]


private, shared = pt.compare("scan", procs=2, region="16MiB", policy=["private", "ptshare"])
kept = pt.load(sys.argv[1])
print(pt.__version__, saved(private, shared) > 0, *sorted(set(kept["policy"])))
"""


def run(*command: object, cwd: Path, check: bool = True) -> str:
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        timeout=600,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(request: pytest.FixtureRequest) -> Path:
    given: Path | None = request.config.getoption("--wheel", default=None)
    if given is None:
        pytest.skip("no --wheel FILE given")
    return given.resolve(strict=True)


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that has the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    run(folder / "bin" / "pip", "install", "--quiet", wheel, cwd=folder)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def kept(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders that the installed command made elsewhere."""
    folder = tmp_path_factory.mktemp("elsewhere")
    command = [python.with_name("ptshare"), "compare", "scan", "--procs", "2", "--region", "4MiB"]
    told = run(*command, "-o", "out", cwd=folder)
    assert "Program output is equal in all runs" in told
    return folder / "out"


def test_wheel_has_what_it_needs_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = (path for path in (ROOT / "ptshare_plugin").rglob("*") if NATIVE not in path.parents)
    suffixes = {".py", ".pyi", ".typed", ".toml", ".j2"}
    expected = {
        *(str(path.relative_to(ROOT)) for path in sources if path.suffix in suffixes),
        "ptshare_plugin/py.typed",
        *(f"ptshare_plugin/workloads/{name}" for name in WORKLOADS),
        *(f"ptshare_plugin/symbols/{name}" for name in WORKLOADS),
        *(f"ptshare_plugin/helpers/{name}" for name in HELPERS),
        *(f"ptshare_plugin/recorder/{name}" for name in RECORDER),
        "ptshare_plugin/recorder/recordings/words.h",
    }
    (core,) = (name for name in names if re.fullmatch(r"ptshare_plugin/_core\.[\w-]+\.so", name))
    info = f"ptshare-{ptshare_plugin.__version__}.dist-info"
    described = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    licences = {
        f"{info}/licenses/{name}" for name in ("LICENSE", "ptshare_plugin/native/recorder/LICENSE")
    }
    assert names == {*expected, *described, *licences, core}
    presets = {path for path in expected if path.startswith("ptshare_plugin/machine/presets/")}
    assert {"server.toml", "server-amd.toml", "gem5-x86.toml"} <= {
        Path(path).name for path in presets
    }


def test_wheel_says_whose_it_is(wheel: Path) -> None:
    info = f"ptshare-{ptshare_plugin.__version__}.dist-info"
    text = zipfile.ZipFile(wheel).read(f"{info}/METADATA").decode()
    for line in (
        f"Version: {ptshare_plugin.__version__}",
        "License-Expression: BSD-3-Clause AND GPL-2.0-or-later",
        "Author: ptshare developers",
        "Classifier: Typing :: Typed",
    ):
        assert f"\n{line}\n" in text


def test_installed_command_finds_what_came_with_it(python: Path, tmp_path: Path) -> None:
    command = python.with_name("ptshare")
    assert run(command, "--version", cwd=tmp_path) == f"ptshare {ptshare_plugin.__version__}\n"
    told = run(command, "doctor", cwd=tmp_path)
    assert str(ROOT) not in told
    assert re.search(r"^ok +engine embedded ", told, re.MULTILINE)
    assert "run 'pip install -e .' in a checkout" in " ".join(told.split())
    refused = subprocess.run(
        [command, "run", "scan", "--engine", "gem5"], cwd=tmp_path, capture_output=True, text=True
    )
    assert refused.returncode != 0
    (line,) = refused.stderr.splitlines()
    assert line.endswith("run 'pip install -e .' in a checkout")


def test_installed_package_in_a_script_of_a_user(python: Path, kept: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    told = run(python, script, kept, cwd=tmp_path)
    assert told == f"{ptshare_plugin.__version__} True private ptshare\n"


def test_script_of_a_user_is_well_typed(python: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    typed = [sys.executable, "-m", "mypy", "--strict", "--python-executable", python]
    run(*typed, script, cwd=tmp_path)
    script.write_text(SCRIPT.replace("pt.load(sys.argv[1])", "pt.load(1)"))
    told = run(*typed, script, cwd=tmp_path, check=False)
    assert 'Argument 1 to "load" has incompatible type "int"' in told
