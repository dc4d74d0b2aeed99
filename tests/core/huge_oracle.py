"""What Linux does with mappings of hugetlbfs, in units of 2 MiB: the contents that processes see,
and which PMD tables there are.

Written against the kernel's behaviour, not against core: every mm has a table for each slot (1 GiB)
that it uses, and a table knows its users. A kernel without CONFIG_HUGETLB_PMD_PAGE_TABLE_SHARING
shares none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from records import PMD_PAGES, READ, WRITE, File

SLOT = 512  # 2 MiB pages
EACCES, EINVAL, ENOMEM = -13, -22, -12
SIGBUS, SIGSEGV = 7, 11


@dataclass(eq=False)
class Table:
    """A PMD table. `key`: what a VMA must be like to share it; None: nobody may."""

    key: tuple[int, int, int, bool] | None
    users: list[tuple[int, int]]  # (mm, slot)
    leaves: set[int] = field(default_factory=set)  # 2 MiB pages from the slot's start


@dataclass(eq=False)
class Vma:
    start: int  # in 2 MiB pages, as are the others
    end: int
    file: File
    offset: int
    prot: int
    writable: bool
    huge: bool

    def at(self, page: int) -> int:
        return self.offset + page - self.start

    def holds(self, slot: int) -> bool:
        return self.huge and self.start <= slot and slot + SLOT <= self.end

    def slots(self, start: int, end: int) -> range:
        low, high = max(start, self.start), min(end, self.end)
        return range(low // SLOT * SLOT, high, SLOT)

    def key(self, slot: int) -> tuple[int, int, int, bool]:
        assert self.file.id is not None
        return (self.file.id, self.at(slot), self.prot, self.writable)


class HugeOracle:
    def __init__(self, shares: bool) -> None:
        self.shares = shares
        self.vmas: dict[int, list[Vma]] = {}
        self.tables: dict[int, dict[int, Table]] = {}  # mm -> slot -> table
        self.small: dict[int, set[int]] = {}  # mm -> 2 MiB pages with a PTE table
        self.touched: set[int] = set()  # mms with upper tables

    def spawn(self, mm: int) -> None:
        self.vmas[mm], self.tables[mm], self.small[mm] = [], {}, set()

    def fork(self, parent: int, child: int) -> None:
        self.spawn(child)
        self.vmas[child] = [replace(vma) for vma in self.vmas[parent]]

    def exit(self, mm: int) -> None:
        self.unmap(mm, 0, 1 << 30)
        del self.vmas[mm], self.tables[mm], self.small[mm]

    def find(self, mm: int, page: int) -> Vma | None:
        return next((v for v in self.vmas[mm] if v.start <= page < v.end), None)

    def pte_bytes(self, mm: int) -> int:
        # One PUD table spans all; it goes with the last VMA.
        upper = 1 if mm in self.touched else 0
        return 4096 * (upper + len(self.tables[mm]) + len(self.small[mm]))

    # ---- calls

    def map(self, mm: int, vma: Vma) -> None:
        self.unmap(mm, vma.start, vma.end)
        self.vmas[mm].append(vma)
        if vma.huge and vma.prot & WRITE:
            reach = vma.at(vma.end) * PMD_PAGES * 4096
            if vma.file.size < reach:
                vma.file.resize(reach)

    def unmap(self, mm: int, start: int, end: int) -> None:
        self._split(mm, start)
        self._split(mm, end)
        for vma in [v for v in self.vmas[mm] if start <= v.start < end]:
            for slot in vma.slots(start, end):
                self._zap(mm, vma, slot, start, end)
                if vma.holds(slot) and slot in self.tables[mm]:
                    self._leave(mm, slot)
            self.small[mm] -= set(range(vma.start, vma.end)) if not vma.huge else set()
            self.vmas[mm].remove(vma)
        for slot in list(self.tables[mm]):
            used = any(v.start < slot + SLOT and slot < v.end for v in self.vmas[mm])
            if not used:
                self._leave(mm, slot)
        if not self.vmas[mm]:
            self.touched.discard(mm)

    def protect(self, mm: int, start: int, end: int, prot: int) -> int:
        at = start
        while at < end:
            vma = self.find(mm, at)
            if vma is None:
                return ENOMEM
            stop = min(end, vma.end)
            if prot & WRITE and not vma.writable:
                return EACCES
            if prot != vma.prot:
                self._split(mm, at)
                self._split(mm, stop)
                vma = self.find(mm, at)
                assert vma
                vma.prot = prot
                for slot in vma.slots(at, stop) if vma.huge else ():
                    table = self.tables[mm].get(slot)
                    if table and len(table.users) > 1:
                        self._leave(mm, slot)
                    elif table:
                        table.key = self._key(vma, slot)
            at = stop
        return 0

    def discard(self, mm: int, start: int, end: int) -> int:
        hole = any(self.find(mm, page) is None for page in range(start, end))
        for vma in self.vmas[mm]:
            for slot in vma.slots(start, end):
                self._zap(mm, vma, slot, start, end)
        return ENOMEM if hole else 0

    def truncate(self, file: File, pages: int) -> None:
        for mm in sorted(self.vmas):
            for vma in sorted(self.vmas[mm], key=lambda v: v.start):
                keep = vma.start + max(0, pages - vma.offset)
                if vma.file is file and keep < vma.end:
                    for slot in vma.slots(keep, vma.end):
                        self._zap(mm, vma, slot, keep, vma.end)
        file.resize(pages * PMD_PAGES * 4096)

    # ---- accesses

    def access(self, mm: int, page: int, small: int, write: bool, value: int) -> tuple[int, int]:
        """Of 4 KiB page `small` in a 2 MiB page: the signal, or 0 and the word."""
        vma = self.find(mm, page)
        if vma is None or not vma.prot & (WRITE if write else READ | WRITE):
            return SIGSEGV, 0
        number = vma.at(page) * PMD_PAGES + small
        if number >= vma.file.pages:
            return SIGBUS, 0
        slot = page // SLOT * SLOT
        self.touched.add(mm)
        table = self.tables[mm].get(slot)
        if table is None:
            table = self._table(mm, vma, slot)
        if vma.huge:
            table.leaves.add(page - slot)
        else:
            self.small[mm].add(page)
        if write:
            vma.file.written[number] = value
            return 0, value
        return 0, vma.file.word(number)

    # ---- parts

    def _key(self, vma: Vma, slot: int) -> tuple[int, int, int, bool] | None:
        return vma.key(slot) if self.shares and vma.holds(slot) else None

    def _table(self, mm: int, vma: Vma, slot: int) -> Table:
        key = self._key(vma, slot)
        everyone = [t for slots in self.tables.values() for t in slots.values()]
        table = next((t for t in everyone if key and t.key == key), None) or Table(key, [])
        table.users.append((mm, slot))
        self.tables[mm][slot] = table
        return table

    def _leave(self, mm: int, slot: int) -> None:
        self.tables[mm].pop(slot).users.remove((mm, slot))

    def _zap(self, mm: int, vma: Vma, slot: int, start: int, end: int) -> None:
        table = self.tables[mm].get(slot)
        if not vma.huge or table is None:
            return
        if len(table.users) > 1:
            self._leave(mm, slot)
        else:
            low, high = max(start, vma.start, slot), min(end, vma.end)
            table.leaves -= set(range(low - slot, min(high - slot, SLOT)))

    def _split(self, mm: int, at: int) -> None:
        vma = self.find(mm, at)
        if vma is None or vma.start == at:
            return
        slot = at // SLOT * SLOT
        table = self.tables[mm].get(slot)
        if table and slot != at and vma.holds(slot):
            if len(table.users) > 1:
                self._leave(mm, slot)
            else:
                table.key = None
        self.vmas[mm].append(replace(vma, start=at, offset=vma.at(at)))
        vma.end = at
