"""Runs of gem5 itself: do all programs work, are walks timed, is wrong use told in one line?"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from compiler import compiled
from gem5_runs import SCRIPT, Gem5, Gem5Run

from ptshare_plugin.engines.gem5 import engine
from ptshare_plugin.metrics import vocabulary

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
        assert done.returncode == 0
        assert len(done.lines()) == 2
        assert all(line.startswith(f"{name}: ok") for line in done.lines())


@pytest.mark.parametrize("cpu", ["atomic", "timing", "o3"])
@pytest.mark.parametrize("name", ["scan", "preshare", "pingpong"])
def test_2_mib_leaves(gem5: Gem5, name: str, cpu: str) -> None:
    done = gem5(
        *("--workload", name, "--work", WORK[name], "--region", "4MiB"),
        *("--procs", "2", "--policy", "hugetlb-pmd", "--cpu", cpu),
    )
    assert done.returncode == 0, done.output
    assert [line.split(" ")[:2] for line in done.lines()] == [[f"{name}:", "ok"]] * 2
    assert done.dumps()[-1]["system.kernel.pt.end.bytes"] == 0


@pytest.mark.parametrize("name", WORK)
def test_eight_processes(gem5: Gem5, name: str) -> None:
    work = {"random": "300", "zipf": "200", "pingpong": "3"}.get(name, "1")
    done = gem5(
        *("--workload", name, "--work", work, "--region", "4MiB" if name == "misuse" else "2MiB"),
        *("--procs", "8", "--policy", "ptshare"),
    )
    assert done.returncode == 0, done.output
    assert len(done.lines()) == 8
    assert all(line.startswith(f"{name}: ok") for line in done.lines())
    assert done.dumps()[-1]["system.kernel.pt.end.bytes"] == 0


def mean_latency(done: Gem5Run) -> float:
    return done.dumps()[1]["system.cpu.pages.latency::mean"]


def test_walks_are_timed_through_the_caches(gem5: Gem5) -> None:
    # 32 MiB of PTEs' lines do not stay in 4 KiB of L2; they do in 2 MiB.
    common = ("--workload", "random", "--work", "5000", "--region", "32MiB", "--procs", "1")
    warm = gem5(*common)
    cold = gem5(*common, "--set", "cache.l2.bytes=4KiB", "--set", "cache.llc.bytes=4KiB")
    assert warm.returncode == 0 and cold.returncode == 0
    assert mean_latency(warm) < 0.7 * mean_latency(cold)
    # The walker's reads are accesses of the L2, which it enters, four a walk; and so are the
    # kernel's stores to page tables.
    part = warm.dumps()[1]
    reads = sum(value for name, value in part.items() if ".roi.walk.reads." in name)
    walks = part["system.cpu.pages.walks"]
    assert reads == pytest.approx(4 * walks, rel=0.01)
    entering = part["system.cpu.l2cache.overallAccesses::cpu.pages.reads"]
    stores = part["system.kernel.process0.roi.pte.stores.lines"]
    assert stores > 1000
    assert entering == pytest.approx(reads + stores, rel=0.01)


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
def own(tmp_path: Path) -> Path:
    """A program of the C library, without marks: stock gem5 does not know those."""
    return compiled(tmp_path, OWN)


@pytest.mark.parametrize("cpu", ["atomic", "timing", "o3"])
def test_private_changes_no_output_against_stock_gem5(gem5: Gem5, own: Path, cpu: str) -> None:
    common = ("--program", own, "--procs", "1", "--cpu", cpu)
    with_module = gem5(*common, "--policy", "private", "--", "2000")
    stock = gem5(*common, "--stock", "--", "2000")
    out = "process0.out"
    assert (with_module.folder / out).read_text().startswith("2 of 2000: ")
    assert (with_module.folder / out).read_text() == (stock.folder / out).read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--policy", "ptshare"), "--region 3MiB: MAP_SHARED_PT needs a multiple of 2MiB"),
        (("--policy", "private"), None),
        (("--policy", "ptshare", "--no-share"), None),
        (
            ("--policy", "ptshar"),
            "--policy: unknown policy ptshar (did you mean ptshare?); there are",
        ),
    ],
)
def test_what_the_policy_would_refuse(
    gem5: Gem5, options: tuple[str, ...], said: str | None
) -> None:
    common = ("--workload", "scan", "--region", "3MiB", "--procs", "1", "--work", "1")
    done = gem5(*common, "--cpu", "atomic", *options)
    assert done.returncode == (2 if said else 0), done.output
    errors = [line for line in done.output.splitlines() if "ptshare.py: error: " in line]
    assert [line.startswith(f"ptshare.py: error: {said}") for line in errors] == [True] * bool(said)


CRASH = """
int main(void) { *(volatile int*)8 = 1; }
"""


def test_a_crash_is_one_line(gem5: Gem5, tmp_path: Path) -> None:
    done = gem5("--program", compiled(tmp_path, CRASH), "--procs", "1")
    assert done.returncode == 139
    told = [line for line in done.output.splitlines() if line.startswith("ptshare: ")]
    assert len(told) == 1
    assert told[0].startswith("ptshare: process 0 was killed by SIGSEGV (write to 0x8 at ip 0x")
    assert "Traceback" not in done.output


def test_wrong_options_are_one_line(gem5: Gem5) -> None:
    for options, told in (
        (("--workload", "scann"), "error: unknown workload scann; there are calls, churn, misuse,"),
        (("--workload", "scan", "--set", "mmu.x=1"), "unknown key mmu.x"),
        (("--workload", "scan", "--preset", "none"), "unknown preset none"),
        (("--workload", "scan", "--region", "4GiB"), "does not fit into simulated memory"),
        (("--workload", "scan", "--policy", "ptshare", "--region", "1MiB"), "a multiple of 2MiB"),
        (("--workload", "scan", "--work", "-1"), "--work -1: must be 1 to 2^63 - 1"),
    ):
        done = gem5(*options)
        assert done.returncode == 2
        assert [line for line in done.output.splitlines() if told in line], done.output
        assert "Traceback" not in done.output


LOAD = """
import sys
sys.path[:0] = [{configs!r}, {root!r}]
from pathlib import Path
import ptshare_board as board
try:
    board.load_module(Path({module!r}))
    print("loaded")
