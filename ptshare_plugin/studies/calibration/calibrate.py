"""``ptshare calibrate``: what the kernel of this machine takes, as a preset for the engines."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ptshare_plugin import __version__
from ptshare_plugin.common import files, progress, units
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.engines.linux import proc
from ptshare_plugin.engines.linux.helpers import helper
from ptshare_plugin.machine import config
from ptshare_plugin.machine.schema import KEYS, Value, flatten
from ptshare_plugin.show import terminal
from ptshare_plugin.studies.calibration import rules
from ptshare_plugin.studies.calibration.rules import Found
from ptshare_plugin.studies.calibration.timings import Measured, NotMeasured, Series, measure

BASE = "server"
NOISY = 50
"""Spread, in per cent, from which on a key is warned about."""

MIB = 1 << 20
_SYS = Path("/sys/devices/system/cpu/cpu0/cache")
_THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")

# Groups of figures, each a subcommand of linux/measure.c, and what each figure is.
GROUPS: dict[str, dict[str, str]] = {
    "clock": {"add": "an addition that needs the one before: one cycle"},
    "syscall": {"syscall": "getppid"},
    "map": {
        "mmap": "mmap of one anonymous page",
        "madvise": "madvise(MADV_DONTNEED) of one page never touched",
        "munmap": "munmap of one page never touched",
        "munmap_anon": "munmap of so many touched anonymous pages",
        "munmap_file": "munmap of so many mapped pages of a tmpfs file",
    },
    "protect": {
        "mprotect_absent": "mprotect of one page never touched",
        "mprotect_grant": "mprotect PROT_NONE to PROT_READ of so many pages: no flush",
        "mprotect_drop": "mprotect PROT_READ to PROT_NONE of so many pages: flushes",
    },
    "anon": {
        "anon_touch": "first write to an anonymous page",
        "zero_page_touch": "first read of an anonymous page (the zero page)",
    },
    "file": {
        "fault_around_pages": "pages that a read fault on a file maps (a number, no time)",
        "file_touch": "first read of a cached tmpfs page, without fault-around",
        "file_write_touch": "first write to a cached tmpfs page (never with fault-around)",
        "file_window_touch": "first read of a cached tmpfs page, with fault-around",
    },
    "cow": {
        "cow_touch": "write to a page that a living child shares",
        "cow_absent_touch": "first write to a private mapping of a cached file page",
    },
    "write-protect": {
        "reuse_touch": "first write to a page that an exited child had shared",
        "mkwrite_touch": "first write to a shared page of the file system at hand, read before",
        "mprotect_shared_touch": "write to a shared tmpfs page after mprotect R, then RW",
        "mprotect_private_touch": "write to a private page after mprotect R, then RW",
    },
    "table": {
        "touch_new_table": "first write in a 2 MiB chunk that has no table",
        "touch_old_table": "first write in a 2 MiB chunk that has one",
        "table_scan": "scan of an empty table by madvise",
        "munmap_table": "munmap of an empty table, scan included",
    },
    "shootdown": {
        "drop_cpus": "mprotect that flushes one page, against so many other CPUs",
        "grant_cpus": "mprotect that flushes nothing, against so many other CPUs",
        "munmap_cpus": "munmap of one touched page, against so many other CPUs",
        "receive": "time that each flush of one page takes from another CPU",
    },
    "fork": {
        "fork": "fork with so many touched anonymous pages more",
        "exit": "exit of that child to the return of waitpid",
        "fork_tables": "page tables of that child (a number, no time)",
    },
    "exec": {"exec": "execve of a small static program to its main"},
    "switch": {
        "pipe_switch": "write, switch and read between two processes on one CPU",
        "pipe_alone": "the same calls by one process",
    },
    "translation": {
        "chase_4k": "a dependent load from each 4 KiB of so many KiB, on 4 KiB pages",
        "chase_2m": "the same lines on 2 MiB pages",
    },
    "cache": {"cache": "a dependent load from each line of so many KiB, on 2 MiB pages"},
}
_CHASES = ("translation", "cache")
# Processes and repeats of each, by whether it is quick and a chase. Several processes, because
# where its memory came to lie can make all repeats of one slower.
_REPEATS = {
    (False, False): (5, 21),
    (False, True): (3, 5),
    (True, False): (1, 9),
    (True, True): (1, 3),
}
_NO_TIMES = ("fault_around_pages", "fork_tables")
# Of a figure that is taken at many numbers, those that the table for people shows.
_SHOWN = {
    "munmap_anon": (64, 512),
    "munmap_file": (64, 512),
    "fork_tables": (0, 16384),
    "mprotect_grant": (1, 33, 34, 512),
    "mprotect_drop": (1, 33, 34, 512),
    "chase_4k": (),
    "chase_2m": (),
    "cache": (),
}


@dataclass(frozen=True, slots=True)
class Result:
    """One calibration.

    :param machine: what was measured on; a description by title.
    :param base: flat values of the base preset.
    """

    machine: dict[str, str]
    measured: Measured
    keys: dict[str, Found]
    base: dict[str, Value]


def calibrate(output: str | None, force: bool, quick: bool, as_json: bool) -> None:
    """Measure, write the preset to ``output`` and print.

    :param quick: few repeats and small regions; for tests.
    """
    require_machine()
    path = None if output is None else Path(os.path.abspath(output))
    if path is not None:
        files.refuse(path, force)
    result = run(quick, Path.cwd() if path is None else path.parent)
    if path is not None:
        with files.replacing(path) as draft:
            draft.write_text(preset(result), encoding="utf-8")
            config.load(str(draft))  # before it takes the place of another
            files.refuse(path, force)
    if as_json:
        sys.stdout.write(json.dumps(document(result), indent=1) + "\n")
    else:
        show(result)
        if output is not None:
            name = output if "/" in output else f"./{output}"
            sys.stdout.write(f"\nWritten to {output}: ptshare run scan --preset {name}\n")
    noisy = noisy_keys(result)
    if noisy:
        sys.stderr.write(
            f"ptshare: warning: {', '.join(noisy)} spread by more than {NOISY} %: measure again "
            "when the machine is quiet\n"
        )


def require_machine() -> None:
    """Refuse what the timed loops are not for."""
    machine = f"{platform.system()} {platform.machine()}"
    if machine != "Linux x86_64":
        raise UserError(f"calibrate measures the kernel of Linux x86_64; this is {machine}")


def run(quick: bool, folder: Path) -> Result:
    """Measure everything.

    :param folder: whose file system is asked what it does on a write to a shared page.
    """
    machine = _machine()  # before, as its load is in it
    measured, program, size = Measured(), helper("measure"), _chase_bytes(quick)
    for group, names in GROUPS.items():
        processes, repeats = _REPEATS[quick, group in _CHASES]
        lines: list[str] = []
        with progress.show(f"calibrate: {group}") as report:
            try:
                for _ in range(processes):
                    lines += measure(program, group, repeats, size, folder, partial(report, 0, 0))
                measured.add(lines)
            except NotMeasured as error:
                measured.reasons |= dict.fromkeys(names, str(error))
    base = flatten(config.load(BASE))
    keys = rules.derive(measured, base, _cache_bytes())
    return Result(machine, measured, keys, base)


def _chase_bytes(quick: bool) -> int:
    """Largest region of a chase: a power of two, at most a quarter of what is available."""
    limit = (64 if quick else 1024) * MIB
    room = proc.available() // 4
    while limit > room and limit > 2 * MIB:
        limit //= 2
    return limit


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _cache_bytes() -> dict[str, int]:
    """Capacity of l1d, l2 and llc, of those that the kernel reports."""
    names = {"1": "l1d", "2": "l2", "3": "llc"}
    found = {}
    for index in sorted(_SYS.glob("index*")):
        level, size = names.get(_text(index / "level")), _text(index / "size")
        if level and size and _text(index / "type") in ("Data", "Unified"):
            found[level] = units.parse_size(size)
    return found


def _machine() -> dict[str, str]:
    hypervisor = "hypervisor" in proc.cpuinfo("flags").split()
    caches = ", ".join(f"{name} {units.exact_size(size)}" for name, size in _cache_bytes().items())
    return {
        "kernel": f"{platform.system()} {platform.release()}",
        "CPU": proc.cpuinfo("model name") or "unknown",
        "CPUs used": str(len(os.sched_getaffinity(0))),
        "caches": caches or "not reported",
        "clock by /proc/cpuinfo": f"{proc.cpuinfo('cpu MHz') or 'unknown'} MHz",
        "virtualised": "yes" if hypervisor else "no",
        "page size": units.exact_size(os.sysconf("SC_PAGE_SIZE")),
        "transparent huge pages": _text(_THP) or "none",
        "load average before": f"{os.getloadavg()[0]:.1f}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "ptshare": __version__,
    }


def noisy_keys(result: Result) -> list[str]:
    """Keys whose repeats spread by more than ``NOISY`` per cent."""
    spreads = {name: found.series.spread for name, found in result.keys.items() if found.series}
    return [name for name, spread in spreads.items() if spread is not None and spread > NOISY]


# ---- The preset


def preset(result: Result) -> str:
    """The TOML file: a head, a table for each section, and what stays the base's and why."""
    machine = result.machine
    lines = ["# Measured by ptshare calibrate; docs/calibration.md of ptshare says how.", "#"]
    lines += [f"#   {title}: {_one_line(text)}" for title, text in machine.items()]
    lines += [
        "#",
        *_comment(
            "Each figure is the median of its repeats; IQR is their interquartile range in per "
            "cent of it. Cycles are those of cpu.frequency_mhz. Keys that are not set here are "
            f"those of the base, in its cycles (of {result.base['cpu.frequency_mhz']} MHz)."
        ),
        "",
        f'base = "{BASE}"',
        "description = "
        + _quoted(
            f"Measured: {machine['CPU']}, {machine['kernel']}, {machine['date']}; the rest "
            f"as {BASE}"
        ),
    ]
    sections: dict[str, list[Found]] = {}  # a table may be opened once only
    for found in result.keys.values():
        if found.value is not None:
            sections.setdefault(found.key.rpartition(".")[0], []).append(found)
    for section, keys in sections.items():
        lines += ["", f"[{section}]"]
        for found in keys:
            name = found.key.removeprefix(section + ".")
            lines += [*_comment(found.what), f"{name} = {found.value}{_provenance(found)}"]
    left = [found for found in result.keys.values() if found.value is None]
    if left:
        lines += ["", *_comment("Left to the base:")]
    for found in left:
        lines += _comment(f"{found.key} = {result.base[found.key]}: {found.reason}")
    return "\n".join(lines) + "\n"


