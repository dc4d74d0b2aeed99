"""Every raw metric: the only place that states its unit, scope, aggregation and meaning.

The engines deliver them by these names; an engine that delivers another name is refused. Those of
``PROCESS`` get a ``roi.`` twin. ``derived.py`` has what is computed from them.

To add a metric: write its row here, or in ``derived.py``, and have it counted where it happens,

- one of a process in ``PTSHARE_COUNTERS`` of ``native/accounting/counters.h``: for both engines;
- one of the machine that core knows in ``native/accounting/kernel_metrics.cc``: for both;
- one of the embedded engine's cores and clocks in ``native/machine/machine_metrics.cc``.

Runs, frames, gem5's ``stats.txt`` and the documentation have it then, with the unit and meaning of
its row, once what is generated from the rows is written again::

    python -m ptshare_plugin.metrics.native > ptshare_plugin/native/accounting/metric_rows.inc
    python -m ptshare_plugin.metrics.registry > docs/metrics.md

C++ that counts what has no row does not compile, and ``tests/unit/test_metrics.py`` fails on a row
that nothing counts and on files that were not written again.
"""

from __future__ import annotations

from ptshare_plugin.metrics.metric import Metric, counted, host, machine

PTE_LEVELS = ("pte", "pmd", "pud", "p4d", "pgd")
PLACES = ("l1", "l2", "llc", "dram")
CACHES = PLACES[:-1]
PLACE_NAMES = {
    "l1": "the L1 cache",
    "l2": "the L2 cache",
    "llc": "the LLC or another core's cache",
    "dram": "memory",
}
TLBS = {
    "itlb": "the first-level instruction TLB",
    "dtlb": "the first-level data TLB",
    "stlb": "the second-level TLB",
}
COUNTED_CACHES = {
    "l1i": "the L1 instruction cache",
    "l1d": "the L1 data cache, the walker's included",
    "l2": "the L2 cache",
    "llc": "the last-level cache",
}
REFUSALS = ("anonymous", "private", "misaligned", "address", "protection", "size", "room")
WALK_LATENCIES = (0, *(4 << i for i in range(1, 10)))
"""Where each range of cycles of ``walk.latency`` begins; the last one has no end."""

_MINOR_FAULTS = {
    "link": "Faults that only set a guest's PMD entry to a host's table",
    "host": "Faults that mapped a file page in a host mm (and set the PMD entry, if need be)",
    "file": "Faults that mapped a file page in the process's own table",
    "anon": "Faults that mapped a new anonymous page",
    "cow": "Faults that copied a page on write",
    "write_protect": "Faults that made a present shared page writable",
    "spurious": "Faults that the table, filled meanwhile, permitted",
}
_FATAL_FAULTS = {
    "segv": "Faults that ended in SIGSEGV",
    "bus": "Faults that ended in SIGBUS",
}
MINOR_FAULTS = tuple(_MINOR_FAULTS)
FATAL_FAULTS = tuple(_FATAL_FAULTS)
_CYCLE_STACK = {
    "base": "Instructions at the base CPI, L1 hits included",
    "fetch": "Instruction fetches beyond L1 hits",
    "tlb": "Second-level TLB look-ups",
    "walk": "Waiting for page walks",
    "data": "Data accesses beyond L1 hits",
    "fault": "Page faults in the kernel",
    "syscall": "System calls, process start and exit",
    "shootdown": "TLB flushes, asked for and received",
    "switch": "Switches between processes",
}
CYCLE_STACK = tuple(_CYCLE_STACK)

