"""Presets, files and ``--set`` made into one checked machine configuration.

Standard library only, because gem5's embedded Python imports it. Every refusal is a UserError of
one line that names the key and what would be right, and of an option when one brought it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ptshare_plugin.common.errors import EXIT_USAGE, UserError, nearest, os_reason
from ptshare_plugin.common.files import read_toml
from ptshare_plugin.common.units import PAGE_BYTES, exact_size, parse_size
from ptshare_plugin.machine.schema import KEYS, Key, Machine, Value, build, flatten

DEFAULT_PRESET = "server"
_FOLDER = Path(__file__).parent / "presets"
_NOT_KEYS = ("base", "description")


def preset_names() -> list[str]:
    """Names of the presets that come with ptshare."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def preset_description(name: str) -> str:
    """The preset's own one line about itself."""
    return str(_read(_preset_path(name, None)).get("description", ""))


def load(
    preset: str = DEFAULT_PRESET, overrides: Iterable[str] = (), varied: Iterable[str] = ()
) -> Machine:
    """Machine of ``preset`` (a name, or the path of a TOML file) changed by ``overrides``.

    :param overrides: ``key=value`` strings, later ones winning; sizes may be written as 2MiB.
    :param varied: further ones, of ``--vary``.
    """
    path = _preset_path(preset, None)
    values = _resolve(path, ())
    missing = [name for name in KEYS if name not in values]
    if missing:
        raise _of_preset(
            path,
            f"{missing[0]} is missing ({len(missing)} keys are): "
            f'add it, or start from base = "{DEFAULT_PRESET}"',
        )
    given = [("set", text) for text in overrides] + [("vary", text) for text in varied]
    for option, text in given:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals:
            raise UserError(
                "write it as key=value, like mmu.stlb.entries=2048",
                EXIT_USAGE,
                option=option,
                value=text,
            )
        with _about(option):
            values[name] = _from_text(_known(name), value.strip())
    machine = build({name: values[name] for name in KEYS})
    check(machine)
    return machine


def from_flat(values: Mapping[str, Any]) -> Machine:
    """Machine from the dotted dict of a ``run.json``; refuses unknown, missing and wrong ones."""
    with _about("configuration"):
        checked = {name: checked_value(name, value) for name, value in values.items()}
        for name in KEYS:
            if name not in checked:
                raise UserError(f"{name} is missing", key=name)
    machine = build(checked)
    check(machine)
    return machine


def checked_value(name: str, value: Any) -> Value:
    """Value of the key ``name`` as TOML or JSON holds it; a UserError names the key."""
    return _from_toml(_known(name), value)


@contextmanager
def _about(option: str, value: object = None) -> Iterator[None]:
    """Add to errors of keys what brought the key."""
    try:
        yield
    except UserError as error:
        if error.option is not None:
            raise
        raise UserError(
            error.message, EXIT_USAGE, option=option, value=value, key=error.key
        ) from error


def _of_preset(path: Path, message: str) -> UserError:
    return UserError(message, EXIT_USAGE, option="preset", value=path)


def describe_limits(key: Key) -> str:
    """What ``key`` may hold, in words."""
    if key.choices:
        return " or ".join(str(choice) for choice in key.choices)
    if key.type is bool:
        return "true or false"
    power = "power of two, " if key.power_of_two else ""
    if key.low is None or key.high is None:
        return power + key.type.__name__
    return f"{power}{_show(key, key.low)} to {_show(key, key.high)}"


def show(key: Key, value: Value) -> str:
    """``value`` as it would be written after ``--set``."""
    if isinstance(value, bool):
        return str(value).lower()
    return _show(key, value)


def _show(key: Key, value: Value) -> str:
    if key.unit == "bytes" and not isinstance(value, str):
        return exact_size(int(value))
    return str(value)


def _known(name: str) -> Key:
    if name not in KEYS:
        raise UserError(
            f"unknown key {name}{nearest(name, KEYS)}; 'ptshare presets' lists the keys", key=name
        )
    return KEYS[name]


def _preset_path(preset: str, relative_to: Path | None) -> Path:
    if "/" in preset or preset.endswith(".toml"):
        path = Path(preset)
        return path if relative_to is None or path.is_absolute() else relative_to.parent / path
    if preset not in preset_names():
        raise UserError(
            f"unknown preset {preset}{nearest(preset, preset_names())}; there are "
            f"{', '.join(preset_names())}, or give the path of a .toml file",
            EXIT_USAGE,
            option="preset",
        )
    return _FOLDER / f"{preset}.toml"


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)[1]
    except OSError as error:
        raise _of_preset(path, os_reason(error)) from error
    except UserError as error:
        raise _of_preset(path, error.message) from error


def _resolve(path: Path, above: tuple[Path, ...]) -> dict[str, Value]:
    if path.resolve() in above:
        raise _of_preset(path, "base leads back to the file itself")
    document = _read(path)
    base = document.get("base")
    values: dict[str, Value] = {}
    if base is not None:
        if not isinstance(base, str) or "\0" in base:
            raise _of_preset(path, f'base must be a name, like base = "{DEFAULT_PRESET}"')
        values = _resolve(_preset_path(base, path), (*above, path.resolve()))
    for name, value in _dotted(document, ""):
        if name not in _NOT_KEYS:
            with _about("preset", path):
                values[name] = checked_value(name, value)
    return values


