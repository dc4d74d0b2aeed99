"""Make reference results anew: ``python results/make.py NAME...``; all of them without a name.

Runs are kept in ``build/results/NAME``: after an interruption it goes on.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import recorded

from ptshare_plugin.records import dataset
from ptshare_plugin.sweeps import plan, store

HERE = Path(__file__).resolve().parent
SWEEP, SUMMARY = "sweep.toml", "summary.csv"
FIGURE = "figure.svg"
# Which figure of its report a folder shows.
FIGURES = {
    "faults": "g4-faults",
    "gem5-cpus": "g3-faults",
    "gem5-crosscheck": "g2-reads",
    "postgres": "g1-walks",
    "protect": "shootdowns-2",
    "pt-memory": "g1-memory",
    "redis": "g1-faults",
    "scale": "g1-walks",
    "shared-tags": "g1-reads",
    "walks": "g1-latency",
}
_KEPT = HERE.parent / "build" / "results"


def names() -> list[str]:
    """Folders that hold results of a sweep."""
    return sorted(path.parent.name for path in HERE.glob(f"*/{SWEEP}"))


def make(name: str) -> None:
    """Make the sweep of a folder, write its summary and take its figure."""
    file, out = HERE / name / SWEEP, _KEPT / name
    recorded.make(name)
    subprocess.run(["ptshare", "sweep", str(file), "-o", str(out)], check=True)
    dataset.gather([out / store.RUNS], out / "summary")
    runs = [point.run for point in plan.load(file).points]
    rows = HERE / name / SUMMARY
    frame = summary(dataset.load(out / "summary"), runs)
    frame.to_csv(rows, index=False)
    if recorded.commands(name):
        recorded.per_unit(frame).to_csv(HERE / name / recorded.EACH, index=False)
    report = ["ptshare", "report", str(rows), "-o", str(out / "report.html"), "--force"]
    subprocess.run([*report, "--figures", str(out / "figures")], check=True)
    shutil.copyfile(out / "figures" / f"{FIGURES[name]}.svg", HERE / name / FIGURE)


def summary(frame: pd.DataFrame, runs: list[str]) -> pd.DataFrame:
    """Rows of ``runs``, in that order, without what another machine would not give again."""
    rows = frame.set_index("run_id", drop=False).loc[runs]
    rows = rows.drop(columns=[name for name in rows if name.startswith("host.")])
    rows = rows.assign(run=rows["run_id"], command=recorded.without_places(rows["command"]))
    return rows.reset_index(drop=True)


def main() -> int:
    """Whole command."""
    wanted = sys.argv[1:] or names()
    unknown = [name for name in wanted if name not in names()]
    if unknown:
        print(f"make.py: {unknown[0]}: there are {', '.join(names())}", file=sys.stderr)
        return 2
    for name in wanted:
        print(name, flush=True)
        try:
            make(name)
        except subprocess.CalledProcessError as error:
            return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
