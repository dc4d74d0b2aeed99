"""What ``ptshare record`` costs: ratios of user time to native and to cachegrind, bytes an access.

A pointer chase over 256 MiB, and a transaction of ``pgbench -S`` (the server's user time). All are
run in one call, one after the other, so compare ratios. Of a recording the tool's time, which the
program waits for, and that of the recorder, which runs beside it, are told apart. Last, how fast
PostgreSQL's recording is replayed, and in how much memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptshare_plugin.recording import tool
from ptshare_plugin.recording.folder import read_manifest
from ptshare_plugin.recording.recipes import postgres
from ptshare_plugin.recording.record import Recording

CHASE = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
int main(int count, char **words) {
  uint64_t lines = (256 << 20) / 64, at = 0;
  uint64_t (*line)[8] = mmap(0, lines * 64, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  /* Never written: all pages are the kernel's page of zeroes, so that no time goes to DRAM. */
  for (uint64_t i = strtoull(words[count - 1], 0, 10); i > 0; i--)
    at = (at * 6364136223846793005u + 1442695040888963407u) ^ line[at >> 42][0];
  printf("%lu\\n", at);
  return 0;
}
"""
CACHEGRIND = ("--tool=cachegrind", "--cache-sim=yes", "--trace-children=yes", "--vgdb=no",
              "--cachegrind-out-file=/dev/null", "--log-file=/dev/null", "--")  # fmt: skip
NONE = ("--tool=none", "--trace-children=yes", "--vgdb=no", "--log-file=/dev/null", "--")
"""Valgrind that does nothing but run the program: less than this no tool of its can cost."""
READY = b"ready to accept connections"


@dataclass
class Cost:
    """User seconds of the program, of the recorder beside it, and what was recorded."""

    program: float
    recorder: float = 0.0
    accesses: int = 0
    bytes: int = 0


def user(who: int) -> float:
    """User seconds of this process, or of what it has waited for."""
    return resource.getrusage(who).ru_utime


def measured(run: Callable[[], object]) -> Cost:
    """Costs of what ``run`` starts and waits for."""
    own, children = user(resource.RUSAGE_SELF), user(resource.RUSAGE_CHILDREN)
    run()
    return Cost(user(resource.RUSAGE_CHILDREN) - children, user(resource.RUSAGE_SELF) - own)


def quietly(command: Sequence[object]) -> None:
    """Run a command whose output nobody wants."""
    subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL)


def recorded(command: list[str], folder: Path, said: Path) -> tuple[Cost, Recording]:
    """Costs of a recording."""
    recording = Recording(command, folder, said=said)

    def run() -> None:
        with recording:
            recording.run()

    cost = measured(run)
    note(cost, recording)
    return cost, recording


def note(cost: Cost, recording: Recording) -> None:
    """Add what was recorded."""
    streams = recording.manifest.streams
    cost.accesses = sum(stream.accesses for stream in streams)
    cost.bytes = sum(stream.bytes for stream in streams)


def chase(place: Path, reads: int) -> dict[str, Cost]:
    """The pointer chase, each way."""
    source, program = place / "chase.c", place / "chase"
    source.write_text(CHASE)
    quietly(["cc", "-O2", "-o", program, source])
    command = [str(program), str(reads)]
    valgrind = tool.find().program
    native = measured(lambda: quietly(command))
    own, _ = recorded(command, place / "chase.rec", place / "said")
    none = measured(lambda: quietly([valgrind, *NONE, *command]))
    cachegrind = measured(lambda: quietly([valgrind, *CACHEGRIND, *command]))
    return {"native": native, "none": none, "record": own, "cachegrind": cachegrind}


