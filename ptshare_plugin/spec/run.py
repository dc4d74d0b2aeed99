"""What is to be run: one program, some processes, one policy, one machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptshare_plugin import policies as all_policies
from ptshare_plugin.common.errors import EXIT_USAGE, UserError, nearest
from ptshare_plugin.common.units import PAGE_BYTES, PMD_BYTES, exact_size
from ptshare_plugin.machine import config
from ptshare_plugin.machine.schema import Machine, Value, flatten
from ptshare_plugin.spec import program as programs
from ptshare_plugin.spec import workloads
from ptshare_plugin.spec.program import Program

if TYPE_CHECKING:
    from ptshare_plugin.spec.recording import Recording
    from ptshare_plugin.spec.trace import Trace

MAX_CORES = 64
MAX_PROCS = 32768
_LONGEST_NAME = 255  # bytes: NAME_MAX of Linux

IDENTITY = (
    *("engine", "policy", "program", "args", "procs", "cores", "region_bytes", "share"),
    *("seed", "work", "config"),
)
"""Keys of a ``run.json`` that decide the result; ``RunSpec.identity`` gives them."""


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run, whole: equal specs on one version give equal statistics.

    :param workload: None for a user's own program, which gets ``args`` and nothing else.
    :param region: bytes of the shared region that a workload maps.
    :param share: whether a workload asks for MAP_SHARED_PT.
    :param work: amount of work of a workload; None for its own default.
    :param trace: what is replayed in place of a program's execution; ``program`` names it.
    :param recording: likewise, of real processes; ``procs`` is how many of them are replayed.
    :param preset: what ``config`` was made from, with ``overrides``; for the record.
    :param varied: further overrides, in which the runs of a comparison differ.
    """

    program: Program
    workload: workloads.Workload | None
    args: tuple[str, ...]
    engine: str
    policy: str
    procs: int
    cores: int
    region: int
    share: bool
    seed: int
    work: int | None
    preset: str
    overrides: tuple[str, ...]
    config: Machine
    trace: Trace | None = None
    recording: Recording | None = None
    varied: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What tells this run from the others of a comparison; the name of its folder there."""
        return ",".join([self.policy, *self.varied])

    @property
    def heading(self) -> str:
        """The same in few words, where it is said which keys vary."""
        return " ".join([self.policy, *(each.partition("=")[2] for each in self.varied)])

    @property
    def label(self) -> str:
        """What progress is shown under."""
        return f"{self.program.name}, {self.policy}"

    def argv(self, rank: int, file: str = workloads.FILE_PATH) -> list[str]:
        """Command line of process ``rank``; ``file`` is that of a workload's region."""
        own = workloads.own_arguments(
            self.args, rank=rank, procs=self.procs, seed=self.seed, region=self.region
        )
        if self.workload is None:
            return [self.program.name, *own]
        given = workloads.arguments(
            file=file,
            region=self.region,
            share=self.share,
            rank=rank,
            procs=self.procs,
            seed=self.seed,
            work=self.work,
        )
        return [self.program.name, *given, *own]

    def env(self, rank: int) -> list[str]:
        """Environment of process ``rank``."""
        return workloads.environment(rank, self.procs)

    def parameters(self) -> dict[str, Value]:
        """Flat machine configuration, as engines and ``run.json`` take it."""
        return flatten(self.config)

    def identity(self) -> dict[str, Any]:
        """Everything that decides the result, ready for JSON."""
        return {
            "engine": self.engine,
            "policy": self.policy,
            "program": {
                "name": self.program.name,
                "sha256": self.program.sha256,
                "workload": self.workload is not None,
            },
            "args": list(self.args),
            "procs": self.procs,
            "cores": self.cores,
            "region_bytes": self.region,
            "share": self.share,
            "seed": self.seed,
            "work": self.work,
            "config": self.parameters(),
        }

    def request(self) -> dict[str, Any]:
        """The run for another process on this machine, ready for JSON; ``of_request`` reads it."""
        return {
            "identity": self.identity(),
            "program_path": self.program.path,
            "preset": self.preset,
        }

    @classmethod
    def of_request(cls, request: Mapping[str, Any]) -> RunSpec:
        """The run that ``request()`` gave; its program is named, not read."""
        try:
            identity, told = request["identity"], request["identity"]["program"]
            path = Path(request["program_path"])
        except (KeyError, TypeError) as error:
            raise UserError("no run as RunSpec.request() has it", EXIT_USAGE) from error
        return cls(
            program=programs.unread(path),
            workload=workloads.at(told["name"], path) if told["workload"] else None,
            args=tuple(identity["args"]),
            engine=identity["engine"],
            policy=identity["policy"],
            procs=identity["procs"],
            cores=identity["cores"],
            region=identity["region_bytes"],
            share=identity["share"],
            seed=identity["seed"],
            work=identity["work"],
            preset=request["preset"],
            overrides=(),
            config=config.from_flat(identity["config"]),
        )

    def run_id(self) -> str:
        """Twelve hex digits of the hash of ``identity()``."""
        return identity_hash(self.identity())

    def kill_is_expected(self, rank: int) -> bool:
        """Whether ``rank`` is meant to end by a SIGKILL that it sends itself."""
        return self.workload is not None and self.workload.expected_kill and rank == self.procs - 1


