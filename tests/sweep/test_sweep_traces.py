"""Traces in sweeps: as ``ptshare run --trace`` makes them, and refused before anything starts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from sweeps import COMMAND, made, report, sweep

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.sweeps import plan

TEXT = "==1== Lackey\nI  00400000,4\n L 00500000,8\n S 40000000,8\n M 1ffeffe7e0,8\n"
SWEEP = """\
[base]
trace = "traces/t.lackey"
procs = 3
[axes]
policy = ["private", "ptshare"]
trace_share = [
  "0x40000000-0x40200000",
  "0x40000000-0x40400000",
]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "t.lackey").write_text(TEXT)
    path = tmp_path / "sweep.toml"
    path.write_text(SWEEP)
    return path


def test_a_run_is_that_of_its_command(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert report(file, out)["made"] == 4
    for name in made(out):
        record = json.loads((out / "runs" / name / "run.json").read_text())
        assert (record["run"], record["engine"]) == (name, "stream")
        assert record["args"][0] == "--trace-share"
    one = tmp_path / "one"
    subprocess.run(
        [COMMAND, *record["command"][1:], "-o", one], check=True, capture_output=True, cwd="/"
    )
    assert json.loads((one / "run.json").read_text())["run"] == record["run"]
    assert (one / "output.txt").read_text() == (out / "runs" / name / "output.txt").read_text()
    # Another content is another run, under the same name.
    (tmp_path / "traces" / "t.lackey").write_text(TEXT + " L 00500008,8\n")
    assert report(file, out)["made"] == 4
    assert len(made(out)) == 8


def test_a_trace_that_varies(file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text(TEXT + " L 00500008,8\n")
    file.write_text("[axes]\ntrace = ['traces/t.lackey', 'other']\nengine = ['stream', 'embedded']")
    made = plan.load(file)
    assert (made.combinations, len(made.points)) == (4, 2)
    assert [point.options.spec().program.name for point in made.points] == ["t.lackey", "other"]


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("t.lackey", "none", 2, "no such file"),
        ('"traces/t.lackey"', '"traces"', 2, "trace: "),
        ("0x40400000", "0x40300000", 8, "MAP_SHARED_PT needs multiples of 2MiB"),
        ("0x40000000-0x40400000", "0x50000000-0x50200000", 8, "trace_share 0x50000000-0x50200000"),
        ("procs = 3", "region = '2MiB'", 3, "region: is for programs; a trace has trace_share"),
        ("procs = 3", "args = ['1']", 3, "args: arguments are for programs"),
        ("procs = 3", "work = 1", 3, "a recording is replayed whole"),
        ("procs = 3", "workload = 'scan'", 2, "there is a workload, too"),
        ("procs = 3", "engine = 'linux'", 3, "engine: engine linux replays no traces"),
        ('trace = "traces/t.lackey"', 'workload = "scan"', 6, "trace_share: is for traces"),
    ],
)
def test_refused(file: Path, old: str, new: str, line: int, told: str) -> None:
    assert old in SWEEP
    file.write_text(SWEEP.replace(old, new))
    with pytest.raises(UserError) as caught:
        plan.load(file)
    (found,) = caught.value.lines
    assert found.startswith(f"{file}:{line}: ")
    assert told in found


def test_a_trace_that_is_none_is_one_line(file: Path, tmp_path: Path) -> None:
    (tmp_path / "traces" / "t.lackey").write_text(TEXT + "rubbish\n")
    done = sweep(file, tmp_path / "out")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ptshare: error: {file}:2: trace: ")
    assert not (tmp_path / "out").exists()