except board.BoardError as error:
    print("refused:", error)
"""


def test_a_module_for_another_gem5_is_refused(tmp_path: Path) -> None:
    built = Path(engine.MODULE)
    module = tmp_path / "build" / "gem5" / built.name
    script = tmp_path / "script.py"
    configs = SCRIPT.parent
    script.write_text(
        LOAD.format(configs=str(configs), root=str(configs.parent), module=str(module))
    )

    def load() -> str:
        done = subprocess.run(
            ["gem5.opt", "-q", "-d", tmp_path / "out", script], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    assert f"refused: {module}: no ptshare module there; build it with: scons" in load()
    module.parent.mkdir(parents=True)
    shutil.copy(built, module)
    # given a stamp that names a gem5.opt of the same size, linked at another time
    size, _, program = built.with_suffix(".stamp").read_text().splitlines()
    stamp = module.with_suffix(".stamp")
    stamp.write_text(f"{size}\nJan  1 2024 00:00:00\n{program}\n")
    assert load().startswith(f"refused: {module} was built for {program} as compiled on Jan  1")
    stamp.write_text("damaged")
    assert load().startswith("refused: ")


def test_several_walks_at_a_time_are_faster_out_of_order(gem5: Gem5) -> None:
    common = ("--workload", "random", "--work", "3000", "--region", "32MiB", "--procs", "1")
    one = gem5(*common, "--cpu", "o3")
    four = gem5(*common, "--cpu", "o3", "--set", "gem5.walks=4")
    inside = [done.dumps()[1] for done in (one, four)]
    # An O3 CPU asks for more than one at a time, and for some that it then does not want.
    assert inside[1]["system.cpu.numCycles"] < 0.98 * inside[0]["system.cpu.numCycles"]
    assert sum(part["system.cpu.pages.coalesced"] for part in inside) > 0
    assert sum(part["system.cpu.pages.squashed"] for part in inside) > 0
    assert one.lines() == four.lines() != []


def test_second_level_tlb_and_walk_caches_save_reads(gem5: Gem5) -> None:
    common = ("--workload", "random", "--work", "5000", "--region", "4MiB", "--procs", "1")
    bare = gem5(*common)
    rich = gem5(*common, "--preset", "server")
    before, after = (done.dumps()[1] for done in (bare, rich))
    own = "system.kernel.process0.roi."
    assert before[own + "tlb.stlb.accesses"] == before[own + "walk_cache.pmd.hits"] == 0
    # 4 MiB are 1,024 pages: they fit the server's second level, and few walks are left.
    assert after[own + "walk.data"] < 0.5 * before[own + "walk.data"]
    # A fault drops what its walk used: the next one reads all levels.
    undisturbed = after[own + "walk.data"] - after[own + "walk.faulted"]
    assert after[own + "walk_cache.pmd.hits"] > 0.9 * undisturbed


def test_statistics_are_described_by_the_vocabulary(gem5: Gem5) -> None:
    done = gem5("--workload", "scan", "--work", "1", "--region", "2MiB", "--procs", "1")
    assert done.returncode == 0, done.output
    text = (done.folder / "stats.txt").read_text()
    line = re.compile(r"^system\.kernel\.(\S+) +\S+ +# (.*) \((\w+)\)$", re.MULTILINE)
    described = {name: (meaning, unit) for name, meaning, unit in line.findall(text)}
    units = {"count": "Count", "pages": "Count", "tables": "Count", "bytes": "Byte"}
    units["cycles"] = "Cycle"
    elsewhere = {"access.fetches", "cycles.base", "cycles.fetch", "cycles.tlb", "cycles.data"}
    counted = [
        metric
        for metric in vocabulary.PROCESS
        if metric.name not in elsewhere
        and not metric.name.startswith("cache.")
        and not metric.name.endswith((".other", ".transfers", "pte.stores.cycles"))
    ]
    assert len(counted) > 60
    expected = {
        group + metric.name: (metric.meaning, units[metric.unit])
        for group in ("process0.", "process0.roi.")
        for metric in counted
    } | {
        metric.name: (metric.meaning, units[metric.unit])
        for metric in vocabulary.MACHINE
        if metric.name != "cycles.idle"
    }
    others = {name for name in described if name.startswith("power_state.")}
    assert {name: what for name, what in described.items() if name not in others} == expected


def test_ddr4_is_another_memory(gem5: Gem5) -> None:
    common = ("--workload", "scan", "--work", "1", "--region", "2MiB", "--procs", "2")
    simple, ddr4 = gem5(*common), gem5(*common, "--memory", "ddr4")
    assert simple.lines() == ddr4.lines() != []
    ticks = [done.dumps()[-1]["finalTick"] for done in (simple, ddr4)]
    assert ticks[0] != ticks[1]


BOARD = """
import sys
sys.path[:0] = [{configs!r}, {root!r}]
import m5
import ptshare_board as board
from m5.objects import Process, Root
from ptshare_plugin.machine import config

