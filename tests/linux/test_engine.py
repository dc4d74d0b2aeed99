"""The Linux engine: are its figures the kernel's, and is nothing left when it ends?"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from embedded import execute

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.engines.linux import engine, hugetlb, perf, proc
from ptshare_plugin.runs.run import Run
from ptshare_plugin.spec import workloads
from ptshare_plugin.studies.validation import validate

COMMAND = Path(sys.executable).with_name("ptshare")
SHM = Path("/dev/shm")
MIB, GIB = 1 << 20, 1 << 30
KIB4 = 4096
Compile = Callable[..., Path]
# A program's own tables before it maps anything: PUD, PMD and PTE table of the program, and the
# same of the stack, with a second PTE table for what mmap placed below it.
PROGRAM_TABLES = 3 + 4


def linux(what: str | Path, **more: object) -> Run:
    return execute(what, engine="linux", policy="private", **more)  # type: ignore[arg-type]


def folders() -> set[str]:
    return {path.name for path in SHM.glob("ptshare-*")}


def processes_of(program: Path) -> list[int]:
    """Processes that execute ``program``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if os.readlink(entry / "exe") == str(program):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


# ---- Figures


@pytest.mark.parametrize("procs", [1, 3])
def test_page_tables_and_faults_of_a_scan(procs: int) -> None:
    done = linux("scan", procs=procs, cores=1, region=4 * MIB)
    assert not done.failures()
    for rank in range(procs):
        values = done.values[rank]
        assert values["vm.pte_bytes.begin"] == PROGRAM_TABLES * KIB4
        # PUD table, PMD table, two PTE tables.
        assert values["vm.pte_bytes.end"] == (PROGRAM_TABLES + 4) * KIB4
        assert values["vm.rss_file_bytes.end"] - values["vm.rss_file_bytes.begin"] == 4 * MIB
        assert values["fault.major"] == 0
    faults = done.values[-1]["roi.fault.minor"]
    # Alone, each page takes a fault: it is not in the page cache before.
    assert faults == 1024 if procs == 1 else 1024 <= faults <= procs * 1024


def test_without_fault_around_each_page_takes_its_faults() -> None:
    if not validate.userfaultfd():
        pytest.skip("no userfaultfd for tmpfs here")
    done = linux("scan", procs=3, cores=1, region=4 * MIB, args=("--around", "0"))
    # A read maps the page read-only, and the write of its owner takes a second one.
    assert done.values[-1]["roi.fault.minor"] == 3 * 1024 + 1024


def test_the_record_names_the_kernel_and_its_settings() -> None:
    record = linux("scan", region=2 * MIB).record()
    assert record["settings"]["release"] == os.uname().release
    around = record["settings"]["fault_around_bytes"]
    assert KIB4 <= around <= 2 * MIB and around & (around - 1) == 0
    assert record["versions"]["linux"] == os.uname().release
    assert [mark["mark"] for mark in record["marks"]] == [1, 2]


def test_ranks_are_pinned_in_turn(compiled: Compile) -> None:
    cpus = sorted(os.sched_getaffinity(0))[:2]
    program = compiled(
        "#define _GNU_SOURCE\n#include <sched.h>\n#include <stdio.h>\n"
        "int main(void) { cpu_set_t s; sched_getaffinity(0, sizeof s, &s);"
        ' printf("%d %d", CPU_COUNT(&s), sched_getcpu()); }'
    )
    done = linux(program, procs=3, cores=len(cpus))
    wanted = [f"1 {cpus[rank % len(cpus)]}" for rank in range(3)]
    assert [rank.stdout.decode() for rank in done.ranks] == wanted


FORKS = """
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    char* memory = aligned_alloc(1 << 21, 4 << 21);
    for (int i = 0; i < 4; ++i) memory[i << 21] = 1;
    syscall(20564, 7);
    for (int child = 0; child < 2; ++child) {
        if (fork() == 0) {
            memory[child << 21] = 2;
            syscall(20564, 8 + child);
            _exit(3);
        }
        int status;
        wait(&status);
        if (WEXITSTATUS(status) != 3) return 1;
    }
    syscall(20564, 10);
    return setsid() != -1;
}
"""


def test_children_are_watched_too(compiled: Compile) -> None:
    done = linux(compiled(FORKS), procs=2, cores=1)
    assert not done.failures()  # setsid was refused: a process that leaves would not be seen
    for rank in range(2):
        marks = [(s.process, s.mark) for s in done.result.samples if s.rank == rank]
        assert sorted(marks) == [(0, 7), (0, 10), (1, 8), (2, 9)]
    one = {(s.process, s.mark): s for s in done.result.samples if s.rank == 0}
    assert one[1, 8].minor_faults < one[0, 7].minor_faults  # its own, not its parent's
    assert one[2, 9].vm_pte_bytes >= 5 * KIB4  # it inherited four tables of anonymous memory


