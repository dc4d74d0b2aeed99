"""Policies `hugetlb-pmd` and `huge-2m` at random, in units of 2 MiB: contents, signals, errors and
VmPTE of every process after every step are those of an oracle, and the number of PMD tables too.

What they do in units of 4 KiB, and without MAP_SHARED_PT, is in test_state_machine.py, and
a memory that is too small in test_out_of_memory.py.
"""

from __future__ import annotations

import pytest
from checked import Cached, drive
from huge_oracle import EINVAL, SLOT, HugeOracle, Vma
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from records import FIXED, PAGE, PMD_PAGES, READ, SHARED, SHARED_PT, WRITE, File
from twin import Twin

PMD = PAGE * PMD_PAGES
BASE = 0x100_0000_0000 // PMD  # in 2 MiB pages; starts what one PUD table spans
MEMORY = 16 << 30
DONTNEED = 4

processes = st.integers(0, 30)
near = st.sampled_from([0, 0, 1, 2, 5, 255, 510, 511])
# Near the edges of three slots.
pages = st.builds(lambda slot, page: BASE + slot * SLOT + page, st.integers(0, 2), near)
starts = st.sampled_from([0, 0, SLOT, 2 * SLOT, 1, 511]).map(lambda page: BASE + page)
lengths = st.sampled_from([SLOT, SLOT, 2 * SLOT, SLOT + 1, SLOT - 1, 1, 3])
counts = st.sampled_from([1, 1, 2, 3, SLOT, SLOT + 1])
rights = st.sampled_from([READ | WRITE, READ | WRITE, READ, 0])
words = st.integers(1, 2**64 - 1)


