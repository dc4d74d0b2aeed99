"""The one statement of a run's options: names, defaults, meanings, checks, and the run they make.

The command line, sweep files, ``gem5_configs/ptshare.py`` and Python (``ptshare_plugin.run``) take
these options, by these names, with these defaults. Standard library only at import, because gem5's
Python imports it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptshare_plugin.common import units
from ptshare_plugin.common.errors import EXIT_USAGE, UserError, nearest
from ptshare_plugin.common.progress import Progress, silent
from ptshare_plugin.engines import registry as engines
from ptshare_plugin.machine import config
from ptshare_plugin.runs import inputs, readers
from ptshare_plugin.spec import workloads
from ptshare_plugin.spec.recording import Recording
from ptshare_plugin.spec.run import RunSpec
from ptshare_plugin.spec.trace import ALONE, TOGETHER, Trace

if TYPE_CHECKING:
    from ptshare_plugin.spec.program import Program
    from ptshare_plugin.spec.workloads import Workload

Read = Callable[[Any, Path | None], Any]
"""Checks a value and makes it what a run takes; paths are relative to a folder that is given."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a face must know of an option.

    :param kind: what a command line takes: ``int``; ``str`` (words and sizes); ``list`` of words,
        one each time that the option is there; ``bool`` for a switch that turns the option off.
    :param shown: default in words, where the value itself says nothing.
    :param off: what a switch says, where ``help`` says what it turns off.
    :param flag: of the command line, where it is not the name's.
    :param parse: a word of a command line into what ``read`` takes, where ``kind`` does not; a
        ValueError: it is none.
    """

    name: str
    default: Any
    kind: type
    read: Read
    help: str
    metavar: str | None
    flags: tuple[str, ...]
    shown: str | None
    off: str | None
    flag: str | None
    parse: Callable[[str], Any] | None

    @property
    def turns_off(self) -> bool:
        """A switch for what is on without it."""
        return self.kind is bool and bool(self.default)


def _option(
    default: Any,
    kind: type,
    read: Read,
    help: str,
    *,
    metavar: str | None = None,
    flags: tuple[str, ...] = (),
    shown: str | None = None,
    off: str | None = None,
    flag: str | None = None,
    parse: Callable[[str], Any] | None = None,
) -> Any:
    stated = (default, kind, read, help, metavar, flags, shown, off, flag, parse)
    return dataclasses.field(default=default, metadata={"stated": stated})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one run, each checked by itself; ``of`` makes them, ``spec`` the run.

    Plain data, ready to be sent to another machine. Paths are absolute, or as they were given when
    they were relative to the working directory. ``program`` is None for a trace or a recording.
    """

    program: str | None = _option(
        None,
        str,
        readers.program,
        "A workload's name, or the path (with a slash) of your own program.",
        metavar="PROGRAM",
    )
    args: tuple[str, ...] = _option(
        (),
        list,
        readers.words,
        "Arguments of the program; {rank}, {procs}, {seed} and {region} are replaced.",
        metavar="[-- ARGS]...",
    )
    trace: str | None = _option(
        None,
        str,
        readers.trace,
        "Replay this trace in each process, in place of a program; engine stream.",
        metavar="FILE",
    )
    trace_share: str | None = _option(
        None,
        str,
        readers.trace_share,
        "Addresses of the trace that all processes share, with MAP_SHARED_PT.",
        metavar="0xSTART-0xEND",
    )
    trace_end: str = _option(
        TOGETHER,
        str,
        readers.trace_end,
        f"When a process exits that has replayed its trace: {TOGETHER}, or each {ALONE}.",
    )
    recording: str | None = _option(
        None,
        str,
        readers.recording,
        "Replay this recording of 'ptshare record', in place of a program; engine stream.",
        metavar="DIR",
    )
    share_rules: tuple[str, ...] = _option(
        (),
        list,
        readers.share_rules,
        "Mappings of the recording that ask for MAP_SHARED_PT: KIND[>=SIZE] [path=GLOB]"
        " [process=GLOB], KIND shared, file, anonymous, system-v or memory; repeatable.",
        metavar="RULE",
        flag="--share",
    )
    align: bool = _option(
        False,
        bool,
        readers.truth,
        "What --share chooses moves to the alignment that the policy needs.",
    )
    times: int = _option(
        1,
        int,
        readers.whole,
        "Processes of the recording that fork none run so often, at other times; as --procs xN.",
    )
    engine: str = _option(
        engines.DEFAULT,
        str,
        readers.engine,
        f"What executes the program: {', '.join(engines.names())}.",
    )
    policy: str | None = _option(
        None, str, readers.policy, "Sharing policy.", shown="ptshare; on linux private"
    )
    procs: int = _option(
        4,
        int,
        readers.whole,
        "Number of processes; of a recording xN: those that fork none N times over.",
        flags=("-n",),
        metavar="N|xN",
        parse=readers.procs,
    )
    cores: int | None = _option(
        None,
        int,
        readers.whole,
        "Number of simulated cores, at most 64.",
        shown="procs, at most 16 but with gem5",
    )
    region: int = _option(
        workloads.DEFAULT_REGION,
        str,
        readers.size,
        "Size of the region that a workload's processes share.",
        shown=units.exact_size(workloads.DEFAULT_REGION),
    )
    preset: str = _option(
        config.DEFAULT_PRESET,
        str,
        readers.preset,
        "Machine: a preset's name or a .toml file; see 'ptshare presets'.",
    )
    set: tuple[str, ...] = _option(
        (),
        list,
        readers.overrides,
        "Change one key of the machine; repeatable.",
        metavar="KEY=VALUE",
    )
    seed: int = _option(1, int, readers.whole, "Same seed, same result.")
    work: int | None = _option(
        None,
        int,
        readers.whole,
        "Amount of work of a workload.",
        shown="its own, see 'ptshare workloads'",
    )
    share: bool = _option(
        True,
        bool,
        readers.truth,
        "Workloads ask for MAP_SHARED_PT.",
        off="Workloads do not ask for MAP_SHARED_PT.",
    )

    @classmethod
    def of(cls, values: Mapping[str, Any], folder: Path | None = None) -> Options:
        """Options of ``values`` by name; those that are not there, or None, have their default.

        :param folder: what paths are relative to.
        :raises UserError: for an unknown name, a wrong value, and values that do not go together.
        """
        given = {}
        for name, value in values.items():
            stated = STATED.get(ALIASES.get(name, name))
            if stated is None:
                raise UserError(f"unknown option {name}{nearest(name, STATED)}", EXIT_USAGE)
            if value is None:
                continue
            if stated.name in given:
                raise _misplaced(name, f"is another name of {stated.name}, which is there, too")
            given[stated.name] = value
        _take_times(given)
        if "trace" in given:  # before what the engine lacks, or what the program is
            if "program" in given:
                raise _misplaced("trace", f"replaces the program; leave {given['program']} out")
            if given.get("engine") in engines.names():
                _check_replays(given["engine"])
        else:
            for name in TRACE_ONLY:
                if name in given:
                    raise _misplaced(name, _NO_TRACE)
        if given.get("recording") is None:
            for name in RECORDING_ONLY:
                if name in given:
                    raise _misplaced(name, _NO_RECORDING)
        elif given.get("engine") in engines.names():
            _check_replays(given["engine"])
        if given.get("recording") is not None and given.get("procs") is not None:
            raise _misplaced("procs", "a recording has its own processes; xN runs them N times")
        return cls.of_read({name: read_option(name, each, folder) for name, each in given.items()})

    @classmethod
    def of_read(cls, values: Mapping[str, Any]) -> Options:
        """The same of values that ``read_option`` gave, by the options' own names."""
        if "region" in values and values.get("trace") is not None:
            raise _misplaced("region", "is for programs; a trace has trace_share")
        if "region" in values and values.get("recording") is not None:
            raise _misplaced("region", "is for programs; of a recording, --share chooses")
        return _fit(cls(**values))

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Options:
        """Options from their ``dataclasses.asdict`` after JSON, which has no tuples."""
        return cls(**{**values, **{name: tuple(values[name]) for name in _TUPLES}})

    @property
    def what(self) -> str:
        """The program, or what stands in its place."""
        return self.program or self.trace or self.recording or ""

    def command(self) -> list[str]:
        """The command line that makes the same run."""
        words = ["ptshare", "run"]
        words += [] if self.program is None else [self.program]
        for name, stated in STATED.items():
            value = getattr(self, name)
            if name in ("program", "args") or value is None:
                continue
            if stated.kind is bool:
                words += [] if value == stated.default else [flag(name)]
            elif stated.kind is list:
                words += [word for item in value for word in (flag(name), item)]
            elif name == "trace_end":
                words += [flag(name), value] if self.trace is not None else []
            elif name == "region":
                words += [flag(name), units.exact_size(value)] if self.program is not None else []
            elif name in ("procs", "times") and self.recording is not None:
                words += ["--procs", f"x{value}"] if name == "times" and value != 1 else []
            elif name == "times":
                pass
            else:
                words += [flag(name), str(value)]
        return words + (["--", *self.args] if self.args else [])

    def spec(self, progress: Progress = silent) -> RunSpec:
        """The run itself, not yet checked: see ``engines.registry.check``.

        :param progress: of reading a trace or a recording.
        :raises UserError: when the machine's keys do not fit together, the trace is none, its
            share is not touched, or the recording is damaged.
        """
        if self.recording is not None:
            recording = inputs.recording(
                self.recording, self.share_rules, self.align, self.times, progress
            )
            return self.spec_of(recording.program(), None, recording=recording)
        if self.trace is not None:
            trace = inputs.trace(self.trace, self.trace_share, progress)
            trace = dataclasses.replace(trace, ends_together=self.trace_end == TOGETHER)
            return self.spec_of(trace.program(), None, trace)
        assert self.program is not None
        workload = None if "/" in self.program else workloads.describe(self.program)
        return self.spec_of(
            inputs.program(self.program if workload is None else str(workload.path)), workload
        )

    def spec_of(
        self,
        program: Program,
        workload: Workload | None,
        trace: Trace | None = None,
        recording: Recording | None = None,
    ) -> RunSpec:
        """The run, of what its program, trace or recording was found to be."""
        engine = engines.by_name(self.engine)
        procs, args, region = self.procs, self.args, self.region
        if trace is not None:
            args, region = trace.args, trace.share[1] - trace.share[0]
        if recording is not None:
            procs, args = recording.processes + len(recording.copies), recording.args
            region = sum({each.what: each.bytes for each in recording.chosen}.values())
        cores = engine.default_cores(procs) if self.cores is None else self.cores
        return RunSpec(
            program=program,
            workload=workload,
            args=args,
            engine=self.engine,
            policy=self.policy or engine.default_policy,
            procs=procs,
            cores=cores,
            region=region,
            share=self.share,
            seed=self.seed,
            work=self.work,
            preset=self.preset,
            overrides=self.set,
            config=inputs.machine(self.preset, self.set),
            trace=trace,
            recording=recording,
        )


