"""From what was timed to keys of the machine: one rule for each key.

The engines charge a whole operation as a sum of keys (``native/accounting/costs.cc``), so each rule
takes a time of a whole operation and subtracts the other keys of that sum, as this preset will have
them.
What cannot be told apart stays with the base preset, and the reason is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ptshare_plugin.common.units import PAGE_BYTES
from ptshare_plugin.machine.schema import KEYS, Value
from ptshare_plugin.studies.calibration.timings import (
    Measured,
    NotMeasured,
    Series,
    line,
    paired,
    pooled,
)

FLUSH_CEILING = 33
"""Pages that Linux flushes one by one (tlb_single_page_flush_ceiling); more flush everything."""

_ENTRIES = 512  # of a table
_PLATEAU = 1.1  # latencies of one cache differ by no more, or it is not told apart
_SPLINTERED = 1.25  # a chase that hits L1 takes longer by more: its 2 MiB page misses the TLB
_CACHES = ("cache.l1d.latency", "cache.l2.latency", "cache.llc.latency", "cache.dram_latency")

# Kinds of fault, cheapest first is what decides the entry.
_FAULTS = {
    "zero_page_touch": "first read of an anonymous page, which maps the zero page",
    "reuse_touch": "first write to a page that a process shared with an exited child",
    "file_touch": "first read of a page in the page cache, without fault-around",
    "anon_touch": "first write to an anonymous page",
    "cow_touch": "write to a page that a living child shares",
}


@dataclass(frozen=True, slots=True)
class Found:
    """One key: its value and where it comes from, or why it stays the base's.

    :param series: repeats in nanoseconds (of ``cpu.frequency_mhz``: of one addition), None if none.
    """

    key: str
    value: Value | None
    series: Series | None
    what: str
    reason: str = ""


@dataclass(slots=True)
class Calibration:
    """The keys found so far, and what the rules need to know."""

    measured: Measured
    base: Mapping[str, Value]
    cache_bytes: Mapping[str, int]
    """Capacity of l1d, l2 and llc, as the kernel reports them."""
    found: dict[str, Found] = field(default_factory=dict)

    @property
    def mhz(self) -> int:
        """Clock that turns nanoseconds into cycles."""
        one = self.found.get("cpu.frequency_mhz")
        value = self.base["cpu.frequency_mhz"] if one is None or one.value is None else one.value
        return int(value)

    def used(self, key: str) -> float:
        """Nanoseconds of a cost as the preset will have it: measured, or the base's cycles."""
        one = self.found.get(key)
        if one is not None and one.value is not None and one.series is not None:
            return one.series.median
        return 1000 * float(self.base[key]) / self.mhz


@dataclass(frozen=True, slots=True)
class Rule:
    """How one key is found. ``derive`` gives nanoseconds, or raises NotMeasured."""

    key: str
    what: str
    derive: Callable[[Calibration], Series]


def _entry(c: Calibration) -> Series:
    kinds = [c.measured.plain[name] for name in _FAULTS if name in c.measured.plain]
    if not kinds:
        raise NotMeasured(c.measured.reason("anon_touch"))
    return min(kinds, key=lambda series: series.median)


def _beyond_entry(name: str, *others: str) -> Callable[[Calibration], Series]:
    return lambda c: c.measured.of(name).minus(
        c.used("cost.fault.entry"), *(c.used(other) for other in others)
    )


def _beyond_syscall(name: str) -> Callable[[Calibration], Series]:
    return lambda c: c.measured.of(name).minus(c.used("cost.syscall"))


def _around(c: Calibration) -> Series:
    pages = c.measured.of("fault_around_pages").median
    if pages < 2:
        raise NotMeasured("this kernel's fault-around maps one page")
    alone = c.measured.of("file_touch")
    return paired(c.measured.of("file_window_touch"), alone).over(pages - 1)


def _flushes(c: Calibration) -> dict[int, Series]:
    drop = c.measured.by_number("mprotect_drop", high=FLUSH_CEILING)
    grant = c.measured.by_number("mprotect_grant", high=FLUSH_CEILING)
    return {pages: paired(drop[pages], grant[pages]) for pages in drop}


