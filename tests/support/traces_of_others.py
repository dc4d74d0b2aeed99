"""Traces as DynamoRIO's drmemtrace and ChampSim write them, and what is in them."""

from __future__ import annotations

import gzip
import lzma
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

READ, WRITE, INSTRUCTION, CALL, RETURN, BUNDLE = 0, 1, 10, 14, 16, 17
THREAD, PID, HEADER, FOOTER, MARKER, ENCODING = 22, 24, 25, 26, 28, 47
TIMESTAMP, FUNCTION_ID, ARGUMENT, RESULT, FILE_TYPE, VERSION, SYSCALL = 2, 4, 6, 7, 9, 12, 25
X86_64, SYSCALL_BASE = 0x40, 1 << 32

Record = tuple[int, int, int]


def beginning(pid: int, thread: int, time: int, version: int = 7) -> list[Record]:
    """What a thread's file of drmemtrace begins with."""
    return [
        (HEADER, 0, version),
        (MARKER, VERSION, version),
        (MARKER, FILE_TYPE, X86_64),
        (THREAD, 4, thread),
        (PID, 4, pid),
        (MARKER, TIMESTAMP, time),
    ]


def packed(records: Sequence[Record]) -> bytes:
    """Records of drmemtrace as bytes."""
    return b"".join(struct.pack("<HHQ", *record) for record in records)


def write_drmemtrace(path: Path, records: Sequence[Record]) -> None:
    """A file, compressed as its name says; ``.zip`` in two chunks."""
    data = packed([*records, (FOOTER, 0, 0)])
    if path.suffix == ".zip":
        half = len(records) // 2 * 12
        with zipfile.ZipFile(path, "w") as whole:
            whole.writestr("chunk.0000", data[:half])
            whole.writestr("chunk.0001", data[half:])
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(data))
    else:
        path.write_bytes(data)


def champsim(address: int, loads: Sequence[int] = (), stores: Sequence[int] = ()) -> bytes:
    """One record of ChampSim's."""
    memory = [*stores, *[0] * (2 - len(stores)), *loads, *[0] * (4 - len(loads))]
    return struct.pack("<QBB2B4B6Q", address, 0, 0, *[0] * 6, *memory)


def cloudsuite(address: int, loads: Sequence[int] = (), stores: Sequence[int] = ()) -> bytes:
    """One of its longer ones."""
    memory = [*stores, *[0] * (4 - len(stores)), *loads, *[0] * (4 - len(loads))]
    return struct.pack("<QBB4B4B6x8Q2B6x", address, 0, 0, *[0] * 8, *memory, 0, 0)


def write_champsim(path: Path, data: bytes) -> None:
    """A file, compressed if it is called so."""
    path.write_bytes(lzma.compress(data) if path.suffix == ".xz" else data)