STATED: dict[str, Statement] = {
    field.name: Statement(field.name, *field.metadata["stated"])
    for field in dataclasses.fields(Options)
}
"""Every option by name, in the order in which help lists them."""
ALIASES = {"workload": "program"}
"""Other names that options have in sweep files and for gem5's script."""
TRACE_ONLY = ("trace_share", "trace_end")
"""Options that say how a trace is replayed."""
RECORDING_ONLY = ("share_rules", "align", "times")
"""Options that say how a recording is replayed."""
_TUPLES = tuple(name for name, stated in STATED.items() if stated.kind is list)


def flag(name: str) -> str:
    """How an option is written on a command line."""
    stated = STATED[name]
    return stated.flag or f"--{'no-' if stated.turns_off else ''}{name.replace('_', '-')}"


# What an error is about that has another name on the command line than an option's, or none.
_OTHERWISE = {
    "program": "",
    "args": "",
    "configuration": "configuration",
    "file": "FILE",
    "output": "-o",
}


def spell(name: str) -> str:
    """How the command line calls what an error is about; "": not at all."""
    if name in _OTHERWISE:
        return _OTHERWISE[name]
    return flag(name) if name in STATED else f"--{name.replace('_', '-')}"


def read_option(name: str, value: Any, folder: Path | None = None) -> Any:
    """Value of one option as ``Options`` holds it; a UserError names the option."""
    try:
        return STATED[name].read(value, folder)
    except UserError as error:
        if error.option is not None:
            raise
        raise UserError(error.message, EXIT_USAGE, option=name, key=error.key) from error