def _remote(c: Calibration) -> dict[int, Series]:
    """What other CPUs add to a flush of one page, for each number of them."""
    drop, grant = c.measured.by_number("drop_cpus"), c.measured.by_number("grant_cpus")
    flush = {others: paired(drop[others], grant[others]) for others in drop}
    return {others: flush[others].minus(flush[0].median) for others in flush if others}


def _first_cpu(c: Calibration) -> Series:
    remote = _remote(c)
    if 1 not in remote:
        raise NotMeasured(c.measured.reasons.get("drop_cpus", "needs 2 CPUs"))
    return remote[1]


def _next_cpu(c: Calibration) -> Series:
    remote = _remote(c)
    if len(remote) < 2:
        raise NotMeasured("needs 3 CPUs")
    return line(remote)[0]


def _receive(c: Calibration) -> Series:
    if 1 not in c.measured.by_number("drop_cpus"):
        raise NotMeasured(c.measured.reasons.get("drop_cpus", "needs 2 CPUs"))
    own_flush = c.used("cost.shootdown.local"), c.used("cost.flush_page")
    return c.measured.of("receive").minus(*own_flush)


def _table_alloc(c: Calibration) -> Series:
    return paired(c.measured.of("touch_new_table"), c.measured.of("touch_old_table"))


def _table_free(c: Calibration) -> Series:
    return paired(c.measured.of("munmap_table"), c.measured.of("table_scan"))


def _fork_tables(c: Calibration) -> float:
    return c.measured.by_number("fork_tables")[0].median


def _fork(c: Calibration) -> Series:
    small = c.measured.by_number("fork")[0]
    tables = _fork_tables(c) * c.used("cost.table_alloc")
    return small.minus(c.used("cost.syscall"), c.used("cost.shootdown.local"), tables)


def _fork_pte(c: Calibration) -> Series:
    slope, _ = line(c.measured.by_number("fork"))
    return slope.minus(c.used("cost.table_alloc") / _ENTRIES)


def _exit(c: Calibration) -> Series:
    small = c.measured.by_number("exit")[0]
    tables = _fork_tables(c) * c.used("cost.table_free")
    return small.minus(c.used("cost.syscall"), c.used("cost.switch"), tables)


def _cache(level: str) -> Callable[[Calibration], Series]:
    return lambda c: plateau(c.measured, c.cache_bytes, level)


def plateau(measured: Measured, sizes: Mapping[str, int], level: str) -> Series:
    """Latency of one level of the hierarchy, from a chase over every line on 2 MiB pages.

    Regions from twice the level before to a quarter of this level (l1d: to half of it; dram: four
    to sixteen times the last level) are served here. There must be two of them whose medians
    differ by at most a tenth; else NotMeasured.
    """
    order = ("l1d", "l2", "llc")
    missing = [name for name in order if name not in sizes]
    if missing:
        raise NotMeasured(f"the kernel does not report the size of {missing[0]}")
    if level == "dram":
        low, high = 4 * sizes["llc"], 16 * sizes["llc"]
    elif level == "l1d":
        low, high = PAGE_BYTES, sizes["l1d"] // 2
    else:
        low, high = 2 * sizes[order[order.index(level) - 1]], sizes[level] // 4
    if level in ("llc", "dram"):
        _refuse_splintered(measured)
    chase = measured.by_number("cache")
    served = {kib: series for kib, series in chase.items() if low <= 1024 * kib <= high}
    if len(served) < 2:
        raise NotMeasured(f"fewer than two regions of {low >> 10} to {high >> 10} KiB")
    medians = [series.median for series in served.values()]
    if max(medians) > _PLATEAU * min(medians):
        raise NotMeasured(
            f"no plateau: {min(medians):.1f} to {max(medians):.1f} ns in regions of "
            f"{min(served)} to {max(served)} KiB"
        )
    return pooled(served.values())


