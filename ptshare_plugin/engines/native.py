"""What the engines in this process share: stepping a simulation of the extension module."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ptshare_plugin.common.errors import NOT_BUILT, UserError
from ptshare_plugin.common.memory import peak_rss, reset_peak_rss
from ptshare_plugin.common.progress import Progress
from ptshare_plugin.engines.result import ProcessResult, RunResult, Sample, mark_statistics

if TYPE_CHECKING:
    from ptshare_plugin._core import Run
    from ptshare_plugin.machine.schema import Value
    from ptshare_plugin.spec.run import RunSpec

STEP = 500_000
"""Instructions between two looks at signals and progress. Fixed, so that it cannot differ between
two runs; tens of milliseconds."""


def simulate(
    where: str,
    make: Callable[[], Run],
    progress: Progress,
    versions: dict[str, str] | None = None,
) -> RunResult:
    """Make a simulation and run it to its end, in this process.

    :param where: what the UserError of a simulation that fails begins with.
    """
    reset_peak_rss()
    start = time.perf_counter()
    with told(where):
        simulation = make()
    done = False
    while not done:
        with told(where):
            done = simulation.step(STEP)
        if not done:  # outside: what a callback raises is its own
            progress(simulation.instructions, simulation.cycles)
    with told(where):
        processes = [ProcessResult(*result) for result in simulation.results()]
        samples = [Sample(*row) for row in simulation.samples()]
        statistics = simulation.statistics() + mark_statistics(samples)
    return RunResult(
        processes=processes,
        statistics=statistics,
        seconds=time.perf_counter() - start,
        peak_rss_bytes=peak_rss(),
        versions=versions or {},
        samples=samples,
    )


@contextmanager
def told(where: str) -> Iterator[None]:
    """What the extension module raises, as a UserError."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{where}: {error}") from error
    except MemoryError as error:
        raise UserError(f"{where}: out of memory on this machine") from error


def machine_parameters(spec: RunSpec) -> dict[str, Value]:
    """What the extension module is to know of the machine: all keys but gem5's own."""
    return {key: value for key, value in spec.parameters().items() if not key.startswith("gem5.")}


def require_core() -> None:
    """Import the extension module; a UserError when that fails."""
    try:
        import ptshare_plugin._core  # noqa: F401
    except ImportError as error:
        raise UserError(f"{NOT_BUILT} ({error})") from error
