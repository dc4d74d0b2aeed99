"""A gem5 system in which processes share page tables: components for a gem5 script.

Usage::

    import ptshare_board as board

    board.load_module()
    machine = config.load("gem5-x86")                 # ptshare_plugin.config
    processes = [Process(pid=100 + n, cmd=["./a.out"]) for n in range(4)]
    system = board.make_system(machine, processes, policy="ptshare")
    root = Root(full_system=False, system=system)

Limitations: system-call emulation; one process or thread a CPU context, forked ones on spare
contexts; contexts take turns on ``cores`` with Atomic and Timing CPUs only; no exec; the walker's
time counts in Timing and O3 CPUs, not in Atomic ones.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import _m5.core
import m5
import m5.internal.params
import m5.SimObject
from m5.objects import (
    X86O3CPU,
    AddrRange,
    Cache,
    DDR4_2400_8x8,
    L2XBar,
    MemCtrl,
    SimpleMemory,
    SrcClockDomain,
    System,
    SystemXBar,
    VoltageDomain,
    X86AtomicSimpleCPU,
    X86EmuLinux,
    X86TimingSimpleCPU,
)

from ptshare_plugin.engines.gem5.engine import MODULE, check_contexts, contexts
from ptshare_plugin.machine.schema import flatten

CPUS = {"atomic": X86AtomicSimpleCPU, "timing": X86TimingSimpleCPU, "o3": X86O3CPU}
HOW_TO_BUILD = "build it with: scons -f SConstruct.local"


class BoardError(Exception):
    """What a user can mend; the message is one line."""


# ---- The module


def load_module(path: Path = MODULE) -> None:
    """Bring ptshare's SimObjects into this gem5, if it was not built with them (EXTRAS).

    Raises BoardError when the module is missing or was built for another gem5.opt: loading that
    would end in a crash.
    """
    if "PtshareKernel" in m5.SimObject.allClasses:
        return
    stamp = path.with_suffix(".stamp")
    if not path.is_file() or not stamp.is_file():
        raise BoardError(f"{path}: no ptshare module there; {HOW_TO_BUILD}")
    told = stamp.read_text(encoding="utf-8").splitlines()
    if len(told) != 3:
        raise BoardError(f"{stamp} is damaged; {HOW_TO_BUILD}")
    size, compiled, program = told
    mine = str(os.stat("/proc/self/exe").st_size), _m5.core.compileDate
    if (size, compiled) != mine:
        raise BoardError(
            f"{path} was built for {program} as compiled on {compiled}, and this is"
            f" {os.readlink('/proc/self/exe')}, compiled on {mine[1]}; {HOW_TO_BUILD}"
        )
    spec = importlib.util.spec_from_file_location("ptshare_gem5", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # What m5.internal.params, _m5 and m5.objects do for the SimObjects that gem5 was built with.
    for name in dir(module):
        if name.startswith("param_"):
            parameters = getattr(module, name)
            for exported in dir(parameters):
                if not exported.startswith("_"):
                    setattr(m5.internal.params, exported, getattr(parameters, exported))
    _m5.ptshare = module.ptshare
    m5.objects.__path__.append(str(path.parents[2] / "ptshare_plugin" / "native" / "gem5"))
    import m5.objects.PtshareObjects as declared

    for name in dir(declared):
        if name.startswith("Ptshare"):
            setattr(m5.objects, name, getattr(declared, name))


# ---- Memory


def _cycles_below(*latencies: int) -> int:
    """What a level adds to a hit, of what its hit takes in all: levels above answer twice.

    gem5 adds a cache's tag latency on the way down and its response latency on the way up; a
    preset gives the sum from the CPU. Crossbars come on top.
    """
    *above, whole = latencies
    return max(1, whole - 2 * sum(above))


def latencies(machine: Any) -> dict[str, int]:
    """Cycles of each cache's tags (data and response are the same), and of memory."""
    cache = machine.cache
    own = {"l1i": cache.l1i.latency, "l1d": cache.l1d.latency}
    above = [cache.l1d.latency]
    for name in ("l2", "llc"):
        level = getattr(cache, name)
        if level.bytes:
            own[name] = _cycles_below(*above, level.latency)
            above.append(own[name])
    own["memory"] = _cycles_below(*above, cache.dram_latency)
    return own


