"""One run of a sweep, in a process of its own."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from pathlib import Path
from typing import Any

from ptshare_plugin.common import progress
from ptshare_plugin.common.errors import EXIT_FAILURE, UserError, os_reason
from ptshare_plugin.engines import registry as engines
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.records import folders, run_folder
from ptshare_plugin.records.run_folder import M5OUT
from ptshare_plugin.runs import run as runs
from ptshare_plugin.runs.options import Options
from ptshare_plugin.sweeps.plan import keeps_m5out

EXIT_NO_SPACE = 74
_FULL = {os.strerror(number).lower() for number in (errno.ENOSPC, errno.EDQUOT)}


def perform(job: dict[str, Any], folder: Path) -> int:
    """Make the run that ``job`` describes and move it to its target; the exit code.

    What is wrong is written to standard error.
    """
    options = Options.of_json(job["options"])
    try:
        spec = options.spec()
        if spec.run_id() != job["run"]:
            raise UserError(
                "the program or ptshare on this machine is another one than where the sweep began"
            )
        folder.mkdir()
        keep = folder / M5OUT if job["m5out"] and keeps_m5out(options) else None
        with progress.show(spec.label) as report:
            done = runs.execute(spec, options.command(), report, keep)
        failures = runs.report_failures([done])
        if failures:
            raise UserError(failures[0])
        run_folder.write(done, folder)
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
    run_folder.table({"run": "", "engine": "", "policy": ""}, {metrics.ALL: nothing})


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
