"""Every workload on this machine's kernel, which ignores the flag: are the programs right?"""

from __future__ import annotations

import collections
import itertools
import os
import re
import shutil
import struct
import subprocess

import pytest
from elftools.elf.elffile import ELFFile
from native import Native, datum, mix, run_in, run_natively, shared_folder

from ptshare_plugin.spec import about, workloads

PAGE = 4096
MIB = 1 << 20
NAMES = workloads.names()
# Every rank verifies the same data, so their lines differ in the rank alone.
SAME_FOR_ALL_RANKS = ("scan", "pingpong", "preshare", "protect", "churn")


def fields(line: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def assert_passed(name: str, procs: int, done: Native) -> None:
    killed = name == "churn" and procs > 1
    assert done.errors == []
    assert done.statuses == [0] * (procs - killed) + [-9] * killed
    assert len(done.lines) == procs
    for rank, line in enumerate(done.lines):
        assert re.fullmatch(rf"{name}: ok rank={rank} of={procs}( \w+=\S+)*", line)


# ---- The files themselves


@pytest.mark.parametrize("name", NAMES)
def test_programs_are_static_and_plain(name: str) -> None:
    with workloads.path(name).open("rb") as file:
        elf = ELFFile(file)
        assert (elf["e_type"], elf["e_machine"]) == ("ET_EXEC", "EM_X86_64")
        segments = [segment.header for segment in elf.iter_segments()]
    assert {segment.p_type for segment in segments}.isdisjoint({"PT_INTERP", "PT_DYNAMIC"})
    loaded = [segment for segment in segments if segment.p_type == "PT_LOAD"]
    assert min(segment.p_vaddr for segment in loaded) == 0x400000
    assert not any(segment.p_flags & 1 and segment.p_flags & 2 for segment in loaded)  # X and W
    pages = [
        range(segment.p_vaddr // PAGE, (segment.p_vaddr + segment.p_memsz - 1) // PAGE + 1)
        for segment in loaded
    ]
    assert len(set().union(*pages)) == sum(map(len, pages))  # none in two segments


@pytest.mark.skipif(not shutil.which("objdump"), reason="objdump (binutils) is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_no_instruction_beyond_the_baseline(name: str) -> None:
    command = ["objdump", "-d", "--no-show-raw-insn", str(workloads.path(name))]
    code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = set(re.findall(r"^ +[0-9a-f]+:\t(\S+)", code, re.MULTILINE))
    assert "syscall" in used  # the listing was understood
    beyond = re.compile(r"v[a-z]|mulx|popcnt|[lt]zcnt|pext|pdep|[rs][ah][lr]?x|rd")
    assert [one for one in used if beyond.match(one)] == []


@pytest.mark.parametrize("name", NAMES)
def test_describes_itself(name: str) -> None:
    said = about.read(workloads.path(name))
    assert said.name == name
    assert said.description
    found = re.fullmatch(r"(\d+) (\w+)", said.work)
    assert found
    amount, unit = int(found[1]), found[2]
    (line,) = run_natively(name, 1, 4 * MIB, True).lines
    if name == "random":
        assert int(fields(line)["reads"]) + int(fields(line)["writes"]) == amount
    elif name != "misuse":
        assert int(fields(line)[unit]) == amount


# ---- Results


@pytest.mark.parametrize("procs", [1, 2, 5])
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_ends_well(name: str, share: bool, procs: int) -> None:
    done = run_natively(name, procs, region=4 * MIB, share=share)
    assert_passed(name, procs, done)
    if name in SAME_FOR_ALL_RANKS:
        assert len({fields(line)["checksum"] for line in done.lines}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_lines_depend_on_the_seed_alone(name: str) -> None:
    elsewhere = ("--addr", "0x200000000000")
    one = run_natively(name, 3, 4 * MIB, True, seed=5).lines
    assert one == run_natively(name, 3, 4 * MIB, True, seed=5).lines
    assert one == run_natively(name, 3, 4 * MIB, True, seed=5, extra=elsewhere).lines
    if name != "misuse":
        assert one == run_natively(name, 3, 4 * MIB, False, seed=5).lines
        assert one != run_natively(name, 3, 4 * MIB, True, seed=6).lines


@pytest.mark.parametrize("apart", [PAGE, 2 * MIB, 1 << 39])
@pytest.mark.parametrize("name", ["scan", "preshare"])
def test_lines_do_not_depend_on_addresses_apart(name: str, apart: int) -> None:
    done = run_natively(name, 3, 4 * MIB, True, extra=("--apart", str(apart)))
    assert_passed(name, 3, done)
    assert done.lines == run_natively(name, 3, 4 * MIB, True).lines


@pytest.mark.parametrize("name", NAMES)
def test_many_ranks_on_one_cpu(name: str) -> None:
    cpu = min(os.sched_getaffinity(0))
    with shared_folder() as folder:
        done = run_in(
            folder,
            name,
            12,
            4 * MIB,
            work=2,
            preexec=lambda: os.sched_setaffinity(0, {cpu}),
        )
    assert_passed(name, 12, done)


@pytest.mark.parametrize("pages", [1, 3, 515])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "misuse"])
def test_odd_numbers_of_pages(name: str, pages: int) -> None:
    assert_passed(name, 4, run_natively(name, 4, pages * PAGE, True, work=5))


def test_zipf_with_more_ranks_than_a_page_has_slots() -> None:
    # Words are written by more than one rank; the later visit of either may be there.
    procs = 513
    done = run_natively("zipf", procs, 2 * PAGE, True, work=50, extra=("--writes", "100"))
    assert_passed("zipf", procs, done)


# ---- Against other implementations of the same definitions


def test_scan_finds_and_leaves_what_is_defined() -> None:
    pages, rounds, seed, procs = 16, 3, 5, 3
    with shared_folder() as folder:
        done = run_in(folder, "scan", procs, pages * PAGE, seed=seed, work=rounds)
        content = (folder / "region").read_bytes()
    checksum = 0
    for round_, page in itertools.product(range(rounds), range(pages)):
        words = [datum(seed, page, round_) if round_ else 0] + [0] * 63
        page_hash = 0
        for word in words:
            page_hash = mix(page_hash ^ word)
        checksum = mix(checksum ^ page_hash)
    assert [fields(line)["checksum"] for line in done.lines] == [hex(checksum)] * procs
    for page in range(pages):
        first, *rest = struct.unpack_from("<512Q", content, page * PAGE)
        assert first == datum(seed, page, rounds)
        assert not any(rest)


def chi_square(counts: list[int]) -> float:
    mean = sum(counts) / len(counts)
    return sum((count - mean) ** 2 / mean for count in counts)


def bound(cells: int) -> float:
    """Chi-square that one run in about a million exceeds (Wilson, Hilferty 1931)."""
    spread = 2 / (9 * (cells - 1))
    return float((cells - 1) * (1 - spread + 4.75 * spread**0.5) ** 3)


def test_random_is_uniform() -> None:
    # So few writes, 8192 in 262,144 words, that hardly two meet in one.
    with shared_folder() as folder:
        done = run_in(folder, "random", 2, 2 * MIB, work=4096, extra=("--writes", "100"))
        content = (folder / "region").read_bytes()
    assert_passed("random", 2, done)
    words = struct.unpack(f"<{len(content) // 8}Q", content)
    written = [at for at, word in enumerate(words) if word]
    assert 0.97 * 8192 < len(written) <= 8192
    for cells, divisor in ((512, 512), (64, 8), (8, 1)):  # pages, lines of one, words of one
        counts = collections.Counter(at // divisor % cells for at in written)
        assert chi_square([counts[cell] for cell in range(cells)]) < bound(cells)


@pytest.mark.parametrize("name", ["random", "zipf"])
@pytest.mark.parametrize("percent", [0, 1, 50, 99, 100])
def test_writes_as_often_as_asked(name: str, percent: int) -> None:
    (line,) = run_natively(
        name, 1, 4 * MIB, True, work=100_000, extra=("--writes", str(percent))
    ).lines
    mean, variance = 1000 * percent, 10 * percent * (100 - percent)
    # zipf draws from 16 bits, random from 32: the share asked for is met to 1 in 65,536.
    assert abs(int(fields(line)["writes"]) - mean) <= 5 * variance**0.5 + 2


def test_zipf_follows_its_law() -> None:
    (line,) = run_natively("zipf", 1, 64 * MIB, True, work=1_000_000).lines
    # The page of rank 1 has probability log 2 / log N: here N = 16384, that is 1 in 14.
    assert 1_000_000 / 14 * 0.98 < int(fields(line)["hottest"]) < 1_000_000 / 14 * 1.02


def test_misuse_prints_what_linux_answers() -> None:
    answers = fields(run_natively("misuse", 2, 4 * MIB, True).lines[0])
    known = {
        "unaligned": "ok",  # the flag is ignored
        "odd_size": "ok",
        "other_address": "ok",
        "no_length": "EINVAL",
        "odd_offset": "EINVAL",
        "bad_fd": "EBADF",
        "read_only_file": "EACCES",
        "unmap_odd": "EINVAL",
        "protect_odd": "EINVAL",
        "protect_hole": "ENOMEM",
        "unmap_all": "ok",
        "protect_beyond_file": "EACCES",
        "read_past_end": "EFAULT",
    }
    assert {name: answers[name] for name in known} == known