def _cache(machine: Any, name: str, cycles: int) -> Any:
    level = getattr(machine.cache, name)
    private = name != "llc"
    # An LLC that is not inclusive is filled with what L2s evict, clean lines too. gem5 has none
    # that is strictly inclusive: one that is "mostly" so evicts from no other cache.
    victims = machine.cache.llc.bytes and machine.cache.llc.inclusion == "non-inclusive"
    return Cache(
        clusivity="mostly_excl" if victims and not private else "mostly_incl",
        writeback_clean=bool(victims) and name == "l2",
        size=f"{level.bytes}B",
        assoc=level.ways,
        tag_latency=cycles,
        data_latency=cycles,
        response_latency=cycles,
        mshrs=16 if private else 64,
        tgts_per_mshr=20,
        write_buffers=16,
    )


def make_system(
    machine: Any, processes: list[Any], *, policy: str | None, cores: int | None = None
) -> Any:
    """A system that runs each process on a CPU context of its own.

    Contexts beyond the cores share them: context n uses the caches and the walker of CPU
    n modulo ``cores``, and ptshare's scheduler lets one of them run at a time.

    :param machine: ``ptshare_plugin.machine.Machine``.
    :param processes: ``m5.objects.Process`` objects, with their ``pid`` set.
    :param policy: sharing policy; None makes the same system of stock gem5 objects alone.
    :param cores: those beyond the processes run what the processes fork. None: one a process.
    :raises UserError: where contexts would share cores, and these cannot be shared.
    """
    cpu = machine.gem5.cpu
    cores = cores or len(processes)
    check_contexts(machine, len(processes), cores, policy)
    system = System(
        clk_domain=SrcClockDomain(
            clock=f"{machine.cpu.frequency_mhz}MHz", voltage_domain=VoltageDomain()
        ),
        mem_mode="atomic" if cpu == "atomic" else "timing",
        mem_ranges=[AddrRange(machine.kernel.memory_bytes)],
        mmap_using_noreserve=True,
        m5ops_base=0,  # else its range would cut memory in two
        cache_line_size=machine.cache.line_bytes,
    )
    system.membus = SystemXBar()
    system.system_port = system.membus.cpu_side_ports
    cycles = latencies(machine)
    below = system.membus
    if machine.cache.llc.bytes:
        system.llcbus = L2XBar()
        system.llc = _cache(machine, "llc", cycles["llc"])
        system.llc.cpu_side = system.llcbus.mem_side_ports
        system.llc.mem_side = system.membus.cpu_side_ports
        below = system.llcbus
    if machine.gem5.memory == "ddr4":
        system.memory = MemCtrl(dram=DDR4_2400_8x8(range=system.mem_ranges[0]))
    else:
        nanoseconds = cycles["memory"] * 1000 / machine.cpu.frequency_mhz
        system.memory = SimpleMemory(range=system.mem_ranges[0], latency=f"{nanoseconds}ns")
    system.memory.port = system.membus.mem_side_ports
    if policy is None:
        system.workload = X86EmuLinux()
    else:
        system.kernel = m5.objects.PtshareKernel(policy=policy, machine=parameters(machine))
        system.workload = m5.objects.PtshareWorkload(kernel=system.kernel)
    count = contexts(machine, len(processes), cores)
    system.cpu = [CPUS[cpu](cpu_id=index) for index in range(count)]
    for index, core in enumerate(system.cpu):
        if index < cores:
            several = index + cores < count
            _wire(system, core, machine, cycles, below, policy is not None, several)
        else:
            _join(system, core, system.cpu[index % cores])
        # gem5 gives each context a process; one that is not the first of its process stays idle.
        core.workload = processes[index] if index < len(processes) else processes[0]
        core.createThreads()
    return system