BROOD = """
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    if (fork() == 0) {
        for (int child = 0; child < 200; ++child) {
            if (fork() == 0) _exit(0);
            wait(0);
        }
        if (fork() == 0) syscall(20564, 7);
        _exit(0);
    }
    while (wait(0) > 0) continue;
}
"""


def test_children_that_are_gone_at_once_are_numbered_once(compiled: Compile) -> None:
    """A child of a child is told of before its maker's event, and may be gone before that."""
    done = linux(compiled(BROOD), procs=8)
    assert [(s.process, s.mark) for s in done.result.samples] == [(202, 7)] * 8


BITS = """
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
enum { BYTES = 64 * 4096 };
static void show(const char* when, char* at, const char* name) {
    FILE* file = fopen("/proc/self/smaps", "r");
    char line[512];
    unsigned long start, end;
    long value = -1;
    int inside = 0;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            inside = start <= (unsigned long)at && (unsigned long)at < end;
        if (inside && !strncmp(line, name, strlen(name)))
            sscanf(line + strlen(name), ": %ld", &value);
    }
    fclose(file);
    printf("%s %s %ld\\n", when, name, value / 4);
    fflush(stdout);
}
static char* map(unsigned long at, int flags, int fd) {
    return mmap((void*)at, BYTES, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
}
int main(void) {
    char* own = map(0x200000000000, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    memset(own, 1, BYTES);
    show("written", own, "Referenced");
    if (fork() == 0) {
        show("child", own, "Rss");
        show("child", own, "Referenced");
        show("child", own, "Shared_Dirty");
        _exit(0);
    }
    wait(0);
    show("parent", own, "Referenced");
    int fd = memfd_create("pages", 0);
    if (ftruncate(fd, BYTES)) return 1;
    volatile char* first = map(0x210000000000, MAP_SHARED, fd);
    for (int i = 0; i < 64; ++i) (void)first[i * 4096];
    for (int i = 0; i < 10; ++i) first[i * 4096] = 1;
    show("read", (char*)first, "Private_Dirty");
    volatile char* second = map(0x220000000000, MAP_SHARED, fd);
    (void)second[0];
    show("around", (char*)second, "Referenced");
}
"""


def test_accessed_and_dirty_bits_are_set_as_the_model_sets_them(compiled: Compile) -> None:
    """The model sets A where it maps, neighbours too, D on writes; fork clears the child's A.

    (tests/cpp/kernel_test.cc holds the model to the same.)
    """
    (rank,) = linux(compiled(BITS)).ranks
    window = proc.fault_around_bytes() // KIB4
    assert rank.stdout.decode().splitlines() == [
        "written Referenced 64",
        "child Rss 64",
        "child Referenced 0",
        "child Shared_Dirty 64",
        "parent Referenced 64",
        "read Private_Dirty 10",
        f"around Referenced {min(window, 64)}",
    ]


def test_what_is_not_counted_is_absent() -> None:
    values = linux("scan", region=2 * MIB).values[-1]
    assert ("instructions" in values) == ("host.instructions_per_second" in values)
    assert "host.accesses_per_second" not in values


def test_the_peak_is_the_programs_not_that_of_who_started_it() -> None:
    done = linux("scan", region=2 * MIB)
    assert 2 * MIB <= done.values[-1]["host.peak_rss_bytes"] < 8 * MIB


# ---- Ends


CRASH = """
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char** argv) {
    (void)argc;
    if (argv[1][0] == '1') *(volatile char*)0x1238 = 1;
    for (;;) pause();
}
"""


def test_a_crash_ends_the_others(compiled: Compile) -> None:
    done = linux(compiled(CRASH), procs=3, cores=1, args=("{rank}",))
    assert [rank.signal for rank in done.ranks] == [9, 11, 9]
    assert done.ranks[1].note == "at address 0x1238"
    assert done.ranks[0].note == "ended because process 1 crashed"


def test_an_abort_has_no_address(compiled: Compile) -> None:
    (rank,) = linux(compiled("#include <stdlib.h>\nint main(void) { abort(); }")).ranks
    assert (rank.signal, rank.note) == (signal.SIGABRT, "")


SIGNALS = """
#include <signal.h>
#include <unistd.h>
static volatile sig_atomic_t seen;
static void note(int number) { seen = number; }
int main(void) {
    signal(SIGUSR1, note);
    kill(getpid(), SIGUSR1);
    if (seen != SIGUSR1) return 1;
    kill(getpid(), SIGTERM);
    return 2;
}
"""


def test_signals_reach_the_program(compiled: Compile) -> None:
    (rank,) = linux(compiled(SIGNALS)).ranks
    assert (rank.exit, rank.signal) == (0, signal.SIGTERM)


def test_churn_ends_by_its_own_kill() -> None:
    done = linux("churn", procs=4, cores=2, region=4 * MIB)
    assert not done.failures()
    assert done.ranks[3].signal == signal.SIGKILL


