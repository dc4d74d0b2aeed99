"""The folder of a recording: what is written is read; what is damaged is refused in one line."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from recordings import items

from ptshare_plugin import _core
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.recording.folder import (
    Manifest,
    PieceWriter,
    Stream,
    Work,
    add_mark,
    pieces,
    read_manifest,
    write_manifest,
)

CALL, RETURN = 7, 8


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def event(kind: int, small: int, *values: int) -> bytes:
    return words(1 << 63 | kind << 56 | len(values) << 40 | small, *values)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recording of one stream with two pieces."""
    encoder = _core.RecordEncoder()
    stream = Stream("7.0.zst", 7, 0, None, False, 0, name="program", end="exit", status=0)
    writer = PieceWriter(tmp_path / stream.file)
    for number in range(2):
        encoder.feed(event(CALL, number, 1, 2, 3, 4, 5, 6, 1000 + number))
        encoder.feed(event(RETURN, number, 7, 2000 + number))
        writer.write(*encoder.take(), 0, 2000 + number)
    writer.close()
    for name, value in encoder.totals().items():
        setattr(stream, name, value)
    stream.bytes = writer.bytes
    manifest = Manifest(["program"], "1", "3", {}, "then", 1, end="later", exit=0)
    manifest.streams.append(stream)
    write_manifest(tmp_path, manifest)
    return tmp_path


def test_what_is_written_is_read(folder: Path) -> None:
    manifest = read_manifest(folder)
    (stream,) = manifest.streams
    assert stream.bytes == (folder / stream.file).stat().st_size
    assert [piece.last_stamp for piece in pieces(folder, stream)] == [2000, 2001]
    assert list(items(folder, manifest)) == [
        [
            (CALL, 0, (1, 2, 3, 4, 5, 6, 1000)),
            (RETURN, 0, (7, 2000)),
            (CALL, 1, (1, 2, 3, 4, 5, 6, 1001)),
            (RETURN, 1, (7, 2001)),
        ]
    ]
    assert manifest.partial is None


def test_marks_of_another_process_are_added(folder: Path) -> None:
    add_mark(folder, "begin", 5)
    add_mark(folder, "end", 9)
    assert read_manifest(folder).marks == [("begin", 5), ("end", 9)]


def test_what_clients_had_done_is_kept(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest.work is None
    manifest.work = Work("request", 5, 3, "server *")
    write_manifest(folder, manifest)
    assert read_manifest(folder).work == Work("request", 5, 3, "server *")
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"roi": 3', '"rio": 3'))
    with pytest.raises(UserError, match=r"damaged: .*rio"):
        read_manifest(folder)


def test_a_stream_that_ends_inside_a_piece_is_read_up_to_there(folder: Path) -> None:
    (stream,) = read_manifest(folder).streams
    path = folder / stream.file
    whole = path.read_bytes()
    for count in (len(whole) - 1, len(whole) // 2 + 3):
        path.write_bytes(whole[:count])
        assert [piece.last_stamp for piece in pieces(folder, stream)] == [2000]
        assert len(list(pieces(folder, stream, events_only=True))) >= 1


@pytest.mark.parametrize("end", [None, "cut"])
def test_it_says_that_it_is_partial(folder: Path, end: str | None) -> None:
    manifest = read_manifest(folder)
    manifest.streams[0].end, manifest.streams[0].why = end, "it was killed"
    assert manifest.partial == "process 7 (program) was cut: it was killed"


def changed(folder: Path, **values: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"version": 2}, "a recording of version 2; this reads 1"),
        ({"format": "other"}, "is not the manifest of a recording"),
        ({"streams": [{"pid": 3}]}, "damaged: "),
        ({"streams": 3}, "damaged: "),
        ({"more": 3}, "damaged: "),
    ],
)
def test_a_manifest_that_is_none(folder: Path, values: dict[str, object], told: str) -> None:
    changed(folder, **values)
    with pytest.raises(UserError, match=told):
        read_manifest(folder)


def test_other_refusals(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no recording of ptshare record"):
        read_manifest(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is a file; a recording is a folder"):
        read_manifest(folder / "7.0.zst")
    (stream,) = read_manifest(folder).streams
    path = folder / stream.file
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(UserError, match="damaged: "):
        [piece.blocks() for piece in pieces(folder, stream)]
    path.write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="no piece begins where one should"):
        list(pieces(folder, stream))
    path.unlink()
    with pytest.raises(UserError, match=r"lacks 7\.0\.zst, process 7"):
        read_manifest(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="damaged: not JSON"):
        read_manifest(folder)
