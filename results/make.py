"""Make reference results anew: ``python results/make.py NAME...``; all of them without a name."""

from __future__ import annotations

import csv
import json
import shlex
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RUNS, SUMMARY, MADE = "runs.toml", "summary.csv", "runs.json"
_LEFT_OUT = ("command", "started", "seconds", "program_path", "processes", "marks")


def names() -> list[str]:
    """Folders that hold results."""
    return sorted(path.parent.name for path in HERE.glob(f"*/{RUNS}"))


def commands(name: str) -> dict[str, list[str]]:
    """The command line of each run of a folder, by the run's name."""
    listed = tomllib.loads((HERE / name / RUNS).read_text(encoding="utf-8"))["run"]
    return {run["name"]: shlex.split(run["command"]) for run in listed}


def execute(command: list[str], out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run one command; its row of the summary, and what made it."""
    done = subprocess.run(
        [*command, "--json", "-o", str(out)], stdout=subprocess.PIPE, text=True, check=True
    )
    row = {
        key: value for key, value in json.loads(done.stdout).items() if not key.startswith("host.")
    }
    row["program.output"] = "\n".join(row["program.output"])
    row["program.exit"] = " ".join(str(status) for status in row["program.exit"])
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return row, {key: value for key, value in record.items() if key not in _LEFT_OUT}


def make(name: str) -> None:
    """Run everything of a folder and write its files."""
    rows, made = {}, {}
    with tempfile.TemporaryDirectory() as place:
        for run, command in commands(name).items():
            print(f"{name}/{run}: {shlex.join(command)}", flush=True)
            rows[run], made[run] = execute(command, Path(place) / run)
    columns = dict.fromkeys(key for row in rows.values() for key in row)
    with (HERE / name / SUMMARY).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["name", *columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"name": run, **row} for run, row in rows.items())
    (HERE / name / MADE).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def read(name: str) -> dict[str, dict[str, str]]:
    """Rows of a folder's summary, as text, by the run's name."""
    with (HERE / name / SUMMARY).open(encoding="utf-8", newline="") as file:
        return {row.pop("name"): row for row in csv.DictReader(file)}


def main() -> int:
    """Whole command."""
    wanted = sys.argv[1:] or names()
    unknown = [name for name in wanted if name not in names()]
    if unknown:
        print(f"make.py: {unknown[0]}: there are {', '.join(names())}", file=sys.stderr)
        return 2
    for name in wanted:
        make(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