def flat_identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    """``identity`` with dotted names in place of nested ones: ``program.name``, ``mmu.pcids``."""
    flat = dict(identity)
    flat.update(flat.pop("config", None) or {})
    flat.update({f"program.{name}": value for name, value in flat.pop("program").items()})
    return flat


def identity_hash(identity: Mapping[str, Any]) -> str:
    """Twelve hex digits that stand for a run: equal ones decide equal results."""
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def check(spec: RunSpec, policies: Sequence[str], simulated: bool) -> None:
    """Refuse what no engine could run; a UserError names the option.

    :param policies: that the engine knows.
    :param simulated: whether the machine is; a real one knows its memory itself.
    """
    if len(spec.name.encode()) > _LONGEST_NAME:
        raise _usage("vary", None, f"too many keys for a folder's name, {spec.name}")
    if not 1 <= spec.procs <= MAX_PROCS:
        raise _usage("procs", spec.procs, f"must be 1 to {MAX_PROCS}")
    if not 1 <= spec.cores <= MAX_CORES:
        raise _usage("cores", spec.cores, f"must be 1 to {MAX_CORES}")
    if not 0 <= spec.seed < 1 << 64:
        raise _usage("seed", spec.seed, "must be 0 to 2^64 - 1")
    if spec.work is not None and not 1 <= spec.work < 1 << 63:
        raise _usage("work", spec.work, "must be 1 to 2^63 - 1")
    if spec.policy not in policies:
        raise _usage("policy", None, unknown_policy(spec.policy, policies))
    if spec.workload is None:
        if spec.work is not None:
            instead = (
                "a trace or a recording is replayed whole"
                if spec.trace or spec.recording
                else "give your own program its arguments after --"
            )
            raise _usage("work", None, f"is for workloads; {instead}")
        return
    for word in spec.args:
        if (option := workloads.GIVEN.get(word)) is not None:
            raise _usage("args", None, f"{word}: a workload has it from option {option}; give that")
    strict = spec.share and all_policies.known()[spec.policy].strict_alignment
    check_region(spec.region, strict, spec.config if simulated else None)


def unknown_policy(name: str, known: Sequence[str]) -> str:
    """What is said of a policy that is not in ``known``."""
    return f"unknown policy {name}{nearest(name, known)}; there are {', '.join(known)}"


def check_region(region: int, strict: bool, machine: Machine | None) -> None:
    """Refuse a region that no workload could map; a UserError names the option.

    :param region: bytes.
    :param strict: MAP_SHARED_PT is asked for, of a policy with ``strict_alignment``.
    :param machine: None for a real one.
    """
    size = exact_size(region)
    if region < PAGE_BYTES or region % PAGE_BYTES:
        raise _usage("region", size, "must be a multiple of the page size, 4KiB, and not 0")
    if strict and region % PMD_BYTES:
        above = exact_size((region // PMD_BYTES + 1) * PMD_BYTES)
        raise _usage(
            "region",
            size,
            "MAP_SHARED_PT needs a multiple of 2MiB, the size that one PMD entry maps, "
            f"like {above}",
        )
    if machine is None:  # a real one knows itself
        return
    memory = machine.kernel.memory_bytes
    if region >= memory:
        raise _usage(
            "region",
            size,
            f"does not fit into simulated memory, kernel.memory_bytes = {exact_size(memory)}; "
            "set kernel.memory_bytes to more",
        )


def _usage(option: str, value: object, message: str) -> UserError:
    return UserError(message, EXIT_USAGE, option=option, value=value)
