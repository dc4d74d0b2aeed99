"""The engines that there are. An engine is added by its file and its line here."""

from __future__ import annotations

import functools
import importlib

from ptshare_plugin.common.errors import EXIT_USAGE, UserError, nearest
from ptshare_plugin.engines.base import Engine
from ptshare_plugin.spec.run import RunSpec
from ptshare_plugin.spec.run import check as check_spec

_CLASSES = {
    "embedded": "ptshare_plugin.engines.embedded:EmbeddedEngine",
    "stream": "ptshare_plugin.engines.stream:StreamEngine",
    "gem5": "ptshare_plugin.engines.gem5.engine:Gem5Engine",
    "linux": "ptshare_plugin.engines.linux.engine:LinuxEngine",
}
DEFAULT = "embedded"
"""The engine of a run that names none, and the one that ptshare's main job needs."""
REPLAYER = "stream"
"""The engine that replays a trace, whichever of those that may is asked for."""


def names() -> tuple[str, ...]:
    """All engines, whether this machine has them or not."""
    return tuple(_CLASSES)


@functools.cache
def by_name(name: str) -> Engine:
    """Engine called ``name``, whether this machine has it or not."""
    if name not in _CLASSES:
        raise UserError(
            f"unknown engine {name}{nearest(name, _CLASSES)}; there are {', '.join(_CLASSES)}",
            EXIT_USAGE,
            option="engine",
        )
    module, _, attribute = _CLASSES[name].partition(":")
    made: Engine = getattr(importlib.import_module(module), attribute)()
    return made


def all_engines() -> tuple[Engine, ...]:
    """Every engine, whether this machine has it or not."""
    return tuple(by_name(name) for name in _CLASSES)


def get(name: str) -> Engine:
    """Engine called ``name``, ready to use; a UserError says what it lacks."""
    engine = by_name(name)
    lack = engine.missing()
    if lack is not None:
        raise UserError(f"engine {name}: {lack}", option="engine")
    return engine


def check(spec: RunSpec) -> None:
    """Refuse what nobody could run, and what ``spec``'s engine cannot; a UserError says why."""
    engine = get(spec.engine)
    check_spec(spec, [name for name, _ in engine.policies()], engine.simulated)
    engine.check(spec)
