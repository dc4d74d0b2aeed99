"""What a sweep adds to a run, and what a second worker gains.

``python benchmarks/sweep.py [FOLDER]``, on that folder's disk.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

FEW, MANY = 50, 150
RUNS = 200  # of the comparison of one worker and two
SWEEP = """\
[base]
workload = "scan"
engine = "stream"
region = "{region}"
work = {work}
procs = {procs}
[repeat]
seeds = {count}
"""


@dataclass(frozen=True)
class Load:
    """What each run of a sweep does."""

    region: str
    work: int
    procs: int


SHORT, LONG = Load("2MiB", 1, 1), Load("16MiB", 12, 16)


def measure(place: Path, load: Load, count: int, workers: int) -> tuple[float, float]:
    """Seconds of a sweep, and of its simulations alone."""
    name = f"{load.procs}-{count}-{workers}"
    file, out = place / f"{name}.toml", place / name
    file.write_text(SWEEP.format(region=load.region, work=load.work, procs=load.procs, count=count))
    command = ["ptshare", "sweep", str(file), "-o", str(out), "--workers", str(workers), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    records = [json.loads(path.read_text()) for path in out.glob("runs/*/run.json")]
    assert len(records) == count
    return json.loads(done.stdout)["seconds"], sum(record["seconds"] for record in records)


def main() -> None:
    """Print the difference between many runs and few, so that what starts once cancels out."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as folder:
        place = Path(folder)
        few, many = (measure(place, SHORT, count, 1) for count in (FEW, MANY))
        added = (many[0] - few[0]) - (many[1] - few[1])
        print(f"{1000 * added / (MANY - FEW):.1f} ms a run beyond the simulation", flush=True)
        one, two = (measure(place, LONG, RUNS, workers) for workers in (1, 2))
    print(
        f"{RUNS} runs of {one[1] / RUNS:.2f} s: {one[0]:.1f} s with one worker, "
        f"{two[0]:.1f} s with two, {one[0] / two[0]:.2f} times the speed"
    )


if __name__ == "__main__":
    main()
