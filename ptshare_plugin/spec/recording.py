"""A recording of real processes, in a program's place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ptshare_plugin.spec.program import Program, named


@dataclass(frozen=True, slots=True)
class Chosen:
    """A mapping that is to ask for shared tables.

    :param stream: number of the stream of the process that made it.
    :param returned: stamp of the return of its call.
    :param what: number of the object mapped: equal ones are at one place.
    :param in_memory: of no file, so that it may be larger than it was.
    """

    stream: int
    returned: int
    what: int
    bytes: int
    in_memory: bool


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that was read once and found whole, and how it is replayed.

    :param processes: that were recorded, those that executed several programs once.
    :param copies: number of a stream, and by how many ns it runs later than recorded: of processes
        that are replayed once more.
    :param rules: as written, of mappings that ask for shared tables.
    :param align: these move to the alignment that the policy needs.
    :param chosen: what the rules choose.
    :param roi: stamps between which the region of interest lies.
    """

    path: str
    sha256: str
    processes: int
    copies: tuple[tuple[int, int], ...] = ()
    times: int = 1
    rules: tuple[str, ...] = ()
    align: bool = False
    chosen: tuple[Chosen, ...] = ()
    roi: tuple[int, int] = (0, (1 << 64) - 1)

    @property
    def args(self) -> tuple[str, ...]:
        """What of the command line decides the result beside the recording."""
        rules = tuple(word for rule in self.rules for word in ("--share", rule))
        align = ("--align",) if self.align else ()
        times = ("--procs", f"x{self.times}") if self.times != 1 else ()
        return (*rules, *align, *times)

    def program(self) -> Program:
        """The recording in a program's place in a RunSpec; it has no image."""
        return named(Path(self.path).name, self.path, self.sha256)
