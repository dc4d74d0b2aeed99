"""``ptshare protect-ways``: three ways to change a protection that many processes use.

One ``mprotect`` on shared tables, a message to each process, a trap on a mismatch in each. The
changes are carried out by ``native/studies/protect_ways.cc`` on the engine's machine and kernel.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptshare_plugin import _core
from ptshare_plugin import policies as all_policies
from ptshare_plugin.common import files, units
from ptshare_plugin.common.errors import EXIT_USAGE, UserError, nearest
from ptshare_plugin.machine.schema import flatten
from ptshare_plugin.spec.run import MAX_CORES, MAX_PROCS

if TYPE_CHECKING:
    import pandas as pd

    from ptshare_plugin.machine.schema import Machine

WAYS = ("shared", "message", "trap")
"""As ``engine::ProtectWay`` numbers them."""
DIRECTIONS = ("read-only", "read-write")
"""As ``engine::ProtectDirection`` numbers them: to which protection the piece changes."""
TABLE_SUFFIXES, PLOT_SUFFIXES = (".csv", ".parquet"), (".svg", ".pdf")

MEANINGS = {
    "caller_cycles": "until the caller goes on",
    "hold_cycles": "until the last process has the new protection; none: some never get it",
    "work_cycles": "work of all cores for the change: change + touch - baseline",
    "change_cycles": "work of all cores until the change is done",
    "touch_cycles": "work of all cores while every process then touches the piece once",
    "baseline_cycles": "the same touches when nothing was changed",
    "syscalls": "system calls: mprotect, sends, the caller's sleep",
    "messages": "messages sent, the one that wakes the caller included",
    "signals": "signal handlers entered",
    "faults": "page faults beyond those of the baseline",
    "switches": "context switches beyond those of the baseline",
    "walks": "page walks beyond those of the baseline",
    "ipis": "flushes asked of other CPUs",
    "adopted": "processes whose tables have the new protection in the end",
    "stale_hits": "writes that went through right after, though the tables forbid them",
}
"""What each measured column counts; ``*_cycles`` stand as ``*_us`` too."""
_TIMES = ("caller", "hold", "work")
_SHOWN = (
    *(f"{name}_us" for name in _TIMES),
    *(name for name in MEANINGS if not name.endswith("_cycles")),
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured. Sizes in bytes.

    :param procs: numbers of processes, ascending, each 2 to ``MAX_PROCS``.
    :param piece: bytes of the region whose protection changes.
    """

    procs: tuple[int, ...]
    cores: int
    region: int
    piece: int
    ways: tuple[str, ...]
    policies: tuple[str, ...]


def parse(procs: str, cores: int, region: str, piece: str, ways: str, policies: str) -> Setting:
    """Setting from the options' texts; a UserError names the option that is wrong."""
    numbers = []
    for text in procs.split(","):
        if not text.strip().isdecimal() or not 2 <= int(text) <= MAX_PROCS:
            raise _usage(
                f"must be numbers from 2 to {MAX_PROCS}, like 2,8,32",
                option="procs",
                value=procs,
            )
        numbers.append(int(text))
    if not 1 <= cores <= MAX_CORES:
        raise _usage(
            f"must be 1 to {MAX_CORES}",
            option="cores",
            value=cores,
        )
    sizes = {}
    for option, text in (("region", region), ("piece", piece)):
        try:
            sizes[option] = units.parse_size(text)
        except UserError as error:
            raise _usage(
                f"{error}",
                option=option,
            ) from error
    if sizes["region"] == 0 or sizes["region"] % units.PMD_BYTES:
        raise _usage(
            "must be a multiple of 2MiB, and not 0",
            option="region",
            value=region,
        )
    if sizes["piece"] == 0 or sizes["piece"] % units.PAGE_BYTES:
        raise _usage(
            "must be a multiple of 4KiB, and not 0",
            option="piece",
            value=piece,
        )
    if sizes["piece"] > sizes["region"]:
        raise _usage(
            f"must not exceed the region of {region}",
            option="piece",
            value=piece,
        )
    return Setting(
        procs=tuple(sorted(set(numbers))),
        cores=cores,
        region=sizes["region"],
        piece=sizes["piece"],
        ways=_chosen("ways", ways, WAYS),
        policies=_chosen("policy", policies, all_policies.names()),
    )


