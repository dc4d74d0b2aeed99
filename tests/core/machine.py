"""Random operations of random processes, for a kernel and the oracle."""

from __future__ import annotations

from checked import CHUNKS, PMD, Checked, Place
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from records import (
    ANONYMOUS,
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
    WRITE,
    File,
    Group,
    Mmap,
    Space,
)

HEAP = 0x200_0000_0000
STACK_TOP = 0x300_0000_0000
PROT_NONE = 0
DONTNEED, WILLNEED = 4, 3

processes = st.integers(0, 30)
# Pages near the edges of 2 MiB chunks and of 64 KiB windows, and some between.
page_offsets = st.sampled_from([0, 0, 0, 1, 2, 15, 16, 17, 255, 496, 510, 511])
# A place in the region; see Checked.at.
places = st.tuples(st.integers(0, CHUNKS - 1), page_offsets, st.booleans())
a_chunk = st.integers(0, CHUNKS - 1)
page_counts = st.sampled_from([1, 1, 2, 3, 16, 17, 100, 511, 512, 513, 1024])
rights = st.sampled_from(
    [READ | WRITE, READ | WRITE, READ, READ, PROT_NONE, READ | EXEC, READ | WRITE | EXEC, EXEC]
)
file_picks = st.integers(0, 2)
words = st.integers(1, 2**64 - 1)


