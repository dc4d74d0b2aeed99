"""Host time per simulated instruction of gem5 with ptshare's module, as a ratio to stock gem5.

Both run the same program on the same CPU model, caches and memory, one after the other in one call.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from ptshare_plugin.engines.gem5 import stats

SCRIPT = Path(__file__).resolve().parent.parent / "gem5_configs" / "ptshare.py"

# Programs without marks, which stock gem5 does not know.
PROGRAMS = {
    "sort": r"""
#include <stdio.h>
#include <stdlib.h>
static int compare(const void* a, const void* b) {
    return *(const int*)a < *(const int*)b ? -1 : *(const int*)a > *(const int*)b;
}
int main(void) {
    enum { N = 20000 };
    static int numbers[N];
    unsigned state = 1;
    for (int i = 0; i < N; ++i) numbers[i] = (state = state * 1664525 + 1013904223) >> 8;
    qsort(numbers, N, sizeof(int), compare);
    printf("%d %d\n", numbers[0], numbers[N - 1]);
    return 0;
}
""",
    "chase": r"""
#include <stdio.h>
enum { N = 1 << 20 };  // 4 MiB: each step misses a TLB of 64 entries
static unsigned next[N];
int main(void) {
    for (unsigned i = 0; i < N; i += 16) next[i] = (i * 5 + 16 * 12345) & (N - 1);
    unsigned at = 0;
    for (int i = 0; i < 200000; ++i) at = next[at];
    printf("%u\n", at);
    return 0;
}
""",
}


def build(name: str, folder: Path) -> Path:
    """Compile one of ``PROGRAMS``."""
    source, binary = folder / f"{name}.c", folder / name
    source.write_text(PROGRAMS[name])
    subprocess.run(["cc", "-O2", "-static", "-no-pie", "-o", binary, source], check=True)
    return binary


def run(binary: Path, cpu: str, out: Path, *options: str) -> tuple[float, str]:
    """Nanoseconds of host time per simulated instruction, and the program's output."""
    shutil.rmtree(out, ignore_errors=True)
    subprocess.run(
        [
            *("gem5.opt", "-q", "-d", out, SCRIPT),
            *("--program", binary, "--procs", "1", "--cpu", cpu, *options),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    last = stats.dumps(out / stats.STATS_TXT)[-1]
    return last["hostSeconds"] / last["simInsts"] * 1e9, (out / "process0.out").read_text()


def main() -> int:
    """Whole benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=3, help="rounds; medians are printed")
    args = parser.parse_args()
    if shutil.which("gem5.opt") is None:
        print("gem5_overhead.py: no gem5.opt on PATH", file=sys.stderr)
        return 2
    print("| program | CPU | stock, ns/instruction | with module | ratio | lowest and highest |")
    print("|---|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in PROGRAMS:
            binary = build(name, folder)
            for cpu in ("atomic", "timing", "o3"):
                stock, module = [], []
                for _ in range(args.repeats):
                    theirs, expected = run(binary, cpu, folder / "out", "--stock")
                    ours, output = run(binary, cpu, folder / "out", "--policy", "private")
                    if output != expected:
                        print(f"gem5_overhead.py: {name} prints {output!r}", file=sys.stderr)
                        return 1
                    stock.append(theirs)
                    module.append(ours)
                ratios = [b / a for a, b in zip(stock, module, strict=True)]
                print(
                    f"| {name} | {cpu} | {statistics.median(stock):.0f}"
                    f" | {statistics.median(module):.0f} | {statistics.median(ratios):.2f}"
                    f" | {min(ratios):.2f}, {max(ratios):.2f} |",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
