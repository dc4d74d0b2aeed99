"""Runs of gem5 itself: do all programs work, are walks timed, is wrong use told in one line?"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Gem5Run

from ptshare_plugin import gem5_engine

Gem5 = Callable[..., Gem5Run]

WORK = {
    "scan": "1",
    "random": "2000",
    "zipf": "1000",
    "pingpong": "20",
    "preshare": "1",
    "protect": "2",
    "churn": "2",
    "misuse": "1",
}


@pytest.mark.parametrize("cpu", ["atomic", "timing", "o3"])
@pytest.mark.parametrize("name", WORK)
def test_every_workload_passes(gem5: Gem5, name: str, cpu: str) -> None:
    for policy in ("private", "ptshare"):
        done = gem5(
            *("--workload", name, "--work", WORK[name], "--region", "4MiB"),
            *("--procs", "2", "--policy", policy, "--cpu", cpu),
        )
        killed = [0, -9] if name == "churn" else [0, 0]
        assert done.record["statuses"] == killed, done.output
        assert len(done.lines()) == 2
        assert all(line.startswith(f"{name}: ok") for line in done.lines())


def test_eight_processes(gem5: Gem5) -> None:
    done = gem5("--workload", "scan", "--work", "1", "--region", "2MiB", "--procs", "8",
                "--policy", "ptshare")  # fmt: skip
    assert done.returncode == 0, done.output
    assert len(done.lines()) == 8


def mean_latency(done: Gem5Run) -> float:
    return done.dumps()[1]["system.cpu.pages.latency::mean"]


def test_walks_are_timed_through_the_caches(gem5: Gem5) -> None:
    # 32 MiB of PTEs' lines do not stay in 4 KiB of L2; they do in 2 MiB.
    common = ("--workload", "random", "--work", "5000", "--region", "32MiB", "--procs", "1")
    warm = gem5(*common)
    cold = gem5(*common, "--set", "cache.l2.bytes=4KiB", "--set", "cache.llc.bytes=4KiB")
    assert warm.returncode == 0 and cold.returncode == 0
    assert mean_latency(warm) < 0.7 * mean_latency(cold)
    # The walker's reads are accesses of the L2, which it enters: four a walk.
    part = warm.dumps()[1]
    reads = sum(value for name, value in part.items() if ".roi.walk.reads." in name)
    walks = part["system.cpu.pages.walks"]
    assert reads == pytest.approx(4 * walks, rel=0.01)
    entering = part["system.cpu.l2cache.overallAccesses::cpu.pages.reads"]
    assert entering == pytest.approx(reads, rel=0.01)


OWN = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void* a, const void* b) {
    return *(const int*)a < *(const int*)b ? -1 : *(const int*)a > *(const int*)b;
}

int main(int argc, char** argv) {
    const int n = atoi(argv[argc - 1]);
    int* numbers = malloc(n * sizeof(int));
    unsigned state = 1;
    for (int i = 0; i < n; ++i) numbers[i] = (state = state * 1664525 + 1013904223) >> 8;
    qsort(numbers, n, sizeof(int), compare);
    for (int i = 1; i < n; ++i) if (numbers[i - 1] > numbers[i]) return 3;
    char text[64];
    memset(text, 'x', sizeof(text));
    printf("%d of %d: %d %d %.5s\n", argc, n, numbers[0], numbers[n - 1], text);
    return 0;
}
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A program of the C library, without marks: stock gem5 does not know those."""
    source, binary = tmp_path / "own.c", tmp_path / "own"
    source.write_text(OWN)
    subprocess.run(["cc", "-O1", "-static", "-no-pie", "-o", binary, source], check=True)
    return str(binary)


@pytest.mark.parametrize("cpu", ["atomic", "timing", "o3"])
def test_private_changes_no_output_against_stock_gem5(gem5: Gem5, own: str, cpu: str) -> None:
    common = ("--program", own, "--procs", "1", "--cpu", cpu)
    with_module = gem5(*common, "--policy", "private", "--", "2000")
    stock = gem5(*common, "--stock", "--", "2000")
    out = "process0.out"
    assert (with_module.folder / out).read_text().startswith("2 of 2000: ")
    assert (with_module.folder / out).read_text() == (stock.folder / out).read_text()


CRASH = """
int main(void) { *(volatile int*)8 = 1; }
"""


def test_a_crash_is_one_line(gem5: Gem5, tmp_path: Path) -> None:
    source = tmp_path / "crash.c"
    source.write_text(CRASH)
    binary = tmp_path / "crash"
    subprocess.run(["cc", "-static", "-no-pie", "-o", binary, source], check=True)
    done = gem5("--program", str(binary), "--procs", "1")
    assert done.returncode == 139
    told = [line for line in done.output.splitlines() if line.startswith("ptshare: ")]
    assert len(told) == 1
    assert told[0].startswith("ptshare: process 0 was killed by SIGSEGV (write to 0x8 at ip 0x")
    assert "Traceback" not in done.output


def test_wrong_options_are_one_line(gem5: Gem5) -> None:
    for options, told in (
        (("--workload", "scann"), "--workload scann: there are churn, misuse,"),
        (("--workload", "scan", "--set", "mmu.x=1"), "unknown key mmu.x"),
        (("--workload", "scan", "--preset", "none"), "unknown preset none"),
    ):
        done = gem5(*options)
        assert done.returncode == 2
        assert [line for line in done.output.splitlines() if told in line], done.output
        assert "Traceback" not in done.output


def test_a_module_for_another_gem5_is_refused(
    gem5: Gem5, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a gem5.opt that is another file than the one that the module was built for
    place = tmp_path / "bin"
    place.mkdir()
    found = shutil.which("gem5.opt")
    assert found is not None
    shutil.copy(found, place / "gem5.opt")  # without its modification time
    monkeypatch.setenv("PATH", str(place), prepend=":")
    done = gem5("--workload", "scan", "--procs", "1")
    assert done.returncode == 2
    assert "was built for" in done.output and "scons -f SConstruct.local" in done.output
    assert gem5_engine.Gem5Engine().missing() is None