def _provenance(found: Found) -> str:
    if found.series is None:
        return ""
    return (
        f"  # {_ns(found.series)} ns, {_spread(found.series)}, {len(found.series.values)} repeats"
    )


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 98)]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _quoted(text: str) -> str:
    # What JSON escapes, TOML's basic strings escape likewise.
    return json.dumps(_one_line(text), ensure_ascii=True)


def _ns(series: Series) -> str:
    median = series.median
    return f"{median:,.0f}" if abs(median) >= 1000 else f"{median:.4g}"


def _spread(series: Series) -> str:
    return "no spread" if series.spread is None else f"IQR {series.spread:.1f} %"


# ---- For programs


def document(result: Result) -> dict[str, Any]:
    """Everything, for ``--json``: medians, spreads and all repeats in nanoseconds."""
    measured = result.measured
    figures = {}
    for group, names in GROUPS.items():
        for name, what in names.items():
            entry: dict[str, Any] = {"group": group, "what": what}
            if name in measured.plain:
                entry |= _numbers(measured.plain[name])
            elif name in measured.numbered:
                entry["by_number"] = {
                    str(number): _numbers(series)
                    for number, series in measured.numbered[name].items()
                }
            else:
                entry["not_measured"] = measured.reason(name)
            figures[name] = entry
    return {
        "machine": result.machine,
        "base": BASE,
        "keys": {
            found.key: {
                "value": found.value,
                "unit": KEYS[found.key].unit,
                "base": result.base[found.key],
                "what": found.what,
                **({} if found.series is None else _numbers(found.series)),
                **({"left_to_base": found.reason} if found.value is None else {}),
            }
            for found in result.keys.values()
        },
        "figures": figures,
    }


