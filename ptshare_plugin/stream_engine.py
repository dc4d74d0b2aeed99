"""Engine ``stream``: a workload's access pattern on the embedded machine, without its program."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from ptshare_plugin import trace, workloads
from ptshare_plugin.engines import (
    Progress,
    RunResult,
    machine_parameters,
    require_core,
    simulate,
)
from ptshare_plugin.errors import EXIT_USAGE, UserError

if TYPE_CHECKING:
    from ptshare_plugin._core import Stream
    from ptshare_plugin.spec import RunSpec

# The workloads' own defaults of --writes, in per cent (se_workloads/*.c).
_WRITES = {"random": 20, "zipf": 10}

# Arguments of the workloads that mean something here, and the most that each may be.
_ARGUMENTS = {"--writes": 100, "--around": 1}


class StreamEngine:
    """Core and MMU model, fed with the accesses that a workload's program would make."""

    name = "stream"
    description = (
        "core and MMU model, fed with a workload's access pattern or a trace; executes nothing"
    )
    default_policy = "ptshare"

    def missing(self) -> str | None:
        """The extension module, if that."""
        if importlib.util.find_spec("ptshare_plugin._core") is None:
            return "the extension module ptshare_plugin._core is not built: run 'pip install -e .'"
        return None

    def policies(self) -> list[tuple[str, str]]:
        """Policies compiled into core."""
        require_core()
        from ptshare_plugin import _core

        return _core.policies()

    def run(self, spec: RunSpec, progress: Progress) -> RunResult:
        """Run the pattern of ``spec``'s workload, or its trace, in this process."""
        if spec.trace is not None:
            return trace.replay(spec, spec.trace, progress)
        return simulate("engine stream", lambda: simulation(spec), progress)


def simulation(spec: RunSpec) -> Stream:
    """The pattern of ``spec``'s workload, ready to be stepped.

    UserError: the workload has none. ValueError: the parameters make no machine.
    """
    require_core()
    from ptshare_plugin import _core

    loaded = spec.program
    known = _core.pattern_names()
    if spec.workload is None or spec.workload.name not in known:
        raise UserError(
            f"engine stream: {loaded.name} has no access pattern; there are "
            f"{', '.join(known)}. Others run with --engine embedded",
            EXIT_USAGE,
        )
    return _core.Stream(
        machine_parameters(spec),
        spec.policy,
        spec.cores,
        spec.workload.name,
        loaded.name,
        [(s.vaddr, s.offset, s.file_size, s.memory_size, s.prot) for s in loaded.segments],
        values(spec, spec.workload),
    )


def values(spec: RunSpec, workload: workloads.Workload) -> dict[str, int]:
    """What the extension module is to know of a run of ``workload``, by name."""
    given = _arguments(spec, workload.name)
    place = workloads.symbols(workload.name)
    return {
        "options": place["options"],
        "barrier_page": place["barrier_page"],
        "powers": place.get("powers", 0),
        "file_bytes": len(spec.program.image),
        "region": workloads.REGION_ADDRESS,
        "region_bytes": spec.region,
        "share": int(spec.share),
        "around": given.get("--around", 1),
        "processes": spec.procs,
        "seed": spec.seed,
        "work": int(workload.work.split()[0]) if spec.work is None else spec.work,
        "writes": given.get("--writes", _WRITES.get(workload.name, 0)),
    }


def _arguments(spec: RunSpec, name: str) -> dict[str, int]:
    """What was written after ``--``: pairs of an argument and its number."""
    usable = [arg for arg in _ARGUMENTS if arg != "--writes" or name in _WRITES]
    found: dict[str, int] = {}
    words = list(spec.args)
    for i in range(0, len(words), 2):
        arg = words[i]
        if arg not in usable:
            raise UserError(
                f"engine stream: {arg}: of {name}'s arguments it takes {', '.join(usable)}",
                EXIT_USAGE,
            )
        value = words[i + 1] if i + 1 < len(words) else ""
        if not (value.isascii() and value.isdigit()) or int(value) > _ARGUMENTS[arg]:
            raise UserError(
                f"engine stream: {arg} {value}: must be a number from 0 to {_ARGUMENTS[arg]}",
                EXIT_USAGE,
            )
        found[arg] = int(value)
    return found
