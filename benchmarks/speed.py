"""Speed and memory of the embedded engine, as ratios to native runs of the same programs."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptshare_plugin.spec import workloads

MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """One workload, run by one process."""

    workload: str
    region: int
    work: int


CASES = (
    Case("scan", 16 * MIB, 40),
    Case("random", 256 * MIB, 4_000_000),
    Case("zipf", 256 * MIB, 1_000_000),
)


def native(case: Case, prefix: list[str], folder: Path) -> float:
    """Seconds of one run of the binary itself, below ``prefix`` if that is not empty."""
    region = folder / "region"
    arguments = workloads.arguments(
        region=case.region, share=True, rank=0, procs=1, seed=1, work=case.work
    )
    arguments[arguments.index("--file") + 1] = str(region)
    start = time.perf_counter()
    subprocess.run(
        [*prefix, str(workloads.path(case.workload)), *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - start
    for file in folder.iterdir():
        file.unlink()
    return seconds


def simulated(workload: str, *options: str) -> dict[str, Any]:
    """The wide row of one ``ptshare run``."""
    done = subprocess.run(
        ["ptshare", "run", workload, "--json", *options],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def measure(case: Case, repeats: int, folder: Path) -> str:
    """One line of the table: medians over ``repeats`` rounds of all three."""
    cachegrind = [
        "valgrind",
        "--tool=cachegrind",
        "--cache-sim=yes",
        f"--cachegrind-out-file={folder / 'cachegrind'}",
    ]
    times: dict[str, list[float]] = {"native": [], "ptshare": [], "cachegrind": []}
    row: dict[str, Any] = {}
    for _ in range(repeats):
        times["native"].append(native(case, [], folder))
        row = simulated(
            case.workload, "--procs=1", f"--region={case.region}", f"--work={case.work}"
        )
        times["ptshare"].append(row["host.seconds"])
        if shutil.which("valgrind"):
            times["cachegrind"].append(native(case, cachegrind, folder))
    medians = {name: statistics.median(found) for name, found in times.items() if found}
    spread = (max(times["ptshare"]) - min(times["ptshare"])) / medians["ptshare"]
    instructions = row["instructions"] / medians["ptshare"] / 1e6
    accesses = row["access.data"] / medians["ptshare"] / 1e6
    other = "not installed"
    if "cachegrind" in medians:
        other = f"{medians['cachegrind'] / medians['native']:.0f}"
    return (
        f"| {case.workload}, {case.region // MIB} MiB | {row['instructions'] / 1e6:.0f} M "
        f"| {row['access.data'] / 1e6:.1f} M | {instructions:.1f} M/s | {accesses:.1f} M/s "
        f"| {medians['ptshare'] / medians['native']:.0f} | {other} | {100 * spread:.0f} % |"
    )


def main() -> None:
    """Print the tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="rounds of each case")
    parser.add_argument(
        "--procs", type=int, default=1000, help="processes of the memory run, 0: none"
    )
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {platform.system()} {platform.release()}, Python "
        f"{platform.python_version()}; medians of {options.repeats} rounds.\n"
    )
    print(
        "| workload | instructions | accesses | simulated instructions | modelled accesses "
        "| slower than native | cachegrind slower than native | spread |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        for case in CASES:
            print(measure(case, options.repeats, Path(name)), flush=True)
    if not options.procs:
        return
    print("\n| processes | policy | peak memory | simulated instructions | time |")
    print("|---:|---|---:|---:|---:|")
    for policy in ("private", "ptshare"):
        row = simulated(
            "scan", f"--procs={options.procs}", "--region=16MiB", "--work=1", f"--policy={policy}"
        )
        print(
            f"| {options.procs} | {policy} | {row['host.peak_rss_bytes'] / MIB:.0f} MiB "
            f"| {row['instructions'] / 1e6:.0f} M | {row['host.seconds']:.0f} s |",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