def _refuse_splintered(measured: Measured) -> None:
    """Refuse when 2 MiB pages miss the TLB like small ones, as under some hypervisors.

    A line from each of 128 pages of 4 KiB fits every L1 data cache, and one 2 MiB entry maps them
    all: more than an L1 hit's time is translation.
    """
    chase = measured.by_number("chase_2m")
    few, many = chase[64].median, chase[512].median
    if many > _SPLINTERED * few:
        raise NotMeasured(
            f"loads that hit L1 take {many:.2f} ns over 512 KiB of a 2 MiB page and {few:.2f} ns "
            "over 64 KiB: it is not translated as one (a hypervisor may map it by smaller ones), "
            "so translation is in the chase's times"
        )


RULES: tuple[Rule, ...] = (
    Rule("cost.syscall", "getppid", lambda c: c.measured.of("syscall")),
    Rule("cost.mmap", "mmap of one anonymous page - cost.syscall", _beyond_syscall("mmap")),
    Rule(
        "cost.munmap", "munmap of one page never touched - cost.syscall", _beyond_syscall("munmap")
    ),
    Rule(
        "cost.mprotect",
        "mprotect of one page never touched - cost.syscall",
        _beyond_syscall("mprotect_absent"),
    ),
    Rule(
        "cost.pte_update",
        "slope of mprotect (PROT_NONE to PROT_READ, which flushes nothing) over 64 to 512 pages",
        lambda c: line(c.measured.by_number("mprotect_grant", low=64))[0],
    ),
    Rule(
        "cost.flush_page",
        "slope over 1 to 33 pages of mprotect PROT_READ to PROT_NONE (flushes) - PROT_NONE to "
        "PROT_READ (does not)",
        lambda c: line(_flushes(c))[0],
    ),
    Rule(
        "cost.shootdown.local",
        "the same difference for one page - cost.flush_page",
        lambda c: _flushes(c)[1].minus(c.used("cost.flush_page")),
    ),
    Rule(
        "cost.shootdown.first_cpu",
        "what a thread that spins on another CPU adds to a flush of one page by mprotect",
        _first_cpu,
    ),
    Rule("cost.shootdown.next_cpu", "slope of the same over more CPUs", _next_cpu),
    Rule(
        "cost.shootdown.receive",
        "time that one flush of one page takes from a thread that spins on another CPU - "
        "cost.shootdown.local - cost.flush_page",
        _receive,
    ),
    Rule(
        "cost.fault.entry",
        "cheapest fault measured; setting its entry is in it, as no fault is without one",
        _entry,
    ),
    Rule(
        "cost.fault.file_page",
        "first read of a page in the page cache, without fault-around - cost.fault.entry",
        _beyond_entry("file_touch"),
    ),
    Rule(
        "cost.fault.around_page",
        "(read fault with the kernel's fault-around - the same without) / further pages mapped",
        _around,
    ),
    Rule(
        "cost.fault.anon_page",
        "first write to an anonymous page - cost.fault.entry",
        _beyond_entry("anon_touch"),
    ),
    Rule(
        "cost.fault.cow_page",
        "write to a page that a living child shares - cost.fault.entry - cost.shootdown.local - "
        "cost.flush_page",
        _beyond_entry("cow_touch", "cost.shootdown.local", "cost.flush_page"),
    ),
    Rule(
        "cost.fault.write_protect",
        "first write to a page that an exited child had shared - cost.fault.entry",
        _beyond_entry("reuse_touch"),
    ),
    Rule(
        "cost.table_alloc",
        "first write in a 2 MiB chunk without a table - in one with a table",
        _table_alloc,
    ),
    Rule(
        "cost.table_free",
        "munmap of empty tables, each - scan of an empty table by madvise",
        _table_free,
    ),
    Rule(
        "cost.fork_pte",
        "slope of fork over 0 to 16384 touched anonymous pages - cost.table_alloc / 512",
        _fork_pte,
    ),
    Rule(
        "cost.fork",
        "fork of a small process - cost.syscall - cost.shootdown.local - its tables x "
        "cost.table_alloc",
        _fork,
    ),
    Rule(
        "cost.exec",
        "execve of a small static program to its main - cost.syscall",
        _beyond_syscall("exec"),
    ),
    Rule(
        "cost.switch",
        "a byte to and fro between two processes on one CPU through pipes, one way - the same "
        "calls by one process",
        lambda c: paired(c.measured.of("pipe_switch"), c.measured.of("pipe_alone")),
    ),
    Rule(
        "cost.exit",
        "exit of a small child to the return of its parent's waitpid - cost.syscall - "
        "cost.switch - its tables x cost.table_free",
        _exit,
    ),
    Rule("cache.l1d.latency", "dependent loads within it", _cache("l1d")),
    Rule("cache.l2.latency", "dependent loads within it, on 2 MiB pages", _cache("l2")),
    Rule("cache.llc.latency", "dependent loads within it, on 2 MiB pages", _cache("llc")),
    Rule(
        "cache.dram_latency",
        "dependent loads over 4 to 16 times the last cache, on 2 MiB pages",
        _cache("dram"),
    ),
)


