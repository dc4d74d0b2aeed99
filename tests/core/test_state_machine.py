"""Random operations of random processes: does user space see what the oracle predicts, and do the
kernel's counters equal recounts after every step?

The invariants are those of the architecture's list: 1 counters equal recounts, 2 table frames have
owners and go with them, 3 links and guests, 4 one file page has one content for all, 5 no
translation outlives a flush that it needed, 6 (class Twin) policies agree where no sharing is asked.

    pytest tests/core                                  what CI runs, about a minute
    PTSHARE_EXAMPLES=5000 pytest tests/core            a longer search
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from oracle import (
    ANONYMOUS,
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
    Oracle,
    Space,
)
from twin import Twin

from ptshare_plugin._core import Kernel

PMD = PAGE * PMD_PAGES
BASE = 0x100_4000_0000 - 3 * PMD  # the region crosses the edge of a PUD entry
CHUNKS = 6
HEAP = 0x200_0000_0000
STACK_TOP = 0x300_0000_0000
MEMORY = 256 << 20
PROT_NONE, EXEC = 0, 4
DONTNEED, WILLNEED = 4, 3

processes = st.integers(0, 30)
# Pages near the edges of 2 MiB chunks and of 64 KiB windows, and some between.
page_offsets = st.sampled_from([0, 0, 0, 1, 2, 15, 16, 17, 255, 496, 510, 511])
# A place in the region; see MemoryMachine.at.
places = st.tuples(
    st.integers(0, CHUNKS - 1), page_offsets, st.sampled_from("anywhere mapped".split())
)
chunk_starts = st.integers(0, CHUNKS - 1).map(lambda chunk: BASE + chunk * PMD)
page_counts = st.sampled_from([1, 1, 2, 3, 16, 17, 100, 511, 512, 513, 1024])
rights = st.sampled_from(
    [READ | WRITE, READ | WRITE, READ, READ, PROT_NONE, READ | EXEC, READ | WRITE | EXEC, EXEC]
)
file_picks = st.integers(0, 2)
words = st.integers(1, 2**64 - 1)
Place = tuple[int, int, str]


class MemoryMachine(RuleBasedStateMachine):
    policy: ClassVar[str] = "ptshare"  # or "twin"
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        twin = self.policy == "twin"
        self.kernel: Any = (
            Twin(MEMORY, **self.options) if twin else Kernel(self.policy, MEMORY, **self.options)
        )
        self.oracle = Oracle("private" if twin else self.policy)
        self.share_flag = 0 if twin else SHARED_PT
        # TLBs of as many CPUs as it takes, which forget only what they are told to:
        # (mm, page) -> {(frame, may write, may execute)}.
        self.tlb: dict[tuple[int, int], set[tuple[int, bool, bool]]] = {}
        self.files: list[File] = []

    @property
    def live(self) -> list[int]:
        return sorted(self.oracle.spaces)

    def pick(self, number: int) -> int:
        return self.live[number % len(self.live)]

    def at(self, mm: int, place: Place) -> int:
        """The address of a place: anywhere in the region, or inside a mapping if there is one."""
        chunk, page, how = place
        vmas = [v for v in self.kernel.vmas(mm) if BASE <= v[0] < BASE + CHUNKS * PMD]
        if how == "anywhere" or not vmas:
            return BASE + chunk * PMD + page * PAGE
        start, end, *_ = vmas[chunk % len(vmas)]
        return min(start + page * PAGE, end - PAGE)

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
        self.do_mmap(mm, STACK_TOP - 4 * PAGE, 4 * PAGE, READ | WRITE, stack, None, 0)

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
        mm = self.pick(who)
        self.kernel.exit(mm)
        self.oracle.exit(mm)
        if mm not in self.oracle.spaces:
            self.tlb = {key: entry for key, entry in self.tlb.items() if key[0] != mm}

    # ---- system calls

    def do_mmap(
        self,
        mm: int,
        address: int,
        length: int,
        prot: int,
        flags: int,
        file: File | None,
        offset: int,
        readable: bool = True,
        writable: bool = True,
    ) -> int:
        number = -1 if file is None else file.id
        got = self.kernel.mmap(mm, address, length, prot, flags, number, offset, readable, writable)
        want = self.oracle.mmap(
            mm, address, length, prot, flags, file, offset, readable, writable, got
        )
        assert got == want, f"mmap: {got:#x}, the oracle says {want:#x}"
        return got

    @precondition(lambda self: self.live)
    @rule(
        who=processes,
        chunk=chunk_starts,
        chunks=st.integers(1, 2),
        prot=rights,
        file=file_picks,
        page=st.sampled_from([0, 0, 0, 512, 1]),
        how=st.sampled_from([FIXED, FIXED, FIXED, NOREPLACE, 0, FIXED | POPULATE]),
        anywhere=st.booleans(),
        writable=st.sampled_from([True, True, True, False]),
    )
    def share(
        self,
        who: int,
        chunk: int,
        chunks: int,
        prot: int,
        file: int,
        page: int,
        how: int,
        anywhere: bool,
        writable: bool,
    ) -> None:
        """What MAP_SHARED_PT is meant for."""
        mm = self.pick(who)
        address = 0 if anywhere and not how & (FIXED | NOREPLACE) else chunk
        flags = SHARED | self.share_flag | how
        picked = self.files[file]
        self.do_mmap(mm, address, chunks * PMD, prot, flags, picked, page * PAGE, writable=writable)

    @precondition(lambda self: any(self.oracle.groups))
    @rule(who=processes, which=processes, populate=st.booleans(), fixed=st.booleans())
    def join(self, who: int, which: int, populate: bool, fixed: bool) -> None:
        """A further process attaches to a range that is shared already."""
        mm = self.pick(who)
        group = self.oracle.groups[which % len(self.oracle.groups)]
        prot, writable = group.created
        flags = SHARED | self.share_flag | (POPULATE if populate else 0) | (FIXED if fixed else 0)
        address = group.start * PAGE if fixed else 0
        offset = group.file_page * PAGE
        length = group.count * PAGE
        self.do_mmap(
            mm, address, length, prot, flags, group.file, offset, True, writable
        )  # fmt: skip

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
        self.do_mmap(mm, address, length, prot, flags, picked, offset, writable=writable)

    @precondition(lambda self: self.live)
    @rule(who=processes, place=places, count=page_counts)
    def munmap(self, who: int, place: Place, count: int) -> None:
        mm = self.pick(who)
        self.do_munmap(mm, self.at(mm, place), count)

    def do_munmap(self, mm: int, address: int, count: int) -> None:
        want = self.oracle.munmap(mm, address, count * PAGE)
        assert self.kernel.munmap(mm, address, count * PAGE) == want

    @precondition(lambda self: self.live)
    @rule(who=processes, chunk=chunk_starts, chunks=st.integers(1, 2))
    def munmap_chunks(self, who: int, chunk: int, chunks: int) -> None:
        self.do_munmap(self.pick(who), chunk, chunks * PMD_PAGES)

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
        want = self.oracle.mremap(
            mm, address, old * PAGE, new * PAGE, flags, target, inside, got
        )  # fmt: skip
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
        self.kernel.truncate(self.files[file].id, size)
        self.oracle.truncate(self.files[file], size)

    # ---- accesses

    def remember(self, mm: int, address: int) -> None:
        frame, bits, _ = self.kernel.translate(mm, address)
        self.tlb.setdefault((mm, address // PAGE), set()).add(
            (frame, bool(bits & 2), not bits >> 63)
        )

    def do_read(self, mm: int, address: int) -> None:
        want = self.oracle.access(mm, address, "read")
        assert self.kernel.read(mm, address) == want
        if not want[0]:
            self.remember(mm, address)

    def do_write(self, mm: int, address: int, value: int) -> None:
        want, _ = self.oracle.access(mm, address, "write", value)
        assert self.kernel.write(mm, address, value) == want
        if not want:
            self.remember(mm, address)

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

    # ---- what must hold after every step

    @invariant()
    def audit_is_clean(self) -> None:
        assert self.kernel.audit() == []

    @invariant()
    def tables_have_owners(self) -> None:
        tables = self.kernel.tables()
        counts = self.kernel.table_counts()
        assert counts["total"] == len(tables) == self.kernel.frames_in_use()["table"]
        for name in ("guest", "host"):
            assert counts[name] == sum(owner == name for _, _, _, owner, _ in tables)
        for level in ("pte", "pmd", "pud", "p4d", "pgd"):
            assert counts[level] == sum(name == level for _, name, _, _, _ in tables)
        assert counts["pgd"] == len(self.oracle.spaces) + len(self.kernel.hosts())
        if not self.oracle.spaces:
            assert not tables and self.kernel.frames_in_use()["anon"] == 0

    @invariant()
    def hosts_are_the_oracles_groups(self) -> None:
        want = [
            (g.start * PAGE, g.count * PAGE, sorted(g.members)) for g in self.oracle.groups
        ]  # fmt: skip
        hosts = self.kernel.hosts()
        got = [(h["start"], h["end"] - h["start"], sorted(h["guests"])) for h in hosts]
        assert got == want
        around = self.options.get("fault_around_bytes", PAGE) != PAGE
        for host, group in zip(hosts, self.oracle.groups, strict=True):
            assert host["rss_file"] >= len(group.mapped)
            assert around or host["rss_file"] == len(group.mapped)
        if self.oracle.sharing:
            chunks = sum(len(g.chunks) for g in self.oracle.groups)
            assert self.kernel.table_counts()["region_pte"] == chunks

    @invariant()
    def events_are_the_oracles(self) -> None:
        stats = self.kernel.stats()
        refusals = {name: n for name, n in stats["refusals"].items() if n}
        assert refusals == self.oracle.refusals
        assert stats["links"] == self.oracle.links
        if self.options.get("fault_around_bytes", PAGE) == PAGE:
            assert stats["carried_pages"] == self.oracle.carried

    @invariant()
    def mappings_are_the_oracles(self) -> None:
        for mm, space in self.oracle.spaces.items():
            vmas = self.kernel.vmas(mm)
            assert sum(end - start for start, end, *_ in vmas) == len(space.pages) * PAGE
            for start, end, flags, file, file_page, attached in vmas:
                for address in (start, end - PAGE):
                    page = space.pages[address // PAGE]
                    assert attached == (page.group is not None)
                    assert bool(flags & 8) == page.shared
                    if not attached:
                        assert flags & 7 == page.rights
                    if page.file and page.file.id is not None:
                        assert file == page.file.id
                        assert page.file_page == file_page + (address - start) // PAGE

    @invariant()
    def no_stale_translation(self) -> None:
        for targets, _ in self.kernel.take_effects()["flushes"]:
            for mm, start, end in targets:
                for key in [k for k in self.tlb if k[0] == mm and start <= k[1] * PAGE < end]:
                    del self.tlb[key]
        for (mm, page), entries in self.tlb.items():
            now = self.kernel.translate(mm, page * PAGE)
            where = f"mm {mm}, page {page:#x}: "
            assert now is not None and now[1] & 1, where + "cached, but nothing is mapped"
            for frame, writable, executable in entries:
                assert now[0] == frame, where + "cached with another frame"
                assert now[1] & 2 or not writable, where + "cached as writable"
                assert not now[1] >> 63 or not executable, where + "cached as executable"

    @invariant()
    def twins_have_the_same_tables(self) -> None:
        if self.policy == "twin":
            self.kernel.tables()

    def teardown(self) -> None:
        for mm in self.live:
            for page in (0, 1, 15, 16, 511):
                for chunk in range(CHUNKS):
                    self.do_read(mm, BASE + chunk * PMD + page * PAGE)
        self.audit_is_clean()
        self.events_are_the_oracles()
        while self.live:
            self.exit(len(self.live) // 2)
            self.audit_is_clean()
            self.tables_have_owners()
        if self.files:
            for file in self.files:
                self.kernel.close_file(file.id)
            in_use = self.kernel.frames_in_use()
            assert (in_use["table"], in_use["anon"], in_use["file"]) == (0, 0, 0)
        super().teardown()


EXAMPLES = int(os.environ.get("PTSHARE_EXAMPLES", "40"))


@pytest.mark.parametrize("policy", ["private", "ptshare", "twin"])
@pytest.mark.parametrize(
    "options",
    [
        {"fault_around_bytes": 4096},
        {"fault_around_bytes": 65536},
        {"fault_around_bytes": 4096, "levels": 5, "dirty_tracking": True},
    ],
    ids=["no-fault-around", "fault-around", "5-level-dirty-tracking"],
)
def test_user_space_sees_what_the_oracle_predicts(policy: str, options: dict[str, Any]) -> None:
    machine = type("Machine", (MemoryMachine,), {"policy": policy, "options": options})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
