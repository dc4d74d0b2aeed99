"""A recording on disk: a manifest, and one file of compressed pieces for each stream.

A stream is one process from its start, or from an exec, to its end or the next exec. The format is
in docs/recording.md.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ptshare_plugin.common.errors import UserError, os_reason

FORMAT = "ptshare recording"
VERSION = 1
MANIFEST = "manifest.json"
MARKS = "marks"
BEGIN, END = "begin", "end"

_HEAD = struct.Struct("<IIIIQQ")
"""A frame that zstd skips: magic, bytes; then compressed bytes of events and of blocks, accesses
and last stamp of the stream so far."""
_MAGIC = 0x184D2A50


@dataclass(slots=True)
class Stream:
    """What the manifest says of a stream.

    :param generation: 0, and one more after each exec.
    :param parent: number of the stream that it was forked from, or of the one that did the exec.
    :param forked: it has the parent's memory, and its first ``definitions`` blocks.
    :param end: ``exit``, ``signal``, ``exec``, ``cut`` (its end is missing), or nothing yet.
    :param why: of ``signal`` and ``cut``, in words.
    """

    file: str
    pid: int
    generation: int
    parent: int | None
    forked: bool
    definitions: int
    name: str = ""
    title: str = ""
    bytes: int = 0
    blocks: int = 0
    instructions: int = 0
    loads: int = 0
    stores: int = 0
    modifies: int = 0
    events: int = 0
    first_stamp: int = 0
    last_stamp: int = 0
    end: str | None = None
    status: int | None = None
    why: str | None = None

    @property
    def accesses(self) -> int:
        """Loads, stores, and both at once."""
        return self.loads + self.stores + self.modifies

    @property
    def follows_exec(self) -> bool:
        """Another stream is the same process before it executed this program."""
        return not self.forked and self.parent is not None

    @property
    def shown(self) -> str:
        """What it is called: as it called itself at its end."""
        return self.title or self.name


@dataclass(frozen=True, slots=True)
class Work:
    """What clients had a recorded server do, by their own count.

    :param unit: of what, in the singular.
    :param roi: of these, within the region of interest.
    :param processes: glob of what the processes that did it are called.
    """

    unit: str
    total: int
    roi: int
    processes: str


@dataclass(slots=True)
class Manifest:
    """What a recording says of itself.

    :param end: when it was ended; nothing: it goes on, or its recorder was killed.
    :param why: why it is partial, if it is.
    :param exit: exit status of the command, minus the signal that ended it.
    :param source: whose traces it was made of, if it was; then no Valgrind and no host is known.
    """

    command: list[str]
    ptshare: str
    valgrind: str | None
    host: dict[str, Any]
    begin: str
    recorder: int
    end: str | None = None
    why: str | None = None
    exit: int | None = None
    marks: list[tuple[str, int]] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    work: Work | None = None
    source: str | None = None

    @property
    def partial(self) -> str | None:
        """Why something is missing of it, or nothing."""
        if self.why is not None:
            return self.why
        if self.end is None:
            return "its recorder has not ended it"
        cut = [stream for stream in self.streams if stream.end in ("cut", None)]
        if not cut:
            return None
        first = cut[0]
        more = f"; and {len(cut) - 1} more" if len(cut) > 1 else ""
        return f"process {first.pid} ({first.shown}) was cut: {first.why}{more}"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest, at once."""
    partial = folder / f".{MANIFEST}.partial"
    content = {"format": FORMAT, "version": VERSION, **asdict(manifest)}
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, folder / MANIFEST)


