"""More processes than cores under gem5: CPU contexts that take turns on physical cores."""

from __future__ import annotations

from pathlib import Path

import pytest
from compiler import compiled
from embedded import execute
from gem5_runs import Gem5, Gem5Run

# As test_cross_check.py: fault-around depends on who is ahead.
WITHOUT_AROUND = "kernel.fault_around_bytes=4KiB"
SHORT = "sched.quantum_cycles=100000"
TABLES = (
    "pt.bytes",
    "pt.bytes.guest",
    "pt.bytes.host",
    "pt.tables.pte",
    "pt.region.pte_tables",
    "pt.end.bytes",
    "share.links",
)
FAULTS = (
    "fault.link",
    "fault.host",
    "fault.file",
    "fault.anon",
    "fault.cow",
    "fault.write_protect",
    "fault.spurious",
)
FEW = (("4", "2"), ("8", "1"))


@pytest.mark.parametrize("policy", ["private", "ptshare"])
@pytest.mark.parametrize(("procs", "cores"), FEW)
def test_both_engines_agree(procs: str, cores: str, policy: str) -> None:
    gem5, embedded, wide = (
        execute(
            "scan",
            engine=engine,
            policy=policy,
            procs=int(procs),
            cores=int(count),
            work=2,
            preset="gem5-x86",
            sets=(WITHOUT_AROUND, SHORT),
        )
        for engine, count in (("gem5", cores), ("embedded", cores), ("gem5", procs))
    )
    assert gem5.output_lines() == embedded.output_lines() == wide.output_lines()
    for metric in (*FAULTS, *TABLES):
        assert gem5.values[-1][metric] == embedded.values[-1][metric], metric
        assert gem5.values[-1][metric] == wide.values[-1][metric], metric
    assert gem5.values[-1]["sched.switches"] > 0
    assert wide.values[-1]["sched.switches"] == 0


def scan(gem5: Gem5, *sets: str, procs: int = 4, cores: int = 1, cpu: str = "timing") -> Gem5Run:
    options = [part for item in sets for part in ("--set", item)]
    done = gem5(
        *("--workload", "scan", "--region", "2MiB", "--work", "2", "--policy", "private"),
        *("--procs", str(procs), "--cores", str(cores), "--cpu", cpu, *options),
    )
    assert done.returncode == 0, done.output
    assert done.lines()
    return done


def total(done: Gem5Run, metric: str) -> float:
    """Of a whole run, over its processes; a process's own begin anew with each dump."""
    return sum(
        dump.get(f"system.kernel.process{rank}.{metric}", 0)
        for dump in done.dumps()
        for rank in range(int(done.record["procs"]))
    )


@pytest.mark.parametrize("cpu", ["atomic", "timing"])
def test_a_shorter_quantum_makes_more_switches(gem5: Gem5, cpu: str) -> None:
    runs = [
        scan(gem5, f"sched.quantum_cycles={quantum}", "cost.switch=3000", cpu=cpu)
        for quantum in (50_000, 200_000, 10**9)
    ]
    counts = [total(done, "sched.switches") for done in runs]
    assert counts[0] > 2 * counts[1] > 2 * counts[2] > 0
    for done, count in zip(runs, counts, strict=True):
        assert total(done, "cycles.switch") == 3000 * count
    assert len({tuple(done.lines()) for done in runs}) == 1


def test_a_switch_costs_its_cycles(gem5: Gem5) -> None:
    free, dear = (scan(gem5, SHORT, f"cost.switch={cost}", procs=2) for cost in (0, 50_000))
    spent = total(dear, "cycles.switch")
    assert spent > 0
    makespan = "system.kernel.cycles.makespan"
    assert dear.dumps()[-1][makespan] >= free.dumps()[-1][makespan] + spent / 2


def test_seven_processes_on_one_core_lose_their_translations(gem5: Gem5) -> None:
    def walks(procs: int, pcids: int) -> float:
        return total(scan(gem5, SHORT, f"mmu.pcids={pcids}", procs=procs), "walk.data")

    # Six have a slot each: more slots change nothing. The seventh takes one that is in use.
    assert walks(6, 6) == walks(6, 7)
    assert walks(7, 6) > walks(7, 7)


def test_two_runs_are_equal(gem5: Gem5) -> None:
    one, other = (scan(gem5, SHORT, procs=5, cores=2) for _ in range(2))

    # As text: some figures are no number, which equals nothing.
    def own(done: Gem5Run) -> list[dict[str, str]]:
        return [
            {name: repr(value) for name, value in dump.items() if not name.startswith("host")}
            for dump in done.dumps()
        ]

    assert own(one) == own(other)


# The parent waits for a child, which sleeps and is woken, and for one that it wakes by a futex: on
# one core nobody gets on unless those who wait give way.
BLOCKS = r"""
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile int steps;

static void* thread(void* unused) {
    (void)unused;
    pthread_mutex_lock(&lock);
    ++steps;
    pthread_mutex_unlock(&lock);
    return 0;
}

int main(void) {
    if (fork() == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, 0);
        _exit(7);
    }
    int status = 0;
    wait(&status);
    pthread_t other;
    pthread_mutex_lock(&lock);
    if (pthread_create(&other, 0, thread, 0)) return 2;
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, 0);
    const int before = steps;
    pthread_mutex_unlock(&lock);
    pthread_join(other, 0);
    int ends[2];
    if (pipe(ends)) return 3;
    if (fork() == 0) {
        char byte = 0;
        _exit(read(ends[0], &byte, 1) == 1 ? byte : 0);
    }
    const char byte = 9;
    if (write(ends[1], &byte, 1) != 1) return 4;
    int got = 0;
    wait(&got);
    printf("%d %d %d %d\n", WEXITSTATUS(status), before, steps, WEXITSTATUS(got));
    return 0;
}
"""


@pytest.mark.parametrize("cpu", ["atomic", "timing"])
def test_who_waits_gives_way(gem5: Gem5, tmp_path: Path, cpu: str) -> None:
    binary = compiled(tmp_path, BLOCKS)
    done = gem5(
        *("--program", binary, "--procs", "1", "--cores", "1", "--cpu", cpu),
        *("--set", "gem5.contexts=3"),
    )
    assert done.returncode == 0, done.output
    assert (done.folder / "process0.out").read_text() == "7 0 1 9\n"
    assert total(done, "sched.switches") >= 4
    assert done.dumps()[-1]["system.kernel.pt.end.bytes"] == 0


def test_what_cannot_share_cores_is_refused(gem5: Gem5) -> None:
    few = ("--workload", "scan", "--procs", "4", "--cores", "2")
    for options, told in (
        (("--cpu", "o3"), "an O3 CPU cannot be stopped between two instructions; give 4 cores"),
        (
            ("--checkpoint", "roi"),
            "--cores 2: checkpoints need a core for each CPU context: give 4",
        ),
        (("--set", "gem5.contexts=-1"), "gem5.contexts"),
    ):
        done = gem5(*few, *options)
        assert done.returncode == 2
        assert [line for line in done.output.splitlines() if told in line], done.output
        assert "Traceback" not in done.output
