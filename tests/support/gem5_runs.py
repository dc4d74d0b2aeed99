"""Runs of gem5 through its configuration, as a user of gem5 starts them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptshare_plugin.engines.gem5 import stats

SCRIPT = Path(__file__).parents[2] / "gem5_configs" / "ptshare.py"


@dataclass(frozen=True)
class Gem5Run:
    """What one run of gem5.opt left."""

    folder: Path
    returncode: int
    output: str

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / stats.RECORD).read_text())
        return found

    def dumps(self) -> list[dict[str, float]]:
        return stats.dumps(self.folder / stats.STATS_TXT)

    def lines(self) -> list[str]:
        processes = stats.processes(self.folder, self.record)
        return [line for done in processes for line in done.stdout.decode().splitlines()]


Gem5 = Callable[..., Gem5Run]
