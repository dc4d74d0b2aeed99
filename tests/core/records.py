"""What the oracle remembers: constants of the interface, files, mapped pages, sharing groups."""

from __future__ import annotations

from dataclasses import dataclass, field

PAGE = 4096
PMD_PAGES = 512
READ, WRITE, EXEC = 1, 2, 4
SHARED, PRIVATE, FIXED, ANONYMOUS = 0x01, 0x02, 0x10, 0x20
GROWSDOWN, POPULATE, NOREPLACE, SHARED_PT = 0x100, 0x8000, 0x100000, 0x200000


def pages_of(length: int) -> int:
    return (length + PAGE - 1) // PAGE


@dataclass(eq=False)
class File:
    """A file: words that were written, and how much of its first content is left."""

    id: int | None  # None: anonymous shared memory, zeros at first
    size: int
    written: dict[int, int] = field(default_factory=dict)
    kept: int = 0  # bytes of the first content that no truncation has cut off
    huge: bool = False  # it has 2 MiB pages

    def __post_init__(self) -> None:
        self.kept = self.size if self.id is not None else 0

    @property
    def pages(self) -> int:
        return pages_of(self.size)

    def word(self, page: int) -> int:
        if page in self.written:
            return self.written[page]
        first = (self.id << 32 | page + 1) if self.id is not None else 0
        return low_bytes(first, self.kept - page * PAGE)

    def resize(self, size: int) -> None:
        if size < self.size:
            self.kept = min(self.kept, size)
            self.written = {
                page: low_bytes(word, size - page * PAGE)
                for page, word in self.written.items()
                if page < pages_of(size)
            }
        self.size = size


def low_bytes(word: int, count: int) -> int:
    return word & ((1 << 8 * min(max(count, 0), 8)) - 1)


@dataclass(eq=False)
class Group:
    """Processes that share the page table of one range of a file."""

    file: File
    file_page: int
    start: int  # page number
    count: int
    created: tuple[int, bool]  # protection and may-write that it was made with
    rights: list[int]
    # (mm, first page) -> pages whose multiples around the guest's range are kept for it.
    guests: dict[tuple[int, int], int] = field(default_factory=dict)
    mapped: set[int] = field(default_factory=set)  # offsets some member has had mapped
    chunks: set[int] = field(default_factory=set)  # 2 MiB chunks that ever had a page
    links: set[tuple[int, int, int]] = field(default_factory=set)  # (*guest, entry)
    owner: int = 0  # whose end ends it for all; 0: nobody's
    references: int = 0  # that keep it, whoever has left
    dead: bool = False  # nothing can be mapped any more

    @property
    def kept(self) -> bool:
        """Whether it stays without a guest."""
        return self.owner != 0 or self.references != 0

    def die(self) -> None:
        self.dead = True
        for gone in (self.mapped, self.chunks, self.links):
            gone.clear()


@dataclass(slots=True)
class Page:
    """One mapped page of one address space."""

    rights: int
    may_write: bool
    shared: bool
    file: File | None
    file_page: int
    group: Group | None = None
    grows: bool = False
    own: int | None = None  # the private word, once there is one
    present: bool = False  # a shared file page that was accessed here (without fault-around)
    piece: object | None = None  # of 2 MiB pages: neighbours with one piece are one VMA

    @property
    def offset(self) -> int:
        """In the group's range."""
        assert self.group
        return self.file_page - self.group.file_page


@dataclass(frozen=True)
class Mmap:
    """What a caller of mmap asks for."""

    address: int
    length: int
    prot: int
    flags: int
    file: File | None = None
    offset: int = 0
    readable: bool = True
    writable: bool = True


class Space:
    def __init__(self) -> None:
        self.pages: dict[int, Page] = {}
        self.users = 1
        self.brk_start = self.brk = 0
