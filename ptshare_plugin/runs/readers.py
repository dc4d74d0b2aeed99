"""How values of a run's options are read: each is checked, and made what a run takes.

Paths are relative to a folder that is given, or to the current one. Standard library only at
import, as in ``options.py``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ptshare_plugin import policies
from ptshare_plugin.common import units
from ptshare_plugin.common.errors import EXIT_USAGE, UserError, os_reason
from ptshare_plugin.engines import registry as engines
from ptshare_plugin.engines import traces
from ptshare_plugin.machine import config
from ptshare_plugin.machine.schema import KEYS
from ptshare_plugin.runs import inputs
from ptshare_plugin.spec import workloads
from ptshare_plugin.spec.run import unknown_policy
from ptshare_plugin.spec.trace import ALONE, TOGETHER, parse_share


def program(value: Any, folder: Path | None) -> str:
    """A workload's name, or the path of a program that is there."""
    text = word(value, folder)
    if "/" not in text:
        workloads.path(text)
        return text
    text = _placed(text, folder)
    inputs.program(text)
    return text


def _placed(path: str, folder: Path | None) -> str:
    """``path`` from ``folder``; without one as it was given, a leading ``./`` included."""
    return path if folder is None else str(folder / path)


def words(value: Any, _: Path | None) -> tuple[str, ...]:
    """A list of words."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _kind_error("a list of words", value)
    return tuple(_one_word(each, "a list of words") for each in value)


def word(value: Any, _: Path | None) -> str:
    """One word; a path may be a ``Path``."""
    return _one_word(os.fspath(value) if isinstance(value, os.PathLike) else value, "a word")


def _one_word(value: Any, kind: str) -> str:
    if type(value) is not str:
        raise _kind_error(kind, value)
    if "\0" in value or not _encodes(value):
        raise UserError(f"must be text without NUL characters, in UTF-8, not {value!r}", EXIT_USAGE)
    return value


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def whole(value: Any, _: Path | None) -> int:
    """A whole number."""
    if type(value) is not int:
        raise _kind_error("a whole number", value)
    return value


def size(value: Any, _: Path | None) -> int:
    """A size, in bytes."""
    return units.read_size(value)


def truth(value: Any, _: Path | None) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise _kind_error("true or false", value)
    return value


def trace(value: Any, folder: Path | None) -> str:
    """Path of a trace that is there, or standard input."""
    text = word(value, folder)
    if text == traces.STDIN:  # standard input, which whoever reads it refuses
        return text
    text = _placed(text, folder)
    try:
        os.stat(text)  # it is read once it is known with which share
    except OSError as error:
        raise UserError(f"{text}: cannot be read: {os_reason(error)}", EXIT_USAGE) from error
    return text


def trace_share(value: Any, folder: Path | None) -> str:
    """A range of addresses as it is written."""
    text = word(value, folder)
    parse_share(text)
    return text


def recording(value: Any, folder: Path | None) -> str:
    """Path of a recording that is there."""
    text = _placed(word(value, folder), folder)
    if not os.path.exists(text):
        raise UserError(f"{text}: there is no such recording", EXIT_USAGE)
    return text


def share_rules(value: Any, folder: Path | None) -> tuple[str, ...]:
    """Rules that can be read."""
    from ptshare_plugin.recording import rules

    found = words(value, folder)
    for each in found:
        rules.parse(each)
    return found


def procs(text: str) -> int | str:
    """A number of processes; ``xN``, for a recording, as it is."""
    if is_times(text):
        return text
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a valid integer, nor xN for a recording") from None


def is_times(value: Any) -> bool:
    """Whether it is a number of times, ``xN``."""
    return isinstance(value, str) and value[:1] == "x" and value[1:].isdecimal()


def trace_end(value: Any, folder: Path | None) -> str:
    """How processes that replay a trace end."""
    text = word(value, folder)
    if text not in (TOGETHER, ALONE):
        raise UserError(f"must be {TOGETHER} or {ALONE}, not {text!r}", EXIT_USAGE)
    return text


def engine(value: Any, folder: Path | None) -> str:
    """Name of an engine."""
    text = word(value, folder)
    engines.get(text)
    return text


def policy(value: Any, folder: Path | None) -> str:
    """Refuse what no engine knows; what the engine of a run knows is for its check."""
    text = word(value, folder)
    if text not in policies.known():
        raise UserError(unknown_policy(text, policies.names()), EXIT_USAGE)
    return text


def preset(value: Any, folder: Path | None) -> str:
    """A preset's name, or the path of one that is there."""
    text = word(value, folder)
    if "/" in text or text.endswith(".toml"):
        text = _placed(text, folder)
    inputs.machine(text, ())
    return text


def overrides(value: Any, folder: Path | None) -> tuple[str, ...]:
    """``KEY=VALUE`` each; or a mapping of keys to values."""
    if not isinstance(value, Mapping):
        return words(value, folder)
    for name in value:
        if type(name) is not str:
            raise _kind_error("keys of the machine with their values", name)
    checked = {name: config.checked_value(name, each) for name, each in value.items()}
    return tuple(f"{name}={config.show(KEYS[name], each)}" for name, each in checked.items())


def _kind_error(kind: str, value: Any) -> UserError:
    return UserError(f"must be {kind}, not {value!r}", EXIT_USAGE)