_NO_TRACE = "is for traces; there is none"
_NO_RECORDING = "is for recordings; there is none"


def _take_times(given: dict[str, Any]) -> None:
    """Take ``procs = "xN"`` for ``times = N``."""
    procs = given.get("procs")
    if not isinstance(procs, str) or not readers.is_times(procs):
        return
    if "times" in given:
        raise _misplaced("times", f"is there as procs, {procs}, too")
    del given["procs"]
    given["times"] = int(procs[1:])
    if given["times"] < 1:
        raise UserError("must be x1 or more", EXIT_USAGE, option="procs", value=procs)


def _fit(options: Options) -> Options:
    """Refuse options that do not go together, and take the engine that replays a trace."""
    if options.recording is not None:
        for name in ("program", "trace"):
            if (other := getattr(options, name)) is not None:
                raise _misplaced("recording", f"replaces the program; leave {other} out")
        if options.args:
            raise _misplaced("args", "arguments are for programs; there is a recording")
        if options.times < 1:
            raise UserError("must be 1 or more", EXIT_USAGE, option="times", value=options.times)
        _check_replays(options.engine)
        return dataclasses.replace(options, engine=engines.REPLAYER)
    if options.trace is None:
        if options.program is None:
            raise UserError("the program is missing: a workload's name or a path", EXIT_USAGE)
        if options.trace_share is not None:
            raise _misplaced("trace_share", _NO_TRACE)
        if options.trace_end != TOGETHER:
            raise _misplaced("trace_end", _NO_TRACE)
        return options
    if options.program is not None:
        raise _misplaced("trace", f"replaces the program; leave {options.program} out")
    if options.args:
        raise _misplaced("args", "arguments are for programs; there is a trace")
    _check_replays(options.engine)
    return dataclasses.replace(options, engine=engines.REPLAYER)


def _check_replays(engine: str) -> None:
    if not engines.by_name(engine).replays_traces:
        raise _misplaced("engine", f"engine {engine} replays no traces; leave it out")


def _misplaced(option: str, message: str) -> UserError:
    return UserError(message, EXIT_USAGE, option=option)
