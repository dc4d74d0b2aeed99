"""ptshare: what sharing page tables between processes saves and costs, by simulation.

``load`` reads run folders into one tidy pandas frame; everything else is reached through the
``ptshare`` command or the modules of this package. Importing the package imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    import pandas as pd

__all__ = ["__version__", "load"]

__version__ = "0.1.0"


def load(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Tidy frame of the run folder, or of all run folders below, ``path``.

    Columns: run, engine, policy, process (-1: all processes or the machine), component, metric,
    value, unit. Raises ``errors.UserError`` that names the folder and file when one is unreadable.
    """
    from ptshare_plugin.frames import load_tidy

    return load_tidy(path)
