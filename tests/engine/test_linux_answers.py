"""System calls of processes, threads and files: are the answers Linux's?

One program, run natively and simulated; each case prints what it saw.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from embedded import execute

SOURCE = Path(__file__).with_name("linux_answers.c").read_text()
CASES = re.findall(r"CASE\((\w+)\),", SOURCE)


@pytest.mark.parametrize("case", CASES)
def test_the_answers_are_those_of_linux(
    case: str, compiled: Callable[..., Path], tmp_path: Path
) -> None:
    binary = compiled(SOURCE)
    native = subprocess.run(
        [binary, case, tmp_path / "native"], capture_output=True, text=True, timeout=60, check=True
    )
    done = execute(binary, cores=1, args=(case, str(tmp_path / "simulated")))
    assert native.stdout.splitlines(), "the case printed nothing"
    assert done.output_lines() == native.stdout.splitlines()
    assert [rank.status for rank in done.ranks] == [0]


ABORT = """
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <linux/futex.h>
#include <unistd.h>

int main(int argc, char** argv) {
    (void)argc;
    if (argv[1][0] == '0') abort();
    int* at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    syscall(SYS_futex, at, FUTEX_WAIT, 0, 0, 0, 0);
}
"""


def test_abort_is_named_and_ends_those_who_wait(compiled: Callable[..., Path]) -> None:
    done = execute(compiled(ABORT), procs=2, args=("{rank}",))
    assert [rank.signal for rank in done.ranks] == [6, 9]
    assert done.ranks[1].note == "ended because process 0 crashed"
