"""Reading of small files, with refusals of one line."""

from __future__ import annotations

import json
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
