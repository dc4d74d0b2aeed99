"""A recorded PostgreSQL with two backends, kept: replayed where there is no Valgrind.

Made by ``ptshare record postgres --clients 2 --transactions 5 --scale 1 --buffers 16MiB``, and
compressed again at zstd's highest level.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from recordings import COMMAND, look

import ptshare_plugin as pt

KEPT = Path(__file__).with_name("postgres.rec")
BACKENDS = 2
ALIGNED: dict[str, Any] = {
    "share_rules": ["anonymous>=2MiB"],
    "align": True,
    "set": {"share.anonymous": True},
}


@pytest.fixture(scope="module")
def private() -> pt.Result:
    return pt.run(recording=KEPT, policy="private", **ALIGNED)


def test_it_is_read_as_it_was_written(private: pt.Result) -> None:
    seen = look(KEPT)
    backends = [stream for stream in seen["streams"] if "[local]" in stream["title"]]
    assert len(backends) == BACKENDS + 1  # and the one that warms
    assert seen["partial"] is None
    assert seen["work"]["total"] == 10
    assert private.metrics["instructions"] == sum(s["instructions"] for s in seen["streams"])


def test_page_tables_are_those_of_the_kernel_that_ran_it() -> None:
    words = [COMMAND, "validate", "--recording", KEPT, "--json"]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)["cases"]
    assert len(cases) == 9
    for case in cases:
        figures = case["metrics"]
        tables, faults = figures["pt_bytes.present"], figures["fault.minor"]
        assert tables["measured"] == tables["modelled"], case["name"]
        # Of the first program's, some thousand are Valgrind's.
        if case is not cases[0]:
            assert 0 <= faults["measured"] - faults["modelled"] < 0.15 * faults["measured"]


@pytest.mark.parametrize("policy", ["ptshare", "mshare"])
def test_its_buffers_share_tables(private: pt.Result, policy: str) -> None:
    shared = pt.run(recording=KEPT, policy=policy, **ALIGNED)
    assert shared.run.result.remarks == ()
    assert shared.metrics["pt.host_mms"] == 1
    assert shared.metrics["pt.region.pte_tables"] * 3 < private.metrics["pt.region.pte_tables"]
    assert shared.metrics["fault.total"] < private.metrics["fault.total"]
    for name in ("instructions", "fault.anon", "fault.cow"):
        assert shared.metrics[name] == private.metrics[name], name
