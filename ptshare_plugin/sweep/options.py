"""What a point of a sweep sets: the options of ``ptshare run`` and keys of the machine."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptshare_plugin import config, engines, units, workloads
from ptshare_plugin import program as programs
from ptshare_plugin.errors import UserError, nearest
from ptshare_plugin.machine import KEYS, Machine
from ptshare_plugin.program import Program
from ptshare_plugin.spec import RunSpec, default_cores

NAMES = (
    *("workload", "program", "args", "engine", "policy", "procs", "cores", "region", "preset"),
    *("seed", "work", "share"),
)
DEFAULTS: dict[str, Any] = {
    **{"args": (), "engine": "embedded", "policy": None, "procs": 4, "cores": None},
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
        raise UserError(f"{where}: {name}: {str(error).removeprefix(f'--{name}: ')}") from error


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
    elif name == "program":
        text = str(folder / text)
        _program(text)
    elif name == "preset":
        if "/" in text or text.endswith(".toml"):
            text = str(folder / text)
        _machine(text, ())
    return text


def _of_type(value: Any, kind: type, words: str) -> Any:
    if type(value) is not kind:
        raise UserError(f"must be {words}, not {value!r}")
    return value


@dataclass(frozen=True, slots=True)
class Options:
    """The options of ``ptshare run``, ready to be sent to another machine.

    :param program: name of a workload, or an absolute path.
    :param policy: None for the engine's default.
    """

    program: str
    args: tuple[str, ...]
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
        words = ["ptshare", "run", self.program, "--engine", self.engine]
        words += [] if self.policy is None else ["--policy", self.policy]
        words += ["--procs", str(self.procs)]
        words += [] if self.cores is None else ["--cores", str(self.cores)]
        words += ["--region", units.exact_size(self.region), "--preset", self.preset]
        words += [word for override in self.overrides for word in ("--set", override)]
        words += ["--seed", str(self.seed)]
        words += [] if self.work is None else ["--work", str(self.work)]
        words += [] if self.share else ["--no-share"]
        return words + (["--", *self.args] if self.args else [])

    def spec(self) -> RunSpec:
        """The run itself; a UserError when the machine's keys do not fit together."""
        workload = None if "/" in self.program else workloads.describe(self.program)
        engine = engines.by_name(self.engine)
        return RunSpec(
            program=_program(self.program if workload is None else str(workload.path)),
            workload=workload,
            args=self.args,
            engine=self.engine,
            policy=self.policy or engine.default_policy,
            procs=self.procs,
            cores=default_cores(self.procs, self.engine) if self.cores is None else self.cores,
            region=self.region,
            share=self.share,
            seed=self.seed,
            work=self.work,
            preset=self.preset,
            overrides=self.overrides,
            config=_machine(self.preset, self.overrides),
        )


@functools.cache
def _program(path: str) -> Program:
    return programs.load(path)


@functools.lru_cache(maxsize=4096)
def _machine(preset: str, overrides: tuple[str, ...]) -> Machine:
    return config.load(preset, overrides)
