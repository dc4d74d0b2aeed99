"""Processes, threads and files under gem5: are the answers Linux's, and is nothing left?"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from compiler import compiled
from gem5_runs import Gem5

ANSWERS = Path(__file__).parents[1] / "engine" / "linux_answers.c"
# Left out is what gem5 itself does not do: sleep, exec, futexes between processes, CPU exceptions,
# and to go on when a process has died of a bad access.
CASES = (
    "cut_bytes_are_gone",
    "system_calls_are_preempted",
    "child_of_a_thread",
    "leader_leaves_first",
    "two_wait_for_one",
    "zombies_can_be_named",
    "bad_tid_address",
    "written_code_is_run",
)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("answers"), ANSWERS.read_text())


@pytest.mark.parametrize("cpu", ["timing", "o3"])
@pytest.mark.parametrize("case", CASES)
def test_the_answers_are_those_of_linux(
    gem5: Gem5, answers: Path, case: str, cpu: str, tmp_path: Path
) -> None:
    if (case, cpu) == ("written_code_is_run", "o3"):
        pytest.skip(
            "gem5's O3 CPU fetches past stores that have not left it: no self-modified code"
        )
    native = subprocess.run(
        [answers, case, tmp_path / "native"], capture_output=True, text=True, timeout=60, check=True
    )
    done = gem5(
        *("--program", answers, "--procs", "1", "--cores", "4", "--cpu", cpu),
        *("--", case, str(tmp_path / "simulated")),
    )
    assert done.returncode == 0, done.output
    assert (done.folder / "process0.out").read_text() == native.stdout
    last = done.dumps()[-1]
    assert last["system.kernel.pt.end.bytes"] == 0


COPY_ON_WRITE = r"""
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    static volatile int data[4096];
    for (int i = 0; i < 4096; ++i) data[i] = i;
    volatile int* shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const int pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 4096; ++i) data[i] += 1;
        shared[0] = data[4095];
        _exit(data[10]);
    }
    int status = 0;
    const int found = waitpid(pid, &status, 0);
    printf("%d %d %d %d\n", found == pid, WEXITSTATUS(status), shared[0], data[4095]);
    return 0;
}
"""


@pytest.mark.parametrize("cpu", ["atomic", "timing", "o3"])
def test_fork_copies_on_write(gem5: Gem5, tmp_path: Path, cpu: str) -> None:
    binary = compiled(tmp_path, COPY_ON_WRITE)
    done = gem5("--program", binary, "--procs", "1", "--cores", "2", "--cpu", cpu)
    assert (done.folder / "process0.out").read_text() == "1 11 4096 4095\n", done.output
    # The child's faults are those of the process that forked it: four pages of data at least.
    assert done.dumps()[-1]["system.kernel.process0.fault.cow"] >= 4


def test_fork_without_a_spare_cpu_is_refused_by_the_call(gem5: Gem5, tmp_path: Path) -> None:
    source = r"""
    #include <errno.h>
    #include <stdio.h>
    #include <unistd.h>
    int main(void) { const int pid = fork(); printf("%d %d\n", pid, errno == EAGAIN); return 0; }
    """
    done = gem5("--program", compiled(tmp_path, source), "--procs", "1")
    assert (done.folder / "process0.out").read_text() == "-1 1\n", done.output


GUESTS = r"""
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char** argv) {
    const unsigned long size = 2 << 20;
    const int fd = open(argv[argc - 1], O_RDWR | O_CREAT, 0600);
    if (ftruncate(fd, size)) return 2;
    char* const at = (char*)0x100000000000;
    volatile char* map = mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | 0x200000, fd, 0);
    if (map != at) return 3;
    map[0] = 1;
    if (fork() == 0) {
        map[4096] = 2;  // through the host's table, which the child links
        _exit(map[0]);
    }
    int status = 0;
    wait(&status);
    printf("%d %d\n", WEXITSTATUS(status), map[4096]);
    return 0;
}
"""


def test_a_forked_child_is_a_guest(gem5: Gem5, tmp_path: Path) -> None:
    binary = compiled(tmp_path, GUESTS)
    done = gem5(
        *("--program", binary, "--procs", "1", "--cores", "2", "--policy", "ptshare"),
        *("--set", "kernel.fault_around_bytes=4KiB", "--", str(tmp_path / "file")),
    )
    assert (done.folder / "process0.out").read_text() == "1 2\n", done.output
    last = done.dumps()[-1]
    assert last["system.kernel.share.links"] == 2
    assert last["system.kernel.process0.fault.host"] == 2
    assert last["system.kernel.pt.region.pte_tables"] == 1
    assert last["system.kernel.pt.end.bytes"] == 0


FILE_AND_MAPPING = r"""
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char** argv) {
    const int fd = open(argv[argc - 1], O_RDWR | O_CREAT, 0600);
    if (ftruncate(fd, 8192)) return 2;
    char* map = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char read_back[4] = {0};
    map[4095] = 'a';
    (void)!pwrite(fd, "bc", 2, 4096);
    (void)!pread(fd, read_back, 3, 4095);
    printf("%s %c\n", read_back, map[4097]);
    return 0;
}
"""


def test_a_mapping_and_read_and_write_see_one_file(gem5: Gem5, tmp_path: Path) -> None:
    binary = compiled(tmp_path, FILE_AND_MAPPING)
    done = gem5("--program", binary, "--procs", "1", "--", str(tmp_path / "file"))
    assert (done.folder / "process0.out").read_text() == "abc c\n", done.output


PROGRAMS = {
    # The load of a locked instruction must not lock a line that its store then faults on.
    "locked_first_write": (
        r"""
        int* page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        volatile int seen = page[0];
        page[1024] = 7;
        if (fork() == 0) _exit(__sync_fetch_and_add(&page[1024], 1));
        int status = 0;
        wait(&status);
        __sync_fetch_and_add(&page[0], 3);
        __sync_fetch_and_add(&page[1024], 3);
        printf("%d %d %d %d\n", seen, page[0], page[1024], WEXITSTATUS(status));
        """,
        "0 3 10 7\n",
    ),
    "killed_while_it_computes": (
        r"""
        volatile int* at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        const int child = fork();
        if (child == 0) for (;;) ++at[0];
        while (at[0] < 100) {}
        int status = 0;
        const int done = kill(child, SIGKILL);
        const int found = waitpid(child, &status, 0);
        const int then = at[0];
        for (int i = 0; i < 1000; ++i) __asm__ volatile("pause");
        printf("%d %d %d %d\n", done, found == child, WTERMSIG(status), at[0] == then);
        """,
        "0 1 9 1\n",
    ),
    "group_ends_beside_a_thread_that_computes": (
        r"""
        volatile int* at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        const int child = fork();
        if (child == 0) {
            clone(count, stack + sizeof(stack), CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND
                  | CLONE_THREAD, (void*)at);
            while (at[0] < 100) {}
            _exit(6);
        }
        int status = 0;
        waitpid(child, &status, 0);
        const int then = at[0];
        for (int i = 0; i < 1000; ++i) __asm__ volatile("pause");
        printf("%d %d\n", WEXITSTATUS(status), at[0] == then);
        """,
        "6 1\n",
    ),
    "descriptors_that_are_none": (
        r"""
        char byte = 0;
        printf("%d", (int)read(-1, &byte, 1) == -1 && errno == EBADF);
        printf("%d", (int)write(100000, &byte, 1) == -1 && errno == EBADF);
        printf("%d\n", ftruncate(-1, 0) == -1 && errno == EBADF);
        """,
        "111\n",
    ),
    "cut_by_open": (
        r"""
        const int fd = open(argv[argc - 1], O_RDWR | O_CREAT, 0600);
        struct iovec parts[2] = {{"ab", 2}, {"cd", 2}};
        char* map = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        (void)!ftruncate(fd, 2);
        map[1] = 'x';
        (void)!writev(fd, parts, 2);
        char back[5] = {0};
        (void)!pread(fd, back, 4, 0);
        printf("%s %.4s", back, map);
        close(open(argv[argc - 1], O_RDWR | O_TRUNC));
        printf(" %d\n", (int)pread(fd, back, 4, 0));
        """,
        "abcd abcd 0\n",
    ),
}
FRAME = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static char stack[65536] __attribute__((aligned(16), unused));
__attribute__((unused)) static int count(void* at) { for (;;) ++*(volatile int*)at; }

int main(int argc, char** argv) {
    (void)argc, (void)argv;
    BODY
    return 0;
}
"""


