"""What lies where in the address spaces that the oracle keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from records import PAGE, PMD_PAGES, Page, Space
from rules import Ranges, rooms, rules_of

STACK_LIMIT = 8 << 20
USER_PAGES = ((1 << 47) - PAGE) // PAGE  # TASK_SIZE of x86-64


class Spaces:
    def __init__(self, policy: str, options: Mapping[str, Any]) -> None:
        self.rules = rules_of(policy, options)
        self.groups = self.rules.groups
        self.spaces: dict[int, Space] = {}

    @property
    def ranges(self) -> Ranges:
        assert isinstance(self.rules, Ranges)
        return self.rules

    def mapped(self, mm: int, start: int, end: int) -> bool:
        pages = self.spaces[mm].pages
        if end - start > len(pages):
            return any(start <= at < end for at in pages)
        return any(at in pages for at in range(start, end))

    def taken(self, mm: int, start: int, count: int) -> bool:
        """Whether something is mapped there, or is kept for a shared range."""
        end = start + count
        kept = any(low < end and start < high for *_, low, high in rooms(self.groups, mm))
        return kept or self.mapped(mm, start, end)

    def in_others_room(self, mm: int, start: int, count: int) -> bool:
        """Whether something there is kept for a range that is not all to be replaced."""
        end = start + count
        return any(
            low < end and start < high and (first < start or last > end)
            for first, last, low, high in rooms(self.groups, mm)
        )

    def has_room(self, mm: int, start: int, count: int, unit: int) -> bool:
        """Whether the units around a range are all user space, and hold nothing else."""
        end = start + count
        low, high = start // unit * unit, -(-end // unit) * unit
        if high > USER_PAGES:
            return False
        return not any(
            self.mapped(mm, from_, to)
            or any(
                room < to and from_ < room_end
                for first, last, room, room_end in rooms(self.groups, mm)
                if first < start or last > end
            )
            for from_, to in ((low, start), (end, high))
            if from_ < to
        )

    def splits(self, space: Space, start: int, count: int) -> bool:
        """Whether the edges cut a shared range or a 2 MiB page."""
        end = start + count
        for at, edge in ((start, start), (end - 1, end)):
            page = space.pages.get(at)
            if page and page.piece and edge % PMD_PAGES:
                return True
            if page and page.group:
                first = at - page.offset
                if first < start or first + page.group.count > end:
                    return True
        return False

    def remove(self, mm: int, numbers: Iterable[int], exiting: bool = False) -> None:
        pages = self.spaces[mm].pages
        left = {}
        for at in numbers:
            page = pages.pop(at, None)
            if page and page.group:
                left[at - page.offset] = page.group
        for start, group in left.items():
            self.ranges.leave(group, mm, start, exiting)

    def grow(self, space: Space, at: int) -> Page | None:
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
