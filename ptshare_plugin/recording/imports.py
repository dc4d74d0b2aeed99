"""Traces of others, made into recordings: DynamoRIO's drmemtrace, and ChampSim's."""

from __future__ import annotations

import datetime
import heapq
import itertools
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from ptshare_plugin import __version__
from ptshare_plugin.common.errors import EXIT_USAGE, UserError, os_reason
from ptshare_plugin.common.progress import Progress, silent
from ptshare_plugin.recording import folder
from ptshare_plugin.recording.folder import Manifest, PieceWriter, Stream
from ptshare_plugin.recording.streams import PIECE_WORDS, learn

if TYPE_CHECKING:
    from ptshare_plugin._core import TraceImporter

KINDS = {
    "drmemtrace": "DynamoRIO's, a folder each process",
    "champsim": "ChampSim's, a file each process",
    "cloudsuite": "ChampSim's longer form, of CloudSuite's traces",
}

_CHUNK = 256 << 10
_EVER = (1 << 64) - 1
_LOOK_EVERY = 1 << 20
"""Bytes of records between looks at which pieces are full."""
_HEADER = struct.Struct("<HHQ")
_HEADER_TYPE, _NEWEST = 25, 7
"""A final trace of drmemtrace begins with a record of that type, whose value is the version."""
_SUFFIXES = ("", ".zip", ".gz", ".zst")

Range = tuple[int, int]


def imported(
    traces: Sequence[Path],
    output: Path,
    kind: str | None = None,
    shared: Sequence[Range] = (),
    progress: Progress = silent,
) -> tuple[Manifest, dict[str, int]]:
    """Make a recording of traces, all of one kind, in the new folder ``output``.

    :param kind: of ``KINDS``; without one, what the traces look like.
    :param shared: ranges of addresses that all processes map shared.
    :returns: its manifest, and what was left out and how often.
    :raises UserError: one line; nothing is left at ``output`` then.
    """
    from ptshare_plugin import _core

    kind = kind or _kind_of(traces[0])
    files = [(name, path) for trace in traces for name, path in _files(trace, kind)]
    importer = _core.TraceImporter(kind)
    partial = output.with_name(f".{output.name}.partial")
    manifest = Manifest(
        command=[str(trace) for trace in traces],
        ptshare=__version__,
        valgrind=None,
        source=kind,
        host={},
        begin=_now(),
        recorder=os.getpid(),
    )
    try:
        _Pass(importer, [path for _, path in files], progress).run()
        _check_shared(shared)
        try:
            importer.write(_names(importer, kind, [name for name, _ in files]), list(shared))
        except ValueError as error:
            raise UserError(str(error), EXIT_USAGE, option="shared") from error
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with ExitStack() as closing:
            written = _Written(importer, partial, closing)
            _Pass(importer, [path for _, path in files], progress, written).run()
            importer.finish()
            manifest.streams = written.end()
        if not any(stream.instructions for stream in manifest.streams):
            raise UserError(f"{traces[0]}: no instruction in it")
        manifest.end, manifest.exit = _now(), 0
        folder.write_manifest(partial, manifest)
        if output.exists():
            shutil.rmtree(output)
        partial.replace(output)
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {os_reason(error)}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest, importer.left_out()


def parse_range(text: str) -> Range:
    """``LOW-HIGH``, both in hexadecimal; a UserError says what is wrong."""
    low, separator, high = text.partition("-")
    with suppress(ValueError):
        start, end = int(low, 16), int(high, 16)
        if separator and start < end and start % 4096 == end % 4096 == 0 and end <= 1 << 47:
            return start, end
    raise UserError(
        "must be LOW-HIGH, multiples of 0x1000, LOW the less, like 0x7f0000000000-0x7f0010000000",
        EXIT_USAGE,
        option="shared",
        value=text,
    )


class _Lane:
    """One file's records, as they are read."""

    def __init__(self, importer: TraceImporter, number: int, path: Path) -> None:
        self._importer, self._number, self._path = importer, number, path
        self._chunks = _chunks(path)
        self._buffer, self._start = b"", 0

    def advance(self, until: int, fed: Callable[[int], None]) -> int | None:
        """Take what is not later than ``until``; the time of what comes then.

        :param fed: called with bytes that were taken.
        """
        while True:
            if len(self._buffer) - self._start >= self._importer.record_bytes:
                taken, stopped = self._feed(self._buffer, until)
                fed(taken)
                if stopped:
                    return stopped
            rest = self._buffer[self._start :]
            chunk = next(self._chunks, None)
            if chunk is None:
                if rest:
                    raise UserError(f"{self._path}: is cut off inside a record")
                self._feed(b"", _EVER)
                return None
            self._buffer, self._start = rest + chunk, 0

    def _feed(self, records: bytes, until: int) -> tuple[int, int]:
        try:
            taken, stopped = self._importer.feed(self._number, records, self._start, until)
        except RuntimeError as error:
            raise UserError(f"{self._path}: {error}") from error
        self._start += taken
        return taken, stopped


