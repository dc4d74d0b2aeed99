"""Recipes: real programs set up, recorded and taken down again. One file each."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from ptshare_plugin.common.errors import EXIT_USAGE, UserError, nearest

if TYPE_CHECKING:
    from ptshare_plugin.recording.record import Recording

_NAMES = ("postgres", "redis")


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a recipe; its help says the default. A flag is a bool without a metavar."""

    name: str
    kind: type
    default: Any
    metavar: str | None
    help: str


class Recipe(Protocol):
    """What a recipe's module has."""

    NAME: str
    DESCRIPTION: str
    OPTIONS: tuple[Option, ...]

    def record(
        self, output: Path, force: bool, roi_after: float | None, given: Mapping[str, Any]
    ) -> Recording:
        """Set it up, record it, take it down; ``given`` has a value for each option."""


def all_recipes() -> list[Recipe]:
    """Every recipe."""
    return [cast(Recipe, importlib.import_module(f"{__name__}.{name}")) for name in _NAMES]


def options() -> list[Option]:
    """The options of all recipes; those of one name are one option."""
    found: dict[str, Option] = {}
    for recipe in all_recipes():
        for option in recipe.OPTIONS:
            found.setdefault(option.name, option)
    return list(found.values())


def record(
    name: str, output: Path, force: bool, roi_after: float | None, given: Mapping[str, Any]
) -> Recording:
    """Record recipe ``name`` with the options that were given."""
    known = {recipe.NAME: recipe for recipe in all_recipes()}
    if name not in known:
        close = nearest(name, known) or f"; there are {', '.join(known)}"
        raise UserError(f"no recipe {name}{close}; a command stands behind --", EXIT_USAGE)
    recipe = known[name]
    own = {option.name: option.default for option in recipe.OPTIONS}
    for each in given:
        if each not in own:
            raise UserError(f"--{each} is not of recipe {name}", EXIT_USAGE)
    return recipe.record(output, force, roi_after, {**own, **given})
