"""What a point of a sweep sets: the options of ``ptshare run`` and keys of the machine."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptshare_plugin.common import units
from ptshare_plugin.common.errors import UserError, nearest, os_reason
from ptshare_plugin.engines import registry as engines
from ptshare_plugin.machine import config
from ptshare_plugin.machine.schema import KEYS, Machine
from ptshare_plugin.spec import program as programs
from ptshare_plugin.spec import trace as traces
from ptshare_plugin.spec import workloads
from ptshare_plugin.spec.program import Program
from ptshare_plugin.spec.run import RunSpec, default_cores
from ptshare_plugin.spec.trace import Trace

NAMES = (
    *("workload", "program", "args", "trace", "trace_share", "engine", "policy", "procs"),
    *("cores", "region", "preset", "seed", "work", "share"),
)
DEFAULTS: dict[str, Any] = {
    **{"program": None, "args": (), "trace": None, "trace_share": None},
    **{"engine": "embedded", "policy": None, "procs": 4, "cores": None},
    **{"region": workloads.DEFAULT_REGION, "preset": config.DEFAULT_PRESET},
    **{"seed": 1, "work": None, "share": True},
}
"""As ``ptshare run`` has them."""

_NUMBERS = ("procs", "cores", "seed", "work")


def checked(name: str, value: Any, where: str, folder: Path) -> Any:
    """``value`` of the option or machine key ``name``, as a run takes it; a UserError otherwise.

    :param where: table of the file, with which the error begins.
    :param folder: what paths are relative to.
    """
    if "." in name:
        return config.checked_value(name, value, where)
    if name not in NAMES:
        raise UserError(f"{where}: unknown key {name}{nearest(name, (*NAMES, *KEYS))}")
    try:
        return _option(name, value, folder)
    except UserError as error:
        message = str(error).removeprefix(f"--{name}: ").removeprefix("--trace-share ")
        raise UserError(f"{where}: {name}: {message}") from error


def _option(name: str, value: Any, folder: Path) -> Any:
    if name == "region" and isinstance(value, str):
        return units.parse_size(value)
    if name == "share":
        return _of_type(value, bool, "true or false")
    if name == "args":
        words = _of_type(value, list, "a list of words")
        return tuple(_of_type(word, str, "a list of words") for word in words)
    if name in (*_NUMBERS, "region"):
        return _of_type(value, int, "a size, like 4MiB" if name == "region" else "a whole number")
    text = str(_of_type(value, str, "a word"))
    if name == "workload":
        workloads.path(text)
    elif name == "engine":
        engines.get(text)
    elif name == "policy":
        _known_policy(text)
    elif name == "program":
        text = str(folder / text)
        _program(text)
    elif name == "trace":
        text = str(folder / text)
        _stamp(text)  # it is read once it is known with which share
    elif name == "trace_share":
        traces.parse_share(text)
    elif name == "preset":
        if "/" in text or text.endswith(".toml"):
            text = str(folder / text)
        _machine(text, ())
    return text


def _known_policy(name: str) -> None:
    """Refuse what no engine knows; what the engine of a run knows is for its check."""
    known = dict.fromkeys(
        policy for engine in engines.all_engines() for policy, _ in engine.policies()
    )
    if name not in known:
        raise UserError(
            f"unknown policy {name}{nearest(name, known)}; there are {', '.join(known)}"
        )


def _of_type(value: Any, kind: type, words: str) -> Any:
    if type(value) is not kind:
        raise UserError(f"must be {words}, not {value!r}")
    return value


@dataclass(frozen=True, slots=True)
class Options:
    """The options of ``ptshare run``, ready to be sent to another machine.

    :param program: name of a workload, or an absolute path; None for a trace.
    :param trace: absolute path.
    :param policy: None for the engine's default.
    """

    program: str | None
    args: tuple[str, ...]
    trace: str | None
    trace_share: str | None
    engine: str
    policy: str | None
    procs: int
    cores: int | None
    region: int
    preset: str
    overrides: tuple[str, ...]
    seed: int
    work: int | None
    share: bool

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Options:
        """Options of checked ``values``; those that are not there have their default."""
        given = {**DEFAULTS, **{name: values[name] for name in NAMES if name in values}}
        given["program"] = given.pop("workload", None) or given["program"]
        if given["trace"] is not None:
            given["engine"] = "stream"
        return cls(
            **given,
            overrides=tuple(
                f"{name}={config.show(KEYS[name], value)}"
                for name, value in values.items()
                if "." in name
            ),
        )

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Options:
        """The same from JSON, which has no tuples."""
        return cls(**{**values, **{name: tuple(values[name]) for name in ("args", "overrides")}})

    def command(self) -> list[str]:
        """The command line that makes the same run."""
        words = ["ptshare", "run"]
        words += [] if self.program is None else [self.program]
        words += [] if self.trace is None else ["--trace", self.trace]
        words += [] if self.trace_share is None else ["--trace-share", self.trace_share]
        words += ["--engine", self.engine]
        words += [] if self.policy is None else ["--policy", self.policy]
        words += ["--procs", str(self.procs)]
        words += [] if self.cores is None else ["--cores", str(self.cores)]
        words += ["--region", units.exact_size(self.region)] if self.trace is None else []
        words += ["--preset", self.preset]
        words += [word for override in self.overrides for word in ("--set", override)]
        words += ["--seed", str(self.seed)]
        words += [] if self.work is None else ["--work", str(self.work)]
        words += [] if self.share else ["--no-share"]
        return words + (["--", *self.args] if self.args else [])

    def spec(self) -> RunSpec:
        """The run itself; a UserError when the machine's keys do not fit together.

        Or when the trace is none, or its share is not touched.
        """
        engine = engines.by_name(self.engine)
        workload, trace, args, region = None, None, self.args, self.region
        if self.trace is not None:
            trace = _trace(self.trace, self.trace_share)
            program, args, region = trace.program(), trace.args, trace.share[1] - trace.share[0]
        else:
            assert self.program is not None
            if "/" not in self.program:
                workload = workloads.describe(self.program)
            program = _program(self.program if workload is None else str(workload.path))
        return RunSpec(
            program=program,
            workload=workload,
            args=args,
            engine=self.engine,
            policy=self.policy or engine.default_policy,
            procs=self.procs,
            cores=default_cores(self.procs, self.engine) if self.cores is None else self.cores,
            region=region,
            share=self.share,
            seed=self.seed,
            work=self.work,
            preset=self.preset,
            overrides=self.overrides,
            config=_machine(self.preset, self.overrides),
            trace=trace,
        )


@functools.cache
def _program(path: str) -> Program:
    return programs.load(path)


def _trace(path: str, share: str | None) -> Trace:
    found = _surveyed(path, share, _stamp(path))
    if isinstance(found, UserError):
        raise found
    return found


@functools.cache
def _surveyed(path: str, share: str | None, _: tuple[int, int]) -> Trace | UserError:
    """The trace, or what is wrong with it: to read it takes long."""
    try:
        return traces.load(path, share)
    except UserError as error:
        message = str(error)
        own = message.startswith("--trace-share ")
        return UserError(
            message.replace("--trace-share", "trace_share") if own else f"trace: {message}"
        )


def _stamp(path: str) -> tuple[int, int]:
    """What another file, or another content, has differently."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise UserError(f"trace: {path}: cannot be read: {os_reason(error)}") from error
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=4096)
def _machine(preset: str, overrides: tuple[str, ...]) -> Machine:
    return config.load(preset, overrides)
