"""Are others' traces the same accesses once they are recordings?"""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import COMMAND, items
from traces_of_others import (
    ARGUMENT,
    BUNDLE,
    CALL,
    ENCODING,
    FILE_TYPE,
    FUNCTION_ID,
    HEADER,
    INSTRUCTION,
    MARKER,
    PID,
    READ,
    RESULT,
    RETURN,
    SYSCALL,
    SYSCALL_BASE,
    THREAD,
    TIMESTAMP,
    WRITE,
    Record,
    beginning,
    champsim,
    cloudsuite,
    packed,
    write_champsim,
    write_drmemtrace,
)

import ptshare_plugin as pt
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.recording import imports
from ptshare_plugin.recording.folder import read_manifest

BLOCK, MAP, THREAD_EVENT, CALL_EVENT = 0, 5, 11, 7
LOAD, STORE, MODIFY = 0, 1, 2
CODE, DATA = 0x400000, 0x7F0000000000
MUNMAP = 11


def read_back(folder: Path) -> dict[int, list[tuple[Any, ...]]]:
    """Items of each process."""
    manifest = read_manifest(folder)
    pids = [stream.pid for stream in manifest.streams]
    return dict(zip(pids, items(folder, manifest), strict=True))


def accesses(found: list[tuple[Any, ...]]) -> list[tuple[int, int, int]]:
    return [access for item in found if item[0] == BLOCK for access in item[4]]


def instructions(found: list[tuple[Any, ...]]) -> int:
    return sum(item[3] for item in found if item[0] == BLOCK)


def make(traces: list[Path], output: Path, **how: Any) -> dict[int, list[tuple[Any, ...]]]:
    imports.imported(traces, output, **how)
    return read_back(output)


def program(chance: random.Random, length: int) -> tuple[list[Record], list[tuple[int, int, int]]]:
    """Records, and the accesses that they are. Each access of an instruction is of its own."""
    records: list[Record] = []
    expected: list[tuple[int, int, int]] = []
    at = CODE
    for _ in range(length):
        size = chance.randrange(1, 12)
        records.append((ENCODING, min(size, 8), 0x90))
        kind = chance.choice((INSTRUCTION, INSTRUCTION, INSTRUCTION, CALL, RETURN, 48))
        records.append((kind, size, at))
        place = DATA + chance.randrange(1 << 24)
        shape = chance.randrange(6)
        if shape in (1, 3):
            records.append((READ, 8, place))
            expected.append((place, 8, LOAD))
        if shape in (2, 3):
            records.append((WRITE, 32, place + 64))
            expected.append((place + 64, 32, STORE))
        if shape == 4:
            records += [(READ, 4, place), (WRITE, 4, place)]
            expected.append((place, 4, MODIFY))
        if shape == 5:
            records.append((2, 64, place))  # a prefetch
        at += size
        if kind != INSTRUCTION and chance.random() < 0.5:
            at = CODE + chance.randrange(64) * 256
    return records, expected


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 3), st.sampled_from(["", ".gz", ".zip"]))
def test_accesses_of_drmemtrace_are_the_same(seed: int, threads: int, suffix: str) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        trace = Path(place) / "drmemtrace.app.1.dir"
        (trace / "trace").mkdir(parents=True)
        times = [1000 + 7 * i for i in range(12)]
        owners = [chance.randrange(threads) for _ in times]
        files = [beginning(70, 100 + i, 900 + i) for i in range(threads)]
        expected = []
        for time, owner in zip(times, owners, strict=True):
            records, told = program(chance, chance.randrange(1, 30))
            files[owner] += [(MARKER, TIMESTAMP, time), *records]
            expected += told
        for i, records in enumerate(files):
            write_drmemtrace(trace / "trace" / f"drmemtrace.app.{i}.1.trace{suffix}", records)
        found = make([trace], Path(place) / "x.rec")[70]
        assert accesses(found) == expected
        count = sum(record[0] in (INSTRUCTION, CALL, RETURN, 48) for f in files for record in f)
        assert instructions(found) == count


def test_threads_and_processes_of_one_file_are_told_apart(tmp_path: Path) -> None:
    """As in a trace that is sharded by cores."""
    records = [
        *beginning(5, 50, 1000),
        (INSTRUCTION, 4, CODE),
        (READ, 8, DATA),
        (THREAD, 4, 51),
        (PID, 4, 5),
        (INSTRUCTION, 4, CODE + 64),
        (WRITE, 8, DATA + 8),
        (THREAD, 4, 60),
        (PID, 4, 6),
        (INSTRUCTION, 4, CODE + 4),
        (READ, 2, DATA + 4096),
    ]
    trace = tmp_path / "one.trace"
    write_drmemtrace(trace, records)
    found = make([trace], tmp_path / "x.rec")
    assert accesses(found[5]) == [(DATA, 8, LOAD), (DATA + 8, 8, STORE)]
    assert accesses(found[6]) == [(DATA + 4096, 2, LOAD)]
    assert [item[1] for item in found[5] if item[0] == THREAD_EVENT] == [2]


