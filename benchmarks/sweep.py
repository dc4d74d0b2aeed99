"""What a sweep adds to a run: ``python benchmarks/sweep.py [FOLDER]``, on that folder's disk."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

FEW, MANY = 50, 150
SWEEP = """\
[base]
workload = "scan"
engine = "stream"
region = "2MiB"
work = 1
procs = 1
[repeat]
seeds = {count}
"""


def measure(place: Path, count: int) -> tuple[float, float]:
    """Seconds of a sweep with one worker, and of its simulations alone."""
    file, out = place / f"{count}.toml", place / str(count)
    file.write_text(SWEEP.format(count=count))
    command = ["ptshare", "sweep", str(file), "-o", str(out), "--workers", "1", "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    records = [json.loads(path.read_text()) for path in out.glob("runs/*/run.json")]
    assert len(records) == count
    return json.loads(done.stdout)["seconds"], sum(record["seconds"] for record in records)


def main() -> None:
    """Print the difference between many runs and few, so that what starts once cancels out."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as folder:
        few, many = measure(Path(folder), FEW), measure(Path(folder), MANY)
    added = (many[0] - few[0]) - (many[1] - few[1])
    print(f"{1000 * added / (MANY - FEW):.1f} ms a run beyond the simulation")


if __name__ == "__main__":
    main()