_NOT_OF_THE_KERNEL = ("cpu.", "cache.", "gem5.", "mmu.walker.port", "sched.slice_instructions")
"""How keys begin of which gem5's own objects are made, and those of the embedded engine alone."""


def parameters(machine: Any) -> list[str]:
    """``PtshareKernel.machine``: what ptshare's objects read of the machine, as ``key=value``.

    Keys that nobody reads are refused there.
    """
    return [
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in flatten(machine).items()
        if not key.startswith(_NOT_OF_THE_KERNEL)
    ]


def _wire(
    system: Any,
    core: Any,
    machine: Any,
    cycles: dict[str, int],
    below: Any,
    shared: bool,
    several: bool,
) -> None:
    """Caches, interrupts and MMU of one core and its first context.

    ``below``: the bus behind its private caches; ``several``: further contexts come to them.
    """
    core.icache = _cache(machine, "l1i", cycles["l1i"])
    core.dcache = _cache(machine, "l1d", cycles["l1d"])
    if several:
        core.icachebus = _joint()
        core.icache_port = core.icachebus.cpu_side_ports
        core.icache.cpu_side = core.icachebus.mem_side_ports
    else:
        core.icache.cpu_side = core.icache_port
    bus = below
    if machine.cache.l2.bytes:
        core.l2bus = L2XBar()
        core.l2cache = _cache(machine, "l2", cycles["l2"])
        core.l2cache.cpu_side = core.l2bus.mem_side_ports
        core.l2cache.mem_side = below.cpu_side_ports
        bus = core.l2bus
    core.icache.mem_side = bus.cpu_side_ports
    core.dcache.mem_side = bus.cpu_side_ports
    _interrupts(system, core)
    if not shared:
        core.dcache.cpu_side = core.dcache_port
        core.mmu.connectWalkerPorts(bus.cpu_side_ports, bus.cpu_side_ports)
        return
    at_l1 = machine.mmu.walker.port == "l1d"
    places = [0] if at_l1 else []
    places += [1] if machine.cache.l2.bytes else []
    places += [2] if machine.cache.llc.bytes else []
    core.pages = m5.objects.PtshareWalker(
        kernel=system.kernel, places=[*places, 3], max_walks=machine.gem5.walks
    )
    _translate(system, core, core.pages)
    if at_l1 or several:
        core.dcachebus = _joint()
        core.dcache_port = core.dcachebus.cpu_side_ports
        core.dcache.cpu_side = core.dcachebus.mem_side_ports
    else:
        core.dcache.cpu_side = core.dcache_port
    core.pages.port = core.dcachebus.cpu_side_ports if at_l1 else bus.cpu_side_ports


def _join(system: Any, context: Any, core: Any) -> None:
    """One more context on a core that is wired."""
    context.icache_port = core.icachebus.cpu_side_ports
    context.dcache_port = core.dcachebus.cpu_side_ports
    _interrupts(system, context)
    _translate(system, context, core.pages)


def _joint() -> Any:
    """A crossbar without a latency of its own, where several requestors enter one cache."""
    return L2XBar(frontend_latency=0, forward_latency=0, response_latency=0)


def _interrupts(system: Any, cpu: Any) -> None:
    cpu.createInterruptController()
    cpu.interrupts[0].pio = system.membus.mem_side_ports
    cpu.interrupts[0].int_requestor = system.membus.cpu_side_ports
    cpu.interrupts[0].int_responder = system.membus.mem_side_ports


def _translate(system: Any, cpu: Any, pages: Any) -> None:
    """A CPU's TLBs, which are the two sides of ``pages``."""
    for side, tlb in (("instruction", "itb"), ("data", "dtb")):
        made = m5.objects.PtshareTLB(
            entry_type=side, kernel=system.kernel, pages=pages, walker=pages
        )
        setattr(cpu.mmu, tlb, made)