def test_bundles_are_the_instructions_behind(tmp_path: Path) -> None:
    lengths = int.from_bytes(bytes([2, 3, 4, 0, 0, 0, 0, 0]), "little")
    trace = tmp_path / "one.trace"
    write_drmemtrace(trace, [*beginning(5, 5, 1), (INSTRUCTION, 5, CODE), (BUNDLE, 3, lengths)])
    (item,) = (each for each in make([trace], tmp_path / "x.rec")[5] if each[0] == BLOCK)
    assert (item[1], item[3]) == (CODE, 4)


def test_what_is_touched_is_mapped(tmp_path: Path) -> None:
    far = DATA + (8 << 21)
    trace = tmp_path / "one.trace"
    touches = [
        (INSTRUCTION, 4, CODE),
        (READ, 8, DATA + 4092),
        (WRITE, 8, DATA + 3 * 4096),
        (READ, 1, far),
    ]
    write_drmemtrace(trace, [*beginning(5, 5, 1), *touches])
    found = make([trace], tmp_path / "x.rec")[5]
    areas = [(item[1], *item[2][:2]) for item in found if item[0] == MAP]
    assert areas == [(5, CODE, 4096), (3, DATA, 4 * 4096), (1, far, 4096)]
    done = pt.run(recording=tmp_path / "x.rec", policy="private")
    assert done.run.result.remarks == ()
    assert done.metrics["fault.total"] == 5


def test_calls_about_memory_with_arguments_are_made(tmp_path: Path) -> None:
    identity = (MARKER, FUNCTION_ID, SYSCALL_BASE + MUNMAP)
    records = [
        *beginning(5, 5, 1000),
        (INSTRUCTION, 2, CODE),
        (WRITE, 8, DATA),
        (INSTRUCTION, 2, CODE + 2),
        (MARKER, SYSCALL, MUNMAP),
        identity,
        (MARKER, ARGUMENT, DATA),
        (MARKER, ARGUMENT, 4096),
        (MARKER, TIMESTAMP, 1010),
        identity,
        (MARKER, RESULT, 0),
        (INSTRUCTION, 2, CODE + 4),
        (MARKER, SYSCALL, MUNMAP),  # without
        (INSTRUCTION, 2, CODE + 6),
        (MARKER, SYSCALL, 39),
        (INSTRUCTION, 2, CODE + 8),
    ]
    trace = tmp_path / "one.trace"
    write_drmemtrace(trace, records)
    _, left_out = imports.imported([trace], tmp_path / "x.rec")
    assert left_out == {"system calls about memory, without arguments": 1}
    found = read_back(tmp_path / "x.rec")[5]
    calls = [item for item in found if item[0] == CALL_EVENT]
    assert [(item[1] & 0xFFFF, item[2][0]) for item in calls] == [(MUNMAP, DATA), (39, 0)]
    done = pt.run(recording=tmp_path / "x.rec", policy="private")
    assert done.run.result.remarks == ()


@pytest.mark.parametrize("kind", ["champsim", "cloudsuite"])
@pytest.mark.parametrize("suffix", ["", ".xz"])
def test_accesses_of_champsim_are_the_same(tmp_path: Path, kind: str, suffix: str) -> None:
    record = champsim if kind == "champsim" else cloudsuite
    data = b"".join(
        (
            record(CODE, loads=[DATA, DATA + 200]),
            record(CODE + 3, stores=[DATA + 60]),
            record(CODE + 10, loads=[DATA + 8], stores=[DATA + 8]),
            record(CODE + 3),
        )
    )
    traces = [tmp_path / f"{i}.champsim{suffix}" for i in (1, 2)]
    for trace in traces:
        write_champsim(trace, data)
    found = make(traces, tmp_path / "x.rec", kind=kind)
    assert sorted(found) == [1, 2]
    for each in found.values():
        # Sizes are not told: eight bytes, within a line.
        assert accesses(each) == [
            (DATA, 8, LOAD),
            (DATA + 200, 8, LOAD),
            (DATA + 60, 4, STORE),
            (DATA + 8, 8, MODIFY),
        ]
        assert instructions(each) == 4


def test_what_is_said_to_be_shared_shares_tables(tmp_path: Path) -> None:
    region = 0x7F0000000000, 0x7F0000000000 + (4 << 21)
    pages = [region[0] + i * 4096 for i in range(0, 2048, 3)]
    data = b"".join(champsim(CODE + 4 * (i % 16), loads=[at]) for i, at in enumerate(pages))
    traces = [tmp_path / f"{i}.champsim" for i in range(3)]
    for trace in traces:
        write_champsim(trace, data)
    folder = tmp_path / "x.rec"
    words = [COMMAND, "import", "-o", folder, *traces, "--shared", f"{region[0]:#x}-{region[1]:#x}"]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "nothing is mapped shared" not in done.stderr
    rules: Any = {"share_rules": ["memory"]}
    private, shared = (pt.run(recording=folder, policy=p, **rules) for p in ("private", "ptshare"))
    assert private.metrics["pt.tables.pte"] == 3 * (4 + 1)
    assert shared.metrics["pt.tables.pte"] == 3 * 1 + 4
    told = subprocess.run([COMMAND, "recording", folder], capture_output=True, text=True)
    assert "from champsim" in told.stdout
    assert "/dev/shm/shared-0x7f0000000000" in told.stdout
    words = [COMMAND, "validate", "--recording", folder]
    refused = subprocess.run([*map(str, words)], capture_output=True, text=True)
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert line.endswith("was imported from champsim: nothing says what a kernel had for it")


