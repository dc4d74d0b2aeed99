"""A kernel beside the oracle: calls that go to both, and what must hold after every step."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, run_state_machine_as_test
from oracle import Oracle
from records import PAGE, PMD_PAGES, SHARED_PT, File, Mmap
from twin import Twin

from ptshare_plugin import policies

PMD = PAGE * PMD_PAGES
BASE = 0x100_4000_0000 - 3 * PMD  # the region crosses the edge of a PUD entry
CHUNKS = 6
MEMORY = 256 << 20
Place = tuple[int, int, bool]  # 2 MiB chunk or number of a mapping, page in it, which of the two


def range_starts(unit: int) -> list[int]:
    """Addresses to ask for, one for each chunk; of large units one of them is misaligned."""
    if unit <= PMD:
        return [BASE + i * PMD for i in range(CHUNKS)]
    around = BASE // unit * unit  # the units before and behind, and the one with the region
    return [around, around + unit, around - unit, around, around + unit, BASE]


EXAMPLES = int(os.environ.get("PTSHARE_EXAMPLES", "40"))


def drive(machine: type[RuleBasedStateMachine]) -> None:
    """Random operations, ``PTSHARE_EXAMPLES`` times."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


class Cached(RuleBasedStateMachine):
    """Keeps what hardware may keep: no translation may outlive a flush that it needed.

    A flush request counts for all that it names; whom it reaches is tested in tests/cpp.
    """

    kernel: Any

    def __init__(self) -> None:
        super().__init__()
        # TLBs of as many CPUs as it takes, which forget only what they are told to:
        # (mm, page) -> {(frame, may write, may execute)}.
        self.tlb: dict[tuple[int, int], set[tuple[int, bool, bool]]] = {}

    def remember(self, mm: int, address: int) -> None:
        frame, bits, _ = self.kernel.translate(mm, address)
        self.tlb.setdefault((mm, address // PAGE), set()).add(
            (frame, bool(bits & 2), not bits >> 63)
        )

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


class Checked(Cached):
    policy: ClassVar[str] = "ptshare"  # or "twin"
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        twin = self.policy == "twin"
        names = tuple(policies.names()) if twin else (self.policy,)
        self.kernel = Twin(names, MEMORY, **self.options)
        self.oracle = Oracle("private" if twin else self.policy, self.options)
        self.starts = range_starts(self.oracle.rules.unit * PAGE)
        self.share_flag = 0 if twin else SHARED_PT
        self.files: list[File] = []

    @property
    def live(self) -> list[int]:
        return sorted(self.oracle.spaces)

    def pick(self, number: int) -> int:
        return self.live[number % len(self.live)]

    def at(self, mm: int, place: Place) -> int:
        """The address of a place: anywhere in the region, or inside a mapping if there is one."""
        chunk, page, inside = place
        vmas = [
            v
            for v in self.kernel.vmas(mm)
            if BASE <= v[0] < BASE + CHUNKS * PMD or v[0] in self.starts
        ]
        if not inside or not vmas:
            return BASE + chunk * PMD + page * PAGE
        start, end, *_ = vmas[chunk % len(vmas)]
        return min(start + page * PAGE, end - PAGE)

    # ---- calls to both

    def do_mmap(self, mm: int, ask: Mmap) -> None:
        number = -1 if ask.file is None else ask.file.id
        args = ask.address, ask.length, ask.prot, ask.flags, number, ask.offset
        got = self.kernel.mmap(mm, *args, ask.readable, ask.writable)
        want = self.oracle.mmap(mm, ask, got)
        assert got == want, f"mmap: {got:#x}, the oracle says {want:#x}"

    def do_munmap(self, mm: int, address: int, count: int) -> None:
        want = self.oracle.munmap(mm, address, count * PAGE)
        assert self.kernel.munmap(mm, address, count * PAGE) == want

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
        in_hosts = sum((name, owner) == ("pte", "host") for _, name, _, owner, _ in tables)
        assert in_hosts == sum(len(g.chunks) for g in self.oracle.groups)
        assert self.oracle.rules.own_tables or counts["region_pte"] == in_hosts
        if not self.oracle.spaces:
            leaked = {g.references for g in self.oracle.groups} - {0}
            assert counts["guest"] == self.kernel.frames_in_use()["anon"] == 0
            assert leaked or not tables

    @invariant()
    def hosts_are_the_oracles_groups(self) -> None:
        want = [
            (
                *(g.start * PAGE, g.count * PAGE, sorted(mm for mm, _ in g.guests)),
                *(g.dead, g.owner, g.references),
            )
            for g in self.oracle.groups
        ]
        hosts = self.kernel.hosts()
        got = [
            (
                *(h["start"], h["end"] - h["start"], sorted(h["guests"])),
                *(h["dead"], h["owner"], h["references"]),
            )
            for h in hosts
        ]
        assert got == want
        around = self.options.get("fault_around_bytes", PAGE) != PAGE
        for host, group in zip(hosts, self.oracle.groups, strict=True):
            assert host["rss_file"] >= len(group.mapped)
            assert around or host["rss_file"] == len(group.mapped)

    @invariant()
    def events_are_the_oracles(self) -> None:
        stats = self.kernel.stats()
        refusals = {name: n for name, n in stats["refusals"].items() if n}
        assert refusals == self.oracle.refusals
        rules = self.oracle.rules
        assert (stats["links"], stats["dangling_links"]) == (rules.links, rules.dangling_links)
        assert stats["fell_back"] == self.oracle.fell_back
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

    def teardown(self) -> None:
        for mm in self.live:
            for page in (0, 1, 15, 16, 511):
                for start in {BASE + chunk * PMD for chunk in range(CHUNKS)} | {*self.starts}:
                    self.do_read(mm, start + page * PAGE)
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
            leaked = bool(self.oracle.groups)  # only rfc-v2's may be left
            assert leaked or (in_use["table"], in_use["anon"], in_use["file"]) == (0, 0, 0)
        super().teardown()
