"""Engines: what executes a program and counts. One protocol, one registry."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import resource
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from ptshare_plugin import policies
from ptshare_plugin.common.errors import EXIT_USAGE, UserError, nearest

if TYPE_CHECKING:
    from ptshare_plugin._core import Replay, Simulation, Stream
    from ptshare_plugin.machine.schema import Value
    from ptshare_plugin.spec.run import RunSpec

Statistic = tuple[int, str, int | float]
"""Process index (or -1: machine, or sum), metric, value."""

Progress = Callable[[int, int], None]
"""Called now and then with the instructions and cycles simulated so far."""

STEP = 500_000
"""Instructions between two looks at signals and progress. Fixed, so that it cannot differ between
two runs; tens of milliseconds."""


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """How one process ended: ``exit`` its code, ``signal`` the one that killed it, or 0.

    :param note: why, for a fatal signal: ``write to page 0x... at ip 0x...``.
    """

    pid: int
    exit: int
    signal: int
    stdout: bytes
    stderr: bytes
    note: str

    @property
    def status(self) -> int:
        """Exit code, or minus the signal number, as Python's subprocess has it."""
        return -self.signal if self.signal else self.exit

    @property
    def how(self) -> str:
        """How it ended, in words."""
        if not self.signal:
            return f"exited with status {self.exit}"
        try:
            name = signal.Signals(self.signal).name
        except ValueError:
            name = f"signal {self.signal}"
        return f"was killed by {name}" + (f" ({self.note})" if self.note else "")

    @property
    def followed(self) -> bool:
        """Whether it failed only because another process had: the engine or a workload says so."""
        return self.note.startswith("ended because") or b"another rank failed" in self.stderr


MARK_BEGIN, MARK_END = 1, 2
"""Marks of the region of interest (``accounting/marks.h``)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process had when it made a mark: the same figures from the model and from Linux.

    :param rank: started process that it is, or descends from.
    :param process: 0 for the started one, 1, 2, ... for those it and its children forked.
    :param mark: argument of the mark's system call.
    :param vm_pte_bytes: page tables below the PGD, a shared one for each that links it (VmPTE).
    :param minor_faults: of the thread, since its fork or since its program was loaded.
    """

    rank: int
    process: int
    mark: int
    vm_pte_bytes: int
    rss_anon_bytes: int
    rss_file_bytes: int
    minor_faults: int


def mark_statistics(samples: Iterable[Sample]) -> list[Statistic]:
    """Rows of what each started process had at its first begin mark and its last end mark."""
    first_begin: dict[int, Sample] = {}
    last_end: dict[int, Sample] = {}
    for sample in samples:
        if sample.process == 0 and sample.mark == MARK_BEGIN:
            first_begin.setdefault(sample.rank, sample)
        elif sample.process == 0 and sample.mark == MARK_END:
            last_end[sample.rank] = sample
    rows: list[Statistic] = []
    for mark, found in (("begin", first_begin), ("end", last_end)):
        for rank, sample in found.items():
            rows += [
                (rank, f"vm.pte_bytes.{mark}", sample.vm_pte_bytes),
                (rank, f"vm.rss_anon_bytes.{mark}", sample.rss_anon_bytes),
                (rank, f"vm.rss_file_bytes.{mark}", sample.rss_file_bytes),
            ]
    return rows


@dataclass(frozen=True, slots=True)
class RunResult:
    """What an engine hands back.

    :param processes: in rank order; processes that these forked follow.
    :param peak_rss_bytes: 0 if not known.
    :param versions: of what the engine used.
    :param samples: what processes had at their marks, in the order in which they made them.
    :param settings: of the real machine that the figures depend on; empty for a simulated one.
    """

    processes: list[ProcessResult]
    statistics: list[Statistic]
    seconds: float
    peak_rss_bytes: int
    versions: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    settings: dict[str, str | int] = field(default_factory=dict)


class Engine(Protocol):
    """Runs a program under a policy."""

    name: str
    description: str
    default_policy: str

    def missing(self) -> str | None:
        """What this machine lacks to use it, in one line; None when nothing."""

    def policies(self) -> list[tuple[str, str]]:
        """Sharing policies that it knows: name and one-line description."""

    def run(self, spec: RunSpec, progress: Progress) -> RunResult:
        """Run ``spec`` to its end. A UserError when the engine itself fails."""


Simulated: TypeAlias = "Simulation | Stream | Replay"
"""A simulation of the extension module, whatever drives it."""


