"""Which mappings of a recording are to ask for shared page tables, and where they are to lie.

Real programs do not pass MAP_SHARED_PT: rules choose for them.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ptshare_plugin.common import units
from ptshare_plugin.common.errors import EXIT_USAGE, UserError, nearest
from ptshare_plugin.common.units import PMD_BYTES
from ptshare_plugin.recording.folder import Stream
from ptshare_plugin.recording.space import Area, History
from ptshare_plugin.spec.recording import Chosen

OPTION = "share_rules"
_FIRST_PLACE = 0x2000_0000_0000
"""Above all addresses that Valgrind gives a program and itself."""
_LAST_PLACE = 0x7000_0000_0000

_MEMORY = ("/dev/shm/", "/memfd:", "memfd:", "/dev/zero")
KINDS = {
    "shared": "what is mapped MAP_SHARED, whatever it is",
    "file": "files",
    "anonymous": "anonymous memory, which forked children share",
    "system-v": "System V segments",
    "memory": "files in memory: of shm_open and memfd_create",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One choice, as it was written: KIND[>=SIZE] [path=GLOB] [process=GLOB]."""

    text: str
    kind: str
    least: int = 0
    path: str | None = None
    process: str | None = None

    def chooses(self, area: Area, maker: Stream) -> bool:
        """Whether it is about this shared mapping."""
        return (
            self.kind in ("shared", kind_of(area))
            and area.made[1] >= self.least
            and (self.path is None or fnmatch.fnmatchcase(area.name, self.path))
            and (self.process is None or fnmatch.fnmatchcase(maker.shown, self.process))
        )


def kind_of(area: Area) -> str:
    """Of a shared mapping, in the words of rules."""
    assert area.what is not None
    kind = area.what[0]
    return "memory" if kind == "file" and area.name.startswith(_MEMORY) else kind


def parse(text: str) -> Rule:
    """The rule that is written so; a UserError says what is wrong."""
    words = text.split()
    if not words:
        raise _wrong(text, f"is empty; a rule is KIND[>=SIZE], KIND one of {', '.join(KINDS)}")
    kind, _, size = words[0].partition(">=")
    if kind not in KINDS:
        raise _wrong(
            text, f"unknown kind {kind}{nearest(kind, KINDS)}; there are {', '.join(KINDS)}"
        )
    least = 0
    if ">=" in words[0]:
        least = units.read_size(size)
    given: dict[str, str] = {}
    for word in words[1:]:
        name, separator, value = word.partition("=")
        if name not in ("path", "process") or not separator or not value or name in given:
            raise _wrong(text, f"{word}: after the kind, path=GLOB or process=GLOB, each once")
        given[name] = value
    return Rule(text, kind, least, given.get("path"), given.get("process"))


def choose(
    rules: Sequence[Rule], streams: Sequence[Stream], found: Sequence[History]
) -> tuple[Chosen, ...]:
    """The mappings that any rule chooses, in the order in which they were made.

    A UserError names a rule that chooses none.
    """
    chosen: dict[tuple[int, int], Chosen] = {}
    objects: dict[object, int] = {}
    idle = {rule.text for rule in rules}
    for area in _made(found):
        assert area.call is not None
        for rule in rules:
            if not rule.chooses(area, streams[area.call[0]]):
                continue
            idle.discard(rule.text)
            what = objects.setdefault((area.what, area.offset, area.made[1]), len(objects))
            chosen[area.call] = Chosen(*area.call, what, area.made[1], kind_of(area) != "file")
    for rule in rules:
        if rule.text in idle:
            raise _wrong(rule.text, f"chooses nothing; shared are {_listed(found)}")
    return tuple(sorted(chosen.values(), key=lambda each: (each.returned, each.stream)))


def places(chosen: Sequence[Chosen], alignment: int) -> dict[tuple[int, int], tuple[int, int]]:
    """Address and bytes of each at a multiple of ``alignment``, the same for all who map it.

    By stream and stamp. What is in memory alone is made larger, to a multiple of 2 MiB.
    """
    found: dict[tuple[int, int], tuple[int, int]] = {}
    of_object: dict[int, tuple[int, int]] = {}
    free = _FIRST_PLACE
    for each in chosen:
        if each.what not in of_object:
            size = _up(each.bytes, PMD_BYTES) if each.in_memory else each.bytes
            at = _up(free, alignment)
            free = at + size
            if free > _LAST_PLACE:
                raise UserError(
                    f"{len(chosen)} chosen areas have no room at multiples of"
                    f" {units.exact_size(alignment)}",
                    EXIT_USAGE,
                    option=OPTION,
                )
            of_object[each.what] = (at, size)
        found[(each.stream, each.returned)] = of_object[each.what]
    return found


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _made(found: Iterable[History]) -> list[Area]:
    """Every shared mapping, once for each call that made one."""
    return [
        area
        for number, history in enumerate(found)
        for area in history.ever.values()
        if area.shared and area.call is not None and area.call[0] == number
    ]


def _listed(found: Iterable[History]) -> str:
    sizes: dict[str, int] = {}
    for area in _made(found):
        name = f"{kind_of(area)} {area.name}" if kind_of(area) != "anonymous" else "anonymous"
        sizes[name] = max(sizes.get(name, 0), area.made[1])
    largest = sorted(sizes, key=lambda name: -sizes[name])
    listed = [f"{name} ({units.short_size(sizes[name])})" for name in largest[:4]]
    return ", ".join(listed) + (", ..." if len(largest) > 4 else "") if listed else "no mappings"


def _wrong(text: str, why: str) -> UserError:
    return UserError(why, EXIT_USAGE, option=OPTION, value=text)
