"""Inputs to begin with, made of what the repository has: examples, presets, results, workloads."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from targets import joined

from ptshare_plugin.engines import traces as trace_files
from ptshare_plugin.records import dataset, run_folder
from ptshare_plugin.runs.options import Options
from ptshare_plugin.runs.run import Run, execute
from ptshare_plugin.spec import workloads

ROOT = Path(__file__).parents[2]
TRACE = b"""==7== Lackey, an example Valgrind tool
I  00401000,3
 L 1ffeffe7e0,8
 S 00404ff8,16
I  00401003,5
 M 00600000,4
I  00401008,2
==7== Counted 1 call to main()
"""
STATS_TXT = b"""---------- Begin Simulation Statistics ----------
system.cpu.dcache.overallAccesses::total  100  # overall accesses (Count)
system.cpu.dcache.overallMisses::total  10  # overall misses (Count)
system.kernel.pt.bytes  4096  # metric pt.bytes (Byte)
system.kernel.process0.fault.file  7  # metric fault.file (Count)
---------- End Simulation Statistics   ----------
"""


def traces() -> Iterator[bytes]:
    yield TRACE
    with tempfile.TemporaryDirectory() as name:
        text, binary = Path(name, "text"), Path(name, "binary")
        text.write_bytes(TRACE)
        trace_files.convert(str(text), str(binary), force=False)
        yield binary.read_bytes()


def elf() -> Iterator[bytes]:
    for name in workloads.names():
        yield workloads.path(name).read_bytes()


def machine() -> Iterator[bytes]:
    for path in sorted((ROOT / "ptshare_plugin/machine/presets").glob("*.toml")):
        yield path.read_bytes()
    yield b'base = "server"\nkernel.memory_bytes = "1GiB"\n[mmu]\npcids = 0\nstlb.entries = 1024\n'


def sweep() -> Iterator[bytes]:
    page = (ROOT / "docs/sweep.md").read_text(encoding="utf-8")
    for example in re.findall(r"```toml\n(.*?)```", page, re.DOTALL):
        yield example.encode()
    for path in sorted((ROOT / "results").glob("*/sweep.toml")):
        text = path.read_bytes()
        if b"gem5" not in text and b"recording" not in text:  # which not every machine has
            yield text


def runs() -> Iterator[bytes]:
    asked = {"program": "scan", "engine": "stream", "procs": 2, "region": 2 << 20}
    for policy in ("private", "ptshare"):
        options = Options.of({**asked, "policy": policy})
        done = execute(options.spec(), options.command())
        record = json.dumps(done.record(), indent=1).encode()
        yield joined({"run.json": record})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_folder.write(done, folder)
        yield joined({each.name: each.read_bytes() for each in sorted(folder.iterdir())})
        frame, _ = dataset.read([folder])
        assert frame is not None
        yield joined({"runs.csv": frame.to_csv(index=False).encode()})
    yield joined({"ptshare.json": _gem5(done), "stats.txt": STATS_TXT})
    ways = (ROOT / "results/protect-ways/4KiB.csv").read_bytes().splitlines(keepends=True)
    yield joined({"ways.csv": b"".join(ways[:12])})


def _gem5(done: Run) -> bytes:
    """What ``gem5_configs/ptshare.py`` would note of the same run."""
    more = {"preset": "gem5-x86", "contexts": 1, "dumps": ["roi"], "statuses": [0, 0]}
    more |= {"first_pid": 1000, "cause": "", "samples": [[0, 0, 2, 8192, 0, 4096, 3]]}
    identity = {**done.spec.identity(), "engine": "gem5", "procs": 1, "cores": 1}
    return json.dumps({**identity, **more}, indent=1).encode()


def write(kind: str, folder: Path) -> None:
    """The seeds of ``kind`` as files of ``folder``."""
    for number, seed in enumerate(globals()[kind]()):
        (folder / f"seed-{number}").write_bytes(seed)
