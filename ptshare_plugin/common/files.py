"""Reading and writing of small files, with refusals of one line."""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ptshare_plugin.common.errors import UserError, os_reason

_DEEPEST = 32
"""Levels of tables and lists in a file; keys with dots make some without any brackets."""
_LONGEST = 4096
"""Bits of a number: Python makes no decimal of many more, which hexadecimal ones may have."""
_TOO_DEEP = "nested too deep"


def read_json(path: Path) -> Any:
    """Content of a JSON file; a UserError names it when it is missing, unreadable or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; the run folder is not whole") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {os_reason(error)}") from error
    except (ValueError, RecursionError) as error:  # also UnicodeDecodeError; nested too deep
        raise UserError(f"{path}: damaged: not JSON") from error


def read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """Text and content of a TOML file.

    :raises UserError: says what is wrong with it, without the file's name.
    :raises OSError: it cannot be read.
    """
    try:
        # Before it is read: a device may never end, and a FIFO waits for its writer.
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UserError("not a regular file")
        text = path.read_bytes().decode("utf-8").replace("\r\n", "\n")
        content = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise UserError("not a text file (UTF-8)") from error
    except RecursionError as error:
        raise UserError(_TOO_DEEP) from error
    except ValueError as error:  # also a number of too many digits, and a NUL in the path
        raise UserError(f"not TOML: {error}") from error
    _check_content(content)
    return text, content


def _check_content(content: dict[str, Any]) -> None:
    """Refuse what ``tomllib`` takes, but recursion or ``str`` would not."""
    level: list[Any] = [content]
    for _ in range(_DEEPEST):
        if any(isinstance(each, int) and each.bit_length() > _LONGEST for each in level):
            raise UserError("a number has too many digits")
        parts = [
            each.values() if isinstance(each, dict) else each
            for each in level
            if isinstance(each, dict | list)
        ]
        level = [each for part in parts for each in part]
    if level:
        raise UserError(_TOO_DEEP)


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
