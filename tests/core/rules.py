"""What each policy makes of MAP_SHARED_PT, for the oracle: which requests it takes, what links, and
what ends a range for its guests. Written from the designs, not from core.

A policy that is registered and has no rules here fails the random tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from records import PAGE, PMD_PAGES, SHARED, Group, Mmap, pages_of

EACCES, EINVAL = -13, -22
PUD_PAGES = PMD_PAGES * PMD_PAGES
SPANS = {"pte": PMD_PAGES, "pmd": PUD_PAGES, "pud": PMD_PAGES * PUD_PAGES}  # of a table, in pages


@dataclass(frozen=True)
class Verdict:
    """On a request: how it is mapped, or why it is refused."""

    how: Literal["plain", "shared", "huge", "fell back", "refused"]
    reason: str = ""
    error: int = 0


PLAIN, SHARE, HUGE, FALL_BACK = map(Verdict, ("plain", "shared", "huge", "fell back"))


def refuse(reason: str, error: int = EINVAL) -> Verdict:
    return Verdict("refused", reason, error)


class Private:
    """The flag is ignored."""

    unit = 1  # pages; a range's address is a multiple of it, and no unit has two ranges
    granule = 1  # pages that lengths and hints are rounded up to
    own_tables = True  # some requests end in page tables of the process's own

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.groups: list[Group] = []
        self.links = 0
        self.dangling_links = 0

    def judge(self, ask: Mmap, start: int | None, wanted: tuple[int, bool]) -> Verdict:
        """`start`: page number; None: the kernel chooses a place that fits."""
        return PLAIN

    def preferred(self, ask: Mmap) -> int:
        """A page number, or 0."""
        return 0

    def ended(self, mm: int) -> None:
        """The last task of a process has gone."""


class Huge(Private):
    """Mapped with 2 MiB pages as hugetlbfs does; sharing of whole slots is HugeOracle's subject."""

    unit = granule = PMD_PAGES
    own_tables = False

    def judge(self, ask: Mmap, start: int | None, wanted: tuple[int, bool]) -> Verdict:
        if ask.flags & 0xF != SHARED:
            return refuse("private")
        if not ask.file:
            return refuse("anonymous")
        if (start or 0) % PMD_PAGES or ask.offset % (PMD_PAGES * PAGE):
            return refuse("misaligned")
        if ask.file.size % (PMD_PAGES * PAGE):
            return refuse("size")
        return HUGE


