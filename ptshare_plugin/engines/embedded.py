"""Engine ``embedded``: programs executed by Unicorn on core and the MMU model, in this process."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from ptshare_plugin import policies
from ptshare_plugin.common.errors import NOT_BUILT, UserError
from ptshare_plugin.common.progress import Progress
from ptshare_plugin.engines.base import simulated_cores
from ptshare_plugin.engines.native import machine_parameters, require_core, simulate
from ptshare_plugin.engines.result import RunResult

if TYPE_CHECKING:
    from ptshare_plugin._core import Run
    from ptshare_plugin.spec.run import RunSpec


class EmbeddedEngine:
    """Core and the MMU model under Unicorn, in this process."""

    name = "embedded"
    description = "core and MMU model, programs executed by Unicorn"
    default_policy = "ptshare"
    simulated = True
    replays_traces = True
    keeps_own_files = False

    def missing(self) -> str | None:
        """One of: the extension module, the Unicorn package, its shared library."""
        if importlib.util.find_spec("ptshare_plugin._core") is None:
            return NOT_BUILT
        try:
            unicorn_library()
        except UserError as error:
            return str(error)
        return None

    def policies(self) -> list[tuple[str, str]]:
        """Policies compiled into core."""
        return policies.described()

    def default_cores(self, procs: int) -> int:
        """As any simulated machine."""
        return simulated_cores(procs)

    def check(self, spec: RunSpec) -> None:
        """It runs what any engine could."""

    def run(self, spec: RunSpec, progress: Progress, keep: Path | None = None) -> RunResult:
        """Run ``spec`` in this process."""
        require_core()
        from ptshare_plugin import _core

        def made() -> Run:
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
