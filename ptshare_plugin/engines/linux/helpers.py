"""Programs of ``native/linux``, which the package's build installs by the extension module."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ptshare_plugin.common.errors import UserError


def helper(name: str) -> Path:
    """Path of one of them; a UserError when it is not built."""
    spec = importlib.util.find_spec("ptshare_plugin._core")
    place = Path(spec.origin).parent / "helpers" / name if spec and spec.origin else Path(name)
    if not place.is_file():
        raise UserError(f"the helper program {name} is not built: run 'pip install -e .'")
    return place