class Ranges(Private):
    """A range has a host; who maps it is a guest."""

    own_tables = False
    level = "pte"  # of the tables that are linked

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self.unit = SPANS[options.get("share_level", self.level)]
        self.any_address = bool(options.get("share_any_address"))
        self.any_memory = bool(options.get("share_anonymous"))

    def overlapping(self, ask: Mmap) -> Group | None:
        first, count = ask.offset // PAGE, pages_of(ask.length)
        for g in self.groups:
            meets = first < g.file_page + g.count and g.file_page < first + count
            if g.file is ask.file and meets and not g.dead:
                return g
        return None

    def preferred(self, ask: Mmap) -> int:
        group = self.overlapping(ask)
        return group.start if group else 0

    # ---- guests come and go

    def attach(self, group: Group, mm: int, start: int, alone: bool) -> None:
        """`alone`: nothing else lies in the units of 1 GiB around the range."""
        group.guests[mm, start] = self.unit

    def fork(self, group: Group, parent: int, child: int) -> None:
        for mm, start in list(group.guests):
            if mm == parent:
                group.guests[child, start] = self.unit

    def leave(self, group: Group, mm: int, start: int, exiting: bool) -> None:
        del group.guests[mm, start]
        group.links = {link for link in group.links if link[:2] != (mm, start)}
        if not group.guests and not group.kept:
            self.groups.remove(group)

    # ---- accesses

    def ask_for(self, group: Group, mm: int, start: int, page: int) -> None:
        """A guest's access to a page of the range, before it is known whether it may."""

    def reach(self, group: Group, mm: int, start: int, page: int) -> None:
        """The access is served."""
        group.mapped.add(page)
        group.chunks.add(page // PMD_PAGES)
        self._link(group, mm, start, page // self.unit)

    def _link(self, group: Group, mm: int, start: int, entry: int) -> None:
        if (mm, start, entry) not in group.links:
            group.links.add((mm, start, entry))
            self.links += 1


class Ptshare(Ranges):
    """The letter as stated."""

    def judge(self, ask: Mmap, start: int | None, wanted: tuple[int, bool]) -> Verdict:
        if ask.flags & 0xF != SHARED:
            return refuse("private")
        if not ask.file and not self.any_memory:
            return refuse("anonymous")
        if ask.length % (PAGE * PMD_PAGES) or (start or 0) % self.unit:
            return refuse("misaligned")
        group = self.overlapping(ask)
        if not group:
            return SHARE
        elsewhere = group.start != start and not self.any_address
        if elsewhere or group.file_page != ask.offset // PAGE:
            return refuse("address")
        if group.count != pages_of(ask.length):
            return refuse("size")
        if group.created != wanted:
            less = not wanted[0] & ~group.created[0] and group.created[1] == wanted[1]
            return refuse("protection", EINVAL if less else EACCES)
        return SHARE


class Mshare(Ranges):
    """One link a process, any suitable address, any memory; the maker's end ends it for all."""

    level = "pud"

    def judge(self, ask: Mmap, start: int | None, wanted: tuple[int, bool]) -> Verdict:
        if ask.flags & 0xF != SHARED:
            return refuse("private")
        if ask.length % PAGE or (start or 0) % self.unit:
            return refuse("misaligned")
        group = self.overlapping(ask)
        if not group:
            return SHARE
        if group.file_page != ask.offset // PAGE:
            return refuse("address")
        if group.count != pages_of(ask.length):
            return refuse("size")
        # The protection is the maker's to say; the file must have been opened for what it may be.
        if group.created[1] and not wanted[1]:
            return refuse("protection", EACCES)
        return SHARE

    def attach(self, group: Group, mm: int, start: int, alone: bool) -> None:
        if not group.guests and not group.kept:  # it is new
            group.owner = mm
        super().attach(group, mm, start, alone)

    def ended(self, mm: int) -> None:
        for group in [group for group in self.groups if group.owner == mm]:
            group.owner = 0
            group.die()
            if not group.guests:
                self.groups.remove(group)


class RfcV2(Ranges):
    """The patches as posted: nothing is refused, one range a file, references of mmap alone."""

    unit = PMD_PAGES
    own_tables = True

    def judge(self, ask: Mmap, start: int | None, wanted: tuple[int, bool]) -> Verdict:
        if ask.flags & 0xF != SHARED or not ask.file:
            return FALL_BACK
        if ask.length % (PAGE * PMD_PAGES) or (start or 0) % PMD_PAGES:
            return FALL_BACK
        for group in self.groups:
            if group.file is ask.file and not group.dead:
                has = group.start, group.count, group.file_page, group.created
                same = has == (start, pages_of(ask.length), ask.offset // PAGE, wanted)
                return SHARE if same else FALL_BACK
        return SHARE

    def attach(self, group: Group, mm: int, start: int, alone: bool) -> None:
        made = not group.guests and not group.kept
        super().attach(group, mm, start, alone)
        group.references += 1
        if made and alone:  # the maker's first 1 GiB is the host's PMD table
            group.guests[mm, start] = PUD_PAGES
            self._link(group, mm, start, -1)

    def leave(self, group: Group, mm: int, start: int, exiting: bool) -> None:
        if not exiting and group.references:
            group.references -= 1
            if not group.references:  # the guests who are left are not asked
                self.dangling_links += sum(link[0] != mm for link in group.links)
                group.die()
        super().leave(group, mm, start, exiting)

    def ask_for(self, group: Group, mm: int, start: int, page: int) -> None:
        if page // PMD_PAGES in group.chunks:  # a link is a fault of its own, whatever follows
            self._link_chunk(group, mm, start, page)

    def reach(self, group: Group, mm: int, start: int, page: int) -> None:
        group.mapped.add(page)
        group.chunks.add(page // PMD_PAGES)
        self._link_chunk(group, mm, start, page)

    def _link_chunk(self, group: Group, mm: int, start: int, page: int) -> None:
        in_first = (start + page) // PUD_PAGES == start // PUD_PAGES
        if not (in_first and (mm, start, -1) in group.links):
            self._link(group, mm, start, page // PMD_PAGES)


RULES: dict[str, type[Private]] = {
    "private": Private,
    "ptshare": Ptshare,
    "rfc-v2": RfcV2,
    "mshare": Mshare,
    "hugetlb-pmd": Huge,
    "huge-2m": Huge,
}


def rules_of(policy: str, options: Mapping[str, Any]) -> Private:
    assert policy in RULES, (
        f"policy {policy} is registered, but the oracle does not know what it must answer: "
        "add it to RULES in tests/core/rules.py"
    )
    return RULES[policy](options)


def rooms(groups: list[Group], mm: int) -> Iterator[tuple[int, int, int, int]]:
    """Ranges of a process, and the pages around each that a link translates too."""
    for group in groups:
        for (guest, start), unit in group.guests.items():
            if guest == mm:
                end = start + group.count
                yield start, end, start // unit * unit, -(-end // unit) * unit
