"""The machine configuration: every key with its type, unit, meaning and limits.

The only definition of the schema. No value stands here: defaults are in ``presets/server.toml``.
Standard library only, because gem5's embedded Python imports it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, get_type_hints

KIB, MIB = 1024, 1024 * 1024
MAX_CYCLES = 10**12

Value = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Key:
    """What one configuration key may hold.

    ``low`` and ``high`` are inclusive; ``choices`` replaces them where only some values exist.
    """

    name: str
    type: type
    unit: str
    meaning: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Value, ...] = ()
    power_of_two: bool = False


def _key(
    unit: str, meaning: str, low: float | None = None, high: float | None = None, **more: Any
) -> Any:
    return field(metadata={"unit": unit, "meaning": meaning, "low": low, "high": high, **more})


def _cycles(meaning: str) -> Any:
    return _key("cycles", meaning, 0, MAX_CYCLES)


def _entries(meaning: str, low: int = 0) -> Any:
    return _key("entries", meaning, low, 1 << 20)


def _ways(meaning: str) -> Any:
    return _key("ways", meaning + "; 0: fully associative", 0, 1 << 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """One core without its memory."""

    frequency_mhz: int = _key("MHz", "Clock frequency; turns cycles into seconds", 1, 100_000)
    base_cpi: float = _key(
        "cycles/instr", "Cycles of an instruction whose accesses hit the L1 caches", 0.0, 1000.0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLevel:
    """One cache: private to a core (l1i, l1d, l2) or shared by all (llc)."""

    bytes: int = _key("bytes", "Capacity", 64, 1 << 40)
    ways: int = _key("ways", "Associativity", 1, 128)
    latency: int = _cycles("Whole time of an access served here; an L1 hit is part of base_cpi")


@dataclass(frozen=True, slots=True, kw_only=True)
class Llc(CacheLevel):
    """The last-level cache, shared by all cores."""

    inclusion: str = _key(
        "",
        "Whether it holds all that private caches do; otherwise it is filled with what they evict",
        choices=("inclusive", "non-inclusive"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """The cache hierarchy that data, instructions and page-table entries go through."""

    line_bytes: int = _key("bytes", "Line size of every level", 16, 1024, power_of_two=True)
    l1i: CacheLevel = field()
    l1d: CacheLevel = field()
    l2: CacheLevel = field()
    llc: Llc = field()
    transfer_latency: int = _cycles("Whole time of an access served by another core's cache")
    dram_latency: int = _cycles("Whole time of an access served by memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tlb:
    """A first-level TLB: separate arrays for 4 KiB and 2 MiB pages, looked up at once."""

    entries: int = _entries("Entries for 4 KiB pages", 1)
    ways: int = _ways("Associativity for 4 KiB pages")
    entries_2m: int = _entries("Entries for 2 MiB pages", 1)
    ways_2m: int = _ways("Associativity for 2 MiB pages")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stlb:
    """The second-level TLB, for instructions and data, 4 KiB and 2 MiB pages."""

    entries: int = _entries("Entries; 0: no second level")
    ways: int = _ways("Associativity")
    latency: int = _cycles("Added to an access that misses the first level and looks here")


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkCache:
    """Paging-structure caches: a hit in one lets the walk start below that level."""

    pmd_entries: int = _entries("Cached PMD entries (a hit leaves one read, of the PTE); 0: none")
    pud_entries: int = _entries("Cached PUD entries; 0: none")
    p4d_entries: int = _entries("Cached P4D entries, used with five levels only; 0: none")
    pgd_entries: int = _entries("Cached PGD entries; 0: none")
    ways: int = _ways("Associativity of each of them")
    invlpg: str = _key(
        "",
        "What an INVLPG drops of them: all of the PCID, as Intel's CPUs, or what translates the"
        " page, as AMD's with EFER.TCE",
        choices=("pcid", "page"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Walker:
    """The hardware page walker."""

    port: str = _key("", "Cache that its reads enter at", choices=("l1d", "l2"))
    step_cycles: int = _cycles("Added to a walk for each entry that it reads, beside the read")
    lock_cycles: int = _cycles("Added to a walk that sets A or D: a locked read-modify-write")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mmu:
    """Translation hardware of one core."""

    levels: int = _key("levels", "Page-table levels: 4, or 5 with a P4D", choices=(4, 5))
    shared_tags: bool = _key(
        "", "TLB entries of shared tables serve all sharers at the same address (BabelFish)"
    )
    pcids: int = _key(
        "ids", "Address-space ids a CPU keeps tagged; 0: no PCID, flush at each switch", 0, 4095
    )
    itlb: Tlb = field()
    dtlb: Tlb = field()
    stlb: Stlb = field()
    walk_cache: WalkCache = field()
    walker: Walker = field()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Settings of the operating system that change what it does, not what it costs."""

    fault_around_bytes: int = _key(
        "bytes",
        "Window of pages in the page cache that one file fault maps",
        4 * KIB,
        2 * MIB,
        power_of_two=True,
    )
    flush_ceiling_pages: int = _key(
        "pages", "Pages flushed one by one; more flush the whole TLB", 0, 1 << 20
    )
    cpumask_trim_cycles: int = _cycles(
        "A flush interrupts CPUs that have left its mm so often at most; 0: it never does"
    )
    dirty_tracking: bool = _key(
        "", "Shared file pages start read-only; a write faults (ext4: true, tmpfs: false)"
    )
    pt_reclaim: bool = _key(
        "", "MADV_DONTNEED frees the PTE tables that it covers (CONFIG_PT_RECLAIM, Linux 6.14)"
    )
    memory_bytes: int = _key("bytes", "Simulated physical memory", 16 * MIB, 1 << 46)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What policies that share ranges (``ptshare``, ``mshare``) do where the RFC asks."""

    level: str = _key(
        "",
        "Tables that guests link: of 2 MiB (pte), 1 GiB (pmd) or 512 GiB (pud), which is what"
        " addresses must be multiples of; policy: pte for ptshare, pud for mshare",
        choices=("policy", "pte", "pmd", "pud"),
    )
    any_address: bool = _key(
        "", "ptshare: guests may map a range at another aligned address than its host's"
    )
    anonymous: bool = _key("", "ptshare: anonymous MAP_SHARED memory is shared with children")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shootdown:
    """How a change of shared tables reaches the TLBs; one of an mm's own goes as in Linux."""

    strategy: str = _key(
        "",
        "CPUs that flush at once: those that run the caller (caller-only), all, of everything"
        " (all-cpus), all that hold entries of a sharer (sharers), or those that run one, while"
        " others flush when they load one (lazy); policy: caller-only for rfc-v2, all-cpus for"
        " mshare, lazy for the rest",
        choices=("policy", "caller-only", "all-cpus", "sharers", "lazy"),
    )
    batch: bool = _key("", "One round of interrupts for all sharers; false: one for each sharer")
    broadcast: bool = _key(
        "", "An instruction that all CPUs obey (INVLPGB, TLBI) in place of interrupts"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sched:
    """How cores are interleaved and shared."""

    slice_instructions: int = _key(
        "instr", "Instructions of a core before the next core is simulated", 1, 10**9
    )
    quantum_cycles: int = _key(
        "cycles", "Time slice when processes outnumber cores", 1000, MAX_CYCLES
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultCost:
    """Kernel time of a page fault: ``entry`` plus what it had to do."""

    entry: int = _cycles("Exception, VMA look-up and return, of every fault")
    file_page: int = _cycles("Mapping the page of a file that was asked for")
    around_page: int = _cycles("Each further page that fault-around maps")
    anon_page: int = _cycles("Allocating, clearing and mapping an anonymous page")
    cow_page: int = _cycles("Allocating, copying and mapping a page on write")
    write_protect: int = _cycles("Making a present page writable (dirty tracking)")
    link: int = _cycles("Setting a guest's PMD entry to the host's table")
    host: int = _cycles("Running a fault in the host mm rather than the guest's")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShootdownCost:
    """Time of a TLB shootdown."""

    local: int = _cycles("The asking CPU's own flush, before single pages are counted")
    first_cpu: int = _cycles("Added for the first other CPU: send, wait, acknowledge")
    next_cpu: int = _cycles("Added for each further CPU")
    receive: int = _cycles("Taken from each interrupted CPU")
    broadcast_issue: int = _cycles("Broadcast: an instruction, for the range of one sharer")
    broadcast_first_cpu: int = _cycles("Broadcast: waiting for one other CPU")
    broadcast_next_cpu: int = _cycles("Broadcast: added for each further CPU of the machine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Kernel time, charged by the engine for what core reports."""

    syscall: int = _cycles("Entry and return of any system call")
    mmap: int = _cycles("mmap and mremap beyond that, and beyond the PTEs they touch")
    munmap: int = _cycles("munmap likewise")
    mprotect: int = _cycles("mprotect and madvise likewise")
    pte_update: int = _cycles("Each PTE changed or cleared by them or by exit")
    fault: FaultCost = field()
    table_alloc: int = _cycles("Allocating and clearing a page-table page")
    table_free: int = _cycles("Freeing one")
    fork: int = _cycles("fork beyond the PTEs that it copies")
    fork_pte: int = _cycles("Each PTE copied by fork")
    exec: int = _cycles("exec, and starting a process")
    exit: int = _cycles("exit beyond the PTEs that it clears")
    switch: int = _cycles("Changing the process that a core runs")
    shootdown: ShootdownCost = field()
    flush_page: int = _cycles("Each page flushed by itself (INVLPG), on each CPU that does it")
    message: int = _cycles("Signalling or waking another process, beyond the system call")
    signal: int = _cycles("Entering a signal handler and leaving it (rt_sigreturn)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gem5:
    """What gem5 alone takes; the embedded engine's core is in order, with one walk at a time."""

    cpu: str = _key("", "CPU model", choices=("atomic", "timing", "o3"))
    memory: str = _key(
        "", "Memory: cache.dram_latency, or the times of a DDR4-2400", choices=("simple", "ddr4")
    )
    walks: int = _key("walks", "Page walks of a CPU under way at a time", 1, 64)
    contexts: int = _key(
        "contexts",
        "CPU contexts, at least; one for each process and each core there are anyway, further ones "
        "are for what processes fork",
        0,
        1024,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A whole simulated machine; made by ``config.load``."""

    cpu: Cpu = field()
    cache: Cache = field()
    mmu: Mmu = field()
    kernel: Kernel = field()
    share: Share = field()
    shootdown: Shootdown = field()
    sched: Sched = field()
    cost: Cost = field()
    gem5: Gem5 = field()


def _collect(section: type, prefix: str) -> dict[str, Key]:
    keys: dict[str, Key] = {}
    hints = get_type_hints(section)
    for item in dataclasses.fields(section):
        name, kind = prefix + item.name, hints[item.name]
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            keys.update(_collect(kind, name + "."))
        else:
            keys[name] = Key(name=name, type=kind, **item.metadata)
    return keys


KEYS: dict[str, Key] = _collect(Machine, "")
"""Every key by its dotted name, in the order of the schema."""


def build(values: dict[str, Value]) -> Machine:
    """Machine from the dotted dict of all keys. Checks nothing: see ``config.check``."""

    def make(section: type, prefix: str) -> Any:
        hints = get_type_hints(section)
        arguments: dict[str, Any] = {}
        for item in dataclasses.fields(section):
            kind = hints[item.name]
            nested = dataclasses.is_dataclass(kind)
            name = prefix + item.name
            arguments[item.name] = make(kind, name + ".") if nested else values[name]
        return section(**arguments)

    machine = make(Machine, "")
    assert isinstance(machine, Machine)
    return machine


def flatten(machine: Machine) -> dict[str, Value]:
    """Dotted dict of all keys, in the order of the schema: what C++ and ``run.json`` take."""
    flat: dict[str, Value] = {}
    for name in KEYS:
        node: Any = machine
        for part in name.split("."):
            node = getattr(node, part)
        flat[name] = node
    return flat