class HugetlbMachine(Cached):
    levels = 4
    policy = "hugetlb-pmd"

    @initialize()
    def boot(self) -> None:
        self.kernel = Twin((self.policy,), MEMORY, levels=self.levels)
        self.oracle = HugeOracle(shares=self.policy == "hugetlb-pmd")
        self.files = []
        for size in (3 * SLOT * PMD, SLOT * PMD, 40 * PMD):
            number = self.kernel.create_file(f"file {size}", size)
            self.files.append(File(number, size))
        for _ in range(3):
            self.spawn()

    @property
    def live(self) -> list[int]:
        return sorted(self.oracle.vmas)

    def pick(self, number: int) -> int:
        return self.live[number % len(self.live)]

    @rule()
    def spawn(self) -> None:
        if len(self.live) < 5:
            self.oracle.spawn(self.kernel.create_mm())

    @precondition(lambda self: self.live)
    @rule(who=processes)
    def fork(self, who: int) -> None:
        if len(self.live) < 5:
            parent = self.pick(who)
            self.oracle.fork(parent, self.kernel.fork(parent))

    @precondition(lambda self: len(self.live) > 1)
    @rule(who=processes)
    def exit(self, who: int) -> None:
        mm = self.pick(who)
        self.kernel.exit(mm)
        self.oracle.exit(mm)
        self.tlb = {key: entry for key, entry in self.tlb.items() if key[0] != mm}

    # ---- calls

    def do_map(self, mm: int, vma: Vma) -> None:
        flags = SHARED | FIXED | (SHARED_PT if vma.huge else 0)
        where = vma.start * PMD, (vma.end - vma.start) * PMD
        offset = vma.offset * PMD
        got = self.kernel.mmap(mm, *where, vma.prot, flags, vma.file.id, offset, True, vma.writable)
        assert got == vma.start * PMD
        self.oracle.map(mm, vma)

    @precondition(lambda self: self.live)
    @rule(who=processes, start=starts, length=lengths, prot=rights, file=st.integers(0, 1))
    def map(self, who: int, start: int, length: int, prot: int, file: int) -> None:
        vma = Vma(start, start + length, self.files[file], 0, prot, True, True)
        self.do_map(self.pick(who), vma)

    @precondition(lambda self: self.live)
    @rule(start=starts, prot=rights, offset=st.sampled_from([0, 0, SLOT, 1]))
    def map_in_all(self, start: int, prot: int, offset: int) -> None:
        for mm in self.live:
            vma = Vma(start, start + 2 * SLOT, self.files[0], offset, prot, True, True)
            self.do_map(mm, vma)

    @precondition(lambda self: self.live)
    @rule(who=processes, start=starts)
    def map_for_reading(self, who: int, start: int) -> None:
        vma = Vma(start, start + SLOT, self.files[0], 0, READ, False, True)
        self.do_map(self.pick(who), vma)

    @precondition(lambda self: self.live)
    @rule(who=processes, page=pages)
    def map_small_pages(self, who: int, page: int) -> None:
        vma = Vma(page, page + 2, self.files[2], 0, READ | WRITE, True, False)
        self.do_map(self.pick(who), vma)

    @precondition(lambda self: self.live)
    @rule(who=processes, page=pages, count=counts)
    def munmap(self, who: int, page: int, count: int) -> None:
        mm = self.pick(who)
        assert self.kernel.munmap(mm, page * PMD, count * PMD) == 0
        self.oracle.unmap(mm, page, page + count)

    @precondition(lambda self: self.live)
    @rule(who=processes, page=pages, count=counts, prot=rights)
    def mprotect(self, who: int, page: int, count: int, prot: int) -> None:
        mm = self.pick(who)
        want = self.oracle.protect(mm, page, page + count, prot)
        assert self.kernel.mprotect(mm, page * PMD, count * PMD, prot) == want

    @precondition(lambda self: self.live)
    @rule(who=processes, page=pages, count=counts)
    def madvise(self, who: int, page: int, count: int) -> None:
        mm = self.pick(who)
        want = self.oracle.discard(mm, page, page + count)
        assert self.kernel.madvise(mm, page * PMD, count * PMD, DONTNEED) == want

    @precondition(lambda self: self.live)
    @rule(who=processes, page=pages)
    def cut_a_page(self, who: int, page: int) -> None:
        """No call takes a part of a 2 MiB page."""
        mm = self.pick(who)
        vma = self.oracle.find(mm, page)
        if vma is None or not vma.huge:
            return
        inside = page * PMD + PAGE
        assert self.kernel.munmap(mm, inside, PAGE) == EINVAL
        assert self.kernel.mprotect(mm, inside, PAGE, vma.prot ^ READ) in (EINVAL, -13)
        assert self.kernel.madvise(mm, inside, PMD, DONTNEED) == EINVAL

    @rule(file=st.integers(0, 1), size=st.sampled_from([0, 1, 2, 511, SLOT, SLOT + 2, 3 * SLOT]))
    def truncate(self, file: int, size: int) -> None:
        assert self.kernel.truncate(self.files[file].id, size * PMD) == 0
        self.oracle.truncate(self.files[file], size)

    @rule(beside=st.booleans())
    def save_and_restore(self, beside: bool) -> None:
        self.kernel.save_and_restore(beside)

    # ---- accesses

    def use(self, mm: int, page: int, small: int, value: int | None) -> None:
        address = page * PMD + small * PAGE
        signal, word = self.oracle.access(mm, page, small, value is not None, value or 0)
        if value is None:
            assert self.kernel.read(mm, address) == (signal, word)
        else:
            assert self.kernel.write(mm, address, value) == signal
        if not signal:
            self.remember(mm, address)

    @precondition(lambda self: self.live)
    @rule(who=processes, page=pages, small=near, value=st.none() | words)
    def access(self, who: int, page: int, small: int, value: int | None) -> None:
        self.use(self.pick(who), page, small, value)

    @precondition(lambda self: self.live)
    @rule(who=processes, page=pages, value=words)
    def all_see_one_write(self, who: int, page: int, value: int) -> None:
        self.use(self.pick(who), page, 3, value)
        for mm in self.live:
            self.use(mm, page, 3, None)

    # ---- what must hold after every step

    @invariant()
    def tables_are_the_oracles(self) -> None:
        assert self.kernel.audit() == []
        for mm in self.live:
            more = PAGE if self.levels == 5 and mm in self.oracle.touched else 0
            assert self.kernel.vm_pte_bytes(mm) == self.oracle.pte_bytes(mm) + more
        tables = {id(t): t for slots in self.oracle.tables.values() for t in slots.values()}
        assert self.kernel.table_counts()["pmd"] == len(tables)
        shareable = [table for table in tables.values() if table.key]
        assert self.kernel.table_counts()["host"] == len(shareable)
        users = sorted(len(host["guests"]) for host in self.kernel.hosts())
        assert users == sorted(len(table.users) for table in shareable)

    @invariant()
    def mappings_are_the_oracles(self) -> None:
        for mm in self.live:
            got = [(v[0], v[1], v[2] & 7) for v in self.kernel.vmas(mm) if v[2] & 1 << 22]
            want = [(v.start * PMD, v.end * PMD, v.prot) for v in self.oracle.vmas[mm] if v.huge]
            assert got == sorted(want)

    def teardown(self) -> None:
        while self.live:
            self.kernel.exit(self.live[0])
            self.oracle.exit(self.live[0])
            assert self.kernel.audit() == []
        for file in self.files:
            self.kernel.close_file(file.id)
        in_use = self.kernel.frames_in_use()
        assert (in_use["table"], in_use["anon"], in_use["file"]) == (0, 0, 0)
        super().teardown()


@pytest.mark.parametrize(
    ("policy", "levels"), [("hugetlb-pmd", 4), ("hugetlb-pmd", 5), ("huge-2m", 4)]
)
def test_processes_see_what_linux_shows_them(policy: str, levels: int) -> None:
    machine = type("Machine", (HugetlbMachine,), {"policy": policy, "levels": levels})
    drive(machine)
