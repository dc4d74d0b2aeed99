"""Inputs that once broke something, and those that fuzzing begins with, through ``targets.py``."""

from __future__ import annotations

from pathlib import Path

import pytest
import seeds
from targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
KEPT = [path for path in sorted(CORPUS.glob("*/*"))]


def test_every_folder_of_the_corpus_has_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= TARGETS.keys()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("path", KEPT, ids=[f"{path.parent.name}-{path.name}" for path in KEPT])
def test_what_was_found_ends_well_or_in_one_line(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("kind", TARGETS)
def test_what_fuzzing_begins_with_is_taken(kind: str, tmp_path: Path) -> None:
    seeds.write(kind, tmp_path)
    found = sorted(tmp_path.iterdir())
    assert found
    for path in found:
        assert TARGETS[kind](path.read_bytes()), path.read_bytes()[:200]