@pytest.mark.parametrize("cpu", ["atomic", "timing", "o3"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_small_programs_print_what_they_should(
    gem5: Gem5, tmp_path: Path, name: str, cpu: str
) -> None:
    body, expected = PROGRAMS[name]
    binary = compiled(tmp_path, FRAME.replace("BODY", body))
    native = subprocess.run([binary, tmp_path / "n"], capture_output=True, text=True, timeout=60)
    assert native.stdout == expected, "the test itself is wrong"
    done = gem5(
        *("--program", binary, "--procs", "1", "--cores", "3", "--cpu", cpu),
        *("--", str(tmp_path / "file")),
    )
    assert done.returncode == 0, done.output
    assert (done.folder / "process0.out").read_text() == expected
    assert done.dumps()[-1]["system.kernel.pt.end.bytes"] == 0


def test_dirty_tracking_and_locked_instructions(gem5: Gem5) -> None:
    for cpu in ("atomic", "timing", "o3"):
        done = gem5(
            *("--workload", "pingpong", "--work", "5", "--region", "2MiB", "--procs", "2"),
            *("--cpu", cpu, "--policy", "ptshare", "--set", "kernel.dirty_tracking=true"),
        )
        assert done.returncode == 0, done.output


@pytest.mark.parametrize("pointer", ["(char*)-1", "(char*)0x8000000000000000", "(char*)8"])
def test_bad_addresses_are_one_line(gem5: Gem5, tmp_path: Path, pointer: str) -> None:
    binary = compiled(tmp_path, "int main(void) { return *(volatile char*)" + pointer + "; }")
    done = gem5("--program", binary, "--procs", "1")
    assert done.returncode == 139
    assert "ptshare: process 0 was killed by SIGSEGV (read of 0x" in done.output


def test_processes_that_all_wait_are_told(gem5: Gem5, tmp_path: Path) -> None:
    source = r"""
    #include <linux/futex.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    int main(void) { int word = 0; return (int)syscall(SYS_futex, &word, FUTEX_WAIT, 0, 0, 0, 0); }
    """
    done = gem5("--program", compiled(tmp_path, source), "--procs", "1")
    assert done.returncode == 1
    assert "ptshare.py: error: the simulation ended early: all processes wait" in done.output
