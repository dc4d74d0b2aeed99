"""Traces: both forms say the same, replays count what the trace holds, damage is found."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.engines import traces
from ptshare_plugin.runs import run
from ptshare_plugin.runs.options import Options

PAGE, CHUNK = 4096, 2 << 20
SHARE = 0x4000_0000
SHARED = f"{SHARE:#x}-{SHARE + 2 * CHUNK:#x}"
KINDS = "ILSM"

Record = tuple[str, int, int]

# Sequences, jumps and every size that the text may have.
addresses = st.one_of(
    st.integers(0x10000, (1 << 47) - 3 * PAGE),
    st.integers(0, 300).map(lambda i: 0x400000 + 8 * i),
)
records_of = st.lists(
    st.tuples(st.sampled_from(KINDS), addresses, st.one_of(st.just(8), st.integers(1, 4096))),
    min_size=1,
    max_size=80,
)


def text_of(records: list[Record]) -> str:
    """As lackey writes them."""
    heads = {"I": "I  ", "L": " L ", "S": " S ", "M": " M "}
    lines = [f"{heads[kind]}{address:08x},{size}" for kind, address, size in records]
    return "\n".join(["==7== Lackey, an example Valgrind tool", *lines, "==7== ", ""])


def written(path: Path, records: list[Record]) -> Path:
    path.write_text(text_of(records))
    return path


def decoded(data: bytes) -> list[Record]:
    """The binary form, read as docs/trace.md says."""
    assert data[:9] == b"ptstrace\x01"
    at = 9

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    found: list[Record] = []
    next_of = {"code": 0, "data": 0}
    while True:
        tag = data[at]
        at += 1
        if tag == 0x80:
            assert number() == len(found)
            assert at == len(data)
            return found
        size = (tag >> 2) & 31 or number()
        sort = "data" if tag & 3 else "code"
        code = 0 if tag & 0x80 else number()
        address = (next_of[sort] + (code >> 1 ^ -(code & 1))) % (1 << 64)
        next_of[sort] = address + size
        found.append((KINDS[tag & 3], address, size))


def replay(path: Path, place: str | None = None, **changes: Any) -> dict[str, Any]:
    values = {"procs": 1, "cores": 1, "set": changes.pop("sets", ()), **changes}
    options = Options.of({"trace": path, "trace_share": place, **values})
    done = run.execute(options.spec(), options.command()).values[-1]
    return {name: value for name, value in done.items() if not name.startswith("host.")}


@settings(deadline=None, max_examples=60)
@given(records=records_of)
def test_the_binary_form_holds_what_the_text_does(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record]
) -> None:
    folder = tmp_path_factory.mktemp("trace")
    text, binary = written(folder / "t.lackey", records), folder / "t.pst"
    told = traces.convert(str(text), str(binary), force=False)
    assert told == (len(records), binary.stat().st_size, None)
    assert decoded(binary.read_bytes()) == records
    assert traces.load(str(binary), None).ranges == traces.load(str(text), None).ranges


@settings(deadline=None, max_examples=15)
@given(records=records_of, procs=st.integers(1, 3))
def test_both_forms_replay_to_the_same_figures(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], procs: int
) -> None:
    folder = tmp_path_factory.mktemp("trace")
    text, binary = written(folder / "t.lackey", records), folder / "t.pst"
    traces.convert(str(text), str(binary), force=False)
    figures = replay(text, procs=procs)
    assert figures == replay(binary, procs=procs)
    touched = {
        page
        for _, address, size in records
        for page in range(address // PAGE, (address + size - 1) // PAGE + 1)
    }
    # A page that is read first shows the zero page, and is copied when it is written.
    assert figures["fault.anon"] == procs * len(touched)
    assert figures["instructions"] == procs * sum(kind == "I" for kind, _, _ in records)


def test_a_record_that_modifies_faults_once_as_a_write(tmp_path: Path) -> None:
    at = 0x500000
    first = written(tmp_path / "t", [("M", at + i * PAGE, 8) for i in range(100)])
    found = replay(first)
    assert (found["fault.anon"], found["fault.cow"], found["fault.total"]) == (100, 0, 100)
    assert (found["access.reads"], found["access.writes"]) == (100, 100)
    assert found["walk.dirty_assists"] == 0


AT = 0x40000000


def four_mib(tmp_path: Path) -> Path:
    """A page of each 2 MiB of 4 MiB to be shared, far fewer records than a slice."""
    return written(tmp_path / "t", [("S", AT + i * 2048 * 1024, 8) for i in range(2)])


def test_processes_are_there_together_and_peaks_count_all(tmp_path: Path) -> None:
    path, place = four_mib(tmp_path), f"{AT:#x}-{AT + 4 * 1024 * 1024:#x}"
    alone = replay(path, place, policy="private", procs=1)["pt.bytes"]
    assert alone == 4096 * 5  # PGD, PUD, PMD, two PTE tables
    for cores in (1, 16):
        whole = replay(path, place, policy="private", procs=16, cores=cores)
        assert whole["pt.bytes"] == 16 * alone
        shared = replay(path, place, policy="ptshare", procs=16, cores=cores)
        # The host's five tables; of each process PGD, PUD and PMD table.
        assert shared["pt.bytes"] == 4096 * (5 + 16 * 3)
    # On their own, each has ended before the next one comes to its first access: all have a root.
    one = replay(path, place, policy="private", procs=16, cores=1, trace_end="alone")
    assert one["pt.bytes"] == 4096 * (16 + 4)


def test_an_owner_ends_with_the_others_and_a_refusal_says_why(tmp_path: Path) -> None:
    path, place = four_mib(tmp_path), f"{AT:#x}-{AT + 4 * 1024 * 1024:#x}"
    with pytest.raises(UserError) as refused:
        replay(path, place, policy="mshare", procs=4)
    assert "misaligned to 512 GiB; --set share.level=pte or another address" in str(refused.value)
    level = ("share.level=pte",)
    done = replay(path, place, policy="mshare", procs=4, sets=level)
    assert done["fault.segv"] == 0 and done["fault.total"] == 2 + 3 * 2
    with pytest.raises(UserError, match="is fatal"):
        replay(path, place, policy="mshare", procs=4, sets=level, trace_end="alone")


@pytest.mark.parametrize("mark", ["==", "--", "**"])
def test_a_second_process_is_refused_with_its_line(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "t"
    path.write_text(f"==7== x\n L 500000,8\n{mark}7{mark} y\n{mark}8{mark} z\n L 500000,8\n")
    with pytest.raises(UserError, match="t:4: a second process, 8, after 7"):
        replay(path)


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("==7== x\n L 500000,8\n==7== Exit code: 0\n", False),
        ("==7== x\n L 500000,8\n", True),
        ("--7-- x\n--7-- y\n L 500000,8\n", True),
        # Whatever wrote it, valgrind's lines were never in it.
        (" L 500000,8\n", False),
        ("== x\n L 500000,8\n", False),
    ],
)
def test_valgrind_s_missing_end_is_told(tmp_path: Path, text: str, cut: bool) -> None:
    path = tmp_path / "t"
    path.write_text(text)
    assert traces.load(str(path), None).cut_off == cut
    told = traces.convert(str(path), str(tmp_path / "b"), force=False)[2]
    assert (told is not None) == cut


def test_accesses_are_counted_by_kind_and_split_at_pages_and_lines(tmp_path: Path) -> None:
    at = 0x500000
    path = written(
        tmp_path / "t",
        [
            ("I", 0x400FFE, 4),  # across two pages
            ("L", at, 8),
            ("S", at + PAGE - 4, 8),  # across two pages: two accesses
            ("M", at + 16, 4),
            ("L", at, 200),  # 64, 64, 64 and 8 bytes
        ],
    )
    figures = replay(path)
    assert figures["instructions"] == 1
    assert figures["access.reads"] == 1 + 1 + 4
    assert figures["access.writes"] == 2 + 1
    assert figures["access.fetches"] == 2
    assert figures["fault.total"] == 2 + 2 + 1  # code, data, and the copy of the zero page
    assert figures["roi.fault.total"] == figures["fault.total"]


@pytest.mark.parametrize("cores", [1, 3])
def test_a_range_is_shared_by_all_processes(tmp_path: Path, cores: int) -> None:
    procs, pages = 5, 40
    shared = [("S", SHARE + CHUNK // 2 + i * PAGE * 8, 8) for i in range(pages)]
    private = [("S", SHARE - PAGE, 8), ("L", SHARE + 2 * CHUNK, 8), ("I", 0x400000, 4)]
    path = written(tmp_path / "t", [*private, *shared])
    figures = replay(path, SHARED, procs=procs, cores=cores)
    chunks = len({address // CHUNK for _, address, _ in shared})
    assert figures["fault.host"] == pages
    assert figures["share.links"] == procs * chunks
    assert figures["fault.anon"] == procs * len(private)
    off = ("kernel.fault_around_bytes=4KiB",)
    alone = replay(path, SHARED, procs=procs, cores=cores, policy="private", sets=off)
    assert (alone["fault.host"], alone["share.links"]) == (0, 0)
    assert alone["fault.file"] == procs * pages
    assert replay(path, SHARED, procs=procs, cores=cores, share=False)["share.links"] == 0


def test_more_processes_than_cores_take_turns_with_one_result(tmp_path: Path) -> None:
    path = written(tmp_path / "t", [("S", 0x500000 + 64 * i, 8) for i in range(20_000)])
    few = ("sched.slice_instructions=1000", "sched.quantum_cycles=1000")
    first, second = (replay(path, procs=30, cores=2, sets=few) for _ in range(2))
    assert first == second
    assert first["sched.switches"] > 30 * 5
    assert first["access.writes"] == 30 * 20_000


# Damage ----------------------------------------


@pytest.mark.parametrize(
    ("lines", "place", "text"),
    [
        (["I  00400000,4", "hello"], 2, "no line of lackey's: 'hello'"),
        (["==1== x", " L 00500000,8", "I 00400000,4"], 3, "no line of lackey's"),
        ([" L 00500000;8"], 1, "no line of lackey's"),
        ([" L 00500000,8 "], 1, "no line of lackey's"),
        ([" L ,8"], 1, "no line of lackey's"),
        ([" L 00500000,"], 1, "no line of lackey's"),
        ([" L 0x500000,8"], 1, "no line of lackey's"),
        ([" X 00500000,8"], 1, "no line of lackey's"),
        (["", " L 00500000,8"], 1, "no line of lackey's: ''"),
        ([" L 11122223333444455,8"], 1, "no line of lackey's"),
        ([" L 00500000,0"], 1, "an access of 0 bytes"),
        ([" L 00500000,4097"], 1, "an access of 4097 bytes"),
        ([" L 00000008,8"], 1, "outside the addresses of a process"),
        ([" S ffffffffff600000,8"], 1, "outside the addresses of a process"),
        ([" S 7fffffffeffd,8"], 1, "outside the addresses of a process"),
        (["x" * 40_000], 1, "no line of lackey's"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, lines: list[str], place: int, text: str) -> None:
    path = tmp_path / "t.lackey"
    path.write_text("\n".join([*lines, ""]))
    with pytest.raises(UserError) as caught:
        traces.load(str(path), None)
    assert str(caught.value).startswith(f"{path}:{place}: ")
    assert text in str(caught.value)


def test_a_long_command_line_of_valgrind_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text(f"==1== Command: {'x' * 50_000}\n L 00500000,8\n==1== Exit code: 0")
    assert traces.load(str(path), None).records == 1


def test_every_cut_and_every_change_of_length_is_found(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    text = written(tmp_path / "t", [("I", 0x400000, 4), ("L", 0x500000, 8), ("S", 0x500008, 64)])
    traces.convert(str(text), str(whole), force=False)
    data = whole.read_bytes()
    path = tmp_path / "damaged"
    for length in range(8, len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"damaged: byte \d+: the trace ends"):
            traces.load(str(path), None)
    for damaged, words in [
        (data + b"\0", "more follows the end record"),
        (data[:-1] + b"\x04", "counts 4 records, but there are 3"),
        (data[:8] + b"\x02" + data[9:], "of version 2; this reads version 1"),
        (data[:9] + b"\x11" + b"\xff" * 12, "more than 64 bits"),
        (data[:9] + b"\x11\x10" + data[9:], "outside the addresses"),
    ]:
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=words):
            traces.load(str(path), None)


def test_what_cannot_be_replayed_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "t", [("L", 0x500000, 8), ("I", SHARE, 4)])
    with pytest.raises(UserError, match=r"t:3: an instruction in the range to share"):
        traces.load(str(path), SHARED)
    with pytest.raises(UserError, match=r"no access of .* lies there"):
        traces.load(str(path), "0x80000000-0x80200000")
    empty = tmp_path / "empty"
    empty.write_text("==1== nothing\n")
    with pytest.raises(UserError, match="no access in it"):
        traces.load(str(empty), None)
    binary = tmp_path / "t.pst"
    traces.convert(str(path), str(binary), force=False)
    with pytest.raises(UserError, match="in the binary form already"):
        traces.convert(str(binary), str(tmp_path / "again"), force=False)
    assert not list(tmp_path.glob("*again*"))
    with pytest.raises(UserError, match="--force replaces it"):
        traces.convert(str(path), str(binary), force=False)
    path.write_text(" L 00500000,8\n L 00600000,\n")
    with pytest.raises(UserError, match=r"t:2: "):
        traces.convert(str(path), str(binary), force=True)
    assert traces.load(str(binary), None).records == 2  # the older one is still whole


# A real program ----------------------------------------

PROGRAM = """
#include <sys/mman.h>
int main(void) {
    char *region = mmap((void *)0x40000000, 4 << 20, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (region == MAP_FAILED) return 1;
    for (int i = 0; i < 100; ++i) region[i * 40960] += 1;
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="no valgrind on PATH")
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler on PATH")
def test_a_real_program_under_lackey(tmp_path: Path) -> None:
    source, program, text = tmp_path / "p.c", tmp_path / "p", tmp_path / "p.lackey"
    source.write_text(PROGRAM)
    subprocess.run(["cc", "-O1", "-static", "-o", program, source], check=True)
    subprocess.run(
        ["valgrind", "--tool=lackey", "--trace-mem=yes", f"--log-file={text}", program],
        check=True,
        capture_output=True,
        timeout=240,
    )
    figures = replay(text, SHARED, procs=4, cores=2)
    assert figures["fault.host"] == 100
    assert figures["share.links"] == 4 * 2
    assert figures["instructions"] == 4 * sum(
        line.startswith("I") for line in text.read_text().splitlines()
    )
