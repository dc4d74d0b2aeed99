import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptshare_plugin.common.errors import UserError
from ptshare_plugin.machine import config
from ptshare_plugin.machine.schema import KEYS, flatten

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", config.preset_names())
def test_every_preset_holds_every_key_in_its_limits(name: str) -> None:
    flat = flatten(config.load(name))
    assert list(flat) == list(KEYS)
    assert {key: type(value) for key, value in flat.items()} == {
        key: KEYS[key].type for key in KEYS
    }
    assert config.preset_description(name)


def test_presets_are_the_two_machines() -> None:
    assert config.preset_names() == ["gem5-x86", "server", "server-amd"]


def test_gem5_preset_is_gem5s_tlb() -> None:
    mmu = config.load("gem5-x86").mmu
    assert (mmu.dtlb.entries, mmu.dtlb.ways) == (mmu.itlb.entries, mmu.itlb.ways) == (64, 0)
    assert mmu.stlb.entries == 0
    caches = mmu.walk_cache
    assert caches.pmd_entries == caches.pud_entries == caches.p4d_entries == 0
    assert caches.pgd_entries == 0


def test_server_costs_agree_with_the_measurements_they_are_said_to_rest_on() -> None:
    server = config.load("server")
    cost, microsecond = server.cost, server.cpu.frequency_mhz
    assert 0.6 <= (cost.fault.entry + cost.fault.file_page) / microsecond <= 1.0
    assert 0.6 <= (cost.fault.entry + cost.fault.anon_page) / microsecond <= 1.0
    assert cost.syscall + cost.mprotect + cost.pte_update == 1500
    for cpus, measured in ((8, 12.3), (32, 42.0), (72, 118.0)):
        cycles = cost.shootdown.first_cpu + (cpus - 1) * cost.shootdown.next_cpu
        assert cycles / microsecond == pytest.approx(measured, rel=0.17)


def test_no_default_stands_in_python() -> None:
    with pytest.raises(TypeError):
        type(config.load("server").cpu)()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("mmu.stlb.entries=1024", 1024),
        ("cache.l2.bytes=1MiB", 1 << 20),
        ("kernel.fault_around_bytes=4096", 4096),
        ("kernel.dirty_tracking=true", True),
        ("cpu.base_cpi=2", 2.0),
        ("mmu.walker.port=l2", "l2"),
        (" mmu.levels = 5", 5),
    ],
)
def test_set_changes_one_key(text: str, value: object) -> None:
    name = text.split("=")[0].strip()
    changed, plain = flatten(config.load("server", [text])), flatten(config.load("server"))
    assert changed[name] == value and type(changed[name]) is type(value)
    assert {key for key in KEYS if changed[key] != plain[key]} == {name}


