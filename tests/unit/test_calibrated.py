"""The arithmetic of ``ptshare calibrate``, on made-up times of a machine whose costs are known."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.machine import config
from ptshare_plugin.machine.schema import flatten
from ptshare_plugin.studies.calibration import calibrate, rules
from ptshare_plugin.studies.calibration.timings import (
    Measured,
    NotMeasured,
    Series,
    line,
    measure,
    paired,
)

BASE = flatten(config.load("server"))
CACHES = {"l1d": 32 << 10, "l2": 1 << 20, "llc": 32 << 20}

# Nanoseconds. At 2,000 MHz a nanosecond is two cycles.
TRUE = {
    "cost.syscall": 100,
    "cost.mmap": 900,
    "cost.munmap": 700,
    "cost.mprotect": 400,
    "cost.pte_update": 20,
    "cost.flush_page": 50,
    "cost.shootdown.local": 150,
    "cost.shootdown.first_cpu": 2000,
    "cost.shootdown.next_cpu": 300,
    "cost.shootdown.receive": 700,
    "cost.fault.entry": 500,
    "cost.fault.file_page": 200,
    "cost.fault.around_page": 30,
    "cost.fault.anon_page": 350,
    "cost.fault.cow_page": 600,
    "cost.fault.write_protect": 40,
    "cost.table_alloc": 256,
    "cost.table_free": 80,
    "cost.fork_pte": 15,
    "cost.fork": 30_000,
    "cost.exec": 200_000,
    "cost.exit": 25_000,
    "cost.switch": 1_500,
    "cache.l1d.latency": 2,
    "cache.l2.latency": 7,
    "cache.llc.latency": 20,
    "cache.dram_latency": 90,
}


def times() -> Iterator[tuple[str, float]]:
    """What such a machine takes, composed as the engines charge it."""
    t = TRUE
    local, page = t["cost.shootdown.local"], t["cost.flush_page"]
    entry = t["cost.fault.entry"]
    yield "add", 0.5
    yield "syscall", t["cost.syscall"]
    for call in ("mmap", "munmap"):
        yield call, t["cost.syscall"] + t[f"cost.{call}"]
    yield "mprotect_absent", t["cost.syscall"] + t["cost.mprotect"]
    for pages in (1, 2, 16, 33, 34, 64, 128, 512):
        grant = t["cost.syscall"] + t["cost.mprotect"] + pages * t["cost.pte_update"]
        yield f"mprotect_grant.{pages}", grant
        yield f"mprotect_drop.{pages}", grant + local + (page * pages if pages < 34 else 0)
    for others in (0, 1, 2, 4):
        remote = t["cost.shootdown.first_cpu"] + (others - 1) * t["cost.shootdown.next_cpu"]
        yield f"grant_cpus.{others}", 600
        yield f"drop_cpus.{others}", 600 + local + page + (remote if others else 0)
    yield "receive", t["cost.shootdown.receive"] + local + page
    yield "zero_page_touch", entry
    yield "file_touch", entry + t["cost.fault.file_page"]
    yield "fault_around_pages", 16
    yield (
        "file_window_touch",
        entry + t["cost.fault.file_page"] + 15 * t["cost.fault.around_page"],
    )
    yield "anon_touch", entry + t["cost.fault.anon_page"]
    yield "cow_touch", entry + t["cost.fault.cow_page"] + local + page
    yield "reuse_touch", entry + t["cost.fault.write_protect"]
    yield "touch_old_table", 850
    yield "touch_new_table", 850 + t["cost.table_alloc"]
    yield "table_scan", 200
    yield "munmap_table", 200 + t["cost.table_free"]
    for pages in (0, 1024, 4096):
        tables = 10 + pages // 512
        yield f"fork_tables.{pages}", tables
        yield (
            f"fork.{pages}",
            t["cost.syscall"]
            + t["cost.fork"]
            + local
            + pages * t["cost.fork_pte"]
            + tables * t["cost.table_alloc"],
        )
        yield (
            f"exit.{pages}",
            t["cost.syscall"]
            + t["cost.exit"]
            + t["cost.switch"]
            + tables * t["cost.table_free"]
            + pages * t["cost.pte_update"],
        )
    yield "exec", t["cost.syscall"] + t["cost.exec"]
    yield "pipe_alone", 400
    yield "pipe_switch", 400 + t["cost.switch"]
    yield "chase_2m.64", 2
    yield "chase_2m.512", 2
    kib = 4
    while kib <= 1 << 20:
        level = "l1d" if kib <= 32 else "l2" if kib <= 1024 else "llc" if kib <= 32768 else "dram"
        key = "cache.dram_latency" if level == "dram" else f"cache.{level}.latency"
        yield f"cache.{kib}", t[key]
        kib *= 2


def made(**changed: float | None) -> Measured:
    """Three repeats of each time. A name (dots written as two underscores) changed or left out."""
    lines = []
    for name, value in times():
        new = changed.get(name.replace(".", "__"), value)
        if new is not None:
            lines += [f"{name} {new + noise}\n" for noise in (0.001, 0, -0.001)]
    measured = Measured()
    measured.add(lines)
    return measured


def derive(measured: Measured) -> dict[str, rules.Found]:
    return rules.derive(measured, BASE, CACHES)


# Repeats ----------------------------------------


def test_median_and_spread() -> None:
    series = Series((10.0, 50.0, 20.0, 30.0, 40.0))
    assert series.median == 30
    assert series.spread == pytest.approx(100 * 20 / 30)
    assert Series((5.0,)).spread is None
    assert Series((-1.0, 0.0, 1.0)).spread is None
    assert Series((-30.0, -20.0, -40.0)).spread == pytest.approx(100 * 10 / 30)


def test_differences_and_slopes() -> None:
    assert Series((5.0, 7.0)).minus(1, 2).values == (2, 4)
    assert Series((6.0,)).over(4).values == (1.5,)
    assert paired(Series((5.0, 9.0, 4.0)), Series((1.0, 2.0))).values == (4, 7)
    points = {1: Series((13.0, 5.0)), 2: Series((16.0, 6.0)), 5: Series((25.0, 9.0))}
    slope, intercept = line(points)
    assert slope.values == pytest.approx((3, 1)) and intercept.values == pytest.approx((10, 4))
    with pytest.raises(NotMeasured, match="two points"):
        line({1: Series((1.0,))})


def test_lines_of_the_program() -> None:
    measured = Measured()
    measured.add(
        [
            "a 1.5\n",
            "a 2.5\n",
            "b.4 7\n",
            "b.16 8\n",
            "- c no such thing here\n",
            "d 1\n",
            "- d once\n",
        ]
    )
    assert measured.of("a").values == (1.5, 2.5)
    assert [*measured.by_number("b")] == [4, 16] and [*measured.by_number("b", low=5)] == [16]
    with pytest.raises(NotMeasured, match="no such thing here"):
        measured.of("c")
    with pytest.raises(NotMeasured, match="once"):  # as many repeats failed as did not
        measured.of("d")


@pytest.mark.parametrize(
    ("script", "message"),
    [("echo 'mmap: no memory' >&2; exit 1", "mmap: no memory"), ("exit 3", "status 3")],
)
def test_a_program_that_fails(tmp_path: Path, script: str, message: str) -> None:
    program = tmp_path / "measure"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(NotMeasured, match=message):
        measure(program, "map", 1, 1, tmp_path, lambda: None)


# Keys ----------------------------------------


def test_the_costs_of_a_known_machine_are_found() -> None:
    keys = derive(made())
    assert keys["cpu.frequency_mhz"].value == 2000
    assert keys["kernel.fault_around_bytes"].value == 64 << 10
    assert set(TRUE) | {"cpu.frequency_mhz", "kernel.fault_around_bytes"} == set(keys)
    for key, nanoseconds in TRUE.items():
        assert keys[key].value == 2 * nanoseconds, key


def test_the_cheapest_fault_is_the_entry() -> None:
    measured = made(reuse_touch=450)
    keys = derive(measured)
    assert keys["cost.fault.entry"].value == 900
    assert keys["cost.fault.write_protect"].value == 0
    assert keys["cost.fault.anon_page"].value == 2 * (350 + 50)
    assert "exited child" in rules.cheapest_fault(measured)


def test_without_other_cpus() -> None:
    gone = {f"{kind}_cpus__{n}": None for kind in ("drop", "grant") for n in (1, 2, 4)}
    keys = derive(made(**gone, receive=None))
    for name, cpus in (("first_cpu", 2), ("next_cpu", 3), ("receive", 2)):
        found = keys[f"cost.shootdown.{name}"]
        assert found.value is None and found.reason == f"not measured: needs {cpus} CPUs"
    assert keys["cost.shootdown.local"].value == 300
    two = {f"{kind}_cpus__{n}": None for kind in ("drop", "grant") for n in (2, 4)}
    keys = derive(made(**two))
    assert keys["cost.shootdown.first_cpu"].value == 4000
    assert keys["cost.shootdown.next_cpu"].reason == "not measured: needs 3 CPUs"


def test_a_negative_difference_is_not_resolved() -> None:
    found = derive(made(touch_new_table=800))["cost.table_alloc"]
    assert found.value is None and found.series is None
    assert found.reason == "not resolved: the difference came out as -50 ns"


def test_what_is_missing_is_subtracted_as_the_base_has_it() -> None:
    measured = made(syscall=None)
    measured.reasons["syscall"] = "made up"
    keys = derive(measured)
    assert keys["cost.syscall"].reason == "not measured: made up"
    assert keys["cost.mmap"].value == 2 * 1000 - BASE["cost.syscall"]


def test_no_plateau_no_latency() -> None:
    keys = derive(made(cache__8192=30))
    assert keys["cache.llc.latency"].value is None
    assert "no plateau: 20.0 to 30.0 ns" in keys["cache.llc.latency"].reason
    assert keys["cache.l2.latency"].value == 14 and keys["cache.dram_latency"].value == 180


def test_huge_pages_that_are_none() -> None:
    keys = derive(made(chase_2m__512=3))
    for name in ("cache.llc.latency", "cache.dram_latency"):
        assert "it is not translated as one" in keys[name].reason
    assert keys["cache.l2.latency"].value == 14


def test_latencies_that_do_not_ascend_beside_the_bases() -> None:
    # L2 above the base's LLC, which stays.
    slow = {f"cache__{kib}": 60.0 for kib in (64, 128, 256)}
    gone = {f"cache__{kib}": None for kib in (2048, 4096, 8192)}
    keys = derive(made(**slow, **gone))
    for name in ("cache.l1d.latency", "cache.l2.latency", "cache.dram_latency"):
        assert keys[name].value is None and "out of order" in keys[name].reason
    assert "fewer than two regions" in keys["cache.llc.latency"].reason


def test_an_odd_window_is_not_written() -> None:
    found = derive(made(fault_around_pages=12))["kernel.fault_around_bytes"]
    assert found.value is None and found.reason == "12 pages a fault are no power of two"
    keys = derive(made(fault_around_pages=1, file_window_touch=None))
    assert keys["kernel.fault_around_bytes"].value == 4096
    assert "maps one page" in keys["cost.fault.around_page"].reason


def test_nothing_measured_leaves_everything() -> None:
    keys = derive(Measured())
    assert all(found.value is None and found.reason for found in keys.values())


# The file ----------------------------------------


def result(measured: Measured) -> calibrate.Result:
    machine = {"kernel": "Linux 6.1", "CPU": 'A "CPU" \\ of\nmine', "date": "2026-01-02"}
    return calibrate.Result(machine, measured, derive(measured), BASE)


def test_the_file_gives_the_keys_back(tmp_path: Path) -> None:
    one = result(made(touch_new_table=800))
    path = tmp_path / "machine.toml"
    path.write_text(calibrate.preset(one))
    loaded = flatten(config.load(str(path)))
    for key, value in loaded.items():
        found = one.keys.get(key)
        assert value == (BASE[key] if found is None or found.value is None else found.value), key
    assert 'A "CPU" \\ of mine' in config.preset_description(str(path))
    text = path.read_text()
    assert "anon_page = 700  # 350 ns, IQR 0.0 %, 3 repeats" in text
    assert "# cost.table_alloc = 700: not resolved: the difference came out as -50 ns" in text
    assert max(map(len, text.splitlines())) <= 130


def test_a_file_of_nothing_is_the_base(tmp_path: Path) -> None:
    path = tmp_path / "machine.toml"
    path.write_text(calibrate.preset(result(Measured())))
    assert flatten(config.load(str(path))) == BASE


def test_what_spreads_is_named() -> None:
    measured = made()
    assert calibrate.noisy_keys(result(measured)) == []
    measured.plain["syscall"] = Series((100.0, 30.0, 190.0))
    assert "cost.syscall" in calibrate.noisy_keys(result(measured))


def test_other_machines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(UserError, match="this is Linux aarch64"):
        calibrate.calibrate(None, False, True, False)
