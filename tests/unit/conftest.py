"""Runs and ELF files made by hand, so that these tests need no engine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from elf_builder import BASE, PAGE, elf_header, program_header

from ptshare_plugin.engines.result import ProcessResult, RunResult
from ptshare_plugin.machine import config
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.runs.run import Run, collect
from ptshare_plugin.spec.program import Program, Segment
from ptshare_plugin.spec.run import RunSpec
from ptshare_plugin.spec.workloads import Workload


@pytest.fixture
def make_spec() -> Callable[..., RunSpec]:
    def make(**changes: object) -> RunSpec:
        program = Program(
            name="toy",
            path="/somewhere/toy",
            image=b"\x7fELF",
            segments=(Segment(BASE, 0, PAGE, PAGE, 5),),
            entry=BASE,
            phdr=BASE + 64,
            phentsize=56,
            phnum=1,
            sha256="ab" * 32,
        )
        toy = Workload("toy", Path("/somewhere/toy"), "a toy", "1 round", False, False)
        values: dict[str, object] = {
            "program": program,
            "workload": toy,
            "args": (),
            "engine": "embedded",
            "policy": "private",
            "procs": 2,
            "cores": 2,
            "region": 4 << 20,
            "share": True,
            "seed": 7,
            "work": None,
            "preset": "server",
            "overrides": (),
            "config": config.load("server"),
            **changes,
        }
        return RunSpec(**values)  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_run(make_spec: Callable[..., RunSpec]) -> Callable[..., Run]:
    def make(
        outputs: list[bytes] | None = None,
        statuses: list[tuple[int, int]] | None = None,
        counts: dict[str, int] | None = None,
        **changes: object,
    ) -> Run:
        spec = make_spec(**changes)
        lines = outputs or [b"rank %d ok\n" % rank for rank in range(spec.procs)]
        ends = statuses or [(0, 0)] * spec.procs
        processes = [
            ProcessResult(100 + rank, *ends[rank], lines[rank], b"", "")
            for rank in range(spec.procs)
        ]
        given = counts or {}
        statistics: list[tuple[int, str, int | float]] = []
        for rank in range(spec.procs):
            for name in metrics.raw_process_names():
                statistics.append((rank, name, given.get(name, 3) + rank))
                statistics.append((rank, "roi." + name, given.get("roi." + name, 1)))
            statistics.append((rank, "vm.pte_bytes.end", 4096))
        statistics += [
            (metrics.ALL, name, given.get(name, 5)) for name in metrics.raw_machine_names()
        ]
        result = RunResult(
            processes,
            statistics,
            seconds=2.0,
            peak_rss_bytes=1 << 20,
            versions={"unicorn": "2.1.4"},
        )
        return Run(
            spec=spec,
            result=result,
            started="2026-01-01T00:00:00+00:00",
            values=collect(result),
            command=sys.argv,
        )

    return make


@pytest.fixture
def make_elf(tmp_path: Path) -> Callable[..., Path]:
    """A file from a header and segments: a valid static program unless told otherwise."""

    def make(header: bytes | None = None, *segments: bytes, size: int = 0x400) -> Path:
        parts = segments or (program_header(),)
        content = (header or elf_header(phnum=len(parts))) + b"".join(parts)
        path = tmp_path / "prog"
        path.write_bytes(content.ljust(size, b"\0"))
        return path

    return make
