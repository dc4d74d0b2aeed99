"""``--trace`` and ``ptshare trace convert`` as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("ptshare")
TEXT = "==1== Lackey\nI  00400000,4\n L 00500000,8\n S 40000000,8\n M 1ffeffe7e0,8\n"


def ptshare(*args: object, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *map(str, args)],
        input=given,
        text=True,
        capture_output=True,
        env=dict(os.environ),
        timeout=120,
    )


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "t.lackey"
    path.write_text(TEXT)
    return path


def test_run_and_compare_replay_a_trace(text: Path, tmp_path: Path) -> None:
    share = ("--trace-share", "0x40000000-0x40200000", "--procs", "3")
    done = ptshare("run", "--trace", text, *share, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "3 processes on 3 cores" in done.stdout
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["engine"] == "stream"
    assert record["args"] == ["--trace-share", "0x40000000-0x40200000"]
    assert record["program"]["name"] == "t.lackey"
    both = ptshare("compare", "--trace", text, *share, "--json")
    assert both.returncode == 0, both.stderr
    rows = json.loads(both.stdout)
    assert rows["private"]["fault.host"] == 0
    assert rows["ptshare"]["fault.host"] == 1
    summary = ptshare("summary", tmp_path / "out", "--format", "csv")
    assert summary.returncode == 0, summary.stderr
    assert "t.lackey" in summary.stdout


def test_convert_takes_a_file_or_standard_input(text: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    done = ptshare("trace", "convert", text, one)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 records, ")
    assert ptshare("trace", "convert", "-", two, given=TEXT).returncode == 0
    assert one.read_bytes() == two.read_bytes()
    assert ptshare("run", "--trace", one, "--procs", "1").returncode == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("run", "--trace", "/none"), "--trace: /none: cannot be read: no such file or directory"),
        (("run", "--trace", "/usr"), "/usr: not a regular file"),
        (("run", "--trace", "/dev/null"), "/dev/null: not a regular file"),
        (("run", "--trace", "-"), "ptshare trace convert - FILE"),
        (("run", "scan", "--trace", "TEXT"), "leave scan out"),
        (
            ("run", "scan", "--trace-share", "0x0-0x200000"),
            "--trace-share: is for traces; there is none",
        ),
        (("run", "--trace", "TEXT", "--engine", "gem5"), "engine gem5 replays no traces"),
        (("run", "--trace", "TEXT", "--work", "3"), "a recording is replayed whole"),
        (("run", "--trace", "TEXT", "--trace-end", "soon"), "--trace-end: must be together or"),
        (("run", "scan", "--trace-end", "together"), "--trace-end: is for traces; there is none"),
        (("run", "--trace", "TEXT", "--region", "4MiB"), "--region: is for programs; a trace has"),
        (("run", "--trace", "TEXT", "--region", "64MiB"), "--region: is for programs; a trace has"),
        (("run", "--trace", "TEXT", "--procs", "0"), "--procs 0: must be 1 to"),
        (("run", "--trace", "TEXT", "--trace-share", "12-34"), "write it as 0xSTART-0xEND"),
        (("run", "--trace", "TEXT", "--trace-share", "0x40000000-0x40001000"), "like 0x40000000-"),
        (("run", "--trace", "TEXT", "--trace-share", "0x40200000-0x40000000"), "less than END"),
        (("run", "--trace", "TEXT", "--trace-share", "0x0-0x200000"), "less than END, both from"),
        (("run", "--trace", "TEXT", "--trace-share", "0x80000000-0x80200000"), "lies there"),
        (("run", "--trace", __file__), "test_trace_command.py:1: no line of lackey's"),
        (("trace", "convert"), "Missing argument 'TRACE'"),
        (("trace", "convert", "TEXT", "/none/x"), "FILE /none/x: no such folder"),
        (("trace", "convert", "TEXT", "TEXT", "--force"), "is the trace itself"),
        (("trace", "convert", "-", "OUT"), "no access in it"),
        (("trace", "frobnicate"), "No such command 'frobnicate'"),
    ],
)
def test_wrong_trace_input_is_one_clear_line(
    args: tuple[str, ...], message: str, text: Path, tmp_path: Path
) -> None:
    places = {"TEXT": text, "OUT": tmp_path / "out"}
    done = ptshare(*(places.get(arg, arg) for arg in args), given="")
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("ptshare: error: ")
    assert message in line
    assert not (tmp_path / "out").exists()
