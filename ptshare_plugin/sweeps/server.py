"""A process that forks one child for each run: ``python -m ptshare_plugin.sweeps.server``.

It has imported everything once, so that a child starts in milliseconds, and has no threads but
those of pyarrow's allocator, which takes care of forks itself. A line of JSON on standard input
asks for a run; the answers are ``pid N`` and ``ended STATUS`` (of ``waitpid``). When standard
input ends, so does what is running.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from ptshare_plugin.common.errors import EXIT_FAILURE, UserError
from ptshare_plugin.common.tied import tie

LOG, FOLDER = "log", "run"
# What a run imports on its way.
_IMPORTS = ("ptshare_plugin._core", "elftools.elf.elffile", "pyarrow.parquet")


def main() -> None:
    """Answer requests until standard input ends."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # a local worker blocks it
    from ptshare_plugin.sweeps import child as work  # which imports this module

    for name in _IMPORTS:
        # Without it each run says what is missing.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    work.warm()
    gc.freeze()  # so that collections in children do not copy the parent's pages
    rest = b""
    while True:
        data = os.read(0, 1 << 16)
        if not data:
            return
        rest += data
        while b"\n" in rest:
            line, _, rest = rest.partition(b"\n")
            job = json.loads(line)
            _warm(job)
            parent = os.getpid()
            child = os.fork()
            if child == 0:
                _child(job, parent)
            os.write(1, b"pid %d\n" % child)
            os.write(1, b"ended %d\n" % _ended(child))


def _warm(job: dict[str, Any]) -> None:
    """Have programs and presets read once for all children, which tell what is wrong with them."""
    from ptshare_plugin.runs.options import Options

    with contextlib.suppress(UserError, OSError):
        Options.of_json(job["options"]).spec()


def _ended(child: int) -> int:
    """Status of ``child`` when it has ended; it is killed when standard input ends before."""
    with open(os.pidfd_open(child), "rb", buffering=0) as file:
        handle = file.fileno()
        ready, _, _ = select.select([handle, 0], [], [])
        if handle not in ready:
            # Nothing is asked while a run is on: this is the end.
            os.kill(child, signal.SIGKILL)
            select.select([handle], [], [])
        # While it is not waited for, its number, and so its group's, is nobody else's.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1]


def _child(job: dict[str, Any], parent: int) -> NoReturn:
    code = EXIT_FAILURE
    try:
        os.setsid()
        tie(parent)
        place = Path(job["place"])
        log = os.open(place / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        # What a run leaves when it is killed goes with its place.
        os.environ["TMPDIR"] = tempfile.tempdir = str(place)
        from ptshare_plugin.sweeps import child as work

        code = work.perform(job, place / FOLDER)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(2, f"ptshare: error: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # the worker is gone: nobody waits for an answer
        main()
