"""What can be refused before a recording begins."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ptshare_plugin.common.errors import EXIT_USAGE, UserError, os_reason
from ptshare_plugin.recording.folder import MANIFEST


def check_program(name: str, environment: Mapping[str, str]) -> None:
    """Refuse what is no program, or one that the recorder does not take."""
    found = shutil.which(name, path=environment.get("PATH"))
    if found is None:
        raise UserError(f"{name}: no such program", EXIT_USAGE)
    try:
        with open(found, "rb") as file:
            head = file.read(20)
    except OSError as error:
        raise UserError(f"{found}: cannot be read: {os_reason(error)}", EXIT_USAGE) from error
    if head[:4] == b"\x7fELF" and (head[4] != 2 or head[18:20] != b"\x3e\x00"):
        bits = 32 if head[4] == 1 else 64
        raise UserError(
            f"{found}: is a {bits}-bit program of another machine than x86-64, the only one that"
            " is recorded",
            EXIT_USAGE,
        )


def check_process(pid: int) -> None:
    """Refuse a process that there is not."""
    try:
        os.close(os.pidfd_open(pid))
    except (OSError, OverflowError) as error:
        raise UserError("no such process", EXIT_USAGE, option="until_exit", value=pid) from error


def check_output(output: Path, force: bool) -> None:
    """Refuse a folder that holds something; with ``force``, something else than a recording."""
    if not os.path.lexists(output):
        return
    if not output.is_dir():
        raise UserError("there is a file of that name", EXIT_USAGE, option="output", value=output)
    entries = list(output.iterdir())
    if not entries:
        return
    if not force:
        raise UserError(
            "is not empty; choose another folder, or --force to replace",
            EXIT_USAGE,
            option="output",
            value=output,
        )
    if not (output / MANIFEST).is_file():
        raise UserError(
            "holds something else than a recording, so --force does not replace it",
            EXIT_USAGE,
            option="output",
            value=output,
        )
