"""Are processes, threads, signals and mappings recorded as they were?"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compiler import compiled
from recordings import items, look, record

from ptshare_plugin.recording.folder import Manifest, Stream, read_manifest

BLOCK, NAME, CALL, RETURN, WRITES, THREAD, SIGNAL = 0, 3, 7, 8, 10, 11, 14
PAGE, CHUNK = 4096, 2 << 20

# What the tests below look for, all in one recording.
PROGRAM = """
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>
static sigjmp_buf back;
static volatile int hits;
static char *private;
static void handler(int number) { hits++; if (number == SIGSEGV) siglongjmp(back, 1); }
static void *work(void *place) { memset(place, 1, 4096); return 0; }
static void reap(int wanted) { int s; wait(&s); if (s != wanted) _exit(9); }
int main(int count, char **words) {
  if (count > 1) _exit(3);
  int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED;
  char *common = mmap((void *)0x10000000, 4 << 20, 3, flags, -1, 0);
  private = mmap(0, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int id = shmget(IPC_PRIVATE, 1 << 16, 0600 | IPC_CREAT);
  char *segment = shmat(id, 0, 0);
  shmctl(id, IPC_RMID, 0);
  signal(SIGUSR1, handler);
  raise(SIGUSR1);
  signal(SIGSEGV, handler);
  if (!sigsetjmp(back, 1)) *(volatile char *)8 = private[7];
  signal(SIGSEGV, SIG_DFL);
  pthread_t thread;
  pthread_create(&thread, 0, work, private + 8192);
  pthread_join(thread, 0);
  if (!fork()) { memset(common, 1, 2 << 20); segment[0] = 1; _exit(5); }
  reap(5 << 8);
  if (!fork()) { *(volatile char *)8 = 1; }
  reap(SIGSEGV);
  int paused = fork();
  if (!paused) { common[3 << 20] = 1; pause(); }
  usleep(300000);
  kill(paused, SIGKILL);
  reap(SIGKILL);
  if (!fork()) { execl(words[0], "second", "x", (char *)0); }
  reap(3 << 8);
  execl("/nonexistent", "x", (char *)0);
  int pipe_[2];
  pipe(pipe_);
  write(pipe_[1], "abc", 3);
  read(pipe_[0], private + 5 * 4096, 100);
  strcpy(words[0], "new");
  exit(4);
}
"""


@pytest.fixture(scope="module")
def output(valgrind: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    program = compiled(folder, PROGRAM, ".c", "-pthread", "-Wno-unused-result")
    done = record(folder / "recording", program)
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1].startswith("ptshare: error: the recording is partial: ")
    return folder / "recording"


@pytest.fixture(scope="module")
def manifest(output: Path) -> Manifest:
    return read_manifest(output)


@pytest.fixture(scope="module")
def read(output: Path, manifest: Manifest) -> list[list[tuple[Any, ...]]]:
    return list(items(output, manifest))


@pytest.fixture(scope="module")
def seen(output: Path) -> Any:
    return look(output)


def calls(found: list[tuple[Any, ...]], number: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Arguments and results of a call's."""
    waiting: dict[int, tuple[int, ...]] = {}
    for item in found:
        if item[0] == CALL and item[1] & 0xFFFF == number:
            waiting[item[1] >> 16] = item[2]
        elif item[0] == RETURN and item[1] & 0xFFFF == number and item[1] >> 16 in waiting:
            (result,) = struct.unpack("<q", struct.pack("<Q", item[2][0]))
            yield waiting.pop(item[1] >> 16), result


def test_how_each_began_and_ended(manifest: Manifest) -> None:
    streams = manifest.streams
    pids = [stream.pid for stream in streams]
    assert len(set(pids)) == 5 and pids[4] == pids[5]
    assert [(s.parent, s.forked, s.generation) for s in streams] == [
        (None, False, 0),
        *[(0, True, 0)] * 4,
        (4, False, 1),
    ]
    assert [(s.end, s.status) for s in streams] == [
        ("exit", 4),
        ("exit", 5),
        ("signal", None),
        ("cut", None),
        ("exec", None),
        ("exit", 3),
    ]
    assert streams[2].why == "signal 11 (SIGSEGV)"
    assert "was cut" in (manifest.partial or "")
    # Valgrind names a program by its path, whatever its argv[0].
    assert streams[5].name.endswith("/program x")
    assert streams[0].title == "new"


def test_stamps_are_of_one_time_line(manifest: Manifest) -> None:
    parent, *children = manifest.streams
    for child in children:
        assert parent.first_stamp < child.first_stamp <= child.last_stamp < parent.last_stamp
    for earlier, later in itertools.pairwise(children):
        assert earlier.first_stamp < later.first_stamp


def test_a_forks_results(read: list[list[tuple[Any, ...]]], manifest: Manifest) -> None:
    pids = [result for _, result in calls(read[0], 56) if result > 0]
    # The thread is the first clone.
    assert pids[1:] == [stream.pid for stream in manifest.streams[1:5]]
    first = next(item for item in read[1] if item[0] == RETURN)
    assert first[2][0] == 0  # in the child: the call is the parent's


def test_an_exec_that_fails_returns(read: list[list[tuple[Any, ...]]]) -> None:
    assert [result for _, result in calls(read[0], 59)] == [-2]
    assert list(calls(read[4], 59)) == []


def test_what_the_kernel_writes(read: list[list[tuple[Any, ...]]]) -> None:
    (arguments, result), *_ = [each for each in calls(read[0], 0) if each[0][2] == 100]
    assert result == 3
    assert (WRITES, 1, (arguments[1], 3)) in read[0]


def test_threads_and_signals(read: list[list[tuple[Any, ...]]]) -> None:
    assert [item[1] for item in read[0] if item[0] == THREAD] == [2, 1]
    assert [item[1] & 0xFFFF for item in read[0] if item[0] == SIGNAL] == [10, 11]


def test_a_block_that_faults_ends_before_its_access(
    read: list[list[tuple[Any, ...]]], seen: Any
) -> None:
    """The read of ``private[7]`` has been done, the write to address 8 has not."""
    place = next(i for i, item in enumerate(read[0]) if item[0] == SIGNAL and item[1] & 0xFF == 11)
    block = next(item for item in reversed(read[0][:place]) if item[0] == BLOCK)
    assert block[2] & 0x8000
    last = block[4][-1]
    assert last[0] % PAGE == 7 and last[1:] == (1, 0)
    everything = [access for item in read[0] if item[0] == BLOCK for access in item[4]]
    assert all(address != 8 for address, _, _ in everything)


def test_mappings_in_common(seen: Any) -> None:
    common = {each["name"].rstrip("0123456789 "): each for each in seen["common"]}
    memory = common["anonymous memory"]
    assert memory["addresses"] == [0x10000000]
    assert memory["bytes"] == 4 << 20
    assert memory["processes"] == 5
    # The first child touched half of it, the third, which was killed, did not live to tell.
    assert (memory["pages"], memory["tables"], memory["merged"]) == (512, 1, 1)
    assert memory["sharing"]["mshare"] == "misaligned: 256MiB past a multiple of 512GiB"
    assert memory["sharing"]["ptshare"] == "anonymous; share.anonymous=true: shares"
    segment = common["System V segment"]
    assert segment["bytes"] == 1 << 16
    assert segment["pages"] == 1
    assert segment["sharing"]["ptshare"].startswith("misaligned: ")


def test_present_pages_are_those_touched(seen: Any, read: list[list[tuple[Any, ...]]]) -> None:
    """The kernel's tables against the accesses: what was touched is there."""
    present = {
        start + i * PAGE
        for item in read[1]
        if item[0] == 17
        for start, count in zip(item[2][2::2], item[2][3::2], strict=True)
        for i in range(count)
    }
    written = {
        address & -PAGE
        for item in read[1]
        if item[0] == BLOCK
        for address, _, kind in item[4]
        if kind
    }
    assert written
    assert written <= present
    assert {0x10000000 + i * PAGE for i in range(512)} <= written
    assert not any(0x10000000 + CHUNK <= page < 0x10000000 + 2 * CHUNK for page in present)


def test_names(read: list[list[tuple[Any, ...]]], manifest: Manifest) -> None:
    stream: Stream
    for stream, found in zip(manifest.streams, read, strict=True):
        assert sum(item[0] == NAME for item in found) == 1
        assert stream.accesses > 0 and stream.bytes > 0
