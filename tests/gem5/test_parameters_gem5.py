"""What ptshare's objects refuse of a gem5 script of one's own, before anything runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from compiler import compiled
from gem5_runs import SCRIPT

OWN = """
import sys
sys.path[:0] = [{configs!r}, {root!r}]
import m5
import ptshare_board as board
from m5.objects import Process, Root
from ptshare_plugin.machine import config

board.load_module()
machine = config.load("gem5-x86")
system = board.make_system(machine, [Process(pid=100, cmd=[{program!r}])], policy="ptshare")
given = board.parameters(machine)
assert list(system.kernel.machine) == given
without = {without!r}
system.kernel.machine = [line for line in given if line.split("=")[0] != without] + {more!r}
root = Root(full_system=False, system=system)
m5.instantiate()
print("ended:", m5.simulate().getCause(), system.kernel.status(0))
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("program"), "int main(void) { return 0; }\n")


def run(
    program: Path, folder: Path, without: str, more: list[str]
) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    configs = SCRIPT.parent
    script.write_text(
        OWN.format(
            configs=str(configs),
            root=str(configs.parent),
            program=str(program),
            without=without,
            more=more,
        )
    )
    return subprocess.run(
        ["gem5.opt", "-q", "-d", folder / "out", script], capture_output=True, text=True
    )


@pytest.mark.parametrize("level", ["policy", "pte", "pmd", "pud"])
def test_words_that_there_are_run(program: Path, tmp_path: Path, level: str) -> None:
    done = run(program, tmp_path, "share.level", [f"share.level={level}"])
    assert "ended: exiting with last active thread context 0" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("without", "more", "told"),
    [
        (
            "share.level",
            ["share.level=bogus"],
            "parameter share.level must be policy, pte, pmd or pud, not 'bogus'",
        ),
        (
            "shootdown.strategy",
            ["shootdown.strategy=bogus"],
            "parameter shootdown.strategy must be policy, caller-only, all-cpus, sharers or lazy,"
            " not 'bogus'",
        ),
        ("mmu.levels", ["mmu.levels=6"], "parameter mmu.levels must be 4 or 5, not 6"),
        ("share.level", [], "parameter share.level is missing"),
        ("", ["share.level=pmd"], "parameter share.level is given twice"),
        ("", ["share.level"], "parameter 'share.level' is not key=value"),
        ("", ["mmu.bogus=1", "share.levels=pmd"], "unknown parameters: mmu.bogus, share.levels"),
        # What gem5's own caches are made of would do nothing here.
        ("", ["cache.l1d.bytes=65536"], "unknown parameters: cache.l1d.bytes"),
    ],
)
def test_nonsense_is_one_line(
    program: Path, tmp_path: Path, without: str, more: list[str], told: str
) -> None:
    done = run(program, tmp_path, without, more)
    assert done.returncode != 0
    assert "ended:" not in done.stdout
    fatal = [line for line in done.stderr.splitlines() if "fatal: " in line]
    assert [line.partition("fatal: ")[2] for line in fatal] == [f"ptshare: {told}"], done.stderr
