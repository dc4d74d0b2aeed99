"""Sequences of memory calls for the workload ``calls``, drawn so that no access is fatal.

The drawing knows which pages are mapped with which rights; what the calls do to page tables it does
not know: that is for the kernels to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

Choose = Callable[[int, int], int]
"""A whole number from low to high, both included."""

READ, WRITE, EXEC = 1, 2, 4
_RIGHTS = (0, READ, READ | WRITE, READ | WRITE, READ | WRITE, READ | EXEC, READ | WRITE | EXEC)
_ACROSS = 6
"""How a word is modified that lies in two pages; the ways before it take a page each."""
_SHARED_FILE, _ANON, _SHARED_ANON, _POPULATE = 0, 2, 3, 4  # 1: the file, privately
_DONTNEED = 4
_TABLE = 512
"""Pages that a PTE table maps."""
_STEPS = (1, 1, 2, 3, 7, 16, 33, 200)
_MOST_HEAP, _MOST_STACK = 2000, 1900
_DEEPEST = 2
_LEAST_PAGES = 2 * _TABLE


@dataclass(slots=True)
class _Object:
    """What mappings show: the region's file, or the nameless file of one anonymous mapping."""

    pages: int | None
    """None: no end."""


@dataclass(frozen=True, slots=True)
class _Page:
    thing: _Object
    page: int
    rights: int
    piece: int
    """Pages of one piece lie in one VMA."""


@dataclass(slots=True)
class _Space:
    """One process's pages, counted from the region's start."""

    pages: dict[int, _Page] = field(default_factory=dict)

    def run(self, at: int, most: int, legal: Callable[[_Page], bool]) -> int:
        """Pages from ``at`` on that are mapped and legal, at most ``most``."""
        count = 0
        while count < most and at + count in self.pages and legal(self.pages[at + count]):
            count += 1
        return count