# Counted for each process.
PROCESS: list[Metric] = [
    counted("instructions", "count", "core", "Instructions completed"),
    counted("access.reads", "count", "core", "Data reads; one that crosses a page counts twice"),
    counted("access.writes", "count", "core", "Data writes; one that crosses a page counts twice"),
    counted(
        "access.fetches", "count", "core", "Instruction fetches that went to the instruction TLB"
    ),
    *(
        metric
        for tlb, what in TLBS.items()
        for metric in (
            counted(f"tlb.{tlb}.accesses", "count", tlb, f"Look-ups in {what}"),
            counted(f"tlb.{tlb}.misses", "count", tlb, f"Look-ups in {what} that found nothing"),
        )
    ),
    counted("walk.data", "count", "walker", "Page walks started by data accesses"),
    counted("walk.fetch", "count", "walker", "Page walks started by instruction fetches"),
    counted("walk.faulted", "count", "walker", "Page walks that ended in a page fault"),
    counted("walk.dirty_assists", "count", "walker", "Walks made only to set a dirty bit"),
    counted("walk.cycles", "cycles", "walker", "Time from the start to the end of walks"),
    counted("walk.stores", "count", "walker", "Entries in which walks set the A or the D bit"),
    *(
        counted(
            f"walk.latency.from_{low}",
            "count",
            "walker",
            f"Walks, dirty assists included, that took {low} "
            + ("cycles and more" if high is None else f"to {high - 1} cycles"),
        )
        for low, high in zip(WALK_LATENCIES, (*WALK_LATENCIES[1:], None), strict=True)
    ),
    counted("walk_cache.pmd.hits", "count", "walk_cache", "Walks that began at the PTE"),
    counted("walk_cache.pud.hits", "count", "walk_cache", "Walks that began at the PMD entry"),
    counted("walk_cache.p4d.hits", "count", "walk_cache", "Walks that began at the PUD entry"),
    counted(
        "walk_cache.pgd.hits", "count", "walk_cache", "Walks that began just below the PGD entry"
    ),
    counted("walk_cache.misses", "count", "walk_cache", "Walks that began at the PGD"),
    *(
        metric
        for cache, what in COUNTED_CACHES.items()
        for metric in (
            counted(f"cache.{cache}.accesses", "count", cache, f"Accesses to {what}"),
            counted(f"cache.{cache}.misses", "count", cache, f"Accesses not served by {what}"),
        )
    ),
    counted("cache.transfers", "count", "llc", "Lines fetched from another core's cache"),
    counted("cache.invalidations", "count", "llc", "Copies in other cores that writes invalidated"),
    counted(
        "pte.stores.lines",
        "count",
        "page_tables",
        "Cache lines of page tables that the kernel stored to for this process",
    ),
    counted(
        "pte.stores.transfers",
        "count",
        "page_tables",
        "Of these, lines that another core's cache gave",
    ),
    counted(
        "pte.stores.cycles",
        "cycles",
        "page_tables",
        "Time that these stores waited for lines that the L1 cache lacked or could not write",
    ),
    *(
        counted(f"fault.{kind}", "count", "kernel", meaning)
        for kind, meaning in (_MINOR_FAULTS | _FATAL_FAULTS).items()
    ),
    counted("fault.around_pages", "pages", "kernel", "Further pages that file faults mapped"),
    counted("fault.region.link", "count", "kernel", "Link faults in the shared region"),
    counted(
        "fault.region.page", "count", "kernel", "Faults that mapped a page in the shared region"
    ),
    counted("syscall.count", "count", "kernel", "System calls"),
    counted("syscall.unknown", "count", "kernel", "System calls answered with ENOSYS"),
    counted("sched.switches", "count", "kernel", "Times that a core changed to this process"),
    counted(
        "tlb.stale_hits",
        "count",
        "tlb",
        "Accesses served by a TLB entry with a frame or a right that the tables hold no more",
    ),
    counted(
        "walk_cache.stale_hits",
        "count",
        "walk_cache",
        "Walks that would have begun at a table that the tables above it point at no more",
    ),
    counted("shootdown.requests", "count", "kernel", "TLB flushes asked for by this process"),
    counted("shootdown.ipis", "count", "kernel", "Interrupts sent to other CPUs for its flushes"),
    counted(
        "shootdown.received",
        "count",
        "kernel",
        "Interrupts for TLB flushes that stopped this process",
    ),
    counted("shootdown.flushed_entries", "count", "kernel", "TLB entries that its flushes removed"),
    *(
        counted(
            f"walk.reads.{level}.{place}",
            "count",
            "walker",
            f"{level.upper()} entries read by walks and served by {PLACE_NAMES[place]}",
        )
        for level in PTE_LEVELS
        for place in PLACES
    ),
    *(
        counted(
            f"walk.reads.{level}.{place}.other",
            "count",
            "walker",
            f"Of these {level.upper()} entries from {PLACE_NAMES[place]}, in a line that another "
            "process had brought in from memory",
        )
        for level in PTE_LEVELS
        for place in CACHES
    ),
    *(
        counted(
            f"walk.reads.{level}.transfers",
            "count",
            "walker",
            f"Of the {level.upper()} entries under llc, those in a line that another core's cache "
            "gave",
        )
        for level in PTE_LEVELS
    ),
    *(
        counted(f"cycles.{part}", "cycles", "core", meaning)
        for part, meaning in _CYCLE_STACK.items()
    ),
]

# What each started process has at its first begin mark and its last end mark; no roi. twin.
AT_MARKS: list[Metric] = [
    row
    for mark in ("begin", "end")
    for row in (
        counted(
            f"vm.pte_bytes.{mark}",
            "bytes",
            "page_tables",
            f"Page tables at the {mark} mark as VmPTE counts: without the PGD, those that are "
            "shared for each that links them",
        ),
        counted(
            f"vm.rss_anon_bytes.{mark}",
            "bytes",
            "memory",
            f"Resident anonymous pages at the {mark} mark",
        ),
        counted(
            f"vm.rss_file_bytes.{mark}",
            "bytes",
            "memory",
            f"Resident file pages at the {mark} mark",
        ),
    )
]

