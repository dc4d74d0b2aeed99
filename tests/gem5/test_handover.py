"""What the command line hands to a real gem5, and what comes back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

COMMAND = Path(sysconfig.get_path("scripts"), "ptshare")
RUN = ("scan", "--procs", "2", "--cores", "2", "--region", "2MiB", "--work", "1")

# Stands before gem5.opt and has it run another machine than it was asked for.
MISLEADING = """#!{python}
import json, os, sys
from pathlib import Path

request = Path(sys.argv[sys.argv.index("--run") + 1])
asked = json.loads(request.read_text())
asked["identity"]["config"]["mmu.pcids"] += 1
request.write_text(json.dumps(asked))
os.execv({gem5!r}, [{gem5!r}, *sys.argv[1:]])
"""


def ptshare(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *words], text=True, capture_output=True, timeout=600)


def tables(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return {
        name: {metric: value for metric, value in row.items() if metric.startswith("pt.")}
        for name, row in json.loads(done.stdout).items()
    }


def test_varied_machines_differ_and_are_the_embedded_engine_s() -> None:
    vary = ("--policy", "ptshare", "--vary", "share.level=pte,pmd", "--json")
    ours, gem5 = (
        tables(ptshare("compare", *RUN, "--engine", engine, *vary))
        for engine in ("embedded", "gem5")
    )
    assert gem5 == ours
    assert gem5["ptshare,share.level=pte"] != gem5["ptshare,share.level=pmd"]


def test_gem5_that_runs_another_machine_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gem5 = shutil.which("gem5.opt")
    assert gem5 is not None
    stand_in = tmp_path / "bin" / "gem5.opt"
    stand_in.parent.mkdir()
    stand_in.write_text(MISLEADING.format(python=sys.executable, gem5=gem5))
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(stand_in.parent), prepend=":")
    done = ptshare("run", *RUN, "--engine", "gem5", "-o", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (1, "")
    # Progress may stand before it.
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("scan, ")]
    assert line.startswith(
        "ptshare: error: engine gem5: it ran mmu.pcids = 7 where 6 was asked for"
    )
    assert not (tmp_path / "out").exists()