def _numbers(series: Series) -> dict[str, Any]:
    return {
        "median_ns": series.median,
        "spread_percent": series.spread,
        "repeats": len(series.values),
        "values_ns": list(series.values),
    }


# ---- For people


def show(result: Result) -> None:
    """Print what was measured, the keys made of it, and the pointer chase."""
    out = terminal.console()
    terminal.print_words(out, ["", ""], [[title, text] for title, text in result.machine.items()])
    out.print("\nMeasured: medians, and the interquartile range in per cent of them\n")
    terminal.print_words(
        out,
        ["figure", "ns", "spread", "repeats", "what it is"],
        list(_figure_lines(result.measured)),
        right=(1, 2, 3),
    )
    out.print(f"\nKeys of the preset, in cycles of {_clock(result)} MHz where they are times\n")
    terminal.print_words(
        out,
        ["key", "value", "ns", "spread", BASE, "how"],
        [
            [
                found.key,
                str(found.value),
                "-" if found.series is None else _ns(found.series),
                "-" if found.series is None else _percent(found.series),
                str(result.base[found.key]),
                found.what,
            ]
            for found in result.keys.values()
            if found.value is not None
        ],
        right=(1, 2, 3, 4),
    )
    out.print(f"\nThe cheapest fault, cost.fault.entry: {rules.cheapest_fault(result.measured)}")
    left = [found for found in result.keys.values() if found.value is None]
    if left:
        out.print("\nLeft to the base\n")
        terminal.print_words(
            out,
            ["key", BASE, "why"],
            [[found.key, str(result.base[found.key]), found.reason] for found in left],
            right=(1,),
        )
    chases = list(_chase_lines(result.measured))
    if chases:
        out.print("\nA dependent load, ns: one from each 4 KiB of a region, and every line\n")
        terminal.print_words(
            out,
            ["region", "4 KiB pages", "2 MiB pages", "translation", "every line, 2 MiB pages"],
            chases,
            right=range(1, 5),
        )
    for name in ("chase_2m", "cache"):
        if name not in result.measured.numbered:
            out.print(f"\n{GROUPS_OF[name]}: {result.measured.reason(name)}")


