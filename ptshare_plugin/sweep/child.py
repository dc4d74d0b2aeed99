"""One run of a sweep, in a process of its own."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from pathlib import Path
from typing import Any

from ptshare_plugin.common.errors import EXIT_FAILURE, UserError, os_reason
from ptshare_plugin.engines import registry as engines
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.records import folders
from ptshare_plugin.runs import run as runs
from ptshare_plugin.studies import compare
from ptshare_plugin.sweep.options import Options
from ptshare_plugin.sweep.server import EXIT_NO_SPACE

_FULL = {os.strerror(number).lower() for number in (errno.ENOSPC, errno.EDQUOT)}


def perform(job: dict[str, Any], folder: Path) -> int:
    """Make the run that ``job`` describes and move it to its target; the exit code.

    What is wrong is written to standard error.
    """
    options = Options.of_json(job["options"])
    sys.argv = options.command()  # for the record: it makes the same run
    try:
        spec = options.spec()
        if spec.run_id() != job["run"]:
            raise UserError(
                "the program or ptshare on this machine is another one than where the sweep began"
            )
        folder.mkdir()
        done = runs.execute(spec, folder if job["m5out"] and spec.engine == "gem5" else None)
        failures = compare.report_failures([done])
        if failures:
            raise UserError(failures[0])
        runs.write(done, folder)
        folders.publish(folder, Path(job["target"]))
    except UserError as error:
        return _failed(str(error), EXIT_FAILURE)
    except OSError as error:
        reason = os_reason(error)
        code = EXIT_NO_SPACE if reason in _FULL else EXIT_FAILURE
        return _failed(f"{error.filename or folder}: {reason}", code)
    return 0


def warm() -> None:
    """Do once, before runs are forked, what the first run of a process would spend time on."""
    engines.all_engines()
    runs.collect_rows([])
    nothing = dict.fromkeys(metrics.registry(), 0)
    runs.table({"run": "", "engine": "", "policy": ""}, {metrics.ALL: nothing})


def _failed(message: str, code: int) -> int:
    with contextlib.suppress(OSError):  # the disk may be full
        sys.stderr.write(f"ptshare: error: {message}\n")
    return code


def tail(log: Path, most: int = 20) -> list[str]:
    """Last lines of what a run wrote."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
            text = file.read().decode("utf-8", "backslashreplace")
    except OSError:
        return []
    return [line for line in re.split(r"[\r\n]+", text) if line][-most:]
