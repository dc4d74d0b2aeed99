"""What an engine says of itself and does: the one protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ptshare_plugin.common.progress import Progress
    from ptshare_plugin.engines.result import RunResult
    from ptshare_plugin.spec.run import RunSpec


class Engine(Protocol):
    """Runs a program under a policy.

    :ivar default_policy: the one of a run that names none.
    :ivar simulated: the machine of the spec is simulated; otherwise this one is as it is.
    :ivar replays_traces: a trace may stand in the program's place.
    :ivar keeps_own_files: ``run`` can leave files of the engine's own, for ``--keep-m5out``.
    """

    name: str
    description: str
    default_policy: str
    simulated: bool
    replays_traces: bool
    keeps_own_files: bool

    def missing(self) -> str | None:
        """What this machine lacks to use it, in one line; None when nothing."""

    def policies(self) -> list[tuple[str, str]]:
        """Sharing policies that it knows: name and one-line description."""

    def default_cores(self, procs: int) -> int:
        """Cores of a run that names none."""

    def check(self, spec: RunSpec) -> None:
        """Refuse what this engine alone cannot run; a UserError names the option."""

    def run(self, spec: RunSpec, progress: Progress, keep: Path | None = None) -> RunResult:
        """Run ``spec``, which ``check`` took, to its end. A UserError when the engine itself fails.

        :param keep: new folder for the engine's own files, where it ``keeps_own_files``.
        """


_MOST_BY_DEFAULT = 16


def simulated_cores(procs: int) -> int:
    """As many cores as processes, 16 at most: the usual default of a simulated machine."""
    return min(procs, _MOST_BY_DEFAULT)
