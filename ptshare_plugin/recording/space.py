"""The address spaces of a recording's processes, from the calls that they made."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from ptshare_plugin.common.units import PAGE_BYTES
from ptshare_plugin.recording.folder import Stream, pieces

# native/recordings/words.h
MAP, FILE, CALL, RETURN, PRESENT, FAULTS = 5, 6, 7, 8, 17, 18
_STACK = 8
_SYSTEM_V = 0xFFFFFFFF

_MMAP, _MPROTECT, _MUNMAP, _BRK, _MREMAP, _SHMAT, _SHMDT = 9, 10, 11, 12, 25, 30, 67
_FORKS = (56, 57, 58, 435)
_SHARED, _ANONYMOUS = 0x01, 0x20
_SHM_RDONLY = 0o10000
_READ, _WRITE = 1, 2

Identity = tuple[str, int, int]
"""What is mapped: ``file`` with device and inode; ``anonymous`` with stream and number of the
mapping that made it; ``system-v`` with its id."""


@dataclass(frozen=True, slots=True)
class Area:
    """A mapping, or what is left of one.

    :param what: nothing: private and anonymous.
    :param offset: of its first byte in what is mapped.
    :param made: where and how large it was when it was made.
    :param call: number of the stream that made it, and the stamp of the call's return; nothing: it
        was there when the program began.
    """

    start: int
    end: int
    prot: int
    shared: bool
    what: Identity | None
    name: str
    offset: int
    made: tuple[int, int]
    call: tuple[int, int] | None = None

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.end - self.start

    def part(self, start: int, end: int) -> Area:
        """The same from ``start`` to ``end``."""
        return replace(self, start=start, end=end, offset=self.offset + start - self.start)


@dataclass(slots=True)
class Space:
    """The mappings of one process, which do not overlap."""

    areas: list[Area] = field(default_factory=list)
    brk_start: int = 0

    def copy(self) -> Space:
        """As a fork makes it."""
        return Space(list(self.areas), self.brk_start)

    def unmap(self, start: int, end: int) -> list[Area]:
        """Take away what lies between; returns it."""
        kept: list[Area] = []
        taken: list[Area] = []
        for area in self.areas:
            if area.end <= start or end <= area.start:
                kept.append(area)
                continue
            taken.append(area.part(max(area.start, start), min(area.end, end)))
            if area.start < start:
                kept.append(area.part(area.start, start))
            if end < area.end:
                kept.append(area.part(end, area.end))
        self.areas = kept
        return taken

    def map(self, area: Area) -> None:
        """Put an area in place of what is there."""
        self.unmap(area.start, area.end)
        self.areas.append(area)

    def protect(self, start: int, end: int, prot: int) -> None:
        """Change rights between."""
        for part in self.unmap(start, end):
            self.areas.append(replace(part, prot=prot))

    def move(self, start: int, length: int, target: int, target_length: int) -> Area | None:
        """Move or resize, as mremap does."""
        source = next((area for area in self.areas if area.start <= start < area.end), None)
        if source is None:
            return None
        moved = source.part(start, start + target_length)
        if length:  # 0: a second mapping of the same
            self.unmap(start, start + length)
        area = replace(
            moved, start=target, end=target + target_length, made=(target, target_length)
        )
        self.map(area)
        return area


class Faults(NamedTuple):
    """That the kernel has counted when a program ends.

    :param own: of the minor, those that are surely Valgrind's: before the program's first
        instruction, and one for each anonymous page that it has got since.
    """

    minor: int
    major: int
    own: int


@dataclass(slots=True)
class History:
    """What one stream did with its memory.

    :param ever: every area that it ever had of something shared or of a file.
    :param present: at its end, start and number of pages of each run that the kernel's tables hold.
    """

    space: Space
    ever: dict[tuple[Identity, int, bool], Area] = field(default_factory=dict)
    present: list[tuple[int, int]] = field(default_factory=list)
    present_areas: list[tuple[int, int]] = field(default_factory=list)
    faults: Faults | None = None


def histories(folder: Path, streams: list[Stream]) -> list[History]:
    """Of all streams, in their order."""
    forks: dict[tuple[int, int], list[Space]] = {}
    found: list[History] = []
    for number, stream in enumerate(streams):
        space = Space()
        if stream.forked and stream.parent is not None:
            waiting = forks.get((stream.parent, stream.pid), [])
            space = waiting.pop(0) if waiting else Space()
        history = History(space)
        for area in space.areas:
            _note(history, area)
        _Reader(number, history, forks).read(_events(folder, stream))
        found.append(history)
    return found


def _events(folder: Path, stream: Stream) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    from ptshare_plugin import _core

    for piece in pieces(folder, stream, events_only=True):
        yield from _core.record_events(piece.events())


def _note(history: History, area: Area) -> None:
    if area.what is not None:
        history.ever[(area.what, area.start, area.shared)] = area


def _text(words: tuple[int, ...]) -> str:
    whole = struct.pack(f"<{len(words)}Q", *words)
    return whole.partition(b"\0")[0].decode(errors="replace")


def _pages_up(value: int) -> int:
    return -(-value // PAGE_BYTES) * PAGE_BYTES


class _Reader:
    """Follows one stream."""

    def __init__(
        self, number: int, history: History, forks: dict[tuple[int, int], list[Space]]
    ) -> None:
        self._number, self._history, self._forks = number, history, forks
        self._calls: dict[int, tuple[int, ...]] = {}
        self._files: dict[int, tuple[int, int, int, str]] = {}
        self._made = 0

    def read(self, events: Iterator[tuple[int, int, tuple[int, ...]]]) -> None:
        history = self._history
        for kind, small, words in events:
            if kind == MAP:
                self._initial(small, words)
            elif kind == CALL:
                self._calls[small >> 16] = words
            elif kind == FILE:
                self._files[small] = (words[0], words[1], words[2], _text(words[3:]))
            elif kind == RETURN:
                self._return(small & 0xFFFF, small >> 16, words[0], words[1])
            elif kind == FAULTS:
                history.faults = Faults(*words)
                history.present, history.present_areas = [], []
            elif kind == PRESENT:
                history.present_areas.append((words[0], words[1]))
                history.present += zip(words[2::2], words[3::2], strict=True)

    def _initial(self, what: int, words: tuple[int, ...]) -> None:
        start, size, device, inode, offset = words[:5]
        name = _text(words[5:])
        identity = ("file", device, inode) if name else None
        shown = name or ("stack" if what & _STACK else "anonymous")
        self._map(
            Area(start, start + size, what & 7, False, identity, shown, offset, (start, size))
        )

    def _map(self, area: Area) -> None:
        self._history.space.map(area)
        _note(self._history, area)

    def _return(self, number: int, thread: int, result: int, stamp: int) -> None:
        arguments = self._calls.get(thread)
        if arguments is None:  # a forked child's first: the call is the parent's
            return
        if result >= 1 << 63:
            return
        space = self._history.space
        if number == _MMAP:
            self._mmap(thread, arguments, result, stamp)
        elif number == _MUNMAP:
            space.unmap(arguments[0], arguments[0] + _pages_up(arguments[1]))
        elif number == _MPROTECT:
            space.protect(arguments[0], arguments[0] + _pages_up(arguments[1]), arguments[2])
        elif number == _BRK:
            self._brk(result)
        elif number == _MREMAP:
            moved = space.move(
                arguments[0], _pages_up(arguments[1]), result, _pages_up(arguments[2])
            )
            if moved is not None:
                _note(self._history, moved)
        elif number == _SHMAT:
            self._shmat(thread, arguments, result, stamp)
        elif number == _SHMDT:
            for area in [area for area in space.areas if area.made[0] == arguments[0]]:
                space.unmap(area.start, area.end)
        elif number in _FORKS and result > 0:
            self._forks.setdefault((self._number, result), []).append(space.copy())

    def _mmap(self, thread: int, arguments: tuple[int, ...], result: int, stamp: int) -> None:
        _, length, prot, flags, _, offset = arguments[:6]
        size = _pages_up(length)
        shared = flags & _SHARED != 0
        identity: Identity | None = None
        name = "anonymous"
        if not flags & _ANONYMOUS and thread in self._files:
            device, inode, _, name = self._files.pop(thread)
            identity = ("file", device, inode)
        elif shared:
            identity = ("anonymous", self._number, self._made)
            self._made += 1
        made = (result, size)
        call = (self._number, stamp)
        self._map(Area(result, result + size, prot, shared, identity, name, offset, made, call))

    def _shmat(self, thread: int, arguments: tuple[int, ...], result: int, stamp: int) -> None:
        _, identifier, size, _ = self._files.pop(thread, (0, 0, 0, ""))
        prot = _READ if arguments[2] & _SHM_RDONLY else _READ | _WRITE
        whole = _pages_up(size)
        what: Identity = ("system-v", 0, identifier)
        name = f"System V segment {identifier}"
        made = (result, whole)
        call = (self._number, stamp)
        self._map(Area(result, result + whole, prot, True, what, name, 0, made, call))

    def _brk(self, result: int) -> None:
        space = self._history.space
        if space.brk_start == 0:
            space.brk_start = result
        start, end = space.brk_start, _pages_up(result)
        heap = [area for area in space.areas if area.start == start and area.what is None]
        for area in heap:
            space.unmap(area.start, area.end)
        if end > start:
            prot = _READ | _WRITE
            self._map(Area(start, end, prot, False, None, "heap", 0, (start, end - start)))
