"""Recordings made and read by tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ptshare_plugin import _core
from ptshare_plugin.recording.folder import Manifest, pieces

COMMAND = Path(sys.executable).with_name("ptshare")
PAGES = 512
# The parent writes 2 MiB of anonymous shared memory; two children read it and write a page of
# their own memory each.
PROGRAM = """
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile char own[1 << 16] __attribute__((aligned(4096)));
int main(void) {
  volatile char *area = mmap(0, 512 * 4096, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < 512; i++) area[i * 4096L] = (char)i;
  own[0] = 1;
  long sum = 0;
  for (int k = 0; k < 2; k++)
    if (!fork()) {
      for (int i = 0; i < 512; i++) sum += area[i * 4096L];
      own[0] = (char)sum;
      _exit(0);
    }
  while (wait(0) > 0) {}
  return 0;
}
"""


def record(
    output: Path, *command: object, options: tuple[str, ...] = (), **how: Any
) -> subprocess.CompletedProcess[str]:
    """Run ``ptshare record`` on a command."""
    words = [COMMAND, "record", "-o", output, *options, "--", *command]
    return subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=120, **how)


def look(folder: Path) -> Any:
    """What ``ptshare recording --json`` says."""
    words = [COMMAND, "recording", folder, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def items(folder: Path, manifest: Manifest) -> Iterator[list[tuple[Any, ...]]]:
    """Of each stream, its items; they are as many as were counted when they were written."""
    decoders: list[_core.RecordDecoder] = []
    counters: list[_core.RecordDecoder] = []
    for stream in manifest.streams:
        for all_of_them in (decoders, counters):
            if stream.forked:
                assert stream.parent is not None
                parent = all_of_them[stream.parent]
                all_of_them.append(_core.RecordDecoder(parent, stream.definitions))
            else:
                all_of_them.append(_core.RecordDecoder())
        found: list[tuple[Any, ...]] = []
        for piece in pieces(folder, stream):
            events, blocks = piece.events(), piece.blocks()
            found += decoders[-1].items(events, blocks)
            counters[-1].count(events, blocks)
        for name, value in counters[-1].totals().items():
            assert getattr(stream, name) == value
        yield found