class _Drawing:
    def __init__(self, choose: Choose, pages: int) -> None:
        self.choose = choose
        self.window = pages
        self.file = _Object(pages)
        self.space = _Space()
        self.calls: list[str] = []
        self.pieces = 0

    def one_of(self, items: tuple[int, ...]) -> int:
        return items[self.choose(0, len(items) - 1)]

    def new_piece(self) -> int:
        self.pieces += 1
        return self.pieces

    def emit(self, call: str, *numbers: int) -> None:
        self.calls.append(call + ".".join(map(str, numbers)))

    # ---- Places

    def place(self) -> int:
        """Often near the edge of a PTE table."""
        table = self.choose(0, self.window // _TABLE - 1) * _TABLE
        near = self.one_of((0, 0, 1, 15, 16, 17, 255, 496, 511))
        return table + (near if self.choose(0, 2) else self.choose(0, _TABLE - 1))

    def count(self, at: int) -> int:
        wanted = self.one_of((1, 2, 15, 16, 17, 64, 511, 512, 513, 1024, 1500))
        return min(wanted if self.choose(0, 2) else self.choose(1, 1500), self.window - at)

    def mapped_place(self) -> int | None:
        if not self.space.pages:
            return None
        at = self.place()
        if at in self.space.pages:
            return at
        known = sorted(self.space.pages)
        return known[self.choose(0, len(known) - 1)]

    def cut(self, at: int, end: int) -> None:
        """A call that may split VMAs at both places: pieces on the sides are new ones."""
        for edge in (at, end):
            before, behind = self.space.pages.get(edge - 1), self.space.pages.get(edge)
            if before is None or behind is None or before.piece != behind.piece:
                continue
            piece, fresh = behind.piece, self.new_piece()
            page = edge
            while (found := self.space.pages.get(page)) is not None and found.piece == piece:
                self.space.pages[page] = replace(found, piece=fresh)
                page += 1

    # ---- Calls

    def map(self) -> None:
        at = self.place()
        count = self.count(at)
        kind = self.choose(_SHARED_FILE, _SHARED_ANON)
        rights = self.one_of(_RIGHTS)
        first = self.choose(0, self.window) if kind < _ANON else 0
        populate = _POPULATE if self.choose(0, 7) == 0 else 0
        self.cut(at, at + count)
        anonymous = _Object(None if kind == _ANON else count)
        thing = anonymous if kind >= _ANON else self.file
        piece = self.new_piece()
        for i in range(count):
            self.space.pages[at + i] = _Page(thing, first + i, rights, piece)
        self.emit("m", at, count, rights, kind + populate, first)

    def map_anywhere(self) -> None:
        self.emit("n", self.one_of((1, 2, 100, 512, 513, 1024)), self.choose(_ANON, _SHARED_ANON))

    def unmap(self) -> None:
        at = self.place()
        count = self.count(at)
        self.cut(at, at + count)
        for page in range(at, at + count):
            self.space.pages.pop(page, None)
        self.emit("u", at, count)

    def protect(self) -> None:
        at = self.place()
        # As far as it is mapped: the kernel stops there, with the rest as it was.
        wanted = self.count(at)
        count = self.space.run(at, wanted, lambda _: True)
        rights = self.one_of(_RIGHTS)
        self.cut(at, at + count)
        pieces: dict[int, int] = {}
        for page in range(at, at + count):
            old = self.space.pages[page]
            piece = pieces.setdefault(old.piece, self.new_piece())
            self.space.pages[page] = replace(old, rights=rights, piece=piece)
        self.emit("p", at, wanted, rights)

    def discard(self) -> None:
        at = self.place()
        self.emit("d", at, self.count(at), _DONTNEED)

    def move(self) -> None:
        at = self.mapped_place()
        if at is None:
            return
        piece = self.space.pages[at].piece
        old = self.space.run(at, self.count(at), lambda page: page.piece == piece)
        to = self.place()
        new = self.choose(1, 2 * old) if self.choose(0, 2) == 0 else old
        new = min(new, self.window - to)
        if to < at + old and at < to + new:
            return
        self.cut(at, at + old)
        self.cut(to, to + new)
        moved = [self.space.pages.pop(at + i) for i in range(old)]
        fresh = self.new_piece()
        for i in range(new):
            origin = moved[min(i, old - 1)]
            self.space.pages[to + i] = replace(
                origin, page=moved[0].page + i, rights=moved[0].rights, piece=fresh
            )
        self.emit("x", at, old, new, to)

    def resize(self) -> None:
        """In place: a whole piece with nothing behind it, or a part given back."""
        at = self.mapped_place()
        if at is None:
            return
        piece = self.space.pages[at].piece
        old = self.space.run(at, self.window, lambda page: page.piece == piece)
        room = 0
        while at + old + room < self.window and at + old + room not in self.space.pages:
            room += 1
        new = self.choose(1, old + room)
        last = self.space.pages[at + old - 1]
        self.cut(at + min(old, new), at + old)
        for i in range(old, new):
            self.space.pages[at + i] = replace(last, page=last.page + 1 + i - old)
        for i in range(new, old):
            del self.space.pages[at + i]
        self.emit("g", at, old, new)

    def touched(self, write: bool) -> tuple[int, int]:
        """A place, and the number of pages from there on that an access may touch."""
        at = self.mapped_place()
        if at is None:
            return 0, 0

        def legal(page: _Page) -> bool:
            inside = page.thing.pages is None or page.page < page.thing.pages
            return inside and bool(page.rights & (WRITE if write else READ | WRITE | EXEC))

        return at, self.space.run(at, self.count(at), legal)

    def touch(self, write: bool) -> None:
        at, count = self.touched(write)
        if count:
            self.emit("w" if write else "r", at, count, self.one_of(_STEPS))

    def modify(self) -> None:
        at, count = self.touched(write=True)
        how = self.choose(0, _ACROSS)
        count -= how == _ACROSS
        if count > 0:
            self.emit("i", at, count, how)

    def truncate(self) -> None:
        self.file.pages = self.choose(1, self.window)
        self.emit("t", self.file.pages)

    def heap(self) -> None:
        self.emit("b", self.choose(0, _MOST_HEAP))

    def stack(self) -> None:
        self.emit("s", self.choose(1, _MOST_STACK))

    def forgo_around(self) -> None:
        at = self.mapped_place()
        if at is None:
            return
        count = self.space.run(at, self.count(at), lambda _: True)
        self.cut(at, at + count)
        self.emit("a", at, count)

    def child(self, length: int, depth: int) -> None:
        self.emit("f")
        before = _Space(dict(self.space.pages))
        self.some(length, depth + 1)
        self.space = before
        self.emit("e")

    def some(self, length: int, depth: int) -> None:
        plain = (
            [self.map] * 4
            + [self.unmap] * 2
            + [self.protect] * 2
            + [self.discard] * 2
            + [lambda: self.touch(write=False)] * 5
            + [lambda: self.touch(write=True)] * 5
            + [self.modify] * 3
            + [self.move, self.resize, self.map_anywhere, self.heap, self.stack, self.forgo_around]
            + [self.truncate]
        )
        for _ in range(length):
            chosen = self.choose(0, len(plain) + 1)
            if chosen < len(plain):
                plain[chosen]()
            elif depth < _DEEPEST:
                self.child(length // 3, depth)


def draw(choose: Choose, pages: int, length: int) -> str:
    """A sequence of about ``length`` calls for ``--calls``, over a region of ``pages`` pages.

    :param choose: where the choices come from: a random generator, or hypothesis.
    """
    if pages < _LEAST_PAGES or pages % _TABLE:
        raise ValueError(f"pages: a multiple of {_TABLE}, at least {_LEAST_PAGES}, not {pages}")
    drawing = _Drawing(choose, pages)
    drawing.map()
    drawing.some(length, 0)
    return ",".join(drawing.calls)