def test_the_last_set_wins() -> None:
    machine = config.load("server", ["mmu.pcids=1", "mmu.pcids=2"])
    assert machine.mmu.pcids == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mmu.stlb.entry=3", "unknown key mmu.stlb.entry (did you mean mmu.stlb.entries?)"),
        ("stlb", "write it as key=value"),
        ("mmu.stlb.entries=100", "must be a multiple of mmu.stlb.ways = 16"),
        ("mmu.stlb.entries=48", "that makes 3 sets"),
        ("cache.llc.bytes=31MiB", "must be a multiple of ways x line_bytes"),
        ("cache.l2.bytes=3MiB", "number of sets must be a power of two"),
        ("mmu.levels=3", "must be 4 or 5"),
        ("mmu.walker.port=l3", "must be l1d or l2"),
        ("kernel.fault_around_bytes=5000", "must be power of two, 4KiB to 2MiB"),
        ("kernel.fault_around_bytes=4MiB", "must be power of two, 4KiB to 2MiB"),
        ("kernel.dirty_tracking=1", "must be true or false"),
        ("cpu.base_cpi=nan", "must be 0.0 to 1000.0"),
        ("cpu.base_cpi=fast", "must be a number"),
        ("mmu.pcids=-1", "must be 0 to 4095"),
        ("mmu.pcids=1.5", "must be a whole number"),
        ("cache.l2.latency=2", "cache.l1d.latency is 5, but must not exceed cache.l2.latency = 2"),
        ("cache.l2.bytes=big", "cache.l2.bytes: 'big' is not a size"),
        ("kernel.memory_bytes=1073741825", "multiple of 4KiB"),
    ],
)
def test_a_wrong_set_is_named_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        config.load("server", [text])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    st.sampled_from(sorted(KEYS)),
    st.one_of(st.integers().map(str), st.text(max_size=12), st.floats().map(str)),
)
def test_any_set_is_taken_or_refused_with_a_user_error(name: str, value: str) -> None:
    try:
        machine = config.load("server", [f"{name}={value}"])
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert config.from_flat(flatten(machine)) == machine


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"did you mean server\?"):
        config.load("serve")


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_file_inherits_from_its_base(tmp_path: Path) -> None:
    file = write(
        tmp_path / "mine.toml",
        'base = "gem5-x86"\n[mmu.stlb]\nentries = 512\nways = 4\n[cache.l2]\nbytes="1MiB"',
    )
    flat, base = flatten(config.load(file)), flatten(config.load("gem5-x86"))
    assert {key: flat[key] for key in KEYS if flat[key] != base[key]} == {
        "mmu.stlb.entries": 512,
        "mmu.stlb.ways": 4,
        "cache.l2.bytes": 1 << 20,
    }


def test_a_base_may_be_a_file_beside(tmp_path: Path) -> None:
    write(tmp_path / "a.toml", 'base = "server"\n[mmu]\npcids = 3')
    file = write(tmp_path / "b.toml", 'base = "a.toml"\n[mmu]\nlevels = 5')
    mmu = config.load(file).mmu
    assert (mmu.pcids, mmu.levels) == (3, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[mmu]\npcid = 3\n", "unknown key mmu.pcid (did you mean mmu.pcids?)"),
        ('base = "server"\n[mmu]\npcids = "six"', "must be a whole number, not 'six'"),
        ('base = "server"\n[mmu]\npcids = true', "must be a whole number, not True"),
        ('base = "server"\n[mmu]\npcids = [6]', "must be a whole number, not [6]"),
        ('base = "server"\nmmu = 3', "unknown key mmu"),
        ("base = 3", "base must be a name"),
        ('base = "self.toml"', "base leads back to the file itself"),
        ("[mmu\n", "not TOML"),
        ("[mmu]\npcids = 6\n", "cpu.frequency_mhz is missing ("),
    ],
)
def test_a_wrong_file_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path / "self.toml", text)
    with pytest.raises(UserError) as caught:
        config.load(file)
    assert message in str(caught.value)
    assert "self.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_and_a_binary_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.toml: no such file"):
        config.load(str(tmp_path / "none.toml"))
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not a text file"):
        config.load(str(tmp_path / "x.toml"))


def test_from_flat_refuses_what_a_damaged_record_may_hold() -> None:
    flat = dict(flatten(config.load("server")))
    for change, message in (({"mmu.pcid": 1}, "unknown key"), ({"mmu.pcids": "6"}, "whole number")):
        with pytest.raises(UserError, match=message):
            config.from_flat({**flat, **change})
    del flat["mmu.pcids"]
    with pytest.raises(UserError, match=r"mmu\.pcids is missing"):
        config.from_flat(flat)


def test_configuration_needs_the_standard_library_only() -> None:
    code = (
        "import sys; from ptshare_plugin.machine import config; config.load('gem5-x86');"
        "foreign = {name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names;"
        "print(sorted(name for name in foreign if not name.startswith('_')))"
    )
    # -S: no site-packages, as inside gem5.
    found = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, text=True, capture_output=True, check=True
    )
    assert found.stdout.strip() == "['ptshare_plugin']"
