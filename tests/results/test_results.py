"""Do the reference results hold together, and do their sweeps still give them?"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import ptshare_plugin
from ptshare_plugin.common import units
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.engines import registry as engines
from ptshare_plugin.machine.schema import KEYS
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.metrics import vocabulary
from ptshare_plugin.records.analysis import PARAMETERS
from ptshare_plugin.runs import run
from ptshare_plugin.spec import workloads
from ptshare_plugin.spec.about import DETAILS
from ptshare_plugin.spec.run import RunSpec, identity_hash
from ptshare_plugin.sweeps import plan

RESULTS = Path(__file__).parents[2] / "results"
sys.path.insert(0, str(RESULTS))  # of what make.py imports
_SPEC = importlib.util.spec_from_file_location("make", RESULTS / "make.py")
assert _SPEC is not None and _SPEC.loader is not None
make = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(make)

NAMES = make.names()
RECORDED = [name for name in NAMES if make.recorded.commands(name)]
PAGE, PMD_BYTES = 4096, 2 << 20
UNSHARED = ("private", "huge-2m")  # hugetlb-pmd shares no table below 1 GiB
AGAIN = 2  # runs of each folder that are made again without --rerun


@functools.cache
def rows(name: str) -> pd.DataFrame:
    return ptshare_plugin.load(RESULTS / name / make.SUMMARY)


@functools.cache
def specs(name: str) -> list[RunSpec]:
    """What the sweep runs; skips where this machine lacks the engine."""
    for engine in set(rows(name)["engine"]):
        try:
            engines.get(engine)
        except UserError as error:
            pytest.skip(str(error))
    for recording in make.recorded.commands(name):
        if not (make.recorded.KEPT / recording).exists():
            pytest.skip(f"build/recordings/{recording} is not there: results/make.py {name}")
    return [point.options.spec() for point in plan.load(RESULTS / name / make.SWEEP).points]


def numbers(row: pd.Series[Any]) -> dict[str, float]:
    """Metrics that the row has."""
    return {
        name: float(value)
        for name, value in row.items()
        if name in metrics.registry() and not pd.isna(value)
    }


def chosen(name: str, **values: object) -> pd.DataFrame:
    """Rows of a folder by their parameters; ``_`` stands for the dots of a key."""
    frame = rows(name)
    for key, value in values.items():
        column = key if key in frame else key.replace("__", ".")
        frame = frame[frame[column] == value]
    assert len(frame), values
    return frame


def test_all_results_are_listed() -> None:
    assert NAMES
    listed = (RESULTS / "README.md").read_text()
    for folder in RESULTS.iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            assert f"({folder.name}/README.md)" in listed
            page = (folder / "README.md").read_text()
            drawn = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
            assert all((folder / name).is_file() for name in drawn)
            assert (drawn == [make.FIGURE]) == (folder.name in NAMES)
    assert set(make.FIGURES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_schema(name: str) -> None:
    frame = rows(name)
    parameters = set(PARAMETERS)
    described = {"run", "run_id", "preset", "started", "ptshare", "gem5", "failed", "command"}
    assert set(frame) <= parameters | described | set(KEYS) | set(metrics.registry())
    assert set(KEYS) <= set(frame)
    assert not any(column.startswith("host.") for column in frame)
    assert not frame[sorted(parameters - {"work"})].isna().any(axis=None)
    assert (frame["failed"] == 0).all() and frame["ptshare"].notna().all()
    assert (frame["gem5"].notna() == (frame["engine"] == "gem5")).all()
    assert frame["run_id"].is_unique
    for metric in ("instructions", "fault.total", "pt.bytes", "walk.count", "roi.walk.count"):
        assert (frame[metric] > 0).all(), metric


@pytest.mark.parametrize("name", NAMES)
def test_the_rows_are_the_sweeps(name: str) -> None:
    frame = rows(name)
    assert len(frame) == len(specs(name))
    for spec, (_, row) in zip(specs(name), frame.iterrows(), strict=True):
        identity = spec.identity()
        identity["program"]["sha256"] = row["program_sha256"]  # of the compiler there
        assert identity_hash(identity) == row["run_id"]
        for key, value in identity["config"].items():
            assert row[key] == value, key
        for column, value in run.identity_columns({**identity, "run": "", "preset": ""}).items():
            if column not in ("run", "preset", "work"):
                assert row[column] == value, column


@pytest.mark.parametrize("name", NAMES)
def test_invariants_of_counts(name: str) -> None:
    for _, row in rows(name).iterrows():
        found = numbers(row)
        derived = metrics.with_derived(metrics.with_derived(dict(found), "process"), "machine")
        for metric, value in found.items():
            assert derived[metric] == pytest.approx(value), (row["run"], metric)
            if metric.startswith(metrics.ROI) and metrics.get(metric).formula is None:
                assert value <= found[metric.removeprefix(metrics.ROI)], (row["run"], metric)
        kinds = (*vocabulary.MINOR_FAULTS, "segv", "bus")
        assert found["fault.total"] == sum(found[f"fault.{kind}"] for kind in kinds)
        times = sum(found[f"walk.latency.from_{low}"] for low in vocabulary.WALK_LATENCIES)
        assert times == found["walk.count"] + found["walk.dirty_assists"], row["run"]


@pytest.mark.parametrize("name", NAMES)
def test_invariants_of_tables(name: str) -> None:
    for _, row in rows(name).iterrows():
        found, policy, procs = numbers(row), row["policy"], row["procs"]
        tables = sum(found[f"pt.tables.{level}"] for level in vocabulary.PTE_LEVELS)
        assert found["pt.bytes"] == PAGE * tables
        assert found["pt.bytes"] == found["pt.bytes.guest"] + found["pt.bytes.host"]
        assert (found["pt.end.bytes"] != 0) == (policy == "rfc-v2"), (row["run"], "leaked tables")
        if policy in UNSHARED:
            assert found["pt.bytes.host"] == found["fault.link"] == found["share.links"] == 0
            assert found["fault.host"] == 0
        # Those of churn attach again; recorded ones have no region of a workload.
        if policy == "ptshare" and row["program"] != "churn" and name not in RECORDED:
            chunks = row["region_bytes"] / PMD_BYTES
            assert found["pt.region.pte_tables"] == chunks
            # A process that another one's TLB entries serve needs no link.
            serves = row["mmu.shared_tags"]
            links = found["share.links"]
            assert links <= chunks * procs if serves else links == chunks * procs


@pytest.mark.parametrize("name", RECORDED)
def test_figures_by_what_clients_had_done_are_those_of_the_summary(name: str) -> None:
    each = pd.read_csv(RESULTS / name / make.recorded.EACH)
    whole = rows(name).set_index("run_id")
    assert set(each["run"]) == set(whole.index)
    assert set(each["part"]) == {"whole run", "region"}
    unit = next(column for column in each if column in ("transactions", "requests"))
    for _, row in each.iterrows():
        prefix = metrics.ROI if row["part"] == "region" else ""
        for metric in make.recorded.METRICS:
            then = whole.loc[row["run"], prefix + metric]
            assert row[metric] * row[unit] == pytest.approx(then, abs=row[unit] * 1e-4), metric


# What the pages say ------------------------------------------------------------------------------


def test_shared_tables_do_not_grow_with_processes() -> None:
    for region, own in (("64MiB", 168), ("1GiB", 2088)):
        size = units.parse_size(region)
        assert_linear(chosen("pt-memory", region_bytes=size, policy="private"), 0, own)
        for policy, once, each in (("ptshare", 12, 40), ("mshare", 12, 32), ("huge-2m", 0, 40)):
            tables = 0 if policy == "huge-2m" else size // PMD_BYTES * 4
            shared = chosen("pt-memory", region_bytes=size, policy=policy)
            assert_linear(shared, tables + once, each)


def assert_linear(frame: pd.DataFrame, once: int, each: int) -> None:
    """``pt.bytes`` is ``once`` KiB and ``each`` KiB a process."""
    assert (frame["pt.bytes"] == 1024 * (once + each * frame["procs"])).all(), frame["run"]


def test_a_page_costs_one_fault_not_one_a_process() -> None:
    for policy in ("ptshare", "mshare"):
        assert (chosen("faults", program="scan", policy=policy)["fault.host"] == 1024).all()
    private = chosen("faults", program="scan", policy="private", kernel__fault_around_bytes=PAGE)
    assert (private["fault.file"] == 1029 * private["procs"]).all()
    # Tables that are freed with the last rank are filled again.
    assert (chosen("faults", program="churn", policy="ptshare")["fault.host"] == 3 * 256).all()
    assert (chosen("faults", program="churn", policy="mshare")["fault.host"] == 256).all()


def net_misses(frame: pd.DataFrame) -> pd.Series[float]:
    """Second-level misses in the region of interest without the repeated accesses of faults."""
    return (frame["roi.tlb.stlb.misses"] - frame["roi.walk.faulted"]).astype(float)


def test_sharing_tables_changes_no_tlb_miss_but_shared_tags_do() -> None:
    alone = net_misses(chosen("shared-tags", policy="private"))
    shared = chosen("shared-tags", policy="ptshare")
    by_tags = dict(zip(shared["mmu.shared_tags"], net_misses(shared), strict=True))
    # 1,024 pages: once for each of eight processes, or once on each of two cores.
    assert by_tags[False] == alone.item() == 8 * 1024
    assert by_tags[True] == 2 * 1024
    frame = rows("walks").assign(net=net_misses(rows("walks")))
    found = frame.pivot(index=["program", "procs", "seed"], columns="policy", values="net")
    for policy in ("ptshare", "mshare"):
        assert (abs(found[policy] - found["private"]) <= 3).all()


def test_shared_entries_come_from_other_cores_and_private_ones_do_not() -> None:
    frame = chosen("walks", procs=16).groupby(["program", "policy"])
    transfers = frame["roi.walk.reads.pte.transfers"].mean()
    cycles = frame["roi.walk.cycles"].sum()
    lines = 64 * 2**20 // PAGE * 8 // 64
    for program, dearer in (("random", 1.2), ("zipf", 2.3)):
        assert transfers[program, "private"] == 0
        # At most what each of the other cores must fetch once, a part of them again.
        assert 4 * lines < transfers[program, "ptshare"] < 16 * lines
        ratio = cycles[program, "ptshare"] / cycles[program, "private"]
        assert round(ratio, 1) == dearer
    for policy in ("private", "ptshare"):
        from_memory = chosen("walks", policy=policy)["roi.walk.reads.pte.dram"]
        assert (from_memory <= 16).all()


def test_what_clients_gain_grows_until_their_tables_leave_the_caches() -> None:
    frame = rows("scale")
    time = frame.pivot(index="procs", columns="policy", values="cycles.makespan")
    gain = time["private"] / time["ptshare"]
    assert 1.6 < gain[125] < gain[250] < 2 < gain[500] < gain[1000]
    assert gain[[1000, 2000]].round(1).eq(2.7).all()
    assert (time["huge-2m"] < time["mshare"]).all() and (time["mshare"] < time["ptshare"]).all()
    net = frame.assign(net=frame["tlb.dtlb.misses"] - frame["walk.faulted"])
    misses = net.pivot(index="procs", columns="policy", values="net")
    assert (abs(misses["ptshare"] / misses["private"] - 1) < 0.006).all()
    links = chosen("scale", policy="ptshare")
    assert (links["share.links"] == 32 * links["procs"]).all()


def per_transaction(metric: str, ways: int = 6) -> pd.DataFrame:
    """Of PostgreSQL's regions of interest on the page's machine: by recording and processes."""
    each = pd.read_csv(RESULTS / "postgres" / make.recorded.EACH)
    each = each[(each["part"] == "region") & (each["preset"] == "server")]
    each = each[(each["kernel.fault_around_bytes"] == 64 << 10) & (each["mmu.dtlb.ways"] == ways)]
    return each.pivot(index=["program", "procs"], columns="policy", values=metric)


def test_warm_clients_of_postgres_save_faults_and_no_tlb_miss() -> None:
    faults = per_transaction("fault.total")
    saved = faults["private"] / faults["ptshare"]
    assert round(saved["select-8", 16], 1) == 8.3
    assert (saved > 1).all() and saved["select-64", 72] < 2
    # Buffers lie elsewhere, so that other pages compete for the sets, where there are several.
    for ways, least in ((6, 0.025), (96, 1e-6)):
        net = per_transaction("tlb.dtlb.misses", ways) - per_transaction("walk.faulted", ways)
        assert (abs(net["ptshare"] / net["private"] - 1) < least).all()
    misses = per_transaction("tlb.dtlb.misses")
    assert 0.2 < 1 - misses["huge-2m"]["select-8", 16] / misses["private"]["select-8", 16] < 0.28


def test_buffers_of_postgres_are_in_one_set_of_tables() -> None:
    for _, runs in rows("postgres").groupby("policy"):
        one = runs["policy"].iloc[0]
        kept = set(runs["pt.region.pte_tables"])
        if one == "private":
            assert min(kept) > 1000
        else:
            assert kept <= ({0} if one == "huge-2m" else {168, 169})


def test_what_redis_writes_is_shared_with_nobody() -> None:
    same = [f"fault.{kind}" for kind in vocabulary.MINOR_FAULTS]
    same += ["pt.bytes", "roi.cycles.total", "roi.tlb.dtlb.misses", "cycles.makespan"]
    for key, runs in rows("redis").groupby(["program", "cost.fork_pte"]):
        assert set(runs["policy"]) == {"private", "ptshare"}
        assert (runs[same].nunique() == 1).all(), key
    quiet, copied = (chosen("redis", program=name) for name in ("redis-quiet", "redis"))
    assert (quiet["roi.fault.cow"] == 0).all() and (copied["roi.fault.cow"] > 15_000).all()
    assert (copied["pt.tables"] - quiet["pt.tables"].iloc[0] == 88).all()
    cheap, dear = (chosen("redis", program="redis", cost__fork_pte=cost) for cost in (30, 190))
    more = dear["cycles.total"].iloc[0] - cheap["cycles.total"].iloc[0]
    assert more == 160 * 67_122


def test_only_who_is_not_told_uses_stale_translations() -> None:
    frame = rows("protect")
    stale = frame[frame["tlb.stale_hits"] > 0]
    assert set(stale["policy"]) == {"ptshare", "rfc-v2"}
    assert set(stale["shootdown.strategy"]) == {"caller-only", "policy"}
    assert set(stale["procs"]) == {4, 8, 16}


def test_both_engines_say_the_same() -> None:
    frame = rows("gem5-crosscheck").set_index(["program", "procs", "policy", "engine"])
    gem5, embedded = (frame.xs(engine, level="engine") for engine in ("gem5", "embedded"))
    embedded = embedded.loc[gem5.index]
    equal = [f"fault.{kind}" for kind in vocabulary.MINOR_FAULTS if kind != "link"]
    equal += [f"pt.tables.{level}" for level in vocabulary.PTE_LEVELS]
    for metric in (*equal, "pt.bytes", "pt.bytes.host", "pt.region.pte_tables", "share.links"):
        assert (gem5[metric] == embedded[metric]).all(), metric
    for metric in ("roi.tlb.dtlb.misses", "roi.walk.data"):
        assert (abs(gem5[metric] / embedded[metric] - 1) < 0.01).all(), metric


def test_the_cpu_model_changes_neither_tables_nor_faults_that_map() -> None:
    frame = rows("gem5-cpus")
    for _, same in frame.groupby("policy"):
        for metric in ("pt.bytes", "share.links", "fault.host", "fault.file", "fault.anon"):
            assert same[metric].nunique() == 1, metric
        quiet = same[same["gem5.cpu"] != "o3"]
        assert (quiet["fault.spurious"] == 0).all()


# Made again -------------------------------------------------------------------------------------


def again(name: str, rerun: bool) -> list[int]:
    """Rows that are run again: of each policy the shortest one, some of them, or all."""
    frame = rows(name)
    if rerun:
        return list(frame.index)
    work = frame["access.data"].where(frame["engine"] != "gem5", frame["access.data"] * 1000)
    shortest = work.groupby(frame["policy"]).idxmin()
    return sorted(shortest, key=lambda index: float(work[index]))[:AGAIN]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def without_details(binary: Path, folder: Path) -> Path:
    """The same program without the section that is not loaded, which is newer than most results."""
    target = folder / binary.name
    subprocess.run(["objcopy", "--remove-section", DETAILS, binary, target], check=True)
    return target


def hashes(spec: RunSpec, folder: Path) -> list[str]:
    """Of what is run, by which results know it."""
    if spec.recording is not None:
        return [spec.recording.sha256]
    binary = workloads.path(spec.program.name)
    return [sha256(binary), sha256(without_details(binary, folder))]


def figures(made: run.Run) -> dict[str, float]:
    """Metrics of a run, as ``numbers`` has those of a row."""
    now = json.loads(json.dumps(made.values[metrics.ALL]))
    return {key: float(value) for key, value in now.items() if not key.startswith("host.")}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.gem5] if name.startswith("gem5-") else [])
        for name in NAMES
    ],
)
def test_rerun(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    known = specs(name)
    compared = 0
    for index in again(name, request.config.getoption("--rerun")):
        then, spec = rows(name).loc[index], known[index]
        if then["program_sha256"] not in hashes(spec, tmp_path):
            pytest.skip("another compiler made the workloads here, or the recording is another one")
        made = run.execute(spec, ())
        version = made.result.versions.get("gem5")
        if version is not None and version != then["gem5"]:
            pytest.skip(f"made with gem5 {then['gem5']}, here is {version}")
        assert figures(made) == numbers(then), then["command"]
        compared += 1
    assert compared
