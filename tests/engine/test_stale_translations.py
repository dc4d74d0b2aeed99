"""A program that writes through a translation which a shared mprotect should have taken away."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from embedded import execute, totals

PROGRAM = r"""
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#define BYTES (2 << 20)
#define MAP_SHARED_PT 0x200000

int main(void) {
    volatile int *step = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int fd = open("/region", O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, BYTES)) return 2;
    volatile int *region = mmap((void *)(1UL << 40), BYTES, PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_FIXED | MAP_SHARED_PT, fd, 0);
    if (region == MAP_FAILED) return 3;
    int child = fork();
    if (child == 0) {
        region[0] = 1;
        *step = 1;
        while (*step != 2) {}
        region[0] = 2;  // through what its TLB still holds, or not at all
        _exit(region[0]);
    }
    while (*step != 1) {}
    if (mprotect((void *)region, 4096, PROT_READ)) return 4;
    *step = 2;
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) printf("signal %d, %d\n", WTERMSIG(status), region[0]);
    else printf("exit %d, %d\n", WEXITSTATUS(status), region[0]);
    return 0;
}
"""


@pytest.mark.parametrize("policy", ["ptshare", "mshare", "rfc-v2"])
@pytest.mark.parametrize("strategy", ["policy", "caller-only", "all-cpus", "sharers", "lazy"])
def test_who_is_not_told_writes_on(
    compiled: Callable[..., Path], policy: str, strategy: str
) -> None:
    run = execute(
        compiled(PROGRAM),
        policy=policy,
        procs=1,
        cores=2,
        sets=(f"shootdown.strategy={strategy}",),
    )
    values = totals(run)
    left_out = strategy == "caller-only" or (strategy, policy) == ("policy", "rfc-v2")
    if left_out:
        assert run.output_lines() == ["exit 2, 2"]
        assert values["tlb.stale_hits"] >= 1
        assert values["shootdown.ipis"] == 0
    else:
        assert run.output_lines() == [f"signal {int(signal.SIGSEGV)}, 1"]
        assert values["tlb.stale_hits"] == values["walk_cache.stale_hits"] == 0
        assert values["shootdown.ipis"] >= 1
    assert values["fault.segv"] == (0 if left_out else 1)