class _Pass:
    """All files once, in the order of their time."""

    def __init__(
        self,
        importer: TraceImporter,
        paths: Sequence[Path],
        progress: Progress,
        written: _Written | None = None,
    ) -> None:
        self._lanes = [_Lane(importer, number, path) for number, path in enumerate(paths)]
        self._progress, self._written = progress, written
        self._record = importer.record_bytes
        self._done = self._looked = 0

    def run(self) -> None:
        waiting = [(0, number) for number in range(len(self._lanes))]
        while waiting:
            _, number = heapq.heappop(waiting)
            until = waiting[0][0] if waiting else _EVER
            stopped = self._lanes[number].advance(until, self._fed)
            if stopped is not None:
                heapq.heappush(waiting, (stopped, number))

    def _fed(self, taken: int) -> None:
        self._done += taken
        if self._done - self._looked >= _LOOK_EVERY:
            self._looked = self._done
            self._progress(self._done // self._record, 0)
            if self._written is not None:
                self._written.look()


class _Written:
    """The streams of the recording that is being made."""

    def __init__(self, importer: TraceImporter, place: Path, closing: ExitStack) -> None:
        self._importer = importer
        self._streams: list[Stream] = []
        self._writers: list[PieceWriter] = []
        for number in importer.processes:
            stream = Stream(f"{number}.0.zst", number, 0, None, False, 0)
            writer = PieceWriter(place / stream.file)
            closing.callback(writer.close)
            self._streams.append(stream)
            self._writers.append(writer)

    def look(self) -> None:
        """Write the pieces that are full."""
        for number in range(len(self._streams)):
            if self._importer.encoder(number).words >= PIECE_WORDS:
                self._write(number)

    def end(self) -> list[Stream]:
        """Write what there is."""
        for number, stream in enumerate(self._streams):
            self._write(number)
            stream.end, stream.status = "exit", 0
        return self._streams

    def _write(self, number: int) -> None:
        encoder, stream, writer = (
            self._importer.encoder(number),
            self._streams[number],
            self._writers[number],
        )
        events, blocks = encoder.take()
        learn(stream, encoder)
        writer.write(events, blocks, stream.accesses, stream.last_stamp)
        stream.bytes = writer.bytes


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _check_shared(shared: Sequence[Range]) -> None:
    ordered = sorted(shared)
    for (_, end), (start, _) in itertools.pairwise(ordered):
        if start < end:
            raise UserError("ranges overlap", EXIT_USAGE, option="shared", value=f"{start:#x}-...")


def _names(importer: TraceImporter, kind: str, files: Sequence[str]) -> list[str]:
    """Of the processes: a file's each, or the traced program's."""
    if kind == "drmemtrace":
        return [files[0]] * len(importer.processes)
    return list(files)


# ---- Files


def _kind_of(trace: Path) -> str:
    if trace.is_dir():
        return "drmemtrace"
    head = next(_chunks(trace), b"")[: _HEADER.size]
    if len(head) == _HEADER.size:
        type_, size, version = _HEADER.unpack(head)
        if type_ == _HEADER_TYPE and size == 0 and 0 < version <= _NEWEST:
            return "drmemtrace"
    if "champsim" in trace.name:
        return "champsim"
    raise UserError(
        f"{trace}: does not tell what it is: say --kind, one of {', '.join(KINDS)}", EXIT_USAGE
    )


def _files(trace: Path, kind: str) -> list[tuple[str, Path]]:
    """Files of a trace, and what their process is called."""
    if not trace.is_dir():
        if not trace.exists():
            raise UserError(f"{trace}: there is no such trace", EXIT_USAGE)
        return [(_program(trace, kind), trace)]
    if kind != "drmemtrace":
        raise UserError(f"{trace}: is a folder; traces of {kind} are files", EXIT_USAGE)
    place = trace / "trace" if (trace / "trace").is_dir() else trace
    endings = tuple(f".trace{suffix}" for suffix in (*_SUFFIXES, ".lz4"))
    found = sorted(each for each in place.iterdir() if each.name.endswith(endings))
    if not found:
        raw = (trace / "raw").is_dir() or any(".raw" in each.name for each in trace.iterdir())
        why = (
            "has raw traces alone: make final ones with DynamoRIO's drraw2trace -indir"
            if raw
            else "has no file *.trace, *.trace.zip, *.trace.gz or *.trace.zst"
        )
        raise UserError(f"{trace}: {why}", EXIT_USAGE)
    return [(_program(each, kind), each) for each in found]


def _program(path: Path, kind: str) -> str:
    """drmemtrace.PROGRAM.PID.NUMBER.trace...; else the file's name."""
    parts = path.name.split(".")
    if kind == "drmemtrace" and parts[0] == kind and len(parts) > 3:
        return parts[1]
    return path.name


def _chunks(path: Path) -> Iterator[bytes]:
    """Bytes of a file, decompressed, some at a time."""
    import lzma
    import zipfile
    import zlib

    import zstandard

    damage = (EOFError, ValueError, lzma.LZMAError, zipfile.BadZipFile, zlib.error)
    try:
        for file in _opened(path):
            with file:
                while chunk := file.read(_CHUNK):
                    yield chunk
    except (*damage, zstandard.ZstdError) as error:
        raise UserError(f"{path}: damaged or cut off: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {os_reason(error)}") from error


def _opened(path: Path) -> Iterator[BinaryIO]:
    import gzip
    import lzma
    import zipfile

    import zstandard

    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as whole:
            for name in whole.namelist():
                yield cast(BinaryIO, whole.open(name))
    elif path.suffix == ".gz":
        yield cast(BinaryIO, gzip.open(path))  # noqa: SIM115
    elif path.suffix == ".xz":
        yield cast(BinaryIO, lzma.open(path))  # noqa: SIM115
    elif path.suffix == ".zst":
        yield cast(BinaryIO, zstandard.open(path))
    elif path.suffix == ".lz4":
        raise UserError(f"{path}: is compressed with lz4: decompress it first (lz4 -d)", EXIT_USAGE)
    else:
        yield open(path, "rb")  # noqa: SIM115
