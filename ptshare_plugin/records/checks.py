"""Values of a table of runs, checked: files are edited, and get damaged."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.spec.record import LARGEST, MOST_COUNT

if TYPE_CHECKING:
    import pandas as pd

_ALWAYS = (
    *("run", "engine", "policy", "program", "procs", "cores", "region_bytes", "share", "seed"),
)
_RANGES = {"procs": (1, MOST_COUNT), "cores": (1, MOST_COUNT), "region_bytes": (0, math.inf)}


def checked(frame: pd.DataFrame, path: str | os.PathLike[str]) -> pd.DataFrame:
    """``frame``, a row a run, as it is; a UserError when a value is none that a run may have."""
    for name in _ALWAYS:
        if frame[name].isna().any():
            raise UserError(f"{path}: damaged: a run has no {name}")
    for name, (low, high) in _RANGES.items():
        if not frame[name].between(low, high).all():
            raise UserError(f"{path}: damaged: a run has a wrong {name}")
    for name in frame.columns:
        if name in metrics.registry() and (frame[name].abs() > LARGEST).any():
            raise UserError(f"{path}: damaged: a run has a wrong {name}")
    return frame
