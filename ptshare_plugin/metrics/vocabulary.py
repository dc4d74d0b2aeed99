"""Every metric: name, unit, component, meaning and, for derived ones, the formula.

The only list. ``metrics.py`` reads it and gives each per-process metric its ``roi.`` twin; the
engines deliver the raw ones by these names. A test holds the C++ counters equal to this list.
"""

from __future__ import annotations

PTE_LEVELS = ("pte", "pmd", "pud", "p4d", "pgd")
PLACES = ("l1", "l2", "llc", "dram")
CACHES = PLACES[:-1]
PLACE_NAMES = {"l1": "the L1 cache", "l2": "the L2 cache", "llc": "the LLC", "dram": "memory"}
CYCLE_STACK = ("base", "fetch", "tlb", "walk", "data", "fault", "syscall", "shootdown", "switch")
REFUSALS = ("anonymous", "private", "misaligned", "address", "protection", "size", "room")
WALK_LATENCIES = (0, *(4 << i for i in range(1, 10)))
"""Where each range of cycles of ``walk.latency`` begins; the last one has no end."""
MINOR_FAULTS = ("link", "host", "file", "anon", "cow", "write_protect", "spurious")

Row = tuple[str, str, str, str]

# name, unit, component, meaning. Counted for each process, added over processes.
PROCESS: list[Row] = [
    ("instructions", "count", "core", "Instructions completed"),
    ("access.reads", "count", "core", "Data reads; one that crosses a page counts twice"),
    ("access.writes", "count", "core", "Data writes; one that crosses a page counts twice"),
    ("access.fetches", "count", "core", "Instruction fetches that went to the instruction TLB"),
    ("tlb.itlb.accesses", "count", "itlb", "Look-ups in the first-level instruction TLB"),
    ("tlb.itlb.misses", "count", "itlb", "Look-ups that found nothing there"),
    ("tlb.dtlb.accesses", "count", "dtlb", "Look-ups in the first-level data TLB"),
    ("tlb.dtlb.misses", "count", "dtlb", "Look-ups that found nothing there"),
    ("tlb.stlb.accesses", "count", "stlb", "Look-ups in the second-level TLB"),
    ("tlb.stlb.misses", "count", "stlb", "Look-ups that found nothing there"),
    ("walk.data", "count", "walker", "Page walks started by data accesses"),
    ("walk.fetch", "count", "walker", "Page walks started by instruction fetches"),
    ("walk.faulted", "count", "walker", "Page walks that ended in a page fault"),
    ("walk.dirty_assists", "count", "walker", "Walks made only to set a dirty bit"),
    ("walk.cycles", "cycles", "walker", "Time from the start to the end of walks"),
    *(
        (
            f"walk.latency.from_{low}",
            "count",
            "walker",
            f"Walks, dirty assists included, that took {low} "
            + ("cycles and more" if high is None else f"to {high - 1} cycles"),
        )
        for low, high in zip(WALK_LATENCIES, (*WALK_LATENCIES[1:], None), strict=True)
    ),
    ("walk_cache.pmd.hits", "count", "walk_cache", "Walks that began at the PTE"),
    ("walk_cache.pud.hits", "count", "walk_cache", "Walks that began at the PMD entry"),
    ("walk_cache.p4d.hits", "count", "walk_cache", "Walks that began at the PUD entry"),
    ("walk_cache.pgd.hits", "count", "walk_cache", "Walks that began just below the PGD entry"),
    ("walk_cache.misses", "count", "walk_cache", "Walks that began at the PGD"),
    ("cache.l1i.accesses", "count", "l1i", "Accesses to the L1 instruction cache"),
    ("cache.l1i.misses", "count", "l1i", "Of these, not served there"),
    ("cache.l1d.accesses", "count", "l1d", "Accesses to the L1 data cache, the walker's included"),
    ("cache.l1d.misses", "count", "l1d", "Of these, not served there"),
    ("cache.l2.accesses", "count", "l2", "Accesses to the L2 cache"),
    ("cache.l2.misses", "count", "l2", "Of these, not served there"),
    ("cache.llc.accesses", "count", "llc", "Accesses to the last-level cache"),
    ("cache.llc.misses", "count", "llc", "Of these, not served there"),
    ("cache.transfers", "count", "llc", "Lines fetched from another core's cache"),
    ("cache.invalidations", "count", "llc", "Copies in other cores that writes invalidated"),
    ("fault.link", "count", "kernel", "Faults that only set a guest's PMD entry to a host's table"),
    (
        "fault.host",
        "count",
        "kernel",
        "Faults that mapped a file page in a host mm (and set the PMD entry, if need be)",
    ),
    ("fault.file", "count", "kernel", "Faults that mapped a file page in the process's own table"),
    ("fault.anon", "count", "kernel", "Faults that mapped a new anonymous page"),
    ("fault.cow", "count", "kernel", "Faults that copied a page on write"),
    ("fault.write_protect", "count", "kernel", "Faults that made a present shared page writable"),
    ("fault.spurious", "count", "kernel", "Faults that the table, filled meanwhile, permitted"),
    ("fault.segv", "count", "kernel", "Faults that ended in SIGSEGV"),
    ("fault.bus", "count", "kernel", "Faults that ended in SIGBUS"),
    ("fault.around_pages", "pages", "kernel", "Further pages that file faults mapped"),
    ("fault.region.link", "count", "kernel", "Link faults in the shared region"),
    ("fault.region.page", "count", "kernel", "Faults that mapped a page in the shared region"),
    ("syscall.count", "count", "kernel", "System calls"),
    ("syscall.unknown", "count", "kernel", "System calls answered with ENOSYS"),
    ("sched.switches", "count", "kernel", "Times that a core changed to this process"),
    (
        "tlb.stale_hits",
        "count",
        "tlb",
        "Accesses served by a TLB entry with a frame or a right that the tables hold no more",
    ),
    (
        "walk_cache.stale_hits",
        "count",
        "walk_cache",
        "Walks that would have begun at a table that the tables above it point at no more",
    ),
    ("shootdown.requests", "count", "kernel", "TLB flushes asked for by this process"),
    ("shootdown.ipis", "count", "kernel", "Interrupts sent to other CPUs for them"),
    ("shootdown.received", "count", "kernel", "Such interrupts that stopped this process"),
    ("shootdown.flushed_entries", "count", "kernel", "TLB entries that its flushes removed"),
    *(
        (
            f"walk.reads.{level}.{place}",
            "count",
            "walker",
            f"{level.upper()} entries read by walks and served by {PLACE_NAMES[place]}",
        )
        for level in PTE_LEVELS
        for place in PLACES
    ),
    *(
        (
            f"walk.reads.{level}.{place}.other",
            "count",
            "walker",
            f"Of these {level.upper()} entries from {PLACE_NAMES[place]}, in a line that another "
            "process had brought in from memory",
        )
        for level in PTE_LEVELS
        for place in CACHES
    ),
    ("cycles.base", "cycles", "core", "Instructions at the base CPI, L1 hits included"),
    ("cycles.fetch", "cycles", "core", "Instruction fetches beyond L1 hits"),
    ("cycles.tlb", "cycles", "core", "Second-level TLB look-ups"),
    ("cycles.walk", "cycles", "core", "Waiting for page walks"),
    ("cycles.data", "cycles", "core", "Data accesses beyond L1 hits"),
    ("cycles.fault", "cycles", "core", "Page faults in the kernel"),
    ("cycles.syscall", "cycles", "core", "System calls, process start and exit"),
    ("cycles.shootdown", "cycles", "core", "TLB flushes, asked for and received"),
    ("cycles.switch", "cycles", "core", "Switches between processes"),
]