def sources(preset: str) -> list[Path]:
    """Files that ``preset`` is made of: its own, and those of its bases."""
    path: Path | None = _preset_path(preset, None)
    found: list[Path] = []
    while path is not None and path not in found:
        found.append(path)
        base = _read(path).get("base")
        path = _preset_path(base, path) if isinstance(base, str) else None
    return found


def _dotted(table: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _from_toml(key: Key, value: Any) -> Value:
    if isinstance(value, str) and key.type is int and key.unit == "bytes":
        return _from_text(key, value)
    if key.type is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError:  # beyond any limit, too
            value = math.inf if value > 0 else -math.inf
    if not isinstance(value, bool | int | float | str) or type(value) is not key.type:
        raise UserError(f"{key.name} must be {_kind(key)}, not {value!r}", key=key.name)
    return _limited(key, value)


def _from_text(key: Key, text: str) -> Value:
    if key.type is str:
        return _limited(key, text)
    if key.type is bool:
        if text.lower() not in ("true", "false"):
            raise UserError(f"{key.name} must be true or false, not '{text}'", key=key.name)
        return text.lower() == "true"
    try:
        if key.type is int and key.unit == "bytes":
            value: Value = parse_size(text)
        else:
            value = int(text) if key.type is int else float(text)
    except UserError as error:
        raise UserError(f"{key.name}: {error}", key=key.name) from error
    except ValueError as error:
        raise UserError(f"{key.name} must be {_kind(key)}, not '{text}'", key=key.name) from error
    return _limited(key, value)


def _kind(key: Key) -> str:
    if key.unit == "bytes":
        return "a size, like 2MiB"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}[
        key.type
    ]


def _limited(key: Key, value: Value) -> Value:
    wrong = False
    if key.choices:
        wrong = value not in key.choices
    elif isinstance(value, int | float) and key.low is not None and key.high is not None:
        wrong = not key.low <= value <= key.high  # also refuses NaN
    if key.power_of_two and isinstance(value, int):
        wrong = wrong or value & (value - 1) != 0
    if wrong:
        raise UserError(
            f"{key.name} is {_show(key, value)}, but must be {describe_limits(key)}", key=key.name
        )
    return value


def check(machine: Machine) -> None:
    """Refuse a machine whose keys are each in their limits but do not fit together."""
    flat = flatten(machine)
    for level in ("l1i", "l1d", "l2", "llc"):
        cache = getattr(machine.cache, level)
        unit = cache.ways * machine.cache.line_bytes
        if cache.bytes % unit:
            raise UserError(
                f"cache.{level}.bytes is {exact_size(cache.bytes)}, but must be a "
                f"multiple of ways x line_bytes = {exact_size(unit)}",
                EXIT_USAGE,
                key=f"cache.{level}.bytes",
            )
        _power_of_two_sets(f"cache.{level}.bytes", cache.bytes // unit)
    llc = machine.cache.llc
    if llc.inclusion == "non-inclusive" and llc.bytes and not machine.cache.l2.bytes:
        raise UserError(
            "cache.llc.inclusion is non-inclusive, but without an L2 (cache.l2.bytes = 0) nothing "
            "would fill it: make it inclusive",
            EXIT_USAGE,
            key="cache.llc.inclusion",
        )
    for tlb, suffix in (("itlb", ""), ("itlb", "_2m"), ("dtlb", ""), ("dtlb", "_2m"), ("stlb", "")):
        _array(flat, f"mmu.{tlb}.entries{suffix}", f"mmu.{tlb}.ways{suffix}")
    for level in ("pmd", "pud", "p4d", "pgd"):
        _array(flat, f"mmu.walk_cache.{level}_entries", "mmu.walk_cache.ways")
    _ascending(
        flat, "cache.l1d.latency", "cache.l2.latency", "cache.llc.latency", "cache.dram_latency"
    )
    _ascending(flat, "cache.l1i.latency", "cache.l2.latency")
    if machine.kernel.memory_bytes % PAGE_BYTES:
        key = "kernel.memory_bytes"
        raise UserError(f"{key} must be a multiple of 4KiB", EXIT_USAGE, key=key)


def _array(flat: Mapping[str, Value], entries_name: str, ways_name: str) -> None:
    entries, ways = int(flat[entries_name]), int(flat[ways_name])
    if entries == 0 or ways == 0:
        return
    if entries % ways:
        raise UserError(
            f"{entries_name} is {entries}, but must be a multiple of "
            f"{ways_name} = {ways} (0: fully associative)",
            EXIT_USAGE,
            key=entries_name,
        )
    _power_of_two_sets(entries_name, entries // ways)


def _power_of_two_sets(name: str, sets: int) -> None:
    if sets & (sets - 1):
        raise UserError(
            f"{name}: that makes {sets} sets, but the number of sets must be a "
            "power of two: change the size or the ways",
            EXIT_USAGE,
            key=name,
        )


def _ascending(flat: Mapping[str, Value], *names: str) -> None:
    for near, far in itertools.pairwise(names):
        if int(flat[near]) > int(flat[far]):
            raise UserError(
                f"{near} is {flat[near]}, but must not exceed {far} = {flat[far]}",
                EXIT_USAGE,
                key=near,
            )
