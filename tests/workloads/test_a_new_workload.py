"""Does one new ``.c`` file make a workload: built, listed with its arguments, and run?"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from embedded import execute

from ptshare_plugin.cli import main as cli
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.spec import about, workloads

REPOSITORY = Path(__file__).parents[2]
BUILD = """
cmake_minimum_required(VERSION 3.18)
project(workloads LANGUAGES C)
add_subdirectory(se_workloads)
"""
STRIDE = """
#include "runtime/runtime.h"

WORKLOAD("stride", "reads a word of each stride", 2, "rounds");
KILLS_ITSELF;
#define OWN(ARGUMENT)                                                        \\
    ARGUMENT(NUMBER, stride, "--stride", 8192, 4096, 2097152, 4096, "bytes") \\
    ARGUMENT(TEXT, label, "--label", "", 0, 0, 0, "is printed")
ARGUMENTS(OWN);

void run(void) {
    setup();
    map_region();
    barrier();
    mark_begin();
    u64 reads = 0;
    for (u64 round = 0; round < options.work; ++round) {
        for (u64 at = 0; at < options.size; at += stride) {
            expect("word", at, *word_at(at), 0);
            ++reads;
        }
    }
    mark_end();
    put_number("reads", reads);
    put_text(" label=");
    put_text(label);
}
"""
Ptshare = Callable[..., str]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the workloads' binaries, as built from the sources and one more file."""
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("no cmake")
    folder = tmp_path_factory.mktemp("workloads")
    shutil.copytree(REPOSITORY / "se_workloads", folder / "se_workloads")
    (folder / "se_workloads" / "stride.c").write_text(STRIDE)
    (folder / "CMakeLists.txt").write_text(BUILD)
    for step in (
        ("-S", folder, "-B", folder / "build"),
        ("--build", folder / "build"),
        ("--install", folder / "build", "--prefix", folder / "installed"),
    ):
        done = subprocess.run([cmake, *step], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "installed" / "ptshare_plugin" / "workloads"


def forget() -> None:
    """What was read of workloads of the same names elsewhere."""
    workloads.describe.cache_clear()
    workloads.symbols.cache_clear()


@pytest.fixture
def ptshare(
    installed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Ptshare]:
    """Standard output of a command, where those workloads are installed."""
    monkeypatch.setattr(workloads, "folder", lambda: installed)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: str) -> str:
        monkeypatch.setattr(sys, "argv", ["ptshare", *args])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    forget()
    yield run
    forget()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_it_is_listed_with_its_arguments(ptshare: Ptshare) -> None:
    listed = json.loads(ptshare("workloads", "--json"))
    assert set(listed) == {
        *(file.stem for file in (REPOSITORY / "se_workloads").glob("*.c")),
        "stride",
    }
    stride = listed["stride"]
    assert (stride["description"], stride["work"]) == ("reads a word of each stride", "2 rounds")
    assert stride["kills_itself"] and not stride["output_depends_on_policy"]
    first, second, *common = stride["arguments"]
    assert first == {
        "name": "--stride",
        "meaning": "bytes",
        "own": True,
        "default": 8192,
        "least": 4096,
        "most": 2097152,
        "multiple": 4096,
    }
    assert (second["name"], second["default"]) == ("--label", None)
    assert [each["name"] for each in common] == ["--around"]
    lines = [line.split() for line in ptshare("workloads").splitlines()]
    values = ["4096", "to", "2097152,", "a", "multiple", "of", "4096"]
    assert ["--stride", "stride", "8192", *values, "bytes"] in lines
    assert ["--label", "stride", "text", "is", "printed"] in lines


def test_it_runs(ptshare: Ptshare) -> None:
    assert "stride" in ptshare("run", "stride", "--procs", "2", "--region", "2MiB")
    done = execute("stride", procs=2, region=2 << 20, args=("--stride", "4096", "--label", "two"))
    assert [rank.stdout for rank in done.ranks] == [
        b"stride: ok rank=%d of=2 reads=1024 label=two\n" % rank for rank in range(2)
    ]
    default = execute("stride", region=2 << 20, work=1)
    assert default.ranks[0].stdout == b"stride: ok rank=0 of=1 reads=256 label=\n"
    with pytest.raises(UserError, match="stride has no access pattern; there are churn, "):
        execute("stride", engine="stream")


def test_every_workload_states_what_there_is(installed: Path) -> None:
    said = {path.name: about.read(path) for path in installed.iterdir()}
    assert [name for name in said if said[name].name != name] == []
    assert {name for name in said if said[name].kills_itself} == {"churn", "stride"}
    assert {name for name in said if said[name].output_depends_on_policy} == {"misuse"}
