"""Does a run that goes on from a checkpoint end as if it had not stopped?"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from compiler import compiled
from gem5_runs import Gem5, Gem5Run

RUN = (
    *("--workload", "scan", "--work", "2", "--region", "2MiB", "--procs", "2"),
    *("--policy", "ptshare", "--set", "kernel.fault_around_bytes=4KiB"),
    *("--set", "kernel.memory_bytes=256MiB"),  # all of it is written
)


def figures(done: Gem5Run) -> dict[str, float]:
    """Of the machine, and of the region of interest: what does not start anew at a restore."""
    last = done.dumps()[-1]
    found = {
        name: value
        for name, value in last.items()
        if name.startswith(("system.kernel.pt.", "system.kernel.share."))
    }
    # Which of the two is first at a page may change with caches that are cold, and so may how often
    # one finds that the other has just mapped it.
    for name in last:
        if name.startswith("system.kernel.process0.roi.fault.") and "spurious" not in name:
            found[name] = last[name] + last[name.replace("process0", "process1")]
    return found


@pytest.mark.parametrize("cpu", ["timing", "o3"])
@pytest.mark.parametrize("when", ["roi", "50000000"])
def test_restored_is_as_uninterrupted(gem5: Gem5, when: str, cpu: str) -> None:
    whole = gem5(*RUN, "--checkpoint", when)
    assert whole.returncode == 0, whole.output
    restored = gem5(*RUN, "--cpu", cpu, "--restore", str(whole.folder / "checkpoint"))
    assert restored.returncode == 0, restored.output
    assert restored.lines() == whole.lines() and len(whole.lines()) == 2
    assert figures(restored) == figures(whole)
    assert restored.record["statuses"] == [0, 0]


def test_wrong_checkpoints_are_one_line(
    gem5: Gem5, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = gem5(*RUN, "--checkpoint", "roi")
    taken = whole.folder / "checkpoint"
    cut = tmp_path_factory.mktemp("cut") / "checkpoint"
    shutil.copytree(taken, cut)
    core = cut / "ptshare.core"
    core.write_bytes(core.read_bytes()[:1000])
    for options, told in (
        ((*RUN, "--restore", "/nowhere"), "cannot be read"),
        ((*RUN, "--seed", "2", "--restore", str(taken)), "its run had seed = 1, not 2"),
        ((*RUN, "--restore", str(cut)), "ptshare: "),
        ((*RUN, "--set", "kernel.dirty_tracking=true", "--restore", str(taken)), "ptshare: "),
    ):
        done = gem5(*options)
        assert done.returncode != 0
        assert told in done.output, done.output
        assert "Traceback" not in done.output


TALKS_FIRST = r"""
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void) {
    printf("before\n");
    fflush(stdout);
    syscall(20564, 1);
    for (volatile int i = 0; i < 1000; ++i) {}
    syscall(20564, 2);
    printf("after\n");
    return 0;
}
"""
THREADS = r"""
#define _GNU_SOURCE
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
static char stack[65536] __attribute__((aligned(16)));
static int wait_long(void* unused) { (void)unused; for (;;) {} }
int main(void) {
    clone(wait_long, stack + sizeof(stack),
          CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD, 0);
    syscall(20564, 1);
    _exit(0);
}
"""


def test_output_before_a_checkpoint_is_kept(gem5: Gem5, tmp_path: Path) -> None:
    run = ("--program", compiled(tmp_path, TALKS_FIRST), "--procs", "1")
    run += ("--set", "kernel.memory_bytes=256MiB")
    whole = gem5(*run, "--checkpoint", "roi")
    assert whole.returncode == 0, whole.output
    assert whole.lines() == ["before", "after"]
    restored = gem5(*run, "--restore", str(whole.folder / "checkpoint"))
    assert restored.returncode == 0, restored.output
    assert restored.lines()[-1] == "after"
    assert restored.record["dumps"] == ["roi", "outside"]


def test_threads_cannot_be_in_a_checkpoint(gem5: Gem5, tmp_path: Path) -> None:
    run = ("--program", compiled(tmp_path, THREADS), "--procs", "1", "--cores", "2")
    run += ("--set", "kernel.memory_bytes=256MiB")
    done = gem5(*run, "--checkpoint", "roi")
    assert done.returncode != 0
    assert "was forked or cloned in the run" in done.output
