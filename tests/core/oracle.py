"""What user space must see of the memory system calls: errno, signals, data.

Written from the specification alone, page by page: a dictionary of pages for each address space,
a dictionary of words for each file. It knows no page table, no VMA and no frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

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

ENOMEM, EACCES, EFAULT, EEXIST, EINVAL = -12, -13, -14, -17, -22
SIGBUS, SIGSEGV = 7, 11
STACK_LIMIT = 8 << 20
NEEDS = {"read": READ | WRITE | EXEC, "write": WRITE, "fetch": EXEC}  # any one of these rights


class Oracle:
    def __init__(self, policy: str) -> None:
        self.sharing = policy == "ptshare"
        self.spaces: dict[int, Space] = {}
        self.files: dict[int, File] = {}
        self.groups: list[Group] = []
        self.refusals: dict[str, int] = {}
        self.links = 0
        self.carried = 0

    # ---- processes

    def fork(self, parent: int, child: int) -> None:
        old = self.spaces[parent]
        new = self.spaces[child] = Space()
        new.brk_start, new.brk = old.brk_start, old.brk
        new.pages = {at: dataclasses.replace(p, present=False) for at, p in old.pages.items()}
        for group in self.groups:
            if parent in group.members:
                group.members.add(child)

    def exit(self, mm: int) -> None:
        space = self.spaces[mm]
        space.users -= 1
        if space.users == 0:
            self._remove(mm, list(space.pages))
            del self.spaces[mm]

    # ---- files

    def truncate(self, file: File, size: int) -> None:
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
        asked_sharing = bool(flags & SHARED_PT) and self.sharing
        group = self._overlapping(file, offset // PAGE, count) if asked_sharing else None
        if flags & (FIXED | NOREPLACE):
            if ask.address % PAGE:
                return EINVAL
            start: int | None = ask.address // PAGE
            if flags & NOREPLACE and self._any(space, ask.address // PAGE, count):
                return EEXIST
        else:
            wishes = (ask.address // PAGE, group.start if group else 0)
            start = next((at for at in wishes if at and not self._any(space, at, count)), None)
        rights = ask.prot & 7
        may_write = not (file and shared and not ask.writable)
        if asked_sharing:
            error = self._refusal(ask, start, (rights, may_write), group)
            if error:
                return error
        if start is None:
            if chosen < 0:
                return 0  # cannot fail here: the checker reports it
            start = chosen // PAGE
            assert chosen % PAGE == 0 and not self._any(space, start, count)
            if asked_sharing:
                assert start % PMD_PAGES == 0
        if self._splits_group(space, start, count):
            return EINVAL

        carried = set()
        if asked_sharing:
            for i in range(count):
                old = space.pages.get(start + i)
                if (
                    old
                    and old.shared
                    and not old.group
                    and old.file is file
                    and old.file_page == offset // PAGE + i
                    and old.present
                ):
                    carried.add(i)
        self._remove(mm, range(start, start + count))
        if shared and not file:
            file, offset = File(None, count * PAGE), 0
        first = offset // PAGE
        joined = None
        if asked_sharing:
            assert file
            joined = self._overlapping(file, first, count)  # the last member may just have left
            if not joined:
                joined = Group(file, first, start, count, (rights, may_write), [rights] * count)
                joined.mapped = carried
                joined.chunks = {i // PMD_PAGES for i in carried}
                self.carried += len(carried)
                self.groups.append(joined)
            joined.members.add(mm)
        grows = bool(flags & GROWSDOWN)
        for i in range(count):
            space.pages[start + i] = Page(
                rights, may_write, shared, file, first + i if file else 0, joined, grows
            )
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
        if self._splits_group(self.spaces[mm], address // PAGE, pages_of(length)):
            return EINVAL
        self._remove(mm, range(address // PAGE, address // PAGE + pages_of(length)))
        return 0

    def mprotect(self, mm: int, address: int, length: int, prot: int) -> int:
        if address % PAGE:
            return EINVAL
        space = self.spaces[mm]
        for at in range(address // PAGE, address // PAGE + pages_of(length)):
            page = space.pages.get(at)
            if page is None:
                return ENOMEM
            if prot & WRITE and not page.may_write:
                return EACCES
            if page.group:
                page.group.rights[at - page.group.start] = prot
            else:
                page.rights = prot
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
        source = [space.pages.get(start + i) for i in range(count)]
        if not one_vma or any(page is None for page in source):
            return EFAULT
        pages = [page for page in source if page]
        if pages[0].group:
            return EINVAL
        target = to // PAGE
        if fixed:
            if to % PAGE or (target < start + count and start < target + wanted):
                return EINVAL
            if self._splits_group(space, target, wanted):
                return EINVAL
        if wanted < count:
            self._remove(mm, range(start + wanted, start + count))
            pages = pages[:wanted]
        last = pages[-1]
        for i in range(1, wanted - count + 1):
            page = dataclasses.replace(last, own=None, present=False)
            page.file_page += i if page.file else 0
            pages.append(page)
        if fixed:
            self._remove(mm, range(target, target + wanted))
        elif wanted <= count:
            return address
        elif not self._any(space, start + count, wanted - count):
            target = start
        elif not flags & 1:
            return ENOMEM
        else:
            target = chosen // PAGE
            assert chosen > 0 and chosen % PAGE == 0 and not self._any(space, target, wanted)
        for i in range(min(count, wanted)):
            del space.pages[start + i]
        for i, page in enumerate(pages):
            space.pages[target + i] = page
        return target * PAGE

    def discard(self, mm: int, address: int, length: int) -> int:
        """madvise(MADV_DONTNEED)."""
        if address % PAGE:
            return EINVAL
        space, hole = self.spaces[mm], False
        for at in range(address // PAGE, address // PAGE + pages_of(length)):
            page = space.pages.get(at)
            if page is None:
                hole = True
                continue
            page.own, page.present = None, False
            if page.group:
                page.group.mapped.discard(at - page.group.start)
        return ENOMEM if hole else 0

    def move_brk(self, mm: int, end: int) -> int:
        space = self.spaces[mm]
        if space.brk_start == 0 or end < space.brk_start:
            return space.brk
        old, new = pages_of(space.brk), pages_of(end)
        if new > old and self._any(space, old, new - old):
            return space.brk
        if new < old and self._splits_group(space, new, old - new):
            return space.brk
        for at in range(old, new):
            space.pages[at] = Page(READ | WRITE, True, False, None, 0)
        self._remove(mm, range(new, old))
        space.brk = end
        return end

    # ---- accesses

    def access(self, mm: int, address: int, kind: str, value: int = 0) -> tuple[int, int]:
        """The signal, or 0 and the word that is read."""
        space, at = self.spaces[mm], address // PAGE
        page = space.pages.get(at) or self._grow(space, at)
        if page is None:
            return SIGSEGV, 0
        group = page.group
        rights = group.rights[at - group.start] if group else page.rights
        if not rights & NEEDS[kind]:
            return SIGSEGV, 0
        if page.own is None and page.file and page.file_page >= page.file.pages:
            return SIGBUS, 0
        if group:
            offset = at - group.start
            group.mapped.add(offset)
            group.chunks.add(offset // PMD_PAGES)
            if (mm, offset // PMD_PAGES) not in group.links:
                group.links.add((mm, offset // PMD_PAGES))
                self.links += 1
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

    def _grow(self, space: Space, at: int) -> Page | None:
        above = min((n for n in space.pages if n > at), default=None)
        if above is None or not space.pages[above].grows:
            return None
        top = above
        while top in space.pages:
            top += 1
        if (top - at) * PAGE > STACK_LIMIT:
            return None
        for n in range(at, above):
            space.pages[n] = dataclasses.replace(space.pages[above], own=None)
        return space.pages[at]

    def _any(self, space: Space, start: int, count: int) -> bool:
        return any(start + i in space.pages for i in range(count))

    def _overlapping(self, file: File | None, first: int, count: int) -> Group | None:
        for g in self.groups:
            if g.file is file and first < g.file_page + g.count and g.file_page < first + count:
                return g
        return None

    def _refusal(
        self, ask: Mmap, start: int | None, wanted: tuple[int, bool], group: Group | None
    ) -> int:
        """Why MAP_SHARED_PT is refused, counted; 0 when it is not."""
        reason, error = "", EINVAL
        if ask.flags & 0xF != SHARED:
            reason = "private"
        elif not ask.file:
            reason = "anonymous"
        elif ask.length % (PAGE * PMD_PAGES) or (start or 0) % PMD_PAGES:
            reason = "misaligned"
        elif group and (group.start != start or group.file_page != ask.offset // PAGE):
            reason = "address"
        elif group and group.count != pages_of(ask.length):
            reason = "size"
        elif group and group.created != wanted:
            reason = "protection"
            less = not wanted[0] & ~group.created[0] and group.created[1] == wanted[1]
            error = EINVAL if less else EACCES
        if not reason:
            return 0
        self.refusals[reason] = self.refusals.get(reason, 0) + 1
        return error

    def _splits_group(self, space: Space, start: int, count: int) -> bool:
        end = start + count
        for at in {start, end - 1}:
            page = space.pages.get(at)
            if page and page.group:
                g = page.group
                if g.start < start or g.start + g.count > end:
                    return True
        return False

    def _remove(self, mm: int, numbers: Iterable[int]) -> None:
        pages = self.spaces[mm].pages
        left = {page.group for n in numbers if (page := pages.pop(n, None)) and page.group}
        for group in left:
            group.members.discard(mm)
            group.links = {(member, chunk) for member, chunk in group.links if member != mm}
            if not group.members:
                self.groups.remove(group)