def _chosen(option: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise _usage(
                f"unknown '{name}'{nearest(name, known)}; there are {', '.join(known)}",
                option=option,
            )
    return tuple(dict.fromkeys(names))


def _usage(message: str, option: str, value: object = None) -> UserError:
    return UserError(message, EXIT_USAGE, option=option, value=value)


class Measurement:
    """Points of one setting on one machine, each measured once.

    :param machine: costs, caches and TLBs.
    """

    def __init__(self, setting: Setting, machine: Machine) -> None:
        """Sort the policies by the ways that they can be measured with.

        Raises UserError when a way has none.
        """
        self.setting = setting
        self._params = flatten(machine)
        self._mhz = machine.cpu.frequency_mhz
        self._points: dict[tuple[str, str, str, int], dict[str, Any]] = {}
        sharing = [p for p in setting.policies if _core.policy_shares_tables(self._params, p)]
        own = [p for p in setting.policies if p not in sharing]
        self.pairs: list[tuple[str, str]] = []
        for way in setting.ways:
            fitting = sharing if way == "shared" else own
            if not fitting:
                kind = (
                    "that shares tables, like ptshare"
                    if way == "shared"
                    else "with tables of each process's own, like private"
                )
                raise _usage(
                    f"way {way} needs a policy {kind}",
                    option="policy",
                    value=",".join(setting.policies),
                )
            self.pairs += [(way, policy) for policy in fitting]

    def point(self, way: str, policy: str, direction: str, procs: int) -> dict[str, Any]:
        """One change: a row with the columns of ``MEANINGS`` and times in microseconds."""
        key = (way, policy, direction, procs)
        if key not in self._points:
            setting = self.setting
            try:
                cost = _core.measure_protect(
                    self._params,
                    policy,
                    procs,
                    setting.cores,
                    setting.region,
                    setting.piece,
                    WAYS.index(way),
                    DIRECTIONS.index(direction),
                )
            except (ValueError, MemoryError) as error:  # refused, or simulated memory is exhausted
                if str(error) == "std::bad_alloc":  # this machine's memory
                    raise
                raise UserError(f"{way}, {policy}, {procs} processes: {error}") from error
            row: dict[str, Any] = {
                "direction": direction,
                "way": way,
                "policy": policy,
                "procs": procs,
                "cores": setting.cores,
                "region_bytes": setting.region,
                "piece_bytes": setting.piece,
            }
            for name in _TIMES:
                cycles = cost[f"{name}_cycles"]
                row[f"{name}_us"] = None if cycles is None else cycles / self._mhz
            self._points[key] = row | cost
        return self._points[key]

    def rows(self) -> list[dict[str, Any]]:
        """All points of the setting, by direction, then way, then number of processes."""
        return [
            self.point(way, policy, direction, procs)
            for direction in DIRECTIONS
            for way, policy in self.pairs
            for procs in self.setting.procs
        ]

    def crossovers(self) -> list[dict[str, Any]]:
        """From how many processes on the shared call beats each other way.

        ``procs`` is the smallest number from which on it is less up to the largest that was
        measured, found between measured points by bisection, by running; 0: never. ``reason`` tells
        when there is nothing to compare.
        """
        found = []
        for direction in DIRECTIONS:
            for _, ours in (pair for pair in self.pairs if pair[0] == "shared"):
                for way, policy in (pair for pair in self.pairs if pair[0] != "shared"):
                    for figure in ("work", "hold"):
                        found.append(
                            {
                                "direction": direction,
                                "figure": figure,
                                "shared": ours,
                                "way": way,
                                "policy": policy,
                            }
                            | self._crossover(direction, figure, ours, way, policy)
                        )
        return found

    def _crossover(
        self, direction: str, figure: str, ours: str, way: str, policy: str
    ) -> dict[str, Any]:
        column = f"{figure}_cycles"

        def pair(procs: int) -> tuple[dict[str, Any], dict[str, Any]]:
            return (
                self.point("shared", ours, direction, procs),
                self.point(way, policy, direction, procs),
            )

        last = pair(self.setting.procs[-1])
        for row in last:
            if row["hold_cycles"] is None:
                missed = row["adopted"] < row["procs"]
                why = "does not reach all processes" if missed else "leaves stale translations"
                return {"procs": None, "reason": f"{row['way']} ({row['policy']}) {why}"}

        def less(procs: int) -> bool:
            left, right = pair(procs)
            return bool(left[column] < right[column])

        # Costs bend where every core runs a process: a point of its own, whoever asked for it.
        asked, cores = self.setting.procs, self.setting.cores
        points = sorted({*asked, *([cores] if asked[0] < cores < asked[-1] else [])})
        return {"procs": first_from(points, less), "reason": ""}


def first_from(points: Sequence[int], holds: Callable[[int], bool]) -> int:
    """Smallest number from which on ``holds`` is true up to the last of ``points``; 0: none.

    Between two points it changes once at most, as costs do that grow evenly.
    """
    high = 0
    for low in reversed(points):
        if holds(low):
            high = low
            continue
        if high == 0:
            return 0
        while high - low > 1:
            middle = (low + high) // 2
            if holds(middle):
                high = middle
            else:
                low = middle
        return high
    return high


def sentence(item: dict[str, Any], points: Sequence[int]) -> str:
    """One crossover as one line."""
    what = {"work": "work of all cores", "hold": "time until all have it"}[item["figure"]]
    head = f"To {item['direction']}, {what}: shared ({item['shared']})"
    other = f"{item['way']} ({item['policy']})"
    if item["procs"] is None:
        return f"{head} against {other}: not comparable, {item['reason']}"
    if item["procs"] == 0:
        return f"{head} does not beat {other} at {points[-1]} processes"
    return f"{head} beats {other} from {item['procs']} processes on"


def check_output(path: Path, suffixes: Sequence[str], option: str, force: bool) -> None:
    """Refuse, before long work, a file that could not be written after it."""
    if path.suffix not in suffixes:
        raise _usage(
            f"must end with {' or '.join(suffixes)}",
            option=option,
            value=path,
        )
    files.refuse(path, force, option)


def frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a tidy frame, a row a point; what does not exist is missing."""
    import pandas as pd

    table = pd.DataFrame(list(rows))
    table["hold_cycles"] = table["hold_cycles"].astype("Int64")
    table["hold_us"] = table["hold_us"].astype("float64")
    return table


def write(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write all columns as CSV or Parquet, by the file's ending."""
    table = frame(rows)
    with files.replacing(path) as partial:
        if path.suffix == ".csv":
            table.to_csv(partial, index=False, lineterminator="\n")
        else:
            table.to_parquet(partial, index=False)


def print_tables(measurement: Measurement, rows: Sequence[dict[str, Any]], preset: str) -> None:
    """Print what is measured, a table for each direction, and the crossovers."""
    from ptshare_plugin.show import terminal

    setting = measurement.setting
    out = terminal.console()
    out.print(
        f"Protection of {units.exact_size(setting.piece)} of a region of "
        f"{units.exact_size(setting.region)} on {setting.cores} cores, preset {preset}; "
        "times in us, work summed over cores"
    )
    for direction in DIRECTIONS:
        out.print()
        out.print(f"To {direction}")
        terminal.print_blocks(
            out,
            ["way", "policy", "procs", *(name.replace("_", " ") for name in _SHOWN)],
            [
                [
                    row["way"],
                    row["policy"],
                    str(row["procs"]),
                    *(_shown(name, row[name]) for name in _SHOWN),
                ]
                for row in rows
                if row["direction"] == direction
            ],
            fixed=3,
        )
    lines = [sentence(item, setting.procs) for item in measurement.crossovers()]
    if lines:
        out.print()
    for line in lines:
        out.print(line, soft_wrap=True)


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "never"
    return f"{value:,.1f}" if name.endswith("_us") else f"{value:,}"


def print_json(measurement: Measurement, rows: Sequence[dict[str, Any]]) -> None:
    """Print ``{"points": [...], "crossovers": [...]}``."""
    whole = {"points": rows, "crossovers": measurement.crossovers()}
    sys.stdout.write(json.dumps(whole, indent=1) + "\n")


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw time until all have it and work against processes, for both directions."""
    import matplotlib

    matplotlib.use("svg" if path.suffix == ".svg" else "pdf")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 7), sharex=True, squeeze=False)
    titles = {"hold_us": "time until all have it (us)", "work_us": "work of all cores (us)"}
    series = list(dict.fromkeys((row["way"], row["policy"]) for row in rows))
    for across, direction in enumerate(DIRECTIONS):
        for down, (column, title) in enumerate(titles.items()):
            panel = axes[down][across]
            for way, policy in series:
                points = [
                    (row["procs"], row[column])
                    for row in rows
                    if (row["way"], row["policy"], row["direction"]) == (way, policy, direction)
                    # A change that some never get has no cost to compare.
                    and row["hold_us"] is not None
                ]
                if points:
                    panel.plot(
                        *zip(*points, strict=True), marker="o", ms=4, label=f"{way}, {policy}"
                    )
            panel.set(xscale="log", yscale="log", ylabel=title)
            panel.set_title(f"to {direction}", fontsize=10)
            panel.grid(linewidth=0.3)
            panel.legend(fontsize=8, frameon=False)
            if down:
                panel.set_xlabel("processes")
    stamp = {"Date": None} if path.suffix == ".svg" else {"CreationDate": None}
    with (
        files.replacing(path) as partial,
        pyplot.rc_context({"svg.hashsalt": "ptshare", "svg.fonttype": "none"}),
    ):
        figure.savefig(partial, format=path.suffix[1:], bbox_inches="tight", metadata=stamp)
    pyplot.close(figure)
