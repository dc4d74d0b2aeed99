"""Reading and writing of small files, with refusals of one line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ptshare_plugin.errors import UserError, os_reason


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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; renamed to it when the block ends well.

    Otherwise, Ctrl-C included, it is removed. OSErrors become a UserError that names ``-o``.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"-o {path}: cannot be written: {os_reason(error)}") from error
    finally:
        partial.unlink(missing_ok=True)