# What each started process has at its first begin mark and its last end mark; no roi. twin.
AT_MARKS: list[Row] = [
    row
    for mark in ("begin", "end")
    for row in (
        (
            f"vm.pte_bytes.{mark}",
            "bytes",
            "page_tables",
            f"Page tables at the {mark} mark as VmPTE counts: without the PGD, those that are "
            "shared for each that links them",
        ),
        (
            f"vm.rss_anon_bytes.{mark}",
            "bytes",
            "memory",
            f"Resident anonymous pages at the {mark} mark",
        ),
        (f"vm.rss_file_bytes.{mark}", "bytes", "memory", f"Resident file pages at the {mark} mark"),
    )
]

# What Linux alone counts: for each process, and for the machine.
LINUX: list[Row] = [
    ("fault.major", "count", "kernel", "Faults that waited for input, counted by real Linux"),
    ("time.user", "seconds", "core", "CPU time in the program, measured by real Linux"),
    ("time.system", "seconds", "core", "CPU time in the kernel, measured by real Linux"),
]
LINUX_MACHINE: list[Row] = [
    (
        "pt.machine_growth",
        "bytes",
        "page_tables",
        "Growth of PageTables of /proc/meminfo from before the start to the end mark: the whole "
        "machine's tables, PGDs included, each counted once",
    ),
]