def read_manifest(folder: Path) -> Manifest:
    """Manifest of a recording whose streams are there; a UserError says what is wrong."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{folder}: is no recording of ptshare record") from error
    except NotADirectoryError as error:
        raise UserError(f"{folder}: is a file; a recording is a folder") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {os_reason(error)}") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged: not JSON") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise UserError(f"{path}: is not the manifest of a recording")
    version = content.pop("version", None)
    if version != VERSION:
        raise UserError(f"{folder}: a recording of version {version}; this reads {VERSION}")
    try:
        streams = [Stream(**each) for each in content.pop("streams")]
        marks = [(name, stamp) for name, stamp in content.pop("marks")]
        work = content.pop("work", None)
        manifest = Manifest(
            streams=streams, marks=marks, work=None if work is None else Work(**work), **content
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged: {error}") from error
    for stream in manifest.streams:
        if not (folder / stream.file).is_file():
            raise UserError(f"{folder}: lacks {stream.file}, process {stream.pid}")
    manifest.marks += _own_marks(folder)
    return manifest


def add_mark(folder: Path, name: str, stamp: int) -> None:
    """Mark a recording that is being made, from another process than its recorder."""
    with open(folder / MARKS, "a", encoding="ascii") as file:
        file.write(f"{name} {stamp}\n")


def _own_marks(folder: Path) -> list[tuple[str, int]]:
    try:
        lines = (folder / MARKS).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return []
    marks = [line.split() for line in lines]
    if not all(len(mark) == 2 and mark[1].isdecimal() for mark in marks):
        raise UserError(f"{folder / MARKS}: damaged: a mark is a name and a time")
    return [(name, int(stamp)) for name, stamp in marks]


class PieceWriter:
    """Appends pieces to a stream's file."""

    def __init__(self, path: Path) -> None:
        """Open a new file."""
        import zstandard

        self._file: BinaryIO = open(path, "xb")  # noqa: SIM115
        self._compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
        self.bytes = 0

    def write(self, events: bytes, blocks: bytes, accesses: int, last_stamp: int) -> None:
        """Append a piece: what ``RecordEncoder.take`` gives, and what the stream has by then."""
        kept = [self._compressor.compress(text) for text in (events, blocks)]
        sizes = [len(text) for text in kept]
        head = _HEAD.pack(_MAGIC, _HEAD.size - 8, *sizes, accesses, last_stamp)
        whole = b"".join((head, *kept))
        self._file.write(whole)
        self._file.flush()
        self.bytes += len(whole)

    def close(self) -> None:
        """No piece comes."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece, still compressed. ``accesses`` and ``last_stamp``: of the stream up to its end."""

    accesses: int
    last_stamp: int
    _events: bytes
    _blocks: bytes

    def events(self) -> bytes:
        """What ``_core.record_events`` reads."""
        return decompressed(self._events)

    def blocks(self) -> bytes:
        """What ``_core.RecordDecoder`` takes beside the events."""
        return decompressed(self._blocks)


def decompressed(text: bytes) -> bytes:
    """A text of a piece as it was before it was compressed."""
    import zstandard

    try:
        return zstandard.ZstdDecompressor().decompress(text)
    except zstandard.ZstdError as error:
        raise UserError(f"damaged: {error}") from error


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file a piece's texts are: ``events`` bytes from ``start``, then ``blocks``."""

    start: int
    events: int
    blocks: int


def piece_places(path: Path) -> list[Place]:
    """Of the pieces that a stream's file has whole."""
    places: list[Place] = []
    try:
        with open(path, "rb") as file:
            end = os.fstat(file.fileno()).st_size
            while len(head := file.read(_HEAD.size)) == _HEAD.size:
                magic, size, events, blocks, _, _ = _HEAD.unpack(head)
                if magic != _MAGIC or size != _HEAD.size - 8:
                    raise UserError(f"{path}: damaged: no piece begins where one should")
                start = file.tell()
                if start + events + blocks > end:
                    break
                places.append(Place(start, events, blocks))
                file.seek(events + blocks, os.SEEK_CUR)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {os_reason(error)}") from error
    return places


def pieces(folder: Path, stream: Stream, events_only: bool = False) -> Iterator[Piece]:
    """The pieces of a stream, one in memory at a time.

    A file that ends inside a piece is one of a stream that was cut: the rest is left out.

    :param events_only: do not read the blocks.
    """
    path = folder / stream.file
    try:
        with open(path, "rb") as file:
            while (head := file.read(_HEAD.size)) and len(head) == _HEAD.size:
                magic, size, events, blocks, accesses, last_stamp = _HEAD.unpack(head)
                if magic != _MAGIC or size != _HEAD.size - 8:
                    raise UserError(f"{path}: damaged: no piece begins where one should")
                first = file.read(events)
                if events_only:
                    second = b""
                    file.seek(blocks, os.SEEK_CUR)
                else:
                    second = file.read(blocks)
                if len(first) < events or (not events_only and len(second) < blocks):
                    break
                yield Piece(accesses, last_stamp, first, second)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {os_reason(error)}") from error
