"""What user space must see of the memory system calls: errno, signals, data.

Written from the specification alone, page by page: a dictionary of pages for each address space,
a dictionary of words for each file. It knows no page table, no VMA and no frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from records import (
    EXEC,
    FIXED,
    GROWSDOWN,
    NOREPLACE,
    PAGE,
    PMD_PAGES,
    POPULATE,
    PRIVATE,
    READ,
    SHARED,
    SHARED_PT,
    WRITE,
    File,
    Group,
    Mmap,
    Page,
    Space,
    pages_of,
)
from rules import PLAIN, PUD_PAGES, Verdict, refuse
from spaces import Spaces

ENOMEM, EACCES, EFAULT, EEXIST, EINVAL = -12, -13, -14, -17, -22
SIGBUS, SIGSEGV = 7, 11
NEEDS = {"read": READ | WRITE | EXEC, "write": WRITE, "fetch": EXEC}  # any one of these rights


class Oracle(Spaces):
    def __init__(self, policy: str, options: Mapping[str, Any]) -> None:
        super().__init__(policy, options)
        self.refusals: dict[str, int] = {}
        self.carried = 0
        self.fell_back = 0

    # ---- processes

    def fork(self, parent: int, child: int) -> None:
        old = self.spaces[parent]
        new = self.spaces[child] = Space()
        new.brk_start, new.brk = old.brk_start, old.brk
        new.pages = {at: dataclasses.replace(p, present=False) for at, p in old.pages.items()}
        for group in self.groups:
            self.ranges.fork(group, parent, child)

    def exit(self, mm: int) -> None:
        space = self.spaces[mm]
        space.users -= 1
        if space.users == 0:
            self.remove(mm, list(space.pages), exiting=True)
            del self.spaces[mm]
            self.rules.ended(mm)

    # ---- files

    def truncate(self, file: File, size: int) -> int:
        if file.huge and size % (PMD_PAGES * PAGE):
            return EINVAL
        if size < file.size:
            for space in self.spaces.values():
                for page in space.pages.values():
                    if page.file is file and page.file_page >= pages_of(size):
                        page.own, page.present = None, False
            for group in self.groups:
                if group.file is file:
                    keep = pages_of(size) - group.file_page
                    group.mapped = {at for at in group.mapped if at < keep}
        file.resize(size)
        return 0

    # ---- system calls: each returns what the caller sees; mmap and mremap take the address that
    # was chosen, where the choice is the kernel's, and check that it was free

    def mmap(self, mm: int, ask: Mmap, chosen: int) -> int:
        space, file, offset, flags = self.spaces[mm], ask.file, ask.offset, ask.flags
        kind = flags & 0xF
        shared = kind == SHARED
        count = pages_of(ask.length)
        if kind not in (SHARED, PRIVATE) or ask.length == 0 or offset % PAGE:
            return EINVAL
        if flags & GROWSDOWN and (shared or file):
            return EINVAL
        if file and (not ask.readable or (shared and ask.prot & WRITE and not ask.writable)):
            return EACCES
        asked = bool(flags & SHARED_PT)
        granule = self.rules.granule if asked else 1
        count = -(-count // granule) * granule
        if flags & (FIXED | NOREPLACE):
            if ask.address % PAGE:
                return EINVAL
            start: int | None = ask.address // PAGE
            if flags & NOREPLACE and self.taken(mm, ask.address // PAGE, count):
                return EEXIST
        else:
            hint = -(-(ask.address // PAGE) // granule) * granule
            wishes = hint, self.rules.preferred(ask) if asked else 0
            start = next((at for at in wishes if at and not self.taken(mm, at, count)), None)
        rights = ask.prot & 7
        may_write = not (file and shared and not ask.writable)
        verdict = self._judge(mm, ask, start, (rights, may_write)) if asked else PLAIN
        if verdict.error:
            return verdict.error
        if start is None:
            if chosen < 0:
                return 0  # cannot fail here: the checker reports it
            start = chosen // PAGE
            assert chosen % PAGE == 0 and not self.taken(mm, start, count)
            assert not asked or start % self.rules.unit == 0
        if self.splits(space, start, count) or self.in_others_room(mm, start, count):
            return EINVAL

        carried = self._to_carry(space, ask, start) if verdict.how == "shared" else set()
        self.remove(mm, range(start, start + count))
        if shared and not file:
            file, offset = File(None, count * PAGE), 0
        first = offset // PAGE
        joined = None
        if verdict.how == "shared":
            assert file
            joined = self.ranges.overlapping(ask)  # the last member may just have left
            if not joined:
                joined = Group(file, first, start, count, (rights, may_write), [rights] * count)
                joined.mapped = carried
                joined.chunks = {i // PMD_PAGES for i in carried}
                self.carried += len(carried)
                self.groups.append(joined)
            alone = self.has_room(mm, start, count, PUD_PAGES)
            self.ranges.attach(joined, mm, start, alone)
        piece = object() if verdict.how == "huge" else None
        if piece and file:
            file.huge = True
            if ask.prot & WRITE:  # it reaches as far as it is mapped
                file.resize(max(file.size, offset + count * PAGE))
        grows = bool(flags & GROWSDOWN)
        for i in range(count):
            page = Page(rights, may_write, shared, file, first + i if file else 0, joined, grows)
            page.piece = piece
            space.pages[start + i] = page
        if flags & POPULATE:
            for i in range(count):
                signal, word = self.access(mm, (start + i) * PAGE, "read")
                if signal:
                    break
                if ask.prot & WRITE and not shared:  # populated by a write that changes nothing
                    space.pages[start + i].own = word
        return start * PAGE

    def munmap(self, mm: int, address: int, length: int) -> int:
        if address % PAGE or length == 0:
            return EINVAL
        if self.splits(self.spaces[mm], address // PAGE, pages_of(length)):
            return EINVAL
        self.remove(mm, range(address // PAGE, address // PAGE + pages_of(length)))
        return 0

    def mprotect(self, mm: int, address: int, length: int, prot: int) -> int:
        if address % PAGE:
            return EINVAL
        pages = self.spaces[mm].pages
        at = address // PAGE
        end = at + pages_of(length)
        while at < end:
            page = pages.get(at)
            if page is None or (page.group and page.group.dead):
                return ENOMEM
            if prot & WRITE and not (page.group.created[1] if page.group else page.may_write):
                return EACCES
            stop = at + 1
            if page.group:
                page.group.rights[page.offset] = prot
            elif page.piece is None:
                page.rights = prot
            else:  # all of the VMA or nothing
                while stop < end and stop in pages and pages[stop].piece is page.piece:
                    stop += 1
                if page.rights != prot:
                    if at % PMD_PAGES or stop % PMD_PAGES:
                        return EINVAL
                    piece = object()
                    for changed in map(pages.__getitem__, range(at, stop)):
                        changed.rights, changed.piece = prot, piece
            at = stop
        return 0

    def mremap(
        self,
        mm: int,
        address: int,
        sizes: tuple[int, int],
        flags: int,
        to: int,
        one_vma: bool,
        chosen: int,
    ) -> int:
        """`sizes`: old and new. `one_vma`: whether the old range is one VMA."""
        space = self.spaces[mm]
        start, count, wanted = address // PAGE, *map(pages_of, sizes)
        fixed = bool(flags & 2)
        if (fixed and not flags & 1) or count == 0 or wanted == 0:
            return EINVAL
        target = to // PAGE
        huge = start in space.pages and space.pages[start].piece is not None
        if huge:
            count, wanted = (-(-n // PMD_PAGES) * PMD_PAGES for n in (count, wanted))
            misplaced = start % PMD_PAGES or (fixed and to % (PMD_PAGES * PAGE))
            if misplaced or wanted > count:
                return EINVAL
        source = [space.pages.get(start + i) for i in range(count)]
        if not one_vma or any(page is None for page in source):
            return EFAULT
        pages = [page for page in source if page]
        if pages[0].group:
            return EINVAL
        if fixed:
            if to % PAGE or (target < start + count and start < target + wanted):
                return EINVAL
            if self.splits(space, target, wanted) or self.in_others_room(mm, target, wanted):
                return EINVAL
        if wanted < count:
            self.remove(mm, range(start + wanted, start + count))
            pages = pages[:wanted]
        last = pages[-1]
        for i in range(1, wanted - count + 1):
            page = dataclasses.replace(last, own=None, present=False)
            page.file_page += i if page.file else 0
            pages.append(page)
        if fixed:
            self.remove(mm, range(target, target + wanted))
        elif wanted <= count:
            return address
        elif not self.taken(mm, start + count, wanted - count):
            target = start
        elif not flags & 1:
            return ENOMEM
        else:
            target = chosen // PAGE
            assert chosen > 0 and chosen % PAGE == 0 and not self.taken(mm, target, wanted)
        for i in range(min(count, wanted)):
            del space.pages[start + i]
        piece = object()
        for i, page in enumerate(pages):
            space.pages[target + i] = page
            page.piece = piece if huge else None
        return target * PAGE

    def discard(self, mm: int, address: int, length: int) -> int:
        """madvise(MADV_DONTNEED)."""
        if address % PAGE:
            return EINVAL
        space, hole = self.spaces[mm], False
        first = space.pages.get(address // PAGE)
        if length and first and first.piece and address % (PMD_PAGES * PAGE):
            return EINVAL
        for at in range(address // PAGE, address // PAGE + pages_of(length)):
            page = space.pages.get(at)
            if page is None:
                hole = True
                continue
            page.own, page.present = None, False
            if page.group:
                page.group.mapped.discard(page.offset)
        return ENOMEM if hole else 0

    def move_brk(self, mm: int, end: int) -> int:
        space = self.spaces[mm]
        if space.brk_start == 0 or end < space.brk_start:
            return space.brk
        old, new = pages_of(space.brk), pages_of(end)
        if new > old and self.taken(mm, old, new - old):
            return space.brk
        if new < old and self.splits(space, new, old - new):
            return space.brk
        for at in range(old, new):
            space.pages[at] = Page(READ | WRITE, True, False, None, 0)
        self.remove(mm, range(new, old))
        space.brk = end
        return end

    # ---- accesses

    def access(self, mm: int, address: int, kind: str, value: int = 0) -> tuple[int, int]:
        """The signal, or 0 and the word that is read."""
        space, at = self.spaces[mm], address // PAGE
        page = space.pages.get(at) or self.grow(space, at)
        if page is None:
            return SIGSEGV, 0
        group, rights = page.group, page.rights
        if group:
            if group.dead:
                return SIGSEGV, 0
            guest = mm, at - page.offset, page.offset
            self.ranges.ask_for(group, *guest)
            rights = group.rights[page.offset]
        if not rights & NEEDS[kind]:
            return SIGSEGV, 0
        if page.own is None and page.file and page.file_page >= page.file.pages:
            return SIGBUS, 0
        if group:
            self.ranges.reach(group, *guest)
        elif page.shared:
            page.present = True
        if kind == "write":
            if page.shared:
                assert page.file
                page.file.written[page.file_page] = value
            else:
                page.own = value
            return 0, value
        if page.own is not None:
            return 0, page.own
        return 0, page.file.word(page.file_page) if page.file else 0

    # ---- parts

    def _judge(self, mm: int, ask: Mmap, start: int | None, wanted: tuple[int, bool]) -> Verdict:
        """The policy's verdict, and whether there is room; counted."""
        verdict = self.rules.judge(ask, start, wanted)
        count, unit = pages_of(ask.length), self.rules.unit
        placed = verdict.how == "shared" and start is not None
        if placed and not self.has_room(mm, start, count, unit):
            verdict = refuse("room")
        if verdict.error:
            self.refusals[verdict.reason] = self.refusals.get(verdict.reason, 0) + 1
        self.fell_back += verdict.how == "fell back"
        return verdict

    def _to_carry(self, space: Space, ask: Mmap, start: int) -> set[int]:
        """Pages of the range that are mapped there already."""
        carried = set()
        for i in range(pages_of(ask.length)):
            old = space.pages.get(start + i)
            if old is None or not old.shared or old.group or not old.present:
                continue
            if old.file is ask.file and old.file_page == ask.offset // PAGE + i:
                carried.add(i)
        return carried