# The same, for the machine as a whole. None of these has a roi. twin.
MACHINE: list[Row] = [
    ("pt.bytes", "bytes", "page_tables", "Page-table pages in use at their peak, in bytes"),
    *(
        (f"pt.tables.{level}", "tables", "page_tables", f"{level.upper()} tables at that peak")
        for level in PTE_LEVELS
    ),
    ("pt.bytes.guest", "bytes", "page_tables", "Owned by processes at that peak"),
    ("pt.bytes.host", "bytes", "page_tables", "Owned by host mms at that peak"),
    (
        "pt.end.bytes",
        "bytes",
        "page_tables",
        "Left when the last process is gone; 0 but under rfc-v2, which leaks",
    ),
    (
        "pt.region.pte_tables",
        "tables",
        "page_tables",
        "Peak of PTE tables that map memory for which MAP_SHARED_PT was asked",
    ),
    ("pt.region.bytes", "bytes", "page_tables", "The same in bytes"),
    ("pt.tables.allocated", "tables", "page_tables", "Page-table pages allocated in the whole run"),
    ("pt.tables.freed", "tables", "page_tables", "Page-table pages freed in the whole run"),
    ("pt.host_mms", "count", "page_tables", "Peak of host mms"),
    ("rss.file_pages.peak", "pages", "memory", "Peak of mapped file pages, added over processes"),
    ("rss.anon_pages.peak", "pages", "memory", "Peak of anonymous pages, added over processes"),
    ("frames.page_cache", "pages", "memory", "Page frames in the page cache at the end"),
    (
        "frames.end",
        "pages",
        "memory",
        "Frames in use at the end beside the page cache; 0 but under rfc-v2",
    ),
    ("share.links", "count", "kernel", "Guest PMD entries set to a host's table"),
    ("share.carried_pages", "pages", "kernel", "Existing PTEs copied into a host mm when made"),
    *(
        (f"share.refused.{reason}", "count", "kernel", f"MAP_SHARED_PT requests refused: {reason}")
        for reason in REFUSALS
    ),
    (
        "share.fell_back",
        "count",
        "kernel",
        "MAP_SHARED_PT requests mapped privately without an error (rfc-v2)",
    ),
    (
        "share.dangling_links",
        "count",
        "kernel",
        "Links to tables that were freed while a guest used them (rfc-v2)",
    ),
    (
        "share.room_bytes",
        "bytes",
        "kernel",
        "Address space around shared ranges where nothing else can be mapped, as a link translates"
        " that much; peak, summed over processes",
    ),
    ("shootdown.invalidated_ranges", "count", "kernel", "Ranges that had to leave the TLBs"),
    ("cycles.idle", "cycles", "core", "Cores without a process to run, added over cores"),
    ("cycles.makespan", "cycles", "core", "Clock of the core that finished last"),
]

