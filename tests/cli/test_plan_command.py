"""``ptshare plan`` against closed forms, which stand beside each figure."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from compiler import compiled

import ptshare_plugin as pt
from ptshare_plugin import _core, policies
from ptshare_plugin.machine.config import load
from ptshare_plugin.machine.schema import flatten

WORKLOADS = Path(__file__).parents[2] / "se_workloads"
COMMAND = Path(sys.executable).with_name("ptshare")
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PAGE, PMD = 4 * KIB, 2 * MIB
POLICIES = ("private", "ptshare", "mshare", "huge-2m")
NO_OWN = ("--own-tables", "0")


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "plan", *args], text=True, capture_output=True, timeout=600, check=False
    )


def plan(*args: str) -> dict[str, dict[str, Any]]:
    done = run(*args, "--json")
    assert done.returncode == 0, done.stderr
    rows: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return rows


@pytest.fixture(scope="module")
def seed_case() -> dict[str, dict[str, Any]]:
    """S17: 1,500 clients of 300 GiB on a server of 512 GiB."""
    return plan("--procs", "1500", "--region", "300GiB", "--memory", "512GiB", *NO_OWN)


def test_tables_of_the_seeds_case(seed_case: dict[str, dict[str, Any]]) -> None:
    pages = 300 * GIB // PAGE
    leaves = pages * 8  # 8 B a page: 600 MiB a process
    # A PMD table (4 KiB) a GiB, a PUD table and a PGD.
    upper = 300 * PAGE + PAGE + PAGE
    private = seed_case["private"]
    assert private["pt.bytes.guest.pte"] == 1500 * leaves
    assert private["pt.bytes"] == 1500 * (leaves + upper)
    assert round(1500 * leaves / GIB, 1) == 878.9
    assert round(private["pt.bytes"] / GIB, 1) == 880.6
    # One set of PTE tables and the host's own upper ones; each client's upper tables link them.
    shared = seed_case["ptshare"]
    assert shared["pt.bytes.host"] == leaves + upper
    assert shared["pt.bytes.guest"] == 1500 * upper
    assert round(shared["pt.bytes"] / GIB, 2) == 2.32
    # A client owns its PGD alone: its entry links the host's PUD table.
    mshare = seed_case["mshare"]
    assert mshare["pt.bytes.host"] == leaves + upper
    assert mshare["pt.bytes.guest"] == 1500 * PAGE
    assert round(mshare["pt.bytes"] / MIB) == 607
    # 8 B each 2 MiB: the PMD tables are the leaf tables.
    assert seed_case["huge-2m"]["pt.bytes"] == 1500 * upper
    assert round(seed_case["huge-2m"]["pt.bytes"] / GIB, 2) == 1.73


def test_memory_of_the_seeds_case(seed_case: dict[str, dict[str, Any]]) -> None:
    # Frame 0 and the zero page are nobody's.
    frames = 512 * GIB // PAGE - 300 * GIB // PAGE - 2
    a_client = 300 * 512 + 300 + 2
    private = seed_case["private"]
    assert private["memory.clients"] == frames // a_client == 361
    # c chunks of 2 MiB for every client need c PTE tables, a PMD table each 512, PUD and PGD.
    chunks = max(c for c in range(300 * 512) if 1500 * (c + -(-c // 512) + 2) <= frames)
    assert private["coverage.bytes"] == chunks * PMD
    for name in POLICIES[1:]:
        row = seed_case[name]
        assert (row["memory.clients"], row["memory.runs_out"]) == (1500, False)
        assert row["coverage.ratio"] == 1.0
        # What is left is what the tables leave.
        assert row["memory.left_bytes"] == frames * PAGE - row["pt.bytes"]


def test_faults_of_the_seeds_case(seed_case: dict[str, dict[str, Any]]) -> None:
    pages = 300 * GIB // PAGE
    window = load().kernel.fault_around_bytes // PAGE
    private = seed_case["private"]
    assert private["fault.file"] == private["fault.total"] == 1500 * pages // window
    assert private["fault.around_pages"] == 1500 * (pages - pages // window)
    # The first client's faults map pages in the host; all others only link, once in 2 MiB.
    shared = seed_case["ptshare"]
    assert shared["fault.host"] == pages // window
    assert shared["fault.link"] == 1499 * pages // 512
    assert shared["fault.linked"] == 1500 * pages // 512
    # Once in 512 GiB.
    mshare = seed_case["mshare"]
    assert (mshare["fault.host"], mshare["fault.link"]) == (pages // window, 1499)
    assert seed_case["huge-2m"]["fault.file"] == 1500 * pages // 512


def test_mprotect_of_the_seeds_case(seed_case: dict[str, dict[str, Any]]) -> None:
    pages = 300 * GIB // PAGE
    cost = flatten(load())
    entry = cost["cost.syscall"] + cost["cost.mprotect"]
    local = cost["cost.shootdown.local"]
    private = seed_case["private"]
    assert private["mprotect.one.reached"] == 1
    assert private["mprotect.each.ptes_changed"] == 1500 * pages
    assert private["mprotect.each.cycles"] == 1500 * (
        entry + pages * cost["cost.pte_update"] + local
    )
    shared = seed_case["ptshare"]
    assert shared["mprotect.one.reached"] == 1500
    assert shared["mprotect.one.ptes_changed"] == shared["mprotect.each.ptes_changed"] == pages
    others = 64 - 1  # --cpus
    waiting = cost["cost.shootdown.first_cpu"] + (others - 1) * cost["cost.shootdown.next_cpu"]
    assert (
        shared["mprotect.one.cycles"] == entry + pages * cost["cost.pte_update"] + local + waiting
    )
    assert shared["mprotect.one.cycles_other"] == others * (local + cost["cost.shootdown.receive"])
    huge = seed_case["huge-2m"]
    assert huge["mprotect.each.ptes_changed"] == 1500 * pages // 512


def test_seeds_case_is_small() -> None:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert used.ru_maxrss * KIB < GIB


@pytest.mark.parametrize("policy", policies.names())
@pytest.mark.parametrize("pattern", ["all", "fraction:0.3", "spread:0.01", "zipf:200"])
def test_audit_is_clean(policy: str, pattern: str) -> None:
    from ptshare_plugin.studies import plan as planning

    asked = planning.Plan(
        procs=3,
        region=8 * MIB,
        memory=64 * MIB,
        pattern=planning.parse_pattern(pattern, 8 * MIB),
        write=False,
        resident="all",
        cpus=4,
        seed=1,
        machine=load(),
        own_tables=12 * KIB,
        own_memory=256 * KIB,
    )
    made = _core.Deployment(
        {**flatten(asked.machine), "kernel.memory_bytes": asked.memory}, policy, asked.region
    )
    assert planning._start(asked, made, 3) == 3
    made.protect(0, 3, 1, 4)
    assert made.audit() == []


def test_what_clients_have_of_their_own_counts_in_totals_and_memory() -> None:
    sizes = ("--procs", "1500", "--region", "300GiB", "--memory", "512GiB")
    frames = 512 * GIB // PAGE - 300 * GIB // PAGE - 2
    upper = 300 * PAGE + PAGE + PAGE
    region = 300 * GIB // PAGE * 8 + upper
    # An idle PostgreSQL backend's, by default.
    rows = plan(*sizes)
    private, shared = rows["private"], rows["ptshare"]
    assert private["pt.bytes.own"] == shared["pt.bytes.own"] == 1500 * 176 * KIB
    assert private["pt.bytes"] == 1500 * region
    assert private["pt.bytes.total"] == 1500 * (region + 176 * KIB)
    assert shared["pt.saved_bytes"] == private["pt.bytes.total"] - shared["pt.bytes.total"]
    assert private["pt.saved_bytes"] == 0
    assert private["memory.clients"] == frames // ((region + 176 * KIB) // PAGE)
    assert shared["memory.left_bytes"] == frames * PAGE - shared["pt.bytes.total"]
    # With 150 MiB of memory for each, sharing runs out, too.
    rows = plan(*sizes, "--own-tables", "400KiB", "--own-memory", "150MiB")
    each = 400 * KIB + 150 * MIB
    assert rows["private"]["memory.clients"] == frames * PAGE // (region + each)
    host = 300 * GIB // PAGE * 8 + upper
    assert rows["ptshare"]["memory.clients"] == (frames * PAGE - host) // (upper + each) < 1500
    assert rows["ptshare"]["memory.runs_out"]


def test_a_file_that_is_not_in_memory_is_touched_into_it() -> None:
    args = ("--procs", "2", "--region", "1GiB", "--memory", "8GiB", "--resident", "touched")
    rows = plan(*args, *NO_OWN, "--pattern", "fraction:0.5")
    # The first client brings each page in, a fault each; the second finds them around its faults.
    pages = GIB // PAGE // 2
    assert rows["private"]["fault.file"] == pages + pages // 16
    assert rows["ptshare"]["fault.host"] == pages
    assert rows["private"]["fault.around_pages"] == pages - pages // 16
    assert rows["ptshare"]["fault.link"] == pages // 512
    frames = 8 * GIB // PAGE - 2
    for row in rows.values():
        assert row["memory.left_bytes"] == (frames - pages) * PAGE - row["pt.bytes"]
        assert row["coverage.ratio"] == 1.0


def test_absurd_sizes_end_soon() -> None:
    sizes = ("--procs", "3", "--region", "127TiB", "--resident", "touched")
    done = run(*sizes, "--memory", "64TiB", "--pattern", "fraction:0.001")
    assert done.returncode == 2
    assert "the coverage would bring 64TiB of it into memory" in done.stderr
    done = run(*sizes, "--memory", "1TiB", "--pattern", "fraction:0.001")
    assert done.returncode == 0, done.stderr
    assert "of the region, 3 clients can touch" in done.stdout


def test_more_tables_than_this_machine_can_hold_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ptshare_plugin.common.errors import UserError
    from ptshare_plugin.studies import plan as planning

    asked = planning.asked(
        procs=3,
        region=8 * MIB,
        memory=GIB,
        pattern="spread:0.01",
        access="read",
        resident="all",
        cpus=4,
        seed=1,
        machine=load(),
        own_tables=0,
        own_memory=0,
    )
    # A client has a root, a PUD, a PMD and four PTE tables: at most 28 KiB, kept in less.
    monkeypatch.setattr(planning, "_holdable_bytes", lambda: 100)
    with pytest.raises(UserError, match="after 1 of 3 clients the simulator holds"):
        planning.compute(asked, "private", planning.Stop())
    monkeypatch.setattr(planning, "_holdable_bytes", lambda: 128 * KIB)
    row = planning.compute(asked, "private", planning.Stop())
    assert row["memory.clients"] == 3


def test_spread_pages_need_a_table_each() -> None:
    # A page in each 2 MiB: as many PTE tables as for every page.
    rows = plan(
        *("--procs", "2", "--region", "64MiB", "--memory", "1GiB", "--policy", "private"),
        *("--pattern", f"spread:{1 / 512}"),
    )
    assert rows["private"]["pt.bytes.guest.pte"] == 2 * 32 * PAGE
    assert rows["private"]["fault.file"] == 2 * 32


def test_zipf_touches_what_the_seed_says() -> None:
    args = ("--procs", "3", "--region", "64MiB", "--memory", "1GiB", "--pattern", "zipf:500")
    first = plan(*args)
    assert plan(*args) == first
    assert plan(*args, "--seed", "2") != first
    assert 0 < first["private"]["fault.total"] <= 3 * 500


@pytest.mark.parametrize("fraction", [0.01, 0.0009])
@pytest.mark.parametrize("access", ["read", "write"])
def test_spread_is_as_many_tables_as_hold_a_page(fraction: float, access: str) -> None:
    procs, pages = 40, 3 * GIB // PAGE
    count = int(fraction * pages)
    touched = {i * pages // count for i in range(count)}
    tables = len({page // 512 for page in touched})
    assert (tables == pages // 512) == (fraction > 1 / 512)
    # A read maps the window around it, a write the page.
    around = load().kernel.fault_around_bytes // PAGE if access == "read" else 1
    windows = len({page // around for page in touched})
    rows = plan(
        *("--procs", str(procs), "--region", "3GiB", "--memory", "16GiB", "--access", access),
        *("--pattern", f"spread:{fraction}"),
    )
    upper = 3 + 1 + 1  # PMD tables, a PUD table and a PGD
    private = rows["private"]
    assert private["pt.bytes"] == procs * (tables + upper) * PAGE
    assert private["pt.bytes.guest.pte"] == procs * tables * PAGE
    assert private["fault.file"] == private["fault.total"] == procs * windows
    assert private["fault.around_pages"] == procs * windows * (around - 1)
    assert private["mprotect.one.ptes_changed"] == windows * around
    assert private["mprotect.each.ptes_changed"] == procs * windows * around
    # Once in 2 MiB, and once in 512 GiB.
    for name, links in (("ptshare", tables), ("mshare", 1)):
        shared = rows[name]
        assert shared["pt.bytes.host.pte"] == tables * PAGE
        assert (shared["fault.host"], shared["fault.link"]) == (windows, (procs - 1) * links)
        assert shared["fault.linked"] == procs * links
        assert shared["mprotect.each.ptes_changed"] == windows * around
    huge = rows["huge-2m"]
    assert huge["fault.file"] == huge["mprotect.each.ptes_changed"] == procs * tables


ZIPF = r"""
#include <stdio.h>
#include "patterns/zipf.h"
int main(void) {
    static u32 powers[1 << FRACTION_BITS];
    zipf_fill_powers(powers);
    for (u64 rank = 0; rank < PROCS; ++rank) {
        u64 state = zipf_start(1, rank);
        for (int i = 0; i < VISITS; ++i) {
            state = zipf_next(state);
            u64 drawn = zipf_draw(powers, state, zipf_log2(PAGES), PAGES);
            printf("%lu %lu\n", rank, zipf_page(drawn, PAGES));
        }
    }
}
"""


def test_zipf_is_as_many_tables_as_were_visited(tmp_path: Path) -> None:
    procs, visits, pages = 30, 1000, 8 * GIB // PAGE
    macros = [f"-DPROCS={procs}", f"-DVISITS={visits}", f"-DPAGES={pages}UL"]
    program = compiled(tmp_path, ZIPF, ".c", *macros, f"-I{WORKLOADS}")
    said = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    pairs = [tuple(map(int, line.split())) for line in said.splitlines()]
    assert len(pairs) == procs * visits
    window = load().kernel.fault_around_bytes // PAGE
    tables = len({(rank, page // 512) for rank, page in pairs})
    pmds = len({(rank, page // 512 // 512) for rank, page in pairs})
    windows = len({(rank, page // window) for rank, page in pairs})
    rows = plan(
        *("--procs", str(procs), "--region", "8GiB", "--memory", "64GiB"),
        *("--pattern", f"zipf:{visits}"),
    )
    private = rows["private"]
    assert private["pt.bytes"] == (tables + pmds + 2 * procs) * PAGE
    assert private["fault.file"] == private["fault.total"] == windows
    assert private["fault.around_pages"] == windows * (window - 1)
    assert private["mprotect.each.ptes_changed"] == windows * window
    shared = rows["ptshare"]
    assert shared["pt.bytes.host.pte"] == len({page // 512 for _, page in pairs}) * PAGE
    assert shared["fault.host"] == len({page // window for _, page in pairs})
    assert shared["fault.linked"] == tables
    assert rows["huge-2m"]["fault.file"] == tables


def test_what_cannot_be_computed_is_left_out() -> None:
    # 1,500 clients of 1 GiB are 393,216,000 accesses where each is served by itself.
    args = ("--procs", "1500", "--region", "1GiB", "--memory", "64GiB")
    reason = "rfc-v2: 393,216,000 accesses would be served one by one, at most 268,435,456: take"
    done = run(*args, "--policy", "private,rfc-v2", "--json")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ptshare: warning: left out: {reason}")
    assert list(json.loads(done.stdout)) == ["private"]
    planned = pt.plan(procs=1500, region="1GiB", memory="64GiB", policy=["private", "rfc-v2"])
    assert list(planned.rows) == ["private"]
    assert list(planned.left_out) == ["rfc-v2"]
    assert planned.left_out["rfc-v2"].startswith(reason)
    done = run(*args, "--policy", "rfc-v2")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"ptshare: error: {reason}")


def test_table_is_printed() -> None:
    done = run("--procs", "2", "--region", "4MiB", "--memory", "64MiB")
    assert done.returncode == 0
    for words in ("page tables", "clients that fit", "fault.link", "mprotect of the region"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--procs", "0"), "--procs 0: must be 1 to 32768"),
        (("--region", "128TiB"), "--region 128TiB: must be at most 127TiB"),
        (("--procs", "9" * 400), "--procs 99999999999999999999...: must be 1 to 32768"),
        (("--own-tables", "5000"), "--own-tables 5000B: must be a multiple of 4KiB"),
        (("--own-memory", "1TiB"), "--own-memory 1TiB: must be a multiple of 4KiB, at most the"),
        (("--region", "3MiB"), "--region 3MiB: must be a multiple of 2MiB, not 0"),
        (("--region", "much"), "--region: 'much' is not a size"),
        (("--memory", "200GiB"), "--memory 200GiB: the file of 300GiB does not fit"),
        (("--policy", "privat"), "--policy: unknown policy privat (did you mean private?)"),
        (("--policy", "private,private"), "--policy: private is named twice"),
        (("--pattern", "half"), "--pattern half: write all, fraction:0.25"),
        (("--pattern", "fraction:2"), "--pattern fraction:2: write all"),
        (("--access", "both"), "--access both: must be read or write"),
        (("--resident", "none"), "--resident none: must be all or touched"),
        (("--policy", "rfc-v2"), "rfc-v2: 117,964,800,000 accesses would be served one by one"),
        (
            ("--pattern", "spread:0.01", "--resident", "touched", "--policy", "private,ptshare"),
            "private: 1,179,648,000 accesses would be",
        ),
        (("--cpus", "0"), "--cpus 0: must be 1 to"),
        (("--seed", "-1"), "--seed -1: must be 0 to 2^64 - 1"),
        (("--seed", str(2**64)), f"--seed {2**64}: must be 0 to 2^64 - 1"),
    ],
)
def test_wrong_input_is_one_line(args: tuple[str, ...], words: str) -> None:
    done = run(*args)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("ptshare: error: " + words)
