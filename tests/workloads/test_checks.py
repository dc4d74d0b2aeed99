"""Do the workloads' own checks fire: on lost, stale and misplaced data, and on calls that fail?"""

from __future__ import annotations

import mmap
import re
import resource
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from native import (
    LIMIT_SECONDS,
    Native,
    Puppet,
    command,
    datum,
    finish,
    mix,
    run_in,
    shared_folder,
    start,
)

PAGE = 4096
MIB = 1 << 20
CHECKS_DATA = ("scan", "random", "zipf", "pingpong", "preshare", "protect", "churn")


def assert_failed(name: str, done: Native) -> list[str]:
    """Every rank failed in one line; those lines that name a cause, not another rank."""
    assert done.statuses == [1] * len(done.statuses)
    assert done.lines == []
    assert len(done.errors) == len(done.statuses)
    for rank, error in enumerate(done.errors):
        assert error.startswith(f"{name}: FAIL rank={rank}: ")
    causes = [error for error in done.errors if "another rank failed" not in error]
    assert causes
    return causes


def change_file(path: Path, change: Callable[[int, int], int]) -> None:
    """Change each word, given its index, in place: a file cut short would be fatal to ranks."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        words = struct.unpack(f"<{len(data) // 8}Q", data[:])
        assert any(words)
        data[:] = struct.pack(f"<{len(words)}Q", *(change(*item) for item in enumerate(words)))


def lose(at: int, word: int) -> int:
    return 0


def keep(at: int, word: int) -> int:
    return word


def run_with_change(
    name: str,
    barrier: int,
    change: Callable[[int, int], int],
    *extra: str,
    work: int = 1,
    seed: int = 1,
    later: int = 0,
) -> Native:
    """Rank 0 of 2 with the file changed at a barrier; it must end `later` barriers after that."""
    with shared_folder() as folder:
        rank0 = start(command(name, 0, 2, PAGE, True, folder, seed, work, extra))
        puppet = Puppet(folder, rank0)
        try:
            for at in range(barrier + later + 1):
                puppet.wait()
                if at == barrier:
                    change_file(folder / "region", change)
                puppet.release()
            deadline = time.monotonic() + LIMIT_SECONDS
            while rank0.poll() is None:
                assert not puppet.waits(), "rank 0 went on to the next barrier"
                assert time.monotonic() < deadline
                time.sleep(0.001)
        finally:
            rank0.kill()
        return finish([rank0])


# At the last barrier of each: what was written before it, nobody has read since.
@pytest.mark.parametrize(("name", "barrier"), [("scan", 2), ("preshare", 4), ("pingpong", 2)])
def test_finds_what_is_lost_after_the_last_round(name: str, barrier: int) -> None:
    (cause,) = assert_failed(name, run_with_change(name, barrier, lose))
    assert re.search(r"page at=0 got=0x0 expected=0x[0-9a-f]+$", cause)


def first_word(rank: int) -> str:
    """What random says of the word of a page that a rank writes first, with seed 1, if it is 0."""
    mask = (1 << 64) - 1
    state = (mix(1 ^ mix(rank + 1)) * 6364136223846793005 + 1442695040888963407) & mask
    at = state * 512 >> 64
    return f"word at={at} got=0x0 expected={at ^ 1 ^ 0x5BD1E9955BD1E995:#x}"


def slot_word(rank: int) -> str:
    """What zipf says of the word of page 0 that a rank writes in visit 0, if it is 0; seed 1."""
    return f"page at=0 got=0x0 expected={datum(1, 0, 8 * (1 + rank)):#x}"


# Rank 1 is played, and writes nothing: that must be missed too, once rank 0's own words are there.
@pytest.mark.parametrize(("change", "missed"), [(lose, 0), (keep, 1)])
@pytest.mark.parametrize(("name", "said"), [("random", first_word), ("zipf", slot_word)])
def test_finds_lost_writes_of_its_own_and_of_another_rank(
    name: str, said: Callable[[int], str], change: Callable[[int, int], int], missed: int
) -> None:
    done = run_with_change(name, 1, change, "--writes", "100")
    (cause,) = assert_failed(name, done)
    assert cause.endswith(said(missed))


def test_pingpong_finds_a_word_of_an_earlier_turn_lost() -> None:
    # Rank 1 writes word 1 in its turn, as it should, and word 0 is gone.
    def second_turn(at: int, word: int) -> int:
        return datum(1, 0, 1) if at == 1 else 0

    done = run_with_change("pingpong", 3, second_turn, work=2, later=1)
    (cause,) = assert_failed("pingpong", done)
    assert cause.endswith(f"page at=0 got=0x0 expected={datum(1, 0, 0):#x}")


# Barriers of churn: one at the start, two as the ranks come, two as they leave; in an order that
# the seed decides: with 2, rank 0 leaves and comes first, with 3 it leaves last.
@pytest.mark.parametrize(
    ("barrier", "seed"),
    [
        (4, 2),  # nobody maps the region
        (3, 3),  # rank 1 has left, rank 0 not yet
    ],
)
def test_churn_finds_what_is_lost_as_ranks_leave(barrier: int, seed: int) -> None:
    done = run_with_change("churn", barrier, lose, work=2, seed=seed)
    (cause,) = assert_failed("churn", done)
    assert cause.endswith(f"page at=0 got=0x0 expected={datum(seed, 0, 0):#x}")


def test_zipf_finds_the_value_of_an_earlier_visit() -> None:
    def older(at: int, word: int) -> int:
        return word - 1 if word else 0

    done = run_with_change("zipf", 1, older, "--writes", "100", work=1000)
    (cause,) = assert_failed("zipf", done)
    # The last of a thousand visits: its number is part of the value.
    assert cause.endswith(
        f"page at=0 got={datum(1, 0, 8) + 998:#x} expected={datum(1, 0, 8) + 999:#x}"
    )


def test_random_finds_a_wrong_read_that_is_right_again() -> None:
    # Each word is wrong at first, and written many times afterwards.
    with shared_folder() as folder:
        (folder / "region").write_bytes(b"\x55" * PAGE)
        done = run_in(folder, "random", 1, PAGE, work=200_000, extra=("--writes", "50"))
    (cause,) = assert_failed("random", done)
    assert "a read was wrong" in cause


@pytest.mark.parametrize("name", ["scan", "random", "zipf", "preshare", "churn"])
def test_finds_a_file_that_is_not_new(name: str) -> None:
    with shared_folder() as folder:
        content = bytes(PAGE) + b"\0\0\0\0\0\0\0\x40" * (2 * PAGE // 8) + bytes(PAGE)
        (folder / "region").write_bytes(content)
        done = run_in(folder, name, 2, 4 * PAGE)
    for cause in assert_failed(name, done):
        assert re.search(r"at=\d+ got=0x[0-9a-f]+ expected=0x[0-9a-f]+", cause)


# random compares its reads after the loop, so its loop has to end.
@pytest.mark.parametrize("name", CHECKS_DATA)
def test_finds_words_that_change_meanwhile(name: str) -> None:
    work = 20_000_000 if name == "random" else 1 << 40
    size = 4 * PAGE
    with shared_folder() as folder:
        ranks = [start(command(name, r, 3, size, True, folder, work=work)) for r in range(3)]
        path = folder / "region"
        deadline = time.monotonic() + LIMIT_SECONDS
        while not (path.exists() and path.stat().st_size == size):
            assert time.monotonic() < deadline
        highest = slice(2 * PAGE + 7, 3 * PAGE, 8)  # byte of each word of page 2
        with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as region:
            while any(rank.poll() is None for rank in ranks) and time.monotonic() < deadline:
                region[highest] = bytes(byte ^ 0x40 for byte in region[highest])
                time.sleep(0.001)
        causes = assert_failed(name, finish(ranks))
    places = (2 * 512, 3 * 512 - 1) if name == "random" else (2, 2)
    for cause in causes:
        place = re.search(r"at=(\d+) ", cause)
        assert place and places[0] <= int(place[1]) <= places[1]


def test_a_failure_ends_those_who_wait() -> None:
    with shared_folder() as folder:
        rank0 = start(command("scan", 0, 2, PAGE, True, folder))
        puppet = Puppet(folder, rank0)
        puppet.wait()
        puppet.fail()
        done = finish([rank0])
    assert done.statuses == [1]
    assert done.errors == ["scan: FAIL rank=0: gave up, as another rank failed: rank 1"]


def limit_memory() -> None:
    """Room for the program but not for the region."""
    resource.setrlimit(resource.RLIMIT_AS, (64 * MIB, 64 * MIB))


@pytest.mark.parametrize("share", [False, True])
def test_a_region_that_cannot_be_mapped_is_told_to_all(share: bool) -> None:
    with shared_folder() as folder:
        limited = start(command("scan", 0, 2, 128 * MIB, share, folder), limit_memory)
        other = start(command("scan", 1, 2, 128 * MIB, share, folder))
        done = finish([limited, other])
    (cause,) = assert_failed("scan", done)
    flag = " with MAP_SHARED_PT" if share else ""
    assert cause == f"scan: FAIL rank=0: mmap of the region{flag}: ENOMEM"


def test_files_that_cannot_be_opened_are_named() -> None:
    with shared_folder() as folder:
        (cause,) = assert_failed("scan", run_in(folder / "none", "scan", 1, PAGE))
        assert cause.endswith("/none/region.sync: ENOENT")
        (folder / "region").mkdir()
        causes = assert_failed("scan", run_in(folder, "scan", 2, PAGE))
        assert all(cause.endswith("/region: EISDIR") for cause in causes)


@pytest.mark.parametrize(
    "left",
    [
        (0, 3, 0, 2, 2),  # of a run that came to its end
        (1, 0, 0, 1, 2),  # of one that was interrupted at its first barrier
        (0, 0, 0, 0, 5),  # of one with another count
    ],
)
def test_a_barrier_page_of_an_earlier_run_is_named(left: tuple[int, ...]) -> None:
    with shared_folder() as folder:
        sync = folder / "region.sync"
        sync.write_bytes(struct.pack("<5Q", *left).ljust(PAGE, b"\0"))
        done = run_in(folder, "scan", 2, 4 * PAGE)
    assert 1 in done.statuses
    assert any(f"{sync}: " in error and "remove it" in error for error in done.errors)


def test_a_line_that_cannot_be_written_is_a_failure() -> None:
    with shared_folder() as folder, open("/dev/full", "w") as full:
        done = subprocess.run(
            command("scan", 0, 1, PAGE, True, folder),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
        )
    assert done.returncode == 1
    assert done.stderr == "scan: FAIL rank=0: write of the result line: ENOSPC\n"