# About the simulator, not the simulated machine: the only figures that differ between repeats.
HOST: list[Row] = [
    ("host.seconds", "seconds", "host", "Wall time of the simulation"),
    ("host.instructions_per_second", "per second", "host", "Simulated instructions in that time"),
    ("host.accesses_per_second", "per second", "host", "Simulated data accesses in that time"),
    (
        "host.peak_rss_bytes",
        "bytes",
        "host",
        "Peak resident memory of the simulator; on Linux of the largest process",
    ),
]


def _sum(prefix: str, parts: tuple[str, ...]) -> str:
    return " + ".join(f"{prefix}.{part}" for part in parts)


# name, unit, component, meaning, formula over other names. A quotient by zero does not exist.
DERIVED: list[tuple[str, str, str, str, str]] = [
    ("access.data", "count", "core", "Data accesses", "access.reads + access.writes"),
    *(
        (
            f"tlb.{tlb}.miss_rate",
            "ratio",
            tlb,
            "Share of look-ups that missed",
            f"tlb.{tlb}.misses / tlb.{tlb}.accesses",
        )
        for tlb in ("itlb", "dtlb", "stlb")
    ),
    ("walk.count", "count", "walker", "Page walks", "walk.data + walk.fetch"),
    (
        "walk.cycles_per_walk",
        "cycles",
        "walker",
        "Mean time of a walk, dirty assists included",
        "walk.cycles / (walk.count + walk.dirty_assists)",
    ),
    *(
        (
            f"walk.reads.{level}",
            "count",
            "walker",
            f"{level.upper()} entries read by walks",
            _sum(f"walk.reads.{level}", PLACES),
        )
        for level in PTE_LEVELS
    ),
    *(
        (
            f"walk.reads.{place}",
            "count",
            "walker",
            f"Walk reads served by {PLACE_NAMES[place]}",
            " + ".join(f"walk.reads.{level}.{place}" for level in PTE_LEVELS),
        )
        for place in PLACES
    ),
    ("walk.reads", "count", "walker", "Entries read by walks", _sum("walk.reads", PTE_LEVELS)),
    *(
        (
            f"walk.reads.{level}.other",
            "count",
            "walker",
            f"{level.upper()} entries read from caches that another process had brought in",
            " + ".join(f"walk.reads.{level}.{place}.other" for place in CACHES),
        )
        for level in PTE_LEVELS
    ),
    (
        "walk.reads.other",
        "count",
        "walker",
        "Entries read from caches that another process had brought in",
        " + ".join(f"walk.reads.{level}.other" for level in PTE_LEVELS),
    ),
    (
        "walk.reads_per_walk",
        "count",
        "walker",
        "Mean entries read, dirty assists included",
        "walk.reads / (walk.count + walk.dirty_assists)",
    ),
    (
        "walk.per_1000_instructions",
        "count",
        "walker",
        "Page walks for 1,000 instructions",
        "1000 * walk.count / instructions",
    ),
    *(
        (
            f"cache.{cache}.miss_rate",
            "ratio",
            cache,
            "Share of accesses not served there",
            f"cache.{cache}.misses / cache.{cache}.accesses",
        )
        for cache in ("l1i", "l1d", "l2", "llc")
    ),
    (
        "fault.minor",
        "count",
        "kernel",
        "Faults that a process survives without input or output",
        _sum("fault", MINOR_FAULTS),
    ),
    ("fault.total", "count", "kernel", "Page faults", "fault.minor + fault.segv + fault.bus"),
    (
        "cycles.total",
        "cycles",
        "core",
        "Time of processes: the sum of the stack",
        _sum("cycles", CYCLE_STACK),
    ),
    (
        "cycles.per_instruction",
        "cycles",
        "core",
        "CPI, kernel time included",
        "cycles.total / instructions",
    ),
]

# The same over metrics of the machine.
DERIVED_MACHINE: list[tuple[str, str, str, str, str]] = [
    (
        "pt.tables",
        "tables",
        "page_tables",
        "Page-table pages at the peak",
        _sum("pt.tables", PTE_LEVELS),
    ),
    (
        "share.refused",
        "count",
        "kernel",
        "MAP_SHARED_PT requests refused",
        _sum("share.refused", REFUSALS),
    ),
]
