"""A stand-in for gem5.opt: leaves what ``gem5_configs/ptshare.py`` would, and simulates nothing.

``installed`` puts it on PATH for what a test starts, with a file in the place of the module.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_PROGRAM = """#!{python}
import argparse, json, sys, time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("-q", action="store_true")
parser.add_argument("-d", type=Path)
parser.add_argument("script")
parser.add_argument("--run", type=Path)
given = parser.parse_args()
request = json.loads(given.run.read_text())
asked = request["identity"]
(given.d / "files").mkdir(parents=True)
(given.d / "config.ini").write_text("[root]\\n")
print("gem5 is not here", flush=True)
if asked["seed"] == {for_ever}:
    time.sleep(1000)
if asked["seed"] == {crashing}:
    sys.exit("panic: as it was told")
if asked["seed"] == {misled}:
    asked["config"]["mmu.pcids"] += 1
count = 100 * asked["seed"]
(given.d / "stats.txt").write_text(
    "---------- Begin Simulation Statistics ----------\\n"
    "system.kernel.pt.bytes  %d  # metric pt.bytes (Byte)\\n"
    "system.kernel.process0.fault.file  7  # metric fault.file (Count)\\n"
    "---------- End Simulation Statistics   ----------\\n" % count
)
for rank in range(asked["procs"]):
    (given.d / ("process%d.out" % rank)).write_text("scan: ok\\n")
record = {{
    **asked,
    "preset": request["preset"],
    "contexts": asked["cores"],
    "dumps": ["roi"],
    "statuses": [0] * asked["procs"],
    "first_pid": 1000,
    "cause": "exiting with last active thread context",
    "samples": [],
    "gem5": "0",
    "compiled": "never",
}}
(given.d / "ptshare.json").write_text(json.dumps(record))
"""
_SITE = """
from pathlib import Path

import ptshare_plugin.engines.gem5.engine as engine

engine.MODULE = Path(__file__)
"""

FOR_EVER, CRASHING, MISLED = 1000, 2000, 3000
"""Seeds with which it does not end, ends badly, or runs another machine than it was asked for."""


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fake program, in ``folder``, which is made."""
    folder.mkdir()
    program = folder / "gem5.opt"
    program.write_text(
        _PROGRAM.format(python=sys.executable, for_ever=FOR_EVER, crashing=CRASHING, misled=MISLED)
    )
    program.chmod(0o755)
    (folder / "sitecustomize.py").write_text(_SITE)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return program
