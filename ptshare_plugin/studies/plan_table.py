"""What ``ptshare plan`` prints."""

from __future__ import annotations

from typing import Any

from ptshare_plugin.common.units import exact_size, short_value
from ptshare_plugin.metrics.vocabulary import MINOR_FAULTS, PTE_LEVELS
from ptshare_plugin.studies.plan import Plan


def print_plan(plan: Plan, rows: dict[str, dict[str, Any]]) -> None:
    """Print what was asked and every figure, a column a policy."""
    from ptshare_plugin.show import terminal

    out = terminal.console()
    pattern = plan.pattern
    pages = f"{pattern.pages:,} pages"
    touched = {
        "all": "every page",
        "fraction": f"the first {pages}",
        "spread": f"{pages} at even distances",
        "zipf": f"the pages of {pattern.visits:,} zipf visits",
    }[pattern.kind]
    kept = "all of it" if plan.resident == "all" else "what is touched"
    out.print(
        f"{plan.procs:,} clients map a file of {exact_size(plan.region)}, each"
        f" {'writes' if plan.write else 'reads'} {touched}; {exact_size(plan.memory)} of memory,"
        f" with {kept} in the page cache"
    )
    out.print(
        f"Beside the region each client has {exact_size(plan.own_tables)} of page tables"
        f" (--own-tables) and {exact_size(plan.own_memory)} of memory (--own-memory) of its own."
    )
    out.print("Left out: what the kernel and everything else on the machine need.")
    for title, lines in _sections(plan, rows):
        out.print()
        terminal.print_blocks(out, [title, *rows], lines, 1)


def _sections(plan: Plan, rows: dict[str, dict[str, Any]]) -> list[tuple[str, list[list[str]]]]:
    def line(text: str, name: str, unit: str) -> list[list[str]]:
        values = [row.get(name) for row in rows.values()]
        return [[text, *(short_value(value, unit) for value in values)]] if any(values) else []

    levels = [
        line(f"{words} {level.upper()}", f"pt.bytes.{owner}.{level}", "bytes")
        for owner, words in (("guest", "region, clients':"), ("host", "region, hosts':"))
        for level in PTE_LEVELS
    ]
    totals = [
        line("all", "pt.bytes.total", "bytes"),
        line("saved against private", "pt.saved_bytes", "bytes"),
        line("clients' own", "pt.bytes.own", "bytes"),
        line("region", "pt.bytes", "bytes"),
    ]
    memory = [
        [
            "clients that fit",
            *(
                f"{row['memory.clients']:,}" if row["memory.runs_out"] else f"all {plan.procs:,}"
                for row in rows.values()
            ),
        ],
        [
            "memory left then",
            *(short_value(row["memory.left_bytes"], "bytes") for row in rows.values()),
        ],
        [
            f"of the region, {plan.procs:,} clients can touch",
            *(short_value(row["coverage.ratio"], "ratio") for row in rows.values()),
        ],
    ]
    faults = [
        line(f"fault.{kind}", f"fault.{kind}", "count")
        for kind in ("total", *MINOR_FAULTS, "linked", "around_pages")
    ]
    mprotect = [
        line(f"{words}: {text}", f"mprotect.{way}.{name}", "count")
        for way, words in (("one", "one call"), ("each", "a call each"))
        for name, text in (
            ("reached", "clients reached"),
            ("ptes_changed", "entries changed"),
            ("interrupts", "CPUs interrupted"),
        )
        if f"mprotect.{way}.{name}" in next(iter(rows.values()))
    ]
    mhz = plan.machine.cpu.frequency_mhz
    times = []
    for way, words in (("one", "one call"), ("each", "a call each")):
        cycles = [
            row[f"mprotect.{way}.cycles"] + row[f"mprotect.{way}.cycles_other"]
            for row in rows.values()
        ]
        times.append([f"{words}: CPU time, ms", *(f"{c / mhz / 1e3:,.3f}" for c in cycles)])
    fault_time = [
        [
            "CPU time of faults, s",
            *(f"{row['fault.cycles'] / mhz / 1e6:,.3f}" for row in rows.values()),
        ]
    ]
    return [
        ("page tables", [*_flat(totals), *_flat(levels)]),
        ("memory", memory),
        ("page faults", [*_flat(faults), *fault_time]),
        ("mprotect of the region", [*_flat(mprotect), *times]),
    ]


def _flat(groups: list[list[list[str]]]) -> list[list[str]]:
    return [line for group in groups for line in group]