def simulate(
    where: str,
    make: Callable[[], Simulated],
    progress: Progress,
    versions: dict[str, str] | None = None,
) -> RunResult:
    """Make a simulation and run it to its end, in this process.

    :param where: what the UserError of a simulation that fails begins with.
    """
    reset_peak_rss()
    start = time.perf_counter()
    try:
        simulation = make()
        while not simulation.step(STEP):
            progress(simulation.instructions, simulation.cycles)
        processes = [ProcessResult(*result) for result in simulation.results()]
        samples = [Sample(*row) for row in simulation.samples()]
        statistics = simulation.statistics() + mark_statistics(samples)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{where}: {error}") from error
    except MemoryError as error:
        raise UserError(f"{where}: out of memory on this machine") from error
    return RunResult(
        processes=processes,
        statistics=statistics,
        seconds=time.perf_counter() - start,
        peak_rss_bytes=peak_rss(),
        versions=versions or {},
        samples=samples,
    )


def machine_parameters(spec: RunSpec) -> dict[str, Value]:
    """What the extension module is to know of the machine: all keys but gem5's own."""
    return {key: value for key, value in spec.parameters().items() if not key.startswith("gem5.")}


class EmbeddedEngine:
    """Core and the MMU model under Unicorn, in this process."""

    name = "embedded"
    description = "core and MMU model, programs executed by Unicorn"
    default_policy = "ptshare"

    def missing(self) -> str | None:
        """One of: the extension module, the Unicorn package, its shared library."""
        if importlib.util.find_spec("ptshare_plugin._core") is None:
            return "the extension module ptshare_plugin._core is not built: run 'pip install -e .'"
        try:
            unicorn_library()
        except UserError as error:
            return str(error)
        return None

    def policies(self) -> list[tuple[str, str]]:
        """Policies compiled into core."""
        require_core()
        return policies.described()

    def run(self, spec: RunSpec, progress: Progress) -> RunResult:
        """Run ``spec`` in this process."""
        require_core()
        from ptshare_plugin import _core

        def made() -> Simulated:
            program = spec.program
            simulation = _core.Simulation(
                machine_parameters(spec), spec.policy, spec.cores, spec.seed, str(unicorn_library())
            )
            index = simulation.add_program(
                program.name,
                program.image,
                [(s.vaddr, s.offset, s.file_size, s.memory_size, s.prot) for s in program.segments],
                program.entry,
                program.phdr,
                program.phentsize,
                program.phnum,
            )
            for rank in range(spec.procs):
                simulation.add_process(index, spec.argv(rank), spec.env(rank))
            return simulation

        versions = {"unicorn": importlib.metadata.version("unicorn")}
        return simulate("engine embedded", made, progress, versions)


def all_engines() -> tuple[Engine, ...]:
    """Every engine, whether this machine has it or not."""
    from ptshare_plugin.engines.gem5.engine import Gem5Engine  # which needs the types above
    from ptshare_plugin.engines.linux.engine import LinuxEngine
    from ptshare_plugin.engines.stream import StreamEngine

    return (EmbeddedEngine(), StreamEngine(), Gem5Engine(), LinuxEngine())


def by_name(name: str) -> Engine:
    """Engine called ``name``, whether this machine has it or not."""
    engines = {engine.name: engine for engine in all_engines()}
    if name not in engines:
        raise UserError(
            f"--engine: unknown engine {name}{nearest(name, engines)}; there are "
            f"{', '.join(engines)}",
            EXIT_USAGE,
        )
    return engines[name]


def get(name: str) -> Engine:
    """Engine called ``name``, ready to use; a UserError says what it lacks."""
    engine = by_name(name)
    lack = engine.missing()
    if lack is not None:
        raise UserError(f"engine {name}: {lack}")
    return engine


def helper(name: str) -> Path:
    """A program of the Linux engine, beside the extension module; a UserError when not built."""
    spec = importlib.util.find_spec("ptshare_plugin._core")
    place = Path(spec.origin).parent / "helpers" / name if spec and spec.origin else Path(name)
    if not place.is_file():
        raise UserError(f"the helper program {name} is not built: run 'pip install -e .'")
    return place


def unicorn_library() -> Path:
    """Unicorn's shared library, from the installed ``unicorn`` package without importing it.

    The library is GPL-2.0: C++ opens it at run time only.
    """
    spec = importlib.util.find_spec("unicorn")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        found = sorted(Path(place, "lib").glob("libunicorn.so*"))
        if found:
            return found[0]
    lack = "has no lib/libunicorn.so" if spec else "is not installed"
    raise UserError(f"the Python package unicorn {lack}: run 'pip install unicorn'")


def require_core() -> None:
    """Import the extension module; a UserError when that fails."""
    try:
        import ptshare_plugin._core  # noqa: F401
    except ImportError as error:
        raise UserError(f"ptshare is not built: {error}; run 'pip install -e .'") from error


def reset_peak_rss() -> None:
    """Start the record of peak resident memory anew."""
    # Linux: writing 5 starts VmHWM anew, so that the second run of a compare has its own peak.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss() -> int:
    """Peak resident memory of this process, in bytes."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
