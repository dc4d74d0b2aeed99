"""More processes than cores: who runs, for how long, and what a switch costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from embedded import execute, totals

Compile = Callable[..., Path]
SWITCH = 3000

# Each worker notes in a shared log each time that it comes to run after another one.
TURNS = r"""
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kWorkers = 3, kTurns = 12 };
struct log { volatile int go, last, count, order[kTurns]; };

int main(void) {
    struct log* log = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int me = 1; me <= kWorkers; ++me) {
        if (fork()) continue;
        while (!log->go) {}
        while (log->count < kTurns) {
            if (log->last == me) continue;
            log->last = me;
            log->order[log->count++] = me;
        }
        _exit(0);
    }
    log->go = 1;
    while (wait(0) > 0) {}
    for (int i = 0; i < kTurns; ++i) printf("%d", log->order[i]);
    printf("\n");
    return 0;
}
"""

# A sleeper and a spinner on one core. The sleeper counts how often the spinner came to run while
# it computed, between two sleeps, for less than a quantum.
WAKES = r"""
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    const int flags = MAP_SHARED | MAP_ANONYMOUS;
    volatile long* shared = mmap(0, 4096, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (fork() == 0) {
        while (!shared[1]) ++shared[0];
        _exit(0);
    }
    int preempted = 0;
    for (int round = 0; round < 5; ++round) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, 0);
        const long before = shared[0];
        for (volatile int i = 0; i < 5000; ++i) {}
        preempted += shared[0] != before;
    }
    shared[1] = 1;
    printf("%d\n", preempted);
    return 0;
}
"""

# Two on the second core wait for one word; the last to wait there is the first to be woken. It
# tells whether the other came to run while it computed for less than a quantum, and afterwards.
WOKEN = r"""
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct shared { int word; volatile int waits, ran; };

static void wait_for(struct shared* shared) {
    syscall(SYS_futex, &shared->word, FUTEX_WAIT, 0, 0, 0, 0);
}
static void pause_ms(long ms) { nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, 0); }

int main(void) {
    const int flags = MAP_SHARED | MAP_ANONYMOUS;
    struct shared* shared = mmap(0, 4096, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (fork() == 0) {
        while (!shared->waits) sched_yield();
        pause_ms(1);
        wait_for(shared);
        for (volatile int i = 0; i < 10000; ++i) {}
        printf("%d ", shared->ran);
        fflush(stdout);
        _exit(0);
    }
    if (fork() == 0) _exit(0);  // on the first core
    if (fork() == 0) {
        shared->waits = 1;
        wait_for(shared);
        shared->ran = 1;
        _exit(0);
    }
    pause_ms(10);
    const long woken = syscall(SYS_futex, &shared->word, FUTEX_WAKE, 2, 0, 0, 0);
    while (wait(0) > 0) {}
    printf("%d %ld\n", shared->ran, woken);
    return 0;
}
"""

# Two sleeps, and between them work.
SLEEPS = r"""
#include <time.h>

int main(void) {
    for (int round = 1; round <= 2; ++round) {
        nanosleep(&(struct timespec){.tv_nsec = round * 1000000}, 0);
        for (volatile int i = 0; i < 10000; ++i) {}
    }
    return 0;
}
"""


def scan(**options: object) -> dict[str, float]:
    return totals(execute("scan", work=4, **options))  # type: ignore[arg-type]


def test_a_shorter_quantum_makes_more_switches() -> None:
    counts = []
    for quantum in (50_000, 200_000, 10**9):
        sets = (f"sched.quantum_cycles={quantum}", f"cost.switch={SWITCH}")
        values = scan(procs=4, cores=1, sets=sets)
        assert values["cycles.switch"] == SWITCH * values["sched.switches"]
        counts.append(values["sched.switches"])
    assert counts[0] > 2 * counts[1] > 2 * counts[2] > 0


def test_a_core_for_each_process_switches_never() -> None:
    values = scan(procs=4, cores=4)
    assert values["sched.switches"] == values["cycles.switch"] == 0


def test_the_order_is_round_robin(compiled: Compile) -> None:
    done = execute(compiled(TURNS), cores=1, sets=("sched.quantum_cycles=100000",))
    order = done.output_lines()[0].split()[-1]
    assert sorted(order[:3]) == ["1", "2", "3"]
    assert order == order[:3] * 4


def test_a_task_that_wakes_has_a_whole_quantum(compiled: Compile) -> None:
    done = execute(compiled(WAKES), cores=1, sets=("sched.quantum_cycles=300000",))
    assert done.output_lines()[0].split()[-1] == "0"


def test_a_quantum_begins_anew_though_nobody_ran_in_between(compiled: Compile) -> None:
    sets = ("sched.quantum_cycles=900000", "sched.slice_instructions=1000")
    done = execute(compiled(WOKEN), cores=2, sets=sets)
    assert done.output_lines() == ["0 1 2"]


def test_a_core_idles_while_its_only_process_sleeps(compiled: Compile) -> None:
    values = totals(execute(compiled(SLEEPS), cores=1, sets=("cpu.frequency_mhz=2000",)))
    assert values["cycles.idle"] == (1 + 2) * 2_000_000
    assert values["cycles.makespan"] == values["cycles.total"] + values["cycles.idle"]


@pytest.mark.parametrize("policy", ["private", "ptshare"])
def test_seven_processes_on_one_core_lose_their_translations(policy: str) -> None:
    def walks(procs: int, pcids: int) -> float:
        sets = (f"mmu.pcids={pcids}", "sched.quantum_cycles=100000")
        return scan(procs=procs, cores=1, policy=policy, region=2 << 20, sets=sets)["walk.data"]

    # Six have a slot each: more slots change nothing. The seventh takes one that is in use.
    assert walks(6, 6) == walks(6, 7)
    assert walks(7, 6) > walks(7, 7)
