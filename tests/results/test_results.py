"""Do the reference results hold together, and do their commands still give them?"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from ptshare_plugin import engines, metrics, spec, workloads
from ptshare_plugin.errors import UserError
from ptshare_plugin.run import identity_columns

RESULTS = Path(__file__).parents[2] / "results"
_SPEC = importlib.util.spec_from_file_location("make", RESULTS / "make.py")
assert _SPEC is not None and _SPEC.loader is not None
make = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(make)

NAMES = make.names()
RUNS = [(name, run) for name in NAMES for run in make.commands(name)]
# The runs that are made again without --rerun: seconds each.
SHORT = {
    ("gem5-policies", "random-1-ptshare"),
    ("shared-tags", "ptshare-shared-tags"),
    ("shootdowns", "lazy-6"),
}
FAULT_KINDS = ("link", "host", "file", "anon", "cow", "write_protect", "spurious", "segv", "bus")
PAGE = 4096


def made(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / name / make.MADE).read_text())
    return found


def numbers(row: dict[str, str]) -> dict[str, float]:
    return {key: float(value) for key, value in row.items() if key in metrics.registry() and value}


def test_there_are_results_and_all_are_listed() -> None:
    assert NAMES
    listed = (RESULTS / "README.md").read_text()
    for name in NAMES:
        assert f"({name}/README.md)" in listed
        assert (RESULTS / name / "README.md").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_schema(name: str) -> None:
    rows, records, commands = make.read(name), made(name), make.commands(name)
    assert list(rows) == list(records) == list(commands)
    for run, row in rows.items():
        record = records[run]
        what = set(identity_columns(record)) | {"program.output", "program.exit"}
        assert set(row) <= what | set(metrics.registry())
        identity = {key: record[key] for key in spec.IDENTITY}
        assert spec.identity_hash(identity) == record["run"] == row["run"]
        assert record["versions"]["ptshare"] and not record["failed"]
        for metric in ("instructions", "fault.total", "pt.bytes", "walk.count", "roi.walk.count"):
            assert float(row[metric]) > 0, (run, metric)


@pytest.mark.parametrize(("name", "run"), RUNS)
def test_invariants(name: str, run: str) -> None:
    row = make.read(name)[run]
    found = numbers(row)
    derived = metrics.with_derived(metrics.with_derived(dict(found), "process"), "machine")
    for metric, value in found.items():
        assert derived[metric] == pytest.approx(value), f"{metric} is not what its formula gives"
        if metric.startswith(metrics.ROI) and metrics.get(metric).formula is None:
            assert value <= found[metric.removeprefix(metrics.ROI)], metric
    assert found["fault.total"] == sum(found[f"fault.{kind}"] for kind in FAULT_KINDS)
    assert found["pt.bytes"] == PAGE * sum(
        found[f"pt.tables.{level}"] for level in ("pte", "pmd", "pud", "p4d", "pgd")
    )
    assert found["pt.bytes"] == found["pt.bytes.guest"] + found["pt.bytes.host"]
    leaks = row["policy"] == "rfc-v2"
    assert (found["pt.end.bytes"] != 0) == leaks, "tables outlived their processes, or should have"
    if row["policy"] == "private":
        assert found["pt.bytes.host"] == found["fault.link"] == found["fault.host"] == 0
    else:
        chunks = float(row["region_bytes"]) / (2 << 20)
        assert found["pt.region.pte_tables"] == chunks
        links = chunks * float(row["procs"])
        # A process that another one's TLB entries serve needs no link.
        serves = made(name)[run]["config"].get("mmu.shared_tags")
        assert found["share.links"] < links if serves else found["share.links"] == links


def test_sharing_changes_no_tlb_miss_but_those_of_faults() -> None:
    # TLB entries are tagged: what is left is that a walk which ends in a fault is repeated.
    rows = make.read("gem5-policies")
    for run, row in rows.items():
        if run.endswith("-ptshare"):
            without_faults = [
                float(policy["roi.tlb.dtlb.misses"]) - float(policy["roi.walk.faulted"])
                for policy in (row, rows[run.replace("-ptshare", "-private")])
            ]
            assert without_faults[0] == without_faults[1] > 0, run


@pytest.mark.parametrize("name", NAMES)
def test_policies_change_no_output(name: str) -> None:
    rows = make.read(name)
    for run, row in rows.items():
        if run.endswith("-ptshare"):
            private = rows[run.replace("-ptshare", "-private")]
            assert row["program.output"] == private["program.output"]
            assert row["program.exit"] == private["program.exit"]


def test_only_who_is_not_told_uses_stale_translations() -> None:
    stale = {run: int(row["tlb.stale_hits"]) for run, row in make.read("shootdowns").items()}
    assert {run for run, hits in stale.items() if hits} == {"caller-only-6", "rfc-v2"}


def test_sharing_tables_changes_no_tlb_miss_but_shared_tags_do() -> None:
    rows = make.read("shared-tags")
    misses = {
        run: int(row["roi.tlb.stlb.misses"]) - int(row["roi.walk.faulted"])
        for run, row in rows.items()
    }
    assert misses["private"] == misses["ptshare"] > 5 * misses["ptshare-shared-tags"]


def lack(name: str, run: str) -> str | None:
    """Why this machine cannot give the same figures, if it cannot."""
    record = made(name)[run]
    try:
        engines.get(record["engine"])
    except UserError as error:
        return str(error)
    binary = workloads.path(record["program"]["name"])
    if hashlib.sha256(binary.read_bytes()).hexdigest() != record["program"]["sha256"]:
        return "another compiler made the workloads of this machine"
    return None


@pytest.mark.gem5
@pytest.mark.parametrize(("name", "run"), RUNS)
def test_rerun(name: str, run: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if (name, run) not in SHORT and not request.config.getoption("--rerun"):
        pytest.skip("run again with --rerun only")
    reason = lack(name, run)
    if reason is not None:
        pytest.skip(reason)
    row, record = make.execute(make.commands(name)[run], tmp_path / "run")
    theirs = made(name)[run]
    if record["versions"].get("gem5") != theirs["versions"].get("gem5"):
        pytest.skip(f"made with gem5 {theirs['versions']['gem5']}")
    then = make.read(name)[run]
    assert record["run"] == theirs["run"]
    now = {key: "" if value is None else str(value) for key, value in row.items()}
    assert now == {key: value for key, value in then.items() if key in now or value}
