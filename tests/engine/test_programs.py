"""Programs of a user's own: what the engine does with system calls, signals, threads, crashes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from embedded import execute, totals

Compile = Callable[..., Path]

EXACT = """
.globl _start
_start:
    mov $1000, %ecx         # one instruction
1:  dec %ecx                # two a round
    jnz 1b
    mov $231, %eax          # exit_group(7): three
    mov $7, %edi
    syscall
"""


def test_instructions_are_counted_exactly(compiled: Compile) -> None:
    done = execute(compiled(EXACT, ".s", "-nostdlib"))
    assert totals(done)["instructions"] == 1 + 2 * 1000 + 3
    assert [rank.status for rank in done.ranks] == [7]
    assert totals(done)["access.data"] == 0
    assert totals(done)["syscall.count"] == 1


ALIGNMENT = """
.globl _start
_start:
    mov $20565, %eax        # what must addresses be multiples of?
    syscall
    bsf %rax, %rdi          # as its exponent
    mov $231, %eax
    syscall
"""


@pytest.mark.parametrize(
    ("policy", "sets", "exponent"),
    [
        ("ptshare", (), 21),
        ("ptshare", ("share.level=pmd",), 30),
        ("mshare", (), 39),
        ("huge-2m", (), 21),
        ("private", (), 1),  # ENOSYS, -38: two times an odd number
    ],
)
def test_a_program_can_ask_for_the_alignment(
    compiled: Compile, policy: str, sets: tuple[str, ...], exponent: int
) -> None:
    done = execute(compiled(ALIGNMENT, ".s", "-nostdlib"), policy=policy, sets=sets)
    assert [rank.status for rank in done.ranks] == [exponent]


ACCESSES = """
.globl _start
_start:
    mov $0x500ffc, %rsi
    mov 0xff0-0xffc(%rsi), %rax   # a load
    mov (%rsi), %rax              # a load that crosses a page: two
    mov %rax, 0x20-0xffc(%rsi)    # a store
    lock xaddl %eax, 0x30-0xffc(%rsi)   # a load and a store
    push %rax                     # a store
    pop %rax                      # a load
    mov $60, %eax
    xor %edi, %edi
    syscall
.section .data
    .skip 8192