# What Linux alone counts: for each process, and of the machine.
LINUX: list[Metric] = [
    counted(
        "fault.major", "count", "kernel", "Faults that waited for input, counted by real Linux"
    ),
    counted("time.user", "seconds", "core", "CPU time in the program, measured by real Linux"),
    counted("time.system", "seconds", "core", "CPU time in the kernel, measured by real Linux"),
]
LINUX_MACHINE: list[Metric] = [
    machine(
        "pt.machine_growth",
        "bytes",
        "page_tables",
        "end",
        "Growth of PageTables of /proc/meminfo from before the start to the end mark: the whole "
        "machine's tables, PGDs included, each counted once",
    ),
]

# Of the machine.
MACHINE: list[Metric] = [
    machine(
        "pt.bytes",
        "bytes",
        "page_tables",
        "peak",
        "Page-table pages in use at their peak, in bytes",
    ),
    *(
        machine(
            f"pt.tables.{level}",
            "tables",
            "page_tables",
            "at peak",
            f"{level.upper()} tables at the peak of pt.bytes",
        )
        for level in PTE_LEVELS
    ),
    machine(
        "pt.bytes.guest",
        "bytes",
        "page_tables",
        "at peak",
        "Page tables owned by processes at the peak of pt.bytes",
    ),
    machine(
        "pt.bytes.host",
        "bytes",
        "page_tables",
        "at peak",
        "Page tables owned by host mms at the peak of pt.bytes",
    ),
    machine(
        "pt.end.bytes",
        "bytes",
        "page_tables",
        "end",
        "Page tables left when the last process is gone; 0 but under rfc-v2, which leaks",
    ),
    machine(
        "pt.region.pte_tables",
        "tables",
        "page_tables",
        "peak",
        "Peak of PTE tables that map memory for which MAP_SHARED_PT was asked",
    ),
    machine(
        "pt.region.bytes",
        "bytes",
        "page_tables",
        "peak",
        "Peak of the bytes of PTE tables that map memory for which MAP_SHARED_PT was asked",
    ),
    machine(
        "pt.tables.allocated",
        "tables",
        "page_tables",
        "sum",
        "Page-table pages allocated in the whole run",
    ),
    machine(
        "pt.tables.freed", "tables", "page_tables", "sum", "Page-table pages freed in the whole run"
    ),
    machine("pt.host_mms", "count", "page_tables", "peak", "Peak of host mms"),
    machine(
        "rss.file_pages.peak",
        "pages",
        "memory",
        "peak",
        "Peak of mapped file pages, added over processes",
    ),
    machine(
        "rss.anon_pages.peak",
        "pages",
        "memory",
        "peak",
        "Peak of anonymous pages, added over processes",
    ),
    machine(
        "frames.page_cache", "pages", "memory", "end", "Page frames in the page cache at the end"
    ),
    machine(
        "frames.end",
        "pages",
        "memory",
        "end",
        "Frames in use at the end beside the page cache; 0 but under rfc-v2",
    ),
    machine("share.links", "count", "kernel", "sum", "Guest PMD entries set to a host's table"),
    machine(
        "share.carried_pages",
        "pages",
        "kernel",
        "sum",
        "Existing PTEs copied into a host mm when made",
    ),
    *(
        machine(
            f"share.refused.{reason}",
            "count",
            "kernel",
            "sum",
            f"MAP_SHARED_PT requests refused: {reason}",
        )
        for reason in REFUSALS
    ),
    machine(
        "share.fell_back",
        "count",
        "kernel",
        "sum",
        "MAP_SHARED_PT requests mapped privately without an error (rfc-v2)",
    ),
    machine(
        "share.dangling_links",
        "count",
        "kernel",
        "sum",
        "Links to tables that were freed while a guest used them (rfc-v2)",
    ),
    machine(
        "share.room_bytes",
        "bytes",
        "kernel",
        "peak",
        "Address space around shared ranges where nothing else can be mapped, as a link translates"
        " that much; peak, summed over processes",
    ),
    machine(
        "shootdown.invalidated_ranges",
        "count",
        "kernel",
        "sum",
        "Ranges that had to leave the TLBs",
    ),
    machine(
        "cycles.idle", "cycles", "core", "sum", "Cores without a process to run, added over cores"
    ),
    machine("cycles.makespan", "cycles", "core", "end", "Clock of the core that finished last"),
]

# About the simulator, not the simulated machine: the only figures that differ between repeats.
HOST: list[Metric] = [
    host("host.seconds", "seconds", "sum", "Wall time of the simulation"),
    host(
        "host.instructions_per_second", "per second", "mean", "Simulated instructions in that time"
    ),
    host("host.accesses_per_second", "per second", "mean", "Simulated data accesses in that time"),
    host(
        "host.peak_rss_bytes",
        "bytes",
        "peak",
        "Peak resident memory of the simulator; on Linux of the largest process",
    ),
]