class Server:
    """PostgreSQL's cluster for pgbench, whose server is run each way."""

    def __init__(self, place: Path, clients: int, transactions: int) -> None:
        """Make it."""
        self.place = place / "cluster"
        self.place.mkdir()
        self.options: dict[str, Any] = {each.name: each.default for each in postgres.OPTIONS}
        self.options |= {"clients": clients, "transactions": transactions}
        self.user = postgres.user()
        self.programs = postgres.programs()
        self.cluster = postgres.Cluster(self.place, self.programs, self.user)
        self.cluster.make(self.options)

    def run_beside(self, pid: int, alive: Callable[[], None]) -> float:
        """User seconds of a server and its children for one pgbench."""
        log = self.cluster.log
        while not (log.exists() and READY in log.read_bytes()):
            alive()
        begin = server_time(pid)
        who, group = self.user or (None, None)
        load = postgres.load(self.options)
        words = [self.programs["pgbench"], *load, "-h", self.place, "ptshare"]
        subprocess.run(
            [*map(str, words)],
            check=True,
            user=who,
            group=group,
            extra_groups=None if who is None else [],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 3  # until it has waited for its backends
        while time.monotonic() < end:
            alive()
        return server_time(pid) - begin

    def under(self, prefix: Sequence[object]) -> Cost:
        """The same of a server started so."""
        who, group = self.user or (None, None)
        self.cluster.log.unlink(missing_ok=True)
        with (
            open(self.cluster.log, "wb") as log,
            subprocess.Popen(
                [*map(str, prefix), *self.cluster.server()],
                user=who,
                group=group,
                extra_groups=None if who is None else [],
                env=self.cluster.environment,
                stdout=log,
                stderr=log,
            ) as server,
        ):
            seconds = self.run_beside(server.pid, lambda: time.sleep(0.1))
            server.send_signal(2)
            server.wait()
        return Cost(seconds)

    def recorded(self, folder: Path) -> Cost:
        """The same of a recording."""
        self.cluster.log.unlink(missing_ok=True)
        recording = Recording(
            self.cluster.server(),
            folder,
            user=self.user,
            environment=self.cluster.environment,
            said=self.cluster.log,
        )
        with recording:
            own = user(resource.RUSAGE_SELF)
            command = recording.pid
            seconds = self.run_beside(command, lambda: time.sleep(0.1))
            cost = Cost(seconds, user(resource.RUSAGE_SELF) - own)
        note(cost, recording)
        return cost


def server_time(pid: int) -> float:
    """User seconds of a process and of its children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[13])) / os.sysconf("SC_CLK_TCK")


COLUMNS = ("native", "--tool=none", "tool", "recorder", "cachegrind", "none / native",
           "tool / native", "all / native", "all / cachegrind", "bytes an access")  # fmt: skip


def row(name: str, costs: dict[str, Cost], per: int, unit: float) -> str:
    """A line of the table, of ``per`` things."""
    native, none, own, cachegrind = (
        costs[way] for way in ("native", "none", "record", "cachegrind")
    )
    times = (native.program, none.program, own.program, own.recorder, cachegrind.program)
    if not native.program:
        raise SystemExit(f"{name}: natively too short to be measured; take more")
    both = own.program + own.recorder
    ratios = (none.program, own.program, both)
    cells = (
        *(f"{seconds / per * unit:.1f}" for seconds in times),
        *(f"{seconds / native.program:.1f}" for seconds in ratios),
        f"{both / cachegrind.program:.2f}",
        f"{own.bytes / own.accesses:.2f}",
    )
    return f"| {name} | {' | '.join(cells)} |"


def replayed(folder: Path, times: int) -> dict[str, float]:
    """Metrics of a replay under ``private``, in a process of its own."""
    words = [Path(sys.executable).with_name("ptshare"), "run", "--recording", folder]
    words += ["--policy", "private", "--procs", f"x{times}", "--cores", 4, "--json"]
    done = subprocess.run([*map(str, words)], check=True, capture_output=True)
    metrics: dict[str, float] = json.loads(done.stdout)
    return metrics


def replays(folder: Path) -> str:
    """Lines on the replay of PostgreSQL's recording: speed, and memory for 64 processes."""
    streams = read_manifest(folder).streams
    records = sum(stream.accesses + stream.blocks for stream in streams)
    one = replayed(folder, 1)
    clients = len(streams) - 1
    times = -(-64 // clients)
    many = replayed(folder, times)
    beside = many["host.peak_rss_bytes"] - many["pt.bytes"]
    return (
        f"replay: {records / one['host.seconds'] / 1e6:.1f} M records a second"
        f" ({records / 1e6:.1f} M: accesses and blocks)\n"
        f"replay of {1 + clients * times} processes: {beside / 2**20:.0f} MiB beside"
        f" {many['pt.bytes'] / 2**20:.0f} MiB of page tables"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reads", type=int, default=20_000_000)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--transactions", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=1, help="how often")
    options = parser.parse_args()
    print(f"| | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
    for _ in range(options.rounds):
        place = Path(tempfile.mkdtemp(prefix="ptshare-benchmark-"))
        place.chmod(0o755)
        try:
            print(row("a read of the chase, ns", chase(place, options.reads), options.reads, 1e9))
            sys.stdout.flush()
            server = Server(place, options.clients, options.transactions)
            if server.user is not None:
                os.chown(server.place, *server.user)
            costs = {
                "native": server.under(()),
                "none": server.under((tool.find().program, *NONE)),
                "record": server.recorded(place / "pg.rec"),
                "cachegrind": server.under((tool.find().program, *CACHEGRIND)),
            }
            count = options.clients * options.transactions
            print(row("a transaction of pgbench -S, us", costs, count, 1e6))
            print(f"\n{replays(place / 'pg.rec')}")
            sys.stdout.flush()
        finally:
            shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
