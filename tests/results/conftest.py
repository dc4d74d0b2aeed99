"""The option that makes all reference results again."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rerun", action="store_true", help="run every reference result again")