def test_wrong_traces_are_one_line_and_leave_nothing(tmp_path: Path) -> None:
    whole = [*beginning(5, 5, 1), (INSTRUCTION, 4, CODE), (READ, 8, DATA)]
    other = [(MARKER, FILE_TYPE, 0x08) if r[:2] == (MARKER, FILE_TYPE) else r for r in whole]
    filtered = [(MARKER, FILE_TYPE, 0x41) if r[:2] == (MARKER, FILE_TYPE) else r for r in whole]
    (tmp_path / "raw.dir" / "raw").mkdir(parents=True)
    (tmp_path / "empty.dir").mkdir()
    (tmp_path / "cut.trace").write_bytes(packed(whole)[:-5])
    (tmp_path / "version.trace").write_bytes(packed([(HEADER, 0, 9), *whole[1:]]))
    (tmp_path / "text.trace").write_text("no trace at all\n" * 9)
    (tmp_path / "arm.trace").write_bytes(packed(other))
    (tmp_path / "filtered.trace").write_bytes(packed(filtered))
    (tmp_path / "unknown.trace").write_bytes(packed([*whole, (77, 0, 0)]))
    (tmp_path / "data.trace").write_bytes(packed([*whole[:6], (READ, 8, DATA)]))
    (tmp_path / "bad.trace.gz").write_bytes(b"\x1f\x8b\x08\x00" + b"\x00" * 40)
    (tmp_path / "x.trace.lz4").write_bytes(b"")
    (tmp_path / "nothing.trace").write_bytes(packed(whole[:6]))
    (tmp_path / "short.champsim").write_bytes(b"\x01" * 100)
    (tmp_path / "ok.trace").write_bytes(packed(whole))
    cases = {
        "raw.dir": "has raw traces alone: make final ones with DynamoRIO's drraw2trace",
        "empty.dir": "has no file *.trace",
        "none.dir": "cannot be read: no such file or directory",
        "cut.trace": "is cut off inside a record",
        "version.trace": "does not tell what it is: say --kind",
        "text.trace": "does not tell what it is: say --kind, one of drmemtrace, champsim",
        "arm.trace": "a trace of another machine than x86-64",
        "filtered.trace": "a filtered trace: most of its accesses are missing",
        "unknown.trace": "a record of type 77, which it does not know",
        "data.trace": "an access without its instruction",
        "bad.trace.gz": "damaged or cut off",
        "x.trace.lz4": "is compressed with lz4: decompress it first",
        "nothing.trace": "no instruction in it",
        "short.champsim": "is cut off inside a record",
        "ok.trace --shared 0x1000-0x2000": "nothing is touched in a range to be shared",
        "ok.trace --shared 0x1001-0x2000": "must be LOW-HIGH, multiples of 0x1000",
        "ok.trace --kind champsin": "unknown kind champsin (did you mean champsim?)",
        "version.trace --kind drmemtrace": "version 9 of drmemtrace's format; this reads 1 to 7",
    }
    for words, message in cases.items():
        name, *options = words.split()
        command = [COMMAND, "import", "-o", tmp_path / "x.rec", tmp_path / name, *options]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True)
        assert done.returncode != 0, words
        (line,) = done.stderr.splitlines()
        assert line.startswith("ptshare: error: "), line
        assert message in line, (words, line)
        assert not (tmp_path / "x.rec").exists()
        assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]


def test_damage_is_refused_or_read(tmp_path: Path) -> None:
    records, _ = program(random.Random(1), 200)
    data = packed([*beginning(5, 5, 1), *records])
    told = set()
    for seed in range(60):
        chance = random.Random(seed)
        changed = bytearray(data)
        for _ in range(chance.choice((1, 3, 9))):
            changed[chance.randrange(12, len(changed))] = chance.randrange(256)
        trace = tmp_path / "one.trace"
        trace.write_bytes(changed)
        try:
            imports.imported([trace], tmp_path / f"{seed}.rec", "drmemtrace")
        except UserError as error:
            told.add(str(error).partition(": ")[2])
            assert "\n" not in str(error)
        else:
            pt.run(recording=tmp_path / f"{seed}.rec", policy="private")
    assert told


def test_the_manifest_says_what_it_was(tmp_path: Path) -> None:
    trace = tmp_path / "drmemtrace.app.1.2.trace"
    write_drmemtrace(trace, [*beginning(5, 5, 1), (INSTRUCTION, 4, CODE)])
    imports.imported([trace], tmp_path / "x.rec")
    manifest = json.loads((tmp_path / "x.rec" / "manifest.json").read_text())
    assert manifest["source"] == "drmemtrace"
    assert manifest["valgrind"] is None
    assert manifest["streams"][0]["name"] == "app"
