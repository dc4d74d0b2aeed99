"""Files that runs are made of are read again when they have changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from elf_builder import elf_header

from ptshare_plugin.runs import inputs
from ptshare_plugin.runs.options import Options


def test_a_program_that_was_compiled_again_is_another_one(make_elf: Callable[..., Path]) -> None:
    path = make_elf()
    before = Options.of({"program": str(path)}).spec().program
    assert Options.of({"program": str(path)}).spec().program is before
    make_elf(size=0x500)
    after = Options.of({"program": str(path)}).spec().program
    assert len(after.image) == 0x500 and after.sha256 != before.sha256
    assert elf_header(phnum=1) == after.image[:64]


def test_a_preset_and_its_base_are_read_again(tmp_path: Path) -> None:
    base, own = tmp_path / "base.toml", tmp_path / "own.toml"
    base.write_text('base = "server"\nmmu.pcids = 1\n')
    own.write_text('base = "base.toml"\nmmu.levels = 5\n')
    first = inputs.machine(str(own), ())
    assert (first.mmu.pcids, first.mmu.levels) == (1, 5)
    assert inputs.machine(str(own), ()) is first
    base.write_text('base = "server"\nmmu.pcids = 2\n')
    os.utime(base, ns=(1, 1))
    assert inputs.machine(str(own), ()).mmu.pcids == 2


def test_a_relative_preset_is_that_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pcids in (3, 4):
        folder = tmp_path / str(pcids)
        folder.mkdir()
        (folder / "own.toml").write_text(f'base = "server"\nmmu.pcids = {pcids}\n')
        os.utime(folder / "own.toml", ns=(1, 1))
        monkeypatch.chdir(folder)
        assert inputs.machine("own.toml", ()).mmu.pcids == pcids
