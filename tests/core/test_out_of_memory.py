"""Random operations in a memory that is too small: whatever fails, is every frame accounted for?"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptshare_plugin._core import Kernel

PAGE, PMD = 4096, 2 << 20
BASE = 0x100_4000_0000 - PMD
SHARED, PRIVATE, FIXED, ANONYMOUS, POPULATE, SHARED_PT = 0x01, 0x02, 0x10, 0x20, 0x8000, 0x200000
READ_WRITE, DONTNEED, MAYMOVE_FIXED = 3, 4, 3
SHARE = SHARED | FIXED | SHARED_PT

addresses = st.builds(lambda c, p: BASE + c * PMD + p * PAGE, st.integers(0, 2), st.integers(0, 9))
operations = st.one_of(
    st.tuples(st.just("spawn")),
    st.tuples(st.just("fork"), st.integers(0, 9)),
    st.tuples(st.just("exit"), st.integers(0, 9)),
    st.tuples(st.just("share"), st.integers(0, 9), st.sampled_from([0, POPULATE])),
    st.tuples(
        st.just("mmap"),
        st.integers(0, 9),
        addresses,
        st.integers(1, 520),
        st.sampled_from([SHARED, PRIVATE, PRIVATE | ANONYMOUS]),
        st.sampled_from([0, POPULATE]),
    ),
    st.tuples(st.just("write"), st.integers(0, 9), addresses),
    st.tuples(st.just("write"), st.integers(0, 9), addresses),
    st.tuples(st.just("read"), st.integers(0, 9), addresses),
    st.tuples(st.just("discard"), st.integers(0, 9), addresses),
    st.tuples(st.just("move"), st.integers(0, 9), addresses, addresses),
)


def run(kernel: Kernel, file: int, operation: tuple) -> None:
    name, *rest = operation
    if name == "spawn":
        kernel.create_mm()
        return
    if not kernel.mms():
        return
    mm = kernel.mms()[rest[0] % len(kernel.mms())]
    match name, *rest[1:]:
        case "fork", *_:
            kernel.fork(mm)
        case "exit", *_:
            kernel.exit(mm)
        case "share", populate:
            kernel.mmap(mm, BASE, 2 * PMD, READ_WRITE, SHARE | populate, file)
        case "mmap", address, pages, kind, populate:
            source = -1 if kind & ANONYMOUS else file
            flags = kind | FIXED | populate
            kernel.mmap(mm, address, pages * PAGE, READ_WRITE, flags, source)
        case "write", address:
            kernel.write(mm, address, 1)
        case "read", address:
            kernel.read(mm, address)
        case "discard", address:
            kernel.madvise(mm, address, 4 * PAGE, DONTNEED)
        case "move", address, to:
            kernel.mremap(mm, address, 2 * PAGE, 4 * PAGE, MAYMOVE_FIXED, to)


@settings(
    max_examples=5 * int(os.environ.get("PTSHARE_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    st.sampled_from(["private", "ptshare", "hugetlb-pmd"]),
    st.integers(16, 200) | st.integers(1024, 3000),
    st.sampled_from([4096, 65536]),
    st.lists(operations, min_size=10, max_size=40),
)
def test_every_frame_is_accounted_for(
    policy: str, frames: int, around: int, todo: list[tuple]
) -> None:
    kernel = Kernel(policy, frames * PAGE, fault_around_bytes=around)
    file = kernel.create_file("data", 3 * PMD)
    for operation in todo:
        try:
            run(kernel, file, operation)
        except MemoryError as error:
            assert "exhausted" in str(error)
        assert kernel.audit() == []
    for mm in kernel.mms():
        kernel.exit(mm)
        assert kernel.audit() == []
    kernel.close_file(file)
    in_use = kernel.frames_in_use()
    assert (in_use["table"], in_use["anon"], in_use["file"]) == (0, 0, 0)
    assert kernel.hosts() == []