"""


def test_each_access_counts_once(compiled: Compile) -> None:
    binary = compiled(ACCESSES, ".s", "-nostdlib", "-Wl,-Tdata=0x500000")
    values = totals(execute(binary))
    assert values["access.reads"] == 1 + 2 + 1 + 1
    assert values["access.writes"] == 1 + 1 + 1


LIBC = r"""
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static int shared_by_threads;
static void* add(void* by) { shared_by_threads += *(int*)by; return NULL; }
int main(int argc, char** argv) {
    int by = 5, status = 0;
    pthread_t thread;
    if (pthread_create(&thread, NULL, add, &by) || pthread_join(thread, NULL)) return 2;
    char* memory = malloc(1 << 20);
    memset(memory, 1, 1 << 20);
    pid_t child = fork();
    if (child == 0) { memory[0] = 9; _exit(memory[1] + 40); }
    if (waitpid(child, &status, 0) != child) return 3;
    FILE* file = fopen("/made/here", "w+");
    fprintf(file, "%d %.3f\n", memory[0], 1.0 / 3);
    rewind(file);
    char line[32];
    if (!fgets(line, sizeof line, file)) return 4;
    struct timespec before, after, nap = {0, 1000000};
    clock_gettime(CLOCK_MONOTONIC, &before);
    nanosleep(&nap, NULL);
    clock_gettime(CLOCK_MONOTONIC, &after);
    long slept = (after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec;
    printf("%s %s %s child=%d threads=%d slept=%d %s", argv[1], getenv("PTSHARE_RANK"),
           getenv("PTSHARE_PROCS"), WEXITSTATUS(status), shared_by_threads,
           slept >= 1000000 && slept < 20000000, line);
    return 0;
}
"""


@pytest.mark.parametrize("cores", [1, 3])
def test_a_static_c_program(compiled: Compile, cores: int) -> None:
    done = execute(compiled(LIBC, ".c", "-pthread"), procs=3, cores=cores, args=("r{rank}",))
    assert done.output_lines() == [
        f"r{rank} {rank} 3 child=41 threads=5 slept=1 1 0.333" for rank in range(3)
    ]
    assert totals(done)["pt.end.bytes"] == totals(done)["frames.end"] == 0


def test_nothing_is_written_on_the_host(compiled: Compile, tmp_path: Path) -> None:
    source = r"""
#include <stdio.h>
int main(int argc, char** argv) {
    char text[8];
    FILE* file = fopen(argv[1], "r+");
    if (!file || !fgets(text, sizeof text, file)) return 2;
    rewind(file);
    fputs("new", file);
    fclose(file);
    file = fopen(argv[1], "r");
    printf("%s", text);
    fgets(text, sizeof text, file);
    printf(" %s", text);
    return 0;
}
"""
    data = tmp_path / "data"
    data.write_text("old")
    done = execute(compiled(source), args=(str(data),))
    assert done.output_lines() == ["old new"]
    assert data.read_text() == "old"


CRASHES = {
    "*(volatile int*)0x123456 = 1;": (11, "write to page 0x123000"),
    "((void (*)(void))0x654321)();": (11, "fetch from page 0x654000"),
    "__builtin_trap();": (4, "invalid"),
    "volatile int zero = 0, seven = 7; return seven / zero;": (8, "divide"),
    "raise(SIGTERM);": (15, "sent to itself"),
    'char* p = mmap(0, 8192, 1, 2, open("/few", O_RDWR | O_CREAT, 0600), 0); return p[5000];': (
        7,
        "read of page",
    ),
}


@pytest.mark.parametrize("statement", CRASHES)
def test_a_crash_is_told(compiled: Compile, statement: str) -> None:
    signal, note = CRASHES[statement]
    headers = "".join(f"#include <{name}.h>\n" for name in ("fcntl", "signal", "sys/mman"))
    source = f"{headers}int main(void) {{ {statement} return 0; }}"
    done = execute(compiled(source))
    (rank,) = done.ranks
    assert (rank.status, rank.signal) == (-signal, signal)
    assert note in rank.note
    assert totals(done)["frames.end"] == 0


def test_an_unknown_call_is_answered_and_counted(compiled: Compile) -> None:
    source = (
        "#include <errno.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n"
        "int main(void) { return syscall(9999) == -1 && errno == ENOSYS ? 0 : 1; }"
    )
    quiet = execute(
        compiled(
            source.replace("9999", "SYS_getpid")
            .replace("== -1", ">= 0")
            .replace("errno == ENOSYS", "1")
        )
    )
    done = execute(compiled(source))
    assert [rank.status for rank in quiet.ranks + done.ranks] == [0, 0]
    assert totals(done)["syscall.unknown"] == totals(quiet)["syscall.unknown"] + 1


def test_waiting_for_nobody_is_a_deadlock(compiled: Compile) -> None:
    source = (
        "#include <sys/syscall.h>\n#include <unistd.h>\n"
        "int main(void) { int word = 0; return syscall(SYS_futex, &word, 0, 0, 0); }"
    )
    with pytest.raises(Exception, match="deadlock"):
        execute(compiled(source))


def test_memory_can_run_out() -> None:
    with pytest.raises(Exception, match=r"kernel\.memory_bytes"):
        execute(
            "scan", region=64 << 20, sets=("kernel.memory_bytes=65MiB",), policy="private", procs=40
        )


def test_a_crash_ends_those_who_would_wait(compiled: Compile) -> None:
    source = r"""
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>
int main(void) {
    if (atoi(getenv("PTSHARE_RANK")) == 1) __builtin_trap();
    if (fork() == 0) _exit(0);
    for (;;) sched_yield();
}
"""
    done = execute(compiled(source), procs=3, cores=2)
    assert [rank.status for rank in done.ranks] == [-9, -4, -9]
    assert done.ranks[0].note == "ended because process 1 crashed"
    assert totals(done)["frames.end"] == 0


# Six wait for one word. How many does each call wake, and how many of them run then?
FUTEX_WAKE = r"""
#include <linux/futex.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int main(void) {
    const int flags = MAP_SHARED | MAP_ANONYMOUS;
    int* shared = mmap(0, 4096, PROT_READ | PROT_WRITE, flags, -1, 0);
    for (int i = 0; i < 6; ++i) {
        if (fork()) continue;
        syscall(SYS_futex, shared, FUTEX_WAIT, 0, 0, 0, 0);
        __sync_fetch_and_add(shared + 1, 1);
        _exit(0);
    }
    const long counts[] = {2, 1, 0, -1, 0x100000000, 10, 10};
    for (unsigned i = 0; i < sizeof(counts) / sizeof(*counts); ++i) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, 0);
        printf("%d+%ld ", shared[1], syscall(SYS_futex, shared, FUTEX_WAKE, counts[i], 0, 0, 0));
    }
    printf("\n");
    return 0;
}
"""


def test_as_many_are_woken_as_were_asked_for(compiled: Compile) -> None:
    done = execute(compiled(FUTEX_WAKE), cores=2)
    # Linux reads the count as an int, and wakes one before it looks at it.
    assert done.output_lines() == ["0+2 2+1 3+1 4+1 5+1 6+0 6+0 "]


# What time it is, in us, after sleeps until 50 ms, until 53 ms, until 20 ms, and for 2 ms.
SLEEP_UNTIL = r"""
#include <stdio.h>
#include <time.h>
static long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000 + at.tv_nsec / 1000;
}
int main(void) {
    const int until[] = {50, 53, 20};
    for (int i = 0; i < 3; ++i) {
        const struct timespec at = {.tv_nsec = until[i] * 1000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, 0);
        printf("%ld ", (now() + 50) / 100);
    }
    clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = 2000000}, 0);
    printf("%ld\n", (now() + 50) / 100);
    return 0;
}
"""


def test_a_sleep_until_a_time_ends_then(compiled: Compile) -> None:
    done = execute(compiled(SLEEP_UNTIL), cores=1)
    assert done.output_lines() == ["500 530 530 550"]


# Sleeps to times that are not those of a cycle, with 2.3 of them a nanosecond.
SLEEP_EXACTLY = r"""
#include <stdio.h>
#include <time.h>
int main(void) {
    for (int i = 1; i <= 50; ++i) {
        const struct timespec until = {.tv_nsec = i * 100000 + i};
        struct timespec now;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, 0);
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_nsec < until.tv_nsec) printf("%d ", i);
    }
    printf("end\n");
    return 0;
}
"""


def test_no_sleep_ends_before_its_time(compiled: Compile) -> None:
    costs = ("cost.syscall=0", "cpu.base_cpi=0.001", "cpu.frequency_mhz=2300")
    done = execute(compiled(SLEEP_EXACTLY), cores=1, sets=costs)
    assert done.output_lines() == ["end"]
