"""Speed of engine stream, as a ratio to a native loop over the same addresses.

Both are timed in this process, in this thread's time on a CPU, and turn by turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from ptshare_plugin import _core
from ptshare_plugin.engines import stream
from ptshare_plugin.runs.options import Options
from ptshare_plugin.spec import workloads
from ptshare_plugin.spec.run import RunSpec

MIB = 1 << 20
# Instructions that the front-end counts between two looks at the clock.
STEP = 5_000_000


@dataclass(frozen=True)
class Case:
    """Random accesses of one process to a region of some size."""

    name: str
    region: int
    work: int


CASES = (
    Case("L1 hits", MIB // 64, 60_000_000),
    Case("TLB hits", MIB // 8, 40_000_000),
    Case("walks", 512 * MIB, 10_000_000),
)


def run_spec(case: Case) -> RunSpec:
    """What ``ptshare run random --engine stream --procs 1 --policy private`` would run."""
    return Options(
        program="random",
        engine="stream",
        policy="private",
        procs=1,
        region=case.region,
        work=case.work,
    ).spec()


def modelled(case: Case) -> tuple[float, float]:
    """Accesses a second of the second half of the work, and walks an access of all of it."""
    simulation = stream.simulation(run_spec(case))
    steps: list[tuple[float, int]] = [(time.thread_time(), 0)]
    done = False
    while not done:
        done = simulation.step(STEP)
        steps.append((time.thread_time(), simulation.instructions))
    # Every access counts the same number of instructions; pages are touched in the first half.
    half = steps[len(steps) // 2]
    share = (steps[-1][1] - half[1]) / steps[-1][1]
    walks = sum(value for _, name, value in simulation.statistics() if name == "roi.walk.data")
    return case.work * share / (steps[-1][0] - half[0]), walks / case.work


def native(case: Case) -> float:
    """Accesses a second of a loop that reads and writes real memory."""
    accesses, seconds, _ = _core.native_loop(
        "random", stream.values(run_spec(case), workloads.describe("random"))
    )
    return accesses / seconds


def cpu() -> str:
    """Name of the CPU, as the kernel has it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


def main() -> None:
    """Print a row a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="medians of this many runs")
    repeats = max(1, parser.parse_args().repeats)
    print(f"CPU: {cpu()}")
    print(f"{'case':9}{'region':>10}{'walks/access':>14}{'M/s':>10}{'native M/s':>12}{'ratio':>8}")
    for case in CASES:
        pairs = [(modelled(case), native(case)) for _ in range(repeats)]
        rate = statistics.median(found[0] for found, _ in pairs)
        loop = statistics.median(found for _, found in pairs)
        print(
            f"{case.name:9}{case.region // 1024:>7} KiB{pairs[0][0][1]:>14.3f}"
            f"{rate / 1e6:>10.1f}{loop / 1e6:>12.1f}{loop / rate:>8.1f}"
        )


if __name__ == "__main__":
    main()
