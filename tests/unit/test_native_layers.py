"""The layers of ptshare_plugin/native/: a folder includes only those below it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "ptshare_plugin" / "native"

ENGINE = (
    *("core", "accounting", "translation", "machine", "programs", "streams"),
    *("recordings", "imports", "playback", "studies"),
)
"""The embedded engine's folders, each above those before it. The only statement of their order."""
BELOW = {
    **{folder: ENGINE[:place] for place, folder in enumerate(ENGINE)},
    "bindings": ENGINE,
    # What the module for gem5 is built of beside gem5/ itself: native/SConscript.
    "gem5": ENGINE[:3],
    "linux": (),
    "recorder": ("recordings",),  # words.h, which is of both
}
PYTHON = ("Python.h", "nanobind/")
FOREIGN = {"bindings": PYTHON, "streams": ("se_workloads/",)}
"""How headers of others begin, the system's apart, that a folder may include. gem5/: any."""
OTHERS = (*PYTHON, "pybind11/", "unicorn/")
"""Likewise, of those in angle brackets: the rest is the system's."""

_INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')


def violations(native: Path) -> list[str]:
    """Each include that its folder must not have, as one line."""
    files = sorted(path for path in native.rglob("*") if path.suffix in (".c", ".cc", ".h", ".hh"))
    return [
        f"{path.relative_to(native)}:{number}: {wrong}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (found := _INCLUDE.match(line))
        and (wrong := _wrong(native, path, found[2], system=found[1] == "<"))
    ]


def _wrong(native: Path, path: Path, header: str, *, system: bool) -> str | None:
    folder = path.relative_to(native).parts[0]
    if folder not in BELOW:
        return f"{folder}/ is no folder of native/ that has a place in the order"
    if system:
        foreign = header.startswith(OTHERS)
    else:
        for target in (path.parent / header, native / header):
            if target.is_file():
                owner = target.resolve().relative_to(native.resolve()).parts[0]
                allowed = BELOW[folder]
                if owner == folder or owner in allowed:
                    return None
                what = ", ".join(allowed) or "nothing else of native/"
                return f"{folder}/ includes {header} of {owner}/; it may use {what}"
        foreign = True
    if not foreign or folder == "gem5" or header.startswith(FOREIGN.get(folder, ())):
        return None
    return f"{folder}/ includes {header}, which is none of native/"


def test_no_folder_includes_one_above_it() -> None:
    assert violations(NATIVE) == []


def test_every_folder_has_a_place() -> None:
    assert {path.name for path in NATIVE.iterdir() if path.is_dir()} - {"__pycache__"} == set(BELOW)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small native/ in which all is right."""
    for name, text in {
        "core/kernel.h": "#include <cstdint>\n",
        "core/policies/private.cc": '#include "../kernel.h"\n',
        "accounting/costs.h": '#include "core/kernel.h"\n',
        "machine/machine.h": '#include "accounting/costs.h"\n',
        "gem5/kernel.hh": '#include "sim/system.hh"\n#include "accounting/costs.h"\n',
        "bindings/module.cc": '#include <nanobind/nanobind.h>\n#include "machine/machine.h"\n',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert violations(tmp_path) == []
    return tmp_path


@pytest.mark.parametrize(
    ("name", "line", "told"),
    [
        (
            "core/kernel.h",
            '#include "machine/machine.h"',
            "core/ includes machine/machine.h of machine/; it may use nothing else of native/",
        ),
        (
            "core/policies/private.cc",
            '#include "../../accounting/costs.h"',
            "core/ includes ../../accounting/costs.h of accounting/"
            "; it may use nothing else of native/",
        ),
        (
            "accounting/costs.h",
            '#  include "machine/machine.h"',
            "accounting/ includes machine/machine.h of machine/; it may use core",
        ),
        (
            "gem5/kernel.hh",
            '#include "machine/machine.h"',
            "gem5/ includes machine/machine.h of machine/"
            "; it may use core, accounting, translation",
        ),
        (
            "core/kernel.h",
            '#include "sim/system.hh"',
            "core/ includes sim/system.hh, which is none of native/",
        ),
        (
            "core/kernel.h",
            "#include <Python.h>",
            "core/ includes Python.h, which is none of native/",
        ),
        (
            "machine/machine.h",
            "#include <unicorn/unicorn.h>",
            "machine/ includes unicorn/unicorn.h, which is none of native/",
        ),
        (
            "extra/new.h",
            '#include "core/kernel.h"',
            "extra/ is no folder of native/ that has a place in the order",
        ),
    ],
)
def test_an_upward_include_is_named_in_one_line(
    tree: Path, name: str, line: str, told: str
) -> None:
    path = tree / name
    before = path.read_text() if path.exists() else ""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{before}{line}\n")
    assert violations(tree) == [f"{name}:{len(before.splitlines()) + 1}: {told}"]
