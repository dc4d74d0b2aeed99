"""ptshare: what sharing page tables between processes saves and costs, by simulation.

``load`` reads run folders or a dataset of them into a pandas frame; everything else is reached
through the ``ptshare`` command or the modules of this package. Importing the package imports
nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    import pandas as pd

__all__ = ["__version__", "load"]

__version__ = "0.1.0"


def load(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Frame of run folders, or of a dataset that ``ptshare summary --format dataset`` made.

    Run folders, ``path`` itself or all below it, give a tidy frame, a row a value. Columns: run
    (the folder below ``path``), engine, policy, process (-1: all processes or the machine),
    component, metric, value, unit.

    A dataset gives a wide frame, a row a run, ordered by run. Columns:

    - run: its folder, from the folder that holds the dataset; no two rows have the same;
    - engine, policy, program, args, procs, cores, region_bytes, share, seed, work (missing: the
      workload's default), preset;
    - run_id (hash of what decides the result: repeats have the same), program_sha256, started,
      ptshare and gem5 (their versions), failed (processes that did not end as they should),
      command (which made it); of gem5's m5out only the first two are there;
    - every key of the machine, like ``mmu.pcids``;
    - every metric that some run has, for all processes, in the order of docs/metrics.md: counts as
      nullable integers, others as floats, missing where a run has none.

    A ``.csv`` file that this frame's ``to_csv(path, index=False)`` wrote gives it again.

    Raises ``errors.UserError`` that names the file when one is unreadable or there are no runs.
    """
    from pathlib import Path

    from ptshare_plugin.records import dataset
    from ptshare_plugin.records.frames import load_tidy

    if Path(path).suffix == ".csv":
        return dataset.read_csv(path)
    return dataset.load(path) if dataset.is_dataset(path) else load_tidy(path)
