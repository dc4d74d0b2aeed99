"""Engine ``stream``: a workload's access pattern on the embedded machine, without its program."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from ptshare_plugin import policies
from ptshare_plugin.common.errors import EXIT_USAGE, NOT_BUILT, UserError
from ptshare_plugin.common.progress import Progress
from ptshare_plugin.engines import recordings
from ptshare_plugin.engines.base import simulated_cores
from ptshare_plugin.engines.native import machine_parameters, require_core, simulate
from ptshare_plugin.engines.result import RunResult
from ptshare_plugin.spec import workloads
from ptshare_plugin.spec.trace import Trace

if TYPE_CHECKING:
    from ptshare_plugin._core import Run, Stream
    from ptshare_plugin.spec.run import RunSpec


_AROUND = "--around"


class StreamEngine:
    """Core and MMU model, fed with the accesses that a program would make, or has made."""

    name = "stream"
    description = (
        "core and MMU model, fed with a workload's access pattern, a trace or a recording;"
        " executes nothing"
    )
    default_policy = "ptshare"
    simulated = True
    replays_traces = True
    keeps_own_files = False

    def missing(self) -> str | None:
        """The extension module, if that."""
        if importlib.util.find_spec("ptshare_plugin._core") is None:
            return NOT_BUILT
        return None

    def policies(self) -> list[tuple[str, str]]:
        """Policies compiled into core."""
        return policies.described()

    def default_cores(self, procs: int) -> int:
        """As any simulated machine."""
        return simulated_cores(procs)

    def check(self, spec: RunSpec) -> None:
        """Refuse a program without a pattern, and arguments that its pattern has not."""
        if spec.trace is None and spec.recording is None:
            check(spec)

    def run(self, spec: RunSpec, progress: Progress, keep: Path | None = None) -> RunResult:
        """Run the pattern of ``spec``'s workload, its trace or its recording, in this process."""
        if spec.trace is not None:
            return replay(spec, spec.trace, progress)
        if spec.recording is not None:
            return recordings.replay(spec, spec.recording, progress)
        return simulate("engine stream", lambda: simulation(spec), progress)


def simulation(spec: RunSpec) -> Stream:
    """The pattern of ``spec``'s workload, ready to be stepped.

    UserError: the workload has none. ValueError: the parameters make no machine.
    """
    from ptshare_plugin import _core

    workload = check(spec)
    loaded = spec.program
    return _core.Stream(
        machine_parameters(spec),
        spec.policy,
        spec.cores,
        workload.name,
        loaded.name,
        [(s.vaddr, s.offset, s.file_size, s.memory_size, s.prot) for s in loaded.segments],
        values(spec, workload),
    )


def replay(spec: RunSpec, trace: Trace, progress: Progress) -> RunResult:
    """Replay ``trace`` in each of ``spec``'s processes, in this process."""
    require_core()
    from ptshare_plugin import _core

    def made() -> Run:
        return _core.Replay(
            machine_parameters(spec),
            spec.policy,
            spec.cores,
            trace.path,
            list(trace.ranges),
            trace.share,
            spec.share,
            spec.procs,
            trace.ends_together,
        )

    return simulate(f"trace {trace.path}", made, progress)


def check(spec: RunSpec) -> workloads.Workload:
    """The workload of ``spec``; a UserError when it has no pattern, or not with its arguments."""
    require_core()
    from ptshare_plugin import _core

    known = _core.patterns()
    if spec.workload is None or spec.workload.name not in known:
        raise UserError(
            f"engine stream: {spec.program.name} has no access pattern; there are "
            f"{', '.join(known)}. Others run with --engine embedded",
            EXIT_USAGE,
            option="program",
        )
    _arguments(spec, spec.workload)
    return spec.workload


def values(spec: RunSpec, workload: workloads.Workload) -> dict[str, int]:
    """What the extension module is to know of a run of ``workload``, by name."""
    given = _arguments(spec, workload)
    place = workloads.symbols(workload.name)
    return {
        "options": place["options"],
        "barrier_page": place["barrier_page"],
        "powers": place.get("powers", 0),
        "file_bytes": len(spec.program.image),
        "region": workloads.REGION_ADDRESS,
        "region_bytes": spec.region,
        "share": int(spec.share),
        "around": given.pop(_AROUND),
        "processes": spec.procs,
        "seed": spec.seed,
        "work": int(workload.work.split()[0]) if spec.work is None else spec.work,
        "own": next(iter(given.values()), 0),
    }


def _arguments(spec: RunSpec, workload: workloads.Workload) -> dict[str, int]:
    """Values of the arguments that the pattern takes, by name: what was written after ``--``."""
    from ptshare_plugin import _core

    taken = (_core.patterns()[workload.name], _AROUND)
    usable = {arg.name: arg for arg in workload.arguments if arg.name in taken}
    found = {arg.name: arg.default or 0 for arg in usable.values()}
    words = list(spec.args)
    for i in range(0, len(words), 2):
        arg = usable.get(words[i])
        if arg is None:
            raise UserError(
                f"engine stream: {words[i]}: of {workload.name}'s arguments it takes "
                f"{', '.join(usable)}",
                EXIT_USAGE,
                option="args",
            )
        try:
            found[arg.name] = arg.value(words[i + 1] if i + 1 < len(words) else "")
        except UserError as error:
            raise UserError(f"engine stream: {error}", EXIT_USAGE, option="args") from error
    return found