board.load_module()
processes = [Process(pid=100 + n, cmd=[{program!r}, str(n)]) for n in range(2)]
system = board.make_system(config.load("gem5-x86"), processes, policy="ptshare")
root = Root(full_system=False, system=system)
m5.instantiate()
print("ended:", m5.simulate().getCause(), [system.kernel.status(n) for n in range(2)])
"""


def test_the_board_serves_another_script(gem5: Gem5, own: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    configs = SCRIPT.parent
    script.write_text(
        BOARD.format(configs=str(configs), root=str(configs.parent), program=str(own))
    )
    done = subprocess.run(
        ["gem5.opt", "-q", "-d", tmp_path / "out", script], capture_output=True, text=True
    )
    assert "ended: exiting with last active thread context [0, 0]" in done.stdout, done.stderr


FLUSH = r"""
#include <stdio.h>
int main(void) {
    static char line[64];
    line[0] = 1;
    __builtin_ia32_clflush(line);
    puts("flushed");
    return 0;
}
"""


@pytest.mark.parametrize("cpu", ["atomic", "timing", "o3"])
def test_a_flush_of_a_line_is_told_of_its_own_mode(gem5: Gem5, tmp_path: Path, cpu: str) -> None:
    done = gem5("--program", compiled(tmp_path, FLUSH), "--procs", "1", "--cpu", cpu)
    assert done.returncode == 0, done.output
    assert (done.folder / "process0.out").read_text() == "flushed\n"


# Rank 0 changes the protection of page 0 again and again; rank 1 reads the page after each change.
REWRITES = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void meet(volatile int* word, int value) {
    __sync_fetch_and_add(word, 1);
    while (*word < value);
}

int main(int argc, char** argv) {
    const int rank = atoi(argv[argc - 2]);
    const int region_file = open(argv[argc - 1], O_RDWR | O_CREAT, 0600);
    ftruncate(region_file, 4 << 20);
    volatile int* words =
        mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, region_file, 2 << 20);
    volatile char* region = mmap((void*)0x100000000, 2 << 20, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | 0x200000 | MAP_FIXED, region_file, 0);
    if (region == MAP_FAILED) return 3;
    region[0] = 1;
    meet(words, 2);
    syscall(20564, 1);
    for (int round = 1; round <= 50; ++round) {
        if (rank == 0) {
            mprotect((void*)region, 4096, PROT_READ);
            mprotect((void*)region, 4096, PROT_READ | PROT_WRITE);
            words[16] = round;
            while (words[32] < round);
        } else {
            while (words[16] < round);
            (void)region[0];
            words[32] = round;
        }
    }
    syscall(20564, 2);
    return 0;
}
"""


def test_an_entry_that_another_core_wrote_is_fetched_from_there(gem5: Gem5, tmp_path: Path) -> None:
    program = compiled(tmp_path, REWRITES)
    common = ("--program", program, "--procs", "2", "--policy", "ptshare", "--preset", "server")
    done = gem5(*common, "--", "{rank}", tmp_path / "region")
    assert done.returncode == 0, done.output
    part = done.dumps()[1]
    reads = {
        place: part[f"system.kernel.process1.roi.walk.reads.pte.{place}"]
        for place in ("l1", "l2", "llc", "dram")
    }
    # Each of its walks finds that the line has been taken away.
    assert reads["l1"] + reads["l2"] <= 5
    assert reads["llc"] + reads["dram"] >= 50
    assert part["system.kernel.process0.roi.pte.stores.lines"] >= 100
    assert part["system.kernel.process1.roi.pte.stores.lines"] <= 5
