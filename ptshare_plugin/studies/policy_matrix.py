"""What each policy answers: the matrix that ``ptshare policies`` prints.

A case is an operation in a situation. Its function brings a new kernel of core into the situation,
performs the operation and says in words what came of it, whatever the policy.
``tests/core/test_policy_matrix.py`` states what each policy must answer.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from ptshare_plugin._core import Kernel

MEMORY = 128 << 20
PAGE, PMD = 1 << 12, 1 << 21
BASE = 1 << 44  # a multiple of what any policy asks for
ELSEWHERE = BASE + (1 << 39)
LENGTH = 4 * PMD
READ, WRITE = 1, 2
SHARED, PRIVATE, FIXED, ANONYMOUS = 0x01, 0x02, 0x10, 0x20
POPULATE, SHARED_PT = 0x8000, 0x200000
DONTNEED = 4
VM_HUGETLB = 1 << 22
ASK = SHARED | FIXED | SHARED_PT


class NotReached(Exception):
    """Under this policy it does not come to what a case is about."""


def _need(reached: bool) -> None:
    if not reached:
        raise NotReached


class World:
    """A kernel under a policy, with one file of the region's size and some processes."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.file = kernel.create_file("region", LENGTH)
        self.one, self.two, self.three = (kernel.create_mm() for _ in range(3))

    def map(
        self,
        mm: int,
        address: int = BASE,
        length: int = LENGTH,
        prot: int = READ | WRITE,
        flags: int = ASK,
        offset: int = 0,
    ) -> int:
        """Address or minus errno of an mmap of the file, or of anonymous memory."""
        file = -1 if flags & ANONYMOUS else self.file
        return self.kernel.mmap(mm, address, length, prot, flags, file, offset)

    def outcome(self, mm: int, result: int) -> str:
        """What mmap made, in words."""
        if result < 0:
            return errno.errorcode[-result]
        _, _, flags, _, _, attached = next(
            vma for vma in self.kernel.vmas(mm) if vma[0] <= result < vma[1]
        )
        if flags & VM_HUGETLB:
            return "2 MiB pages"
        if not attached:
            return "own tables"
        guests = next(h["guests"] for h in self.kernel.hosts() if mm in h["guests"])
        return "makes a host" if len(guests) == 1 else "is a guest"

    def touch(self, mm: int, address: int, access: str = "read") -> str:
        """Faults of an access until it goes through: their kinds, or the signal."""
        kinds: list[str] = []
        while True:
            kind = self.kernel.fault(mm, address, access)[0]
            if kind == "spurious":
                return " + ".join(kinds) or "no fault"
            if kind in ("segv", "bus"):
                return "SIG" + kind.upper()
            kinds.append(kind)

    def share(self, *mms: int) -> None:
        """Map the region in these processes, and touch its first page in each."""
        for mm in mms:
            _need(self.map(mm) == BASE)
            self.kernel.read(mm, BASE)

    def mapped(self, mm: int, address: int = BASE) -> bool:
        """Whether a walk finds something."""
        return self.kernel.translate(mm, address) is not None

    def tables_left(self) -> str:
        """Table pages in use, in words."""
        left = self.kernel.table_counts()["total"]
        return "nothing left" if left == 0 else f"leaks {left} tables"

    def end(self, *mms: int) -> None:
        """The processes exit."""
        for mm in mms:
            self.kernel.exit(mm)


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the matrix. ``drive``: NotReached when the policy does not let it happen."""

    operation: str
    situation: str
    drive: Callable[[World], str]

    def answer(self, policy: str) -> str:
        """What comes of it under a policy, in words."""
        try:
            return self.drive(World(Kernel(policy, MEMORY)))
        except NotReached:
            return "does not come to this"


CASES: list[Case] = []


def _case(
    operation: str, situation: str
) -> Callable[[Callable[[World], str]], Callable[[World], str]]:
    def add(drive: Callable[[World], str]) -> Callable[[World], str]:
        CASES.append(Case(operation, situation, drive))
        return drive

    return add


@_case("query", "what addresses must be multiples of")
def _query(w: World) -> str:
    return str(w.kernel.alignment())


@_case("mmap", "first process")
def _mmap_first(w: World) -> str:
    return w.outcome(w.one, w.map(w.one))


@_case("mmap", "second process, the same range")
def _mmap_second(w: World) -> str:
    w.share(w.one)
    return w.outcome(w.two, w.map(w.two))


@_case("mmap", "length no multiple of 2 MiB")
def _mmap_length(w: World) -> str:
    return w.outcome(w.one, w.map(w.one, length=PMD + PAGE))


@_case("mmap", "address no multiple of 2 MiB")
def _mmap_address(w: World) -> str:
    return w.outcome(w.one, w.map(w.one, address=BASE + PAGE))


@_case("mmap", "second process, 512 GiB above the first")
def _mmap_elsewhere(w: World) -> str:
    w.share(w.one)
    return w.outcome(w.two, w.map(w.two, address=ELSEWHERE))


@_case("mmap", "second process, half of the range")
def _mmap_half(w: World) -> str:
    w.share(w.one)
    return w.outcome(w.two, w.map(w.two, length=LENGTH // 2))


@_case("mmap", "a process that has the range, once more")
def _mmap_again(w: World) -> str:
    w.share(w.one, w.two)
    return w.outcome(w.two, w.map(w.two))


@_case("mmap", "second process, fewer rights than the first")
def _mmap_less(w: World) -> str:
    w.share(w.one)
    return w.outcome(w.two, w.map(w.two, prot=READ))


@_case("mmap", "second process, more rights than the first")
def _mmap_more(w: World) -> str:
    _need(w.map(w.one, prot=READ) == BASE)
    return w.outcome(w.two, w.map(w.two))


@_case("mmap", "MAP_PRIVATE")
def _mmap_private(w: World) -> str:
    return w.outcome(w.one, w.map(w.one, flags=PRIVATE | FIXED | SHARED_PT))


@_case("mmap", "anonymous")
def _mmap_anonymous(w: World) -> str:
    return w.outcome(w.one, w.map(w.one, flags=ASK | ANONYMOUS))


@_case("mmap", "over pages touched before: their PTEs")
def _mmap_carries(w: World) -> str:
    _need(w.map(w.one, flags=SHARED | FIXED) == BASE)
    w.kernel.read(w.one, BASE)
    _need(w.map(w.one) == BASE)
    return "copied to the host" if w.kernel.stats()["carried_pages"] else "dropped"


@_case("mmap", "MAP_POPULATE, second process: links made")
def _mmap_populate(w: World) -> str:
    _need(w.map(w.one, flags=ASK | POPULATE) == BASE)
    before = w.kernel.stats()["links"]
    _need(w.map(w.two, flags=ASK | POPULATE) == BASE)
    _need(all(w.mapped(w.two, BASE + i * PAGE) for i in range(LENGTH // PAGE)))
    return str(w.kernel.stats()["links"] - before)


@_case("munmap", "the whole, one of two: the other")
def _munmap_whole(w: World) -> str:
    w.share(w.one, w.two)
    _need(w.kernel.munmap(w.one, BASE, LENGTH) == 0)
    _need(not w.mapped(w.one))
    return "goes on" if w.mapped(w.two) and not w.kernel.read(w.two, BASE)[0] else "is cut off"


@_case("munmap", "one page")
def _munmap_page(w: World) -> str:
    w.share(w.one, w.two)
    return _word(w.kernel.munmap(w.one, BASE, PAGE))


@_case("munmap", "2 MiB of more")
def _munmap_part(w: World) -> str:
    w.share(w.one, w.two)
    return _word(w.kernel.munmap(w.one, BASE, PMD))


@_case("munmap", "by the last one, all alive")
def _munmap_last(w: World) -> str:
    before = w.kernel.table_counts()
    w.share(w.one, w.two)
    for mm in (w.one, w.two):
        _need(w.kernel.munmap(mm, BASE, LENGTH) == 0)
    if w.kernel.table_counts() == before:
        return "nothing left"
    w.end(w.one)
    return "stays until its owner ends" if not w.kernel.hosts() else "leaks"


@_case("munmap", "by a forked child and one more: the parent")
def _munmap_child(w: World) -> str:
    w.share(w.one, w.two)
    child = w.kernel.fork(w.two)
    for mm in (w.one, child):
        _need(w.kernel.munmap(mm, BASE, LENGTH) == 0)
    return "its tables are freed under it" if w.kernel.stats()["dangling_links"] else "goes on"


@_case("mprotect", "one page, to read-only: then read-only for")
def _mprotect_page(w: World) -> str:
    return _protect(w, PAGE)


@_case("mprotect", "2 MiB, to read-only: then read-only for")
def _mprotect_part(w: World) -> str:
    return _protect(w, PMD)


@_case("mprotect", "2 MiB: which CPUs flush at once")
def _mprotect_flush(w: World) -> str:
    w.share(w.one, w.two)
    w.kernel.take_effects()
    _need(w.kernel.mprotect(w.one, BASE, PMD, READ) == 0)
    (flush,) = w.kernel.take_effects()["flushes"]
    if {mm for mm, _, _ in flush[0]} == {w.one}:
        return "those of the caller"
    return {
        "lazy": "those that run a guest",
        "sharers": "those that ran a guest",
        "caller-only": "those of the caller",
        "all-cpus": "all",
    }[w.kernel.flush_strategy()]


@_case("mremap", "to grow")
def _mremap(w: World) -> str:
    w.share(w.one, w.two)
    result = w.kernel.mremap(w.one, BASE, LENGTH, LENGTH + PMD, 1)
    return "ok" if result > 0 else _word(result)


@_case("madvise", "MADV_DONTNEED, 2 MiB: then unmapped for")
def _madvise(w: World) -> str:
    w.share(w.one, w.two)
    _need(w.kernel.madvise(w.one, BASE, PMD, DONTNEED) == 0)
    _need(not w.mapped(w.one))
    return "the caller" if w.mapped(w.two) else "all"


@_case("fork", "the child's first access to a page the parent has")
def _fork(w: World) -> str:
    w.share(w.one, w.two)
    child = w.kernel.fork(w.two)
    _need(not w.mapped(child))
    return w.touch(child, BASE)


@_case("exec", "a later guest: the others")
def _exec(w: World) -> str:
    w.share(w.one, w.two)
    new = w.kernel.create_mm()  # the new program's; the old mm is left
    w.end(w.two)
    _need(not w.mapped(new))
    return "go on" if not w.kernel.read(w.one, BASE)[0] else "SIGSEGV"


@_case("exit", "the first process: the others")
def _exit_first(w: World) -> str:
    w.share(w.one, w.two)
    w.end(w.one)
    return "go on" if not w.kernel.read(w.two, BASE)[0] else "SIGSEGV"


@_case("exit", "all, the first one last")
def _exit_all(w: World) -> str:
    w.share(w.one, w.two)
    w.end(w.three, w.two, w.one)
    return w.tables_left()


@_case("exit", "all, the first one first")
def _exit_all_first(w: World) -> str:
    w.share(w.one, w.two)
    w.end(w.one, w.two, w.three)
    return w.tables_left()


@_case("fault", "the first process, a new page")
def _fault_first(w: World) -> str:
    _need(w.map(w.one) == BASE)
    return w.touch(w.one, BASE)


@_case("fault", "a guest, a page that is mapped already")
def _fault_guest(w: World) -> str:
    w.share(w.one)
    _need(w.map(w.two) == BASE)
    return w.touch(w.two, BASE)


@_case("fault", "a guest, the first to touch 2 MiB")
def _fault_toucher(w: World) -> str:
    _need(w.map(w.one) == BASE)
    _need(w.map(w.two) == BASE)
    return w.touch(w.two, BASE)


@_case("fault", "a guest, a new page beside mapped ones")
def _fault_beside(w: World) -> str:
    w.share(w.one)
    _need(w.map(w.two) == BASE)
    return w.touch(w.two, BASE + PAGE)


@_case("fault", "a write, after mprotect of it by another")
def _fault_rights(w: World) -> str:
    w.share(w.one, w.two)
    _need(w.kernel.mprotect(w.one, BASE, PMD, READ) == 0)
    return w.touch(w.two, BASE, "write")


@_case("fault", "beyond the end of the file")
def _fault_beyond(w: World) -> str:
    _need(w.map(w.one) == BASE)
    _need(w.kernel.truncate(w.file, PMD) == 0)
    return w.touch(w.one, BASE + PMD)


def _word(result: int) -> str:
    return "ok" if result == 0 else errno.errorcode[-result]


def _protect(w: World, length: int) -> str:
    w.share(w.one, w.two)
    before = w.kernel.table_counts()
    result = w.kernel.mprotect(w.one, BASE, length, READ)
    _need(w.kernel.table_counts() == before)
    if result != 0:
        return f"nobody ({_word(result)})"
    denied = w.kernel.write(w.one, BASE, 1) != 0, w.kernel.write(w.two, BASE, 1) != 0
    return {(True, False): "the caller", (True, True): "all", (False, True): "the others"}.get(
        denied, "nobody"
    )
