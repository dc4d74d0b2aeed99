"""The commands that made runs, in few lines that can be copied."""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_PLACES = {"-o", "--output", "--force"}  # where a run was kept; it is made again elsewhere
_FLAGS = {"--no-share", "--force", "--json"}
_KEYED = ("--set", "--vary")


@dataclass(frozen=True, slots=True)
class Commands:
    """Commands of some runs.

    :param short: one that makes them all, or a pattern of all.
    :param runs_all: whether ``short`` is a command as it stands.
    :param every: each one as it was given, once, in order.
    """

    short: str
    runs_all: bool
    every: tuple[str, ...]


def compress(commands: Iterable[str | None]) -> Commands | None:
    """All of ``commands`` (shell commands; None where unknown) in few lines; None without any."""
    every = tuple(dict.fromkeys(text for text in commands if isinstance(text, str) and text))
    if not every:
        return None
    try:
        split = list(dict.fromkeys(tuple(_without_place(shlex.split(text))) for text in every))
    except ValueError:  # quotes that do not match, from a hand-made file
        return Commands(every[0], len(every) == 1, every)
    if len(split) == 1:
        return Commands(shlex.join(split[0]), True, every)
    options = [found for words in split if (found := _options(words)) is not None]
    names = list(options[0]) if options else []
    if len(options) < len(split) or any(list(each) != names for each in options):
        return Commands("\n".join(map(shlex.join, split[:3])) + "\n...", False, every)
    varying = [name for name in names if len({each[name] for each in options}) > 1]
    values = {name: list(dict.fromkeys(each[name] for each in options)) for name in varying}
    combinations = set(itertools.islice(itertools.product(*values.values()), len(split) + 1))
    points = {tuple(each[name] for name in varying) for each in options}
    whole = math.prod(map(len, values.values())) == len(points) and combinations == points
    return Commands(
        _loop(options[0], values) if whole else _pattern(options[0], values), whole, every
    )


def _without_place(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            return [*kept, word, *rest]
        if word in _PLACES:
            if word not in _FLAGS:
                next(rest, None)
        elif word.partition("=")[0] not in _PLACES:
            kept.append(word)
    return kept


def _options(words: Sequence[str]) -> dict[str, str] | None:
    """Value of each option; ``--set KEY=VALUE`` by its key, what is no option by its place.

    None where one is there twice.
    """
    found: dict[str, str] = {}
    rest = iter(words)
    for place, word in enumerate(rest):
        if word == "--":
            return found | {f"-- {i}": each for i, each in enumerate(rest)}
        name, value = word, word
        if not word.startswith("-"):
            name = f" {place}"
        elif word in _KEYED:
            key, _, value = next(rest, "").partition("=")
            name = f"{word} {key}"
        elif "=" in word:
            name, _, value = word.partition("=")
        elif word not in _FLAGS:
            value = next(rest, "")
        if name in found:
            return None
        found[name] = value
    return found


def _word(name: str, value: str) -> str:
    """One option as the shell takes it; ``value`` is quoted already."""
    if name.startswith((" ", "-- ")) or name in _FLAGS:
        return value
    return f"{name}={value}" if name.startswith(_KEYED) else f"{name} {value}"


def _line(options: dict[str, str], varying: dict[str, str]) -> str:
    words = []
    for name, value in options.items():
        if name.startswith("-- ") and "--" not in words:
            words.append("--")
        words.append(_word(name, varying.get(name) or shlex.quote(value)))
    return " ".join(words)


def _loop(options: dict[str, str], values: dict[str, list[str]]) -> str:
    names = {name: variable for name, variable in zip(values, _variables(values), strict=True)}
    lines = []
    for depth, (name, choices) in enumerate(values.items()):
        each = " ".join(map(shlex.quote, choices))
        lines.append("  " * depth + f"for {names[name]} in {each}; do")
    command = _line(options, {name: f'"${variable}"' for name, variable in names.items()})
    lines.append("  " * len(values) + command)
    lines += ["  " * depth + "done" for depth in reversed(range(len(values)))]
    return "\n".join(lines)


def _pattern(options: dict[str, str], values: dict[str, list[str]]) -> str:
    names = {
        name: variable.upper() for name, variable in zip(values, _variables(values), strict=True)
    }
    lines = [_line(options, names)]
    for name, choices in values.items():
        lines.append(f"# {names[name]}: {', '.join(map(shlex.quote, choices))}")
    return "\n".join(lines)


def _variables(names: Iterable[str]) -> list[str]:
    made: list[str] = []
    for name in names:
        word = "".join(mark if mark.isalnum() else "_" for mark in name.split()[-1])
        word = word.strip("_") or "x"
        word = f"word{word}" if word[0].isdigit() else word
        while word in made:
            word += "_"
        made.append(word)
    return made