class MemoryMachine(Checked):
    @property
    def named_groups(self) -> list[Group]:
        """Those of files that a process can open."""
        return [group for group in self.oracle.groups if group.file.id is not None]

    # ---- processes

    @initialize(count=st.integers(1, 3))
    def boot(self, count: int) -> None:
        for size in (6 << 20, (3 << 20) + 5 * PAGE + 100, 5 * PAGE):
            number = self.kernel.create_file(f"file {size}", size)
            self.files.append(File(number, size))
        for _ in range(count):
            self.spawn()

    @rule()
    def spawn(self) -> None:
        if len(self.live) >= 5:
            return
        mm = self.kernel.create_mm()
        self.oracle.spaces[mm] = space = Space()
        self.kernel.set_brk_start(mm, HEAP)
        space.brk_start = space.brk = HEAP
        stack = PRIVATE | ANONYMOUS | FIXED | GROWSDOWN
        self.do_mmap(mm, Mmap(STACK_TOP - 4 * PAGE, 4 * PAGE, READ | WRITE, stack))

    @precondition(lambda self: self.live)
    @rule(who=processes)
    def fork(self, who: int) -> None:
        if len(self.live) < 5:
            parent = self.pick(who)
            self.oracle.fork(parent, self.kernel.fork(parent))

    @precondition(lambda self: self.live)
    @rule(who=processes)
    def start_thread(self, who: int) -> None:
        mm = self.pick(who)
        before = self.kernel.table_counts(), self.kernel.hosts()
        self.kernel.share_mm(mm)
        self.oracle.spaces[mm].users += 1
        assert (self.kernel.table_counts(), self.kernel.hosts()) == before  # S16

    @precondition(lambda self: self.live)
    @rule(who=processes)
    def exit(self, who: int) -> None:
        self.do_exit(self.pick(who))

    def do_exit(self, mm: int) -> None:
        self.kernel.exit(mm)
        self.oracle.exit(mm)
        if mm not in self.oracle.spaces:
            self.tlb = {key: entry for key, entry in self.tlb.items() if key[0] != mm}

    # ---- system calls

    @precondition(lambda self: self.live)
    @rule(
        who=processes,
        chunk=a_chunk,
        length=st.sampled_from([PMD, PMD, 2 * PMD, 2 * PMD, 2 * PMD - PAGE, PMD + 1]),
        prot=rights,
        file=st.sampled_from([0, 0, 0, 1, 1, 2, None]),
        page=st.sampled_from([0, 0, 0, 512, 512, 1]),
        how=st.sampled_from([FIXED, FIXED, FIXED, NOREPLACE, 0, None, FIXED | POPULATE]),
        writable=st.sampled_from([True, True, True, False]),
    )
    def share(
        self,
        who: int,
        chunk: int,
        length: int,
        prot: int,
        file: int | None,
        page: int,
        how: int | None,
        writable: bool,
    ) -> None:
        """What MAP_SHARED_PT is meant for, and nearly so. `how` None: wherever the kernel likes."""
        mm = self.pick(who)
        address = 0 if how is None else self.starts[chunk]
        flags = SHARED | self.share_flag | (how or 0) | (ANONYMOUS if file is None else 0)
        picked = None if file is None else self.files[file]
        offset = page * PAGE if picked else 0
        ask = Mmap(address, length, prot, flags, picked, offset, writable=writable)
        self.do_mmap(mm, ask)

    @precondition(lambda self: self.live and self.named_groups)
    @rule(
        who=processes,
        which=processes,
        populate=st.booleans(),
        fixed=st.booleans(),
        chunk=st.none() | a_chunk,
        other=st.sampled_from([None, None, None, READ, READ | WRITE]),
    )
    def join(
        self,
        who: int,
        which: int,
        populate: bool,
        fixed: bool,
        chunk: int | None,
        other: int | None,
    ) -> None:
        """A further process attaches to a range that is shared already, or asks for another place
        or protection."""
        mm = self.pick(who)
        group = self.named_groups[which % len(self.named_groups)]
        prot, writable = group.created
        if other is not None and (writable or not other & WRITE):
            prot = other
        flags = SHARED | self.share_flag | (POPULATE if populate else 0) | (FIXED if fixed else 0)
        there = group.start * PAGE if chunk is None else self.starts[chunk]
        offset = group.file_page * PAGE
        length = group.count * PAGE
        address = there if fixed else 0
        ask = Mmap(address, length, prot, flags, group.file, offset, writable=writable)
        self.do_mmap(mm, ask)

    @precondition(lambda self: self.live)
    @rule(chunk=a_chunk, prot=rights, file=file_picks)
    def share_in_all(self, chunk: int, prot: int, file: int) -> None:
        """Every process asks for the same range."""
        for mm in self.live:
            flags = SHARED | FIXED | self.share_flag
            self.do_mmap(mm, Mmap(self.starts[chunk], 2 * PMD, prot, flags, self.files[file]))

    @precondition(lambda self: any(len(group.guests) > 1 for group in self.oracle.groups))
    @rule(
        which=processes,
        who=processes,
        page=page_offsets,
        pages=st.integers(1, 3),
        change=st.none() | rights,
    )
    def change_what_all_use(
        self, which: int, who: int, page: int, pages: int, change: int | None
    ) -> None:
        """One member protects or discards pages that every member has just used."""
        groups = [group for group in self.oracle.groups if len(group.guests) > 1]
        group = groups[which % len(groups)]
        guests = sorted(group.guests)
        for mm, start in guests:
            self.do_write(mm, (start + page) * PAGE, which + 1)
            self.do_read(mm, (start + page) * PAGE)
        mm, start = guests[who % len(guests)]
        address = (start + page) * PAGE
        if change is None:
            want = self.oracle.discard(mm, address, pages * PAGE)
            assert self.kernel.madvise(mm, address, pages * PAGE, DONTNEED) == want
        else:
            want = self.oracle.mprotect(mm, address, pages * PAGE, change)
            assert self.kernel.mprotect(mm, address, pages * PAGE, change) == want

    @precondition(lambda self: 0 < len(self.live) < 5)
    @rule(who=processes, chunk=a_chunk, file=file_picks, page=page_offsets, before=st.booleans())
    def share_and_fork(self, who: int, chunk: int, file: int, page: int, before: bool) -> None:
        """A child is a guest like its parent, without a mmap of its own."""
        mm = self.pick(who)
        start = self.starts[chunk]
        address = start + page * PAGE
        for flag in (0, self.share_flag) if before else (self.share_flag,):
            flags = SHARED | FIXED | flag
            self.do_mmap(mm, Mmap(start, 2 * PMD, READ | WRITE, flags, self.files[file]))
            self.do_write(mm, address, who + 1)
        child = self.kernel.fork(mm)
        self.oracle.fork(mm, child)
        self.do_write(child, address, who + 2)
        self.do_read(mm, address)

    @precondition(lambda self: any(group.guests for group in self.oracle.groups))
    @rule(
        which=processes,
        who=processes,
        page=page_offsets,
        how=st.sampled_from(["munmap", "exit", "replace"]),
    )
    def one_leaves(self, which: int, who: int, page: int, how: str) -> None:
        """A guest of a range goes; what do the others have?"""
        groups = [group for group in self.oracle.groups if group.guests]
        group = groups[which % len(groups)]
        guests = sorted(group.guests)
        mm, start = guests[who % len(guests)]
        self.do_read(mm, (start + page) * PAGE)
        if how == "exit":
            self.do_exit(mm)
        elif how == "munmap":
            self.do_munmap(mm, start * PAGE, group.count)
        else:
            over = PRIVATE | ANONYMOUS | FIXED
            self.do_mmap(mm, Mmap(start * PAGE, group.count * PAGE, READ | WRITE, over))
        for mm, start in guests:
            if mm in self.live:
                self.do_write(mm, (start + page) * PAGE, which + 1)
                self.do_read(mm, (start + page) * PAGE)

    @precondition(lambda self: self.live)
    @rule(
        who=processes,
        place=places,
        count=page_counts,
        prot=rights,
        file=st.none() | file_picks,
        page=st.sampled_from([0, 0, 1, 3, 512]),
        kind=st.sampled_from([SHARED, PRIVATE, PRIVATE]),
        how=st.sampled_from([FIXED, FIXED, FIXED, NOREPLACE, 0, POPULATE]),
        ask=st.sampled_from([False, False, False, True]),
        writable=st.sampled_from([True, True, True, False]),
        ragged=st.sampled_from([0, 0, 0, 1, 4095]),
        odd=st.sampled_from([0, 0, 0, 0, 8]),
    )
    def mmap(
        self,
        who: int,
        place: Place,
        count: int,
        prot: int,
        file: int | None,
        page: int,
        kind: int,
        how: int,
        ask: bool,
        writable: bool,
        ragged: int,
        odd: int,
    ) -> None:
        flags = kind | how | (self.share_flag if ask else 0)
        picked = None if file is None else self.files[file]
        flags |= ANONYMOUS if picked is None else 0
        length = count * PAGE - ragged
        offset = page * PAGE if picked else 0
        mm = self.pick(who)
        address = self.at(mm, place) + odd
        ask = Mmap(address, length, prot, flags, picked, offset, writable=writable)
        self.do_mmap(mm, ask)

    @precondition(lambda self: self.live)
    @rule(who=processes, place=places, count=page_counts)
    def munmap(self, who: int, place: Place, count: int) -> None:
        mm = self.pick(who)
        self.do_munmap(mm, self.at(mm, place), count)

    @precondition(lambda self: self.live)
    @rule(who=processes, chunk=a_chunk, chunks=st.integers(1, 2))
    def munmap_chunks(self, who: int, chunk: int, chunks: int) -> None:
        self.do_munmap(self.pick(who), self.starts[chunk], chunks * PMD_PAGES)

    @precondition(lambda self: self.live)
    @rule(who=processes, place=places, count=page_counts, prot=rights)
    def mprotect(self, who: int, place: Place, count: int, prot: int) -> None:
        mm = self.pick(who)
        address = self.at(mm, place)
        want = self.oracle.mprotect(mm, address, count * PAGE, prot)
        assert self.kernel.mprotect(mm, address, count * PAGE, prot) == want

    @precondition(lambda self: self.live)
    @rule(
        who=processes,
        place=places,
        old=page_counts,
        new=page_counts,
        flags=st.sampled_from([0, 1, 1, 3, 3, 2]),
        to=places,
        whole=st.booleans(),
    )
    def mremap(
        self, who: int, place: Place, old: int, new: int, flags: int, to: Place, whole: bool
    ) -> None:
        mm = self.pick(who)
        address, target = self.at(mm, place), self.at(mm, to)
        vma = next((v for v in self.kernel.vmas(mm) if v[0] <= address < v[1]), None)
        if vma and whole:  # an exact VMA, which random arguments seldom hit
            address, old = vma[0], (vma[1] - vma[0]) // PAGE
        inside = vma is not None and address + old * PAGE <= vma[1]
        got = self.kernel.mremap(mm, address, old * PAGE, new * PAGE, flags, target)
        want = self.oracle.mremap(mm, address, (old * PAGE, new * PAGE), flags, target, inside, got)
        assert got == want

    @precondition(lambda self: self.live)
    @rule(who=processes, place=places, count=page_counts, harmless=st.booleans())
    def madvise(self, who: int, place: Place, count: int, harmless: bool) -> None:
        mm = self.pick(who)
        address = self.at(mm, place)
        if harmless:
            assert self.kernel.madvise(mm, address, 0, WILLNEED) == 0
            return
        want = self.oracle.discard(mm, address, count * PAGE)
        assert self.kernel.madvise(mm, address, count * PAGE, DONTNEED) == want

    @precondition(lambda self: self.live)
    @rule(who=processes, pages=st.sampled_from([-1, 0, 1, 2, 3, 513]), odd=st.integers(0, 1))
    def brk(self, who: int, pages: int, odd: int) -> None:
        mm = self.pick(who)
        end = HEAP + pages * PAGE + odd
        assert self.kernel.brk(mm, end) == self.oracle.move_brk(mm, end)

    @rule(
        file=file_picks,
        size=st.sampled_from([0, 3, PAGE, 2 * PAGE + 12, PMD, PMD + 5 * PAGE, 4 << 20, 6 << 20]),
    )
    def truncate(self, file: int, size: int) -> None:
        want = self.oracle.truncate(self.files[file], size)
        assert self.kernel.truncate(self.files[file].id, size) == want

    @rule(beside=st.booleans())
    def save_and_restore(self, beside: bool) -> None:
        self.kernel.save_and_restore(beside)

    # ---- accesses

    @precondition(lambda self: self.live)
    @rule(who=processes, place=places)
    def read(self, who: int, place: Place) -> None:
        mm = self.pick(who)
        self.do_read(mm, self.at(mm, place))

    @precondition(lambda self: self.live)
    @rule(who=processes, place=places, value=words)
    def write(self, who: int, place: Place, value: int) -> None:
        mm = self.pick(who)
        self.do_write(mm, self.at(mm, place), value)

    @precondition(lambda self: self.live)
    @rule(who=processes, place=places)
    def fetch(self, who: int, place: Place) -> None:
        mm = self.pick(who)
        address = self.at(mm, place)
        signal, _ = self.oracle.access(mm, address, "fetch")
        got = self.kernel.touch(mm, address, "fetch")
        assert got == -signal if signal else got > 0

    @precondition(lambda self: self.live)
    @rule(who=processes, place=places, value=words)
    def all_see_one_write(self, who: int, place: Place, value: int) -> None:
        writer = self.pick(who)
        address = self.at(writer, place)
        for mm in self.live:
            self.do_read(mm, address)
        self.do_write(writer, address, value)
        for mm in self.live:
            self.do_read(mm, address)

    @precondition(lambda self: self.live)
    @rule(who=processes, page=st.sampled_from([0, 1, 2, 512]), value=words)
    def heap(self, who: int, page: int, value: int) -> None:
        self.do_write(self.pick(who), HEAP + page * PAGE, value)

    @precondition(lambda self: self.live)
    @rule(who=processes, depth=st.sampled_from([1, 5, 100, 2047, 2048, 2049]), value=words)
    def stack(self, who: int, depth: int, value: int) -> None:
        self.do_write(self.pick(who), STACK_TOP - depth * PAGE, value)