GROUPS_OF = {name: text for names in GROUPS.values() for name, text in names.items()}


def _clock(result: Result) -> Value:
    found = result.keys["cpu.frequency_mhz"].value
    return result.base["cpu.frequency_mhz"] if found is None else found


def _percent(series: Series) -> str:
    return "-" if series.spread is None else f"{series.spread:.1f} %"


def _figure_lines(measured: Measured) -> Iterator[list[str]]:
    for name, what in GROUPS_OF.items():
        if name in measured.plain:
            yield _figure_line(name, measured.plain[name], name, what)
        elif name in measured.numbered:
            sizes = measured.numbered[name]
            for number in _SHOWN.get(name, tuple(sizes)):
                if number in sizes:
                    yield _figure_line(name, sizes[number], f"{name} {number}", what)
        else:
            yield [name, "-", "-", "-", f"{what}: {measured.reason(name)}"]


def _figure_line(name: str, series: Series, title: str, what: str) -> list[str]:
    figure = f"({series.median:.0f})" if name in _NO_TIMES else _ns(series)
    return [title, figure, _percent(series), str(len(series.values)), what]


def _chase_lines(measured: Measured) -> Iterator[list[str]]:
    small, huge, dense = (
        measured.numbered.get(name, {}) for name in ("chase_4k", "chase_2m", "cache")
    )
    for kib in sorted({*small, *huge, *dense}):
        both = kib in small and kib in huge
        yield [
            units.exact_size(1024 * kib),
            *(f"{of[kib].median:.2f}" if kib in of else "-" for of in (small, huge)),
            f"{small[kib].median - huge[kib].median:.2f}" if both else "-",
            f"{dense[kib].median:.2f}" if kib in dense else "-",
        ]
