"""Time of ``ptshare summary --format dataset`` for many run folders.

The folders are copies of one run's, with other run ids and seeds, half of them under each policy.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ptshare_plugin.records.run_folder import OUTPUT, RUN_JSON, STATS
from ptshare_plugin.spec.run import IDENTITY, identity_hash

PTSHARE = Path(sys.executable).with_name("ptshare")
RUN = ("compare", "scan", "--procs", "4", "--region", "4MiB")


def copy(run: Path, seed: int, runs: Path) -> None:
    """A folder in ``runs`` that looks as if ``run`` had been run with ``seed``."""
    record = json.loads((run / RUN_JSON).read_text(encoding="utf-8"))
    record["seed"] = seed
    record["run"] = identity_hash({key: record[key] for key in IDENTITY})
    folder = runs / record["run"]
    folder.mkdir()
    table = pq.read_table(run / STATS)
    words = pa.array([record["run"]] * table.num_rows).dictionary_encode()
    pq.write_table(table.set_column(0, "run", words), folder / STATS)
    shutil.copy(run / OUTPUT, folder)
    (folder / RUN_JSON).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def gather(out: Path) -> tuple[float, float, float]:
    """Seconds, CPU seconds and largest memory so far in MiB of the command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    subprocess.run(
        [PTSHARE, "summary", out / "runs", "-o", out / "summary", "--format", "dataset"],
        check=True,
        stdout=sys.stderr,
    )
    seconds = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, after.ru_maxrss / 1024


def load(out: Path) -> tuple[float, float, float]:
    """The same of ``ptshare_plugin.load`` in this process."""
    import ptshare_plugin

    start, cpu = time.monotonic(), time.process_time()
    ptshare_plugin.load(out / "summary")
    seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    return seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print a row a step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--dir", type=Path, help="where the folders are made")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.dir) as place:
        out = Path(place)
        subprocess.run([PTSHARE, *RUN, "-o", out / "made"], check=True, stdout=subprocess.DEVNULL)
        (out / "runs").mkdir()
        made = sorted((out / "made").iterdir())
        for number in range(asked.runs):
            copy(made[number % len(made)], number, out / "runs")
        print(f"{asked.runs} run folders of 'ptshare {' '.join(RUN)}'")
        print(f"{'':28}{'seconds':>9}{'CPU s':>8}{'peak MiB':>10}")
        for name, step in (
            ("gather", gather),
            ("gather again, nothing new", gather),
            ("load", load),
        ):
            seconds, cpu, memory = step(out)
            print(f"{name:28}{seconds:>9.1f}{cpu:>8.1f}{memory:>10.0f}")


if __name__ == "__main__":
    main()