SLEEPER = """
#include <unistd.h>
int main(void) { if (fork() == 0) for (;;) pause(); for (;;) pause(); }
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_whatever_ends_it(number: signal.Signals, compiled: Compile) -> None:
    before = folders()
    program = compiled(SLEEPER)
    command = [COMMAND, "run", str(program), "--engine", "linux", "--procs", "3"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 60
        while len(processes_of(program)) < 6:
            assert time.monotonic() < deadline and running.poll() is None
            time.sleep(0.02)
        assert folders() > before
        running.send_signal(number)
        _, told = running.communicate(timeout=60)
    if number == signal.SIGINT:
        assert (running.returncode, told) == (130, "ptshare: error: interrupted\n")
    while processes_of(program) or folders() > before:  # the kernel and the guard take a moment
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_shared_memory_that_is_too_small_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(SHM)
    full = os.statvfs_result((*real[:4], 255, *real[5:]))  # f_bavail
    monkeypatch.setattr(engine.os, "statvfs", lambda _: full)
    with pytest.raises(UserError, match=r"^region 2MiB: /dev/shm has 1020\.0 KiB left"):
        linux("scan", region=2 * MIB)


def test_nothing_is_left_after_a_run() -> None:
    before = folders()
    linux("scan", procs=2, cores=1, region=4 * MIB)
    assert folders() == before


KILLS = """
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char** argv) {
    (void)argc;
    for (int i = 0; i < 100; ++i) {
        pid_t victim = fork();
        while (victim == 0)
            if (argv[1][0] == 'm') syscall(20564, 7);
            else if (fork() == 0) _exit(0);
            else wait(NULL);
        usleep(rand() % 2000);
        kill(victim, SIGKILL);
        waitpid(victim, NULL, 0);
    }
}
"""


@pytest.mark.parametrize("what", ["marks", "forks"])
def test_what_is_killed_while_it_stands_still_ends_nothing_else(
    what: str, compiled: Compile
) -> None:
    assert not linux(compiled(KILLS), args=(what,)).failures()


def test_a_rank_of_a_workload_that_is_killed_ends_the_others() -> None:
    program = workloads.describe("scan").path
    others = set(processes_of(program))
    command = [COMMAND, "run", "scan", "--engine=linux", "--procs=3", "--work=1000000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 60
        while len(ranks := set(processes_of(program)) - others) < 3:
            assert time.monotonic() < deadline and running.poll() is None
            time.sleep(0.02)
        os.kill(max(ranks), signal.SIGKILL)
        _, told = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "was killed by SIGKILL (and 2 more ranks failed)" in told


# ---- Huge pages, hardware counters


def test_pmd_tables_of_hugetlbfs_are_counted_for_each_sharer() -> None:
    procs, before = 3, hugetlb.setting_to_restore()
    try:
        done = execute(
            "random",
            engine="linux",
            policy="hugetlb-pmd",
            procs=procs,
            cores=1,
            region=GIB,
            work=50,
        )
    except UserError as error:
        pytest.skip(f"{error}")
    assert not done.failures()
    for rank in range(procs):
        # A PUD table of its own and the PMD table that all link: VmPTE counts both for each.
        assert done.values[rank]["vm.pte_bytes.end"] == (PROGRAM_TABLES + 2) * KIB4
    assert hugetlb.setting_to_restore() == before


def test_runs_that_change_the_number_of_huge_pages_wait_for_each_other() -> None:
    with hugetlb.alone(True) as lock:
        if not lock:
            pytest.skip("the number of huge pages cannot be changed here")
        command = [COMMAND, "run", "scan", "--engine=linux", "--policy=hugetlb-pmd"]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as waiting:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(timeout=2)
            waiting.terminate()
    assert waiting.returncode == 128 + signal.SIGTERM


def test_a_guard_that_cannot_be_started_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, "no")

    monkeypatch.setattr(engine, "_SHM", tmp_path)
    monkeypatch.setattr(engine, "_is_tmpfs", lambda _: True)
    monkeypatch.setattr(engine.subprocess, "Popen", refuse)
    with pytest.raises(UserError, match="engine linux: resource temporarily unavailable"):
        linux("scan", region=4 * MIB)
    assert not list(tmp_path.iterdir())


def test_counters_are_read_and_shared_out_to_the_marks() -> None:
    # PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS_MIN: there without a hardware counter.
    events = [perf.Event("fault.minor", 1, 5), perf.Event("none", 99, 1)]
    counters = perf.open_counters(os.getpid(), events)
    if counters is None:
        pytest.skip("perf_event_open is not permitted here")
    faults = proc.thread_faults(os.getpid())[0]
    counters.mark(begin=True)
    memory = bytearray(16 * MIB)
    memory[::KIB4] = bytes(len(memory) // KIB4)
    counters.mark(begin=False)
    counted = counters.inside()
    assert set(counted) == {"fault.minor"}  # what cannot be counted is absent
    assert 0 < counted["fault.minor"] <= proc.thread_faults(os.getpid())[0] - faults
    rows = {name for _, name, _ in engine._counted([counters, counters])}
    assert rows == {"fault.minor", "roi.fault.minor"}
    assert not engine._counted([counters, None])  # a sum over some is none over all
    counters.close()