def _frequency(c: Calibration) -> Found:
    key, what = "cpu.frequency_mhz", "chain of dependent additions, one a cycle"
    try:
        series = c.measured.of("add")
    except NotMeasured as error:
        return Found(key, None, None, what, str(error))
    return Found(key, round(1000 / series.median), series, what)


def _fault_around_bytes(c: Calibration) -> Found:
    key = "kernel.fault_around_bytes"
    what = "pages that a walk over a file in the page cache finds for each fault"
    try:
        pages = c.measured.of("fault_around_pages").median
    except NotMeasured as error:
        return Found(key, None, None, what, str(error))
    value, limits = int(pages) * PAGE_BYTES, KEYS[key]
    assert limits.low is not None and limits.high is not None
    if value & (value - 1) or not limits.low <= value <= limits.high:
        return Found(key, None, None, what, f"{pages:g} pages a fault are no power of two")
    return Found(key, value, None, what)


def _in_cycles(c: Calibration, rule: Rule) -> Found:
    try:
        series = rule.derive(c)
    except NotMeasured as error:
        return Found(rule.key, None, None, rule.what, f"not measured: {error}")
    cycles = round(series.median * c.mhz / 1000)
    if cycles < 0:
        reason = f"not resolved: the difference came out as {series.median:.0f} ns"
        return Found(rule.key, None, None, rule.what, reason)
    return Found(rule.key, cycles, series, rule.what)


def derive(
    measured: Measured, base: Mapping[str, Value], cache_bytes: Mapping[str, int]
) -> dict[str, Found]:
    """All keys that calibration knows, in the order of the schema.

    :param base: flat values of the preset that the others stay with.
    :param cache_bytes: capacity of l1d, l2 and llc.
    """
    c = Calibration(measured, base, cache_bytes)
    for found in (_frequency(c), _fault_around_bytes(c)):
        c.found[found.key] = found
    for rule in RULES:
        c.found[rule.key] = _in_cycles(c, rule)
    _leave_caches_that_do_not_fit(c)
    return {key: c.found[key] for key in KEYS if key in c.found}


def _leave_caches_that_do_not_fit(c: Calibration) -> None:
    """Measured latencies beside the base's must still ascend, as ``config.check`` asks."""
    kept = [c.found[key].value for key in _CACHES]
    merged = [
        int(c.base[key] if value is None else value)
        for key, value in zip(_CACHES, kept, strict=True)
    ]
    if merged == sorted(merged) and int(c.base["cache.l1i.latency"]) <= merged[1]:
        return
    for key in _CACHES:
        if c.found[key].value is not None:
            reason = "not used: out of order beside latencies that stay the base's"
            c.found[key] = Found(key, None, None, c.found[key].what, reason)


def cheapest_fault(measured: Measured) -> str:
    """Which fault ``cost.fault.entry`` is."""
    kinds = {name: measured.plain[name].median for name in _FAULTS if name in measured.plain}
    return _FAULTS[min(kinds, key=kinds.__getitem__)] if kinds else "none"
