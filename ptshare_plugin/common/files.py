"""Reading and writing of small files, with refusals of one line."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ptshare_plugin.common.errors import UserError, os_reason


def read_json(path: Path) -> Any:
    """Content of a JSON file; a UserError names it when it is missing, unreadable or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; the run folder is not whole") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {os_reason(error)}") from error
    except ValueError as error:  # also UnicodeDecodeError
        raise UserError(f"{path}: damaged: not JSON") from error


def refuse(path: Path, force: bool, option: str = "output") -> None:
    """Refuse, before long work, a file that could not be written after it."""
    if not path.parent.is_dir():
        raise UserError(
            f"no such folder: {path.parent}",
            option=option,
            value=path,
        )
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UserError(
            f"cannot be written: {os_reason(error)}",
            option=option,
            value=path,
        ) from error
    if not os.path.lexists(path):
        return
    if not path.is_file():
        raise UserError(
            "there is something else than a file",
            option=option,
            value=path,
        )
    if not force:
        raise UserError(
            "there is a file of that name; --force replaces it",
            option=option,
            value=path,
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; renamed to it when the block ends well.

    Otherwise, Ctrl-C included, it is removed. OSErrors become a UserError about option ``output``.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise UserError(
            f"cannot be written: {os_reason(error)}",
            option="output",
            value=path,
        ) from error
    finally:
        partial.unlink(missing_ok=True)
