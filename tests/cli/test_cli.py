"""The installed ``ptshare`` command on the real engine: what a user types, sees and gets back."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import ptshare_plugin
from ptshare_plugin.engines.gem5.engine import Gem5Engine
from ptshare_plugin.engines.linux.engine import LinuxEngine
from ptshare_plugin.machine.schema import KEYS
from ptshare_plugin.metrics import registry as metrics
from ptshare_plugin.spec import run as spec
from ptshare_plugin.spec import workloads

COMMAND = Path(sys.executable).with_name("ptshare")
COMPILER = shutil.which("cc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler on PATH")
SMALL = ("--procs", "2", "--region", "4MiB")

Done = subprocess.CompletedProcess[str]


def ptshare(*args: object, cwd: Path | None = None, **env: str) -> Done:
    return subprocess.run(
        [COMMAND, *map(str, args)],
        cwd=cwd,
        text=True,
        capture_output=True,
        env={**os.environ, **env},
        timeout=300,
    )


def good(*args: object, **env: str) -> str:
    done = ptshare(*args, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def one_line(done: Done) -> str:
    """The single line of an error, without the command's name."""
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("ptshare: error: ")
    return line.removeprefix("ptshare: error: ")


def without_host(document: dict[str, Any]) -> dict[str, Any]:
    return {
        policy: {name: value for name, value in row.items() if not name.startswith("host.")}
        for policy, row in document.items()
    }


# A program without a C library: system calls, and what Linux puts on the stack.
_PRELUDE = """
static long call(long n, long a, long b, long c) {
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return r;
}
static void line(int fd, const char *s) {
    long n = 0;
    while (s[n]) n++;
    call(1, fd, (long)s, n);
    call(1, fd, (long)"\\n", 1);
}
static int body(long argc, char **argv, char **envp);
__attribute__((used)) static void enter(long *stack) {
    long argc = stack[0];
    char **argv = (char **)(stack + 1);
    call(60, body(argc, argv, argv + argc + 1), 0, 0);
}
__asm__(".globl _start\\n_start: mov %rsp, %rdi\\nand $-16, %rsp\\ncall enter");
static int body(long argc, char **argv, char **envp) { (void)argc; (void)argv; (void)envp;
"""


def program(folder: Path, body: str) -> Path:
    """A static program; ``body`` is that of a function of argc, argv, envp."""
    assert COMPILER is not None
    (folder / "own.c").write_text(_PRELUDE + body + "}\n")
    path = folder / "own"
    subprocess.run(
        [
            COMPILER,
            "-O1",
            "-static",
            "-no-pie",
            "-nostdlib",
            "-fno-stack-protector",
            "-o",
            path,
            folder / "own.c",
        ],
        check=True,
        capture_output=True,
    )
    return path


# Starting ----------------------------------------


def test_help_is_quick() -> None:
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "compare" in good("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Of the processor: what else the machine does must not count.
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.3


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['ptshare', '--help']; from ptshare_plugin.cli import main as cli\n"
        "try: cli.main()\n"
        "except SystemExit: print([m for m in ('pandas', 'numpy', 'pyarrow', 'elftools',"
        " 'rich.console', 'ptshare_plugin._core') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_version_and_no_arguments() -> None:
    assert good("--version").startswith("ptshare 0.")
    assert "Commands:" in good()


def test_doctor_says_what_there_is() -> None:
    found = json.loads(good("doctor", "--json"))
    assert found["engine embedded"]["ok"]
    lack = Gem5Engine().missing()
    assert found["engine gem5"]["ok"] == (lack is None)
    assert lack is None or lack == found["engine gem5"]["text"]
    lack = LinuxEngine().missing()
    assert found["engine linux"]["ok"] == (lack is None)
    for name in found:
        assert name in good("doctor")


def test_workloads_are_listed_with_their_default_work() -> None:
    found = json.loads(good("workloads", "--json"))
    assert set(found) >= {
        "scan",
        "random",
        "zipf",
        "pingpong",
        "preshare",
        "protect",
        "churn",
        "misuse",
    }
    assert all(item["description"] and item["work"] for item in found.values())
    text = good("workloads")
    assert all(name in text for name in found)


def test_presets_show_every_key() -> None:
    for args in ((), ("server",)):
        text = good("presets", *args, COLUMNS="200")
        assert all(name in text for name in KEYS)
    assert json.loads(good("presets", "gem5-x86", "--json"))["gem5-x86"]["mmu.dtlb.entries"] == 64


# The main job ----------------------------------------


@pytest.fixture(scope="module")
def main_job() -> dict[str, Any]:
    text = good("compare", "scan", "--procs", 4, "--region", "16MiB", "--json")
    document: dict[str, Any] = json.loads(text)
    return document


def test_the_main_job(main_job: dict[str, Any]) -> None:
    private, shared = main_job["private"], main_job["ptshare"]
    assert list(main_job) == ["private", "ptshare"]
    assert (private["pt.region.pte_tables"], shared["pt.region.pte_tables"]) == (32, 8)
    assert private["program.output"] == shared["program.output"] != []
    assert private["program.exit"] == shared["program.exit"] == [0, 0, 0, 0]
    assert private["pt.bytes.host"] == 0 < shared["pt.bytes.host"]
    assert private["fault.link"] == private["fault.host"] == 0
    assert shared["fault.total"] < private["fault.total"]
    for row in main_job.values():
        assert row["pt.end.bytes"] == row["frames.end"] == 0
        assert row["pt.bytes"] == 4096 * row["pt.tables"]
        assert row["pt.bytes"] == row["pt.bytes.guest"] + row["pt.bytes.host"]
        assert row["host.seconds"] > 0 and row["host.peak_rss_bytes"] > 0


def test_a_repeat_differs_in_nothing_but_the_host(main_job: dict[str, Any]) -> None:
    again = json.loads(good("compare", "scan", "--procs", 4, "--region", "16MiB", "--json"))
    assert without_host(again) == without_host(main_job)


def test_every_metric_of_the_vocabulary_is_there(main_job: dict[str, Any]) -> None:
    raw = [*metrics.raw_process_names(), *metrics.raw_machine_names()]
    roi = ["roi." + name for name in metrics.raw_process_names()]
    for row in main_job.values():
        assert set(raw + roi) <= set(row)


def test_faults_without_fault_around() -> None:
    rows = json.loads(
        good(
            "compare",
            "scan",
            "--procs",
            3,
            "--region",
            "4MiB",
            "--json",
            "--set",
            "kernel.fault_around_bytes=4KiB",
        )
    )
    private, shared = rows["private"], rows["ptshare"]
    assert private["fault.region.page"] == 3 * 1024 and private["fault.region.link"] == 0
    assert shared["fault.region.page"] == 1024
    assert shared["fault.region.link"] <= 3 * 2  # one for each process and PMD entry at most


def test_what_a_reader_sees() -> None:
    text = good("compare", "scan", *SMALL, COLUMNS="80")
    assert max(map(len, text.splitlines())) <= 80 and "\x1b" not in text
    for title in (
        "Page-table memory",
        "Page faults",
        "TLB accesses",
        "Page walks",
        "Entries read by walks",
        "Cycles and where they went",
    ):
        assert title in text
    assert "Program output is equal in all runs (2 lines)." in text
    (line,) = [line for line in text.splitlines() if line.startswith("pt.region.pte_tables")]
    assert line.split() == ["pt.region.pte_tables", "4", "2", "-50.0", "%"]


def test_policies_are_taken_in_the_order_given() -> None:
    rows = json.loads(good("compare", "scan", *SMALL, "--json", "--policy", "ptshare,private"))
    assert list(rows) == ["ptshare", "private"]
    rows = json.loads(good("compare", "scan", *SMALL, "--json", "--policy", "ptshare"))
    assert list(rows) == ["ptshare"]


def test_run_in_json_equals_compare() -> None:
    one = json.loads(good("run", "scan", *SMALL, "--policy", "private", "--json"))
    both = json.loads(good("compare", "scan", *SMALL, "--json"))
    assert without_host({"private": one})["private"] == without_host(both)["private"]


def test_seed_work_cores_and_sharing_reach_the_run() -> None:
    def row(*args: object) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(good("run", "random", *SMALL, "--json", *args))
        return found

    plain = row()
    assert row("--seed", 2)["tlb.dtlb.misses"] != plain["tlb.dtlb.misses"]
    assert row("--work", 1)["instructions"] < plain["instructions"]
    assert row("--cores", 1)["sched.switches"] > plain["sched.switches"]
    assert row("--no-share")["pt.bytes.host"] == 0 < plain["pt.bytes.host"]
    assert row("--set", "mmu.dtlb.entries=24")["tlb.dtlb.misses"] > plain["tlb.dtlb.misses"]


@pytest.mark.parametrize(
    "name", ["scan", "random", "zipf", "pingpong", "preshare", "protect", "churn", "misuse"]
)
def test_every_workload_passes_under_both_policies(name: str) -> None:
    rows = json.loads(good("compare", name, "--procs", 3, "--region", "4MiB", "--json"))
    killed = workloads.describe(name).expected_kill
    for row in rows.values():
        assert row["program.exit"] == [0, 0, -9 if killed else 0]
        assert row["pt.end.bytes"] == row["frames.end"] == 0


# A user's own program ----------------------------------------


@needs_compiler
def test_own_program_gets_its_arguments_and_rank(tmp_path: Path) -> None:
    own = program(
        tmp_path,
        "for (long i = 1; i < argc; i++) line(1, argv[i]);"
        "for (; *envp; envp++) line(1, *envp); return 0;",
    )
    row = json.loads(
        good(
            "run",
            own,
            "--procs",
            2,
            "--seed",
            5,
            "--region",
            "2MiB",
            "--json",
            "--",
            "-x",
            "{rank} of {procs}",
            "{seed}",
            "{region}",
        )
    )
    assert row["program.output"] == [
        text
        for rank in (0, 1)
        for text in (
            "-x",
            f"{rank} of 2",
            "5",
            "2097152",
            f"PTSHARE_RANK={rank}",
            "PTSHARE_PROCS=2",
        )
    ]
    assert row["program"] == "own" and "roi.instructions" not in row


@needs_compiler
def test_a_relative_path_needs_its_slash(tmp_path: Path) -> None:
    program(tmp_path, "return 0;")
    done = ptshare("run", "./own", "--procs", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "given as a path: ./own" in one_line(ptshare("run", "own", cwd=tmp_path))


@needs_compiler
def test_a_program_that_fails(tmp_path: Path) -> None:
    own = program(tmp_path, "line(2, \"page 3 is wrong\"); return argv[1][0] == '1' ? 3 : 0;")
    done = ptshare("run", own, "--procs", 3, "-o", tmp_path / "out", "--", "{rank}")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "rank 1: page 3 is wrong",
        "ptshare: error: own under ptshare: rank 1 exited with status 3",
    ]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [process["status"] for process in record["processes"]] == [0, 3, 0]


@needs_compiler
def test_a_program_that_crashes(tmp_path: Path) -> None:
    own = program(tmp_path, "*(volatile int *)0x12345000 = 1; return 0;")
    done = ptshare("compare", own, "--procs", 1, "--json")
    assert done.returncode == 1
    assert [row["program.exit"] for row in json.loads(done.stdout).values()] == [[-11], [-11]]
    first, second = done.stderr.splitlines()
    assert "own under private: rank 0 was killed by SIGSEGV (" in first
    assert "0x12345000 at ip 0x4" in first
    assert "own under ptshare: rank 0 was killed by SIGSEGV" in second


# Keeping and reading results ----------------------------------------


def test_results_are_kept_and_read_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert f"Written to {out}" in good("compare", "scan", *SMALL, "-o", out)
    assert sorted(path.name for path in out.iterdir()) == ["private", "ptshare"]
    rows = json.loads(good("summary", out, "--format", "json"))
    direct = json.loads(good("compare", "scan", *SMALL, "--json"))
    for row in rows:
        expected = direct[row["policy"]]
        for name in metrics.registry():
            if not name.startswith("host."):
                assert row.get(name) == expected.get(name), name
    assert "pt.bytes" in good("summary", out, "--format", "markdown")
    assert "is not empty" in one_line(ptshare("run", "scan", *SMALL, "-o", out))
    good("run", "scan", *SMALL, "-o", out, "--force")
    assert (out / "run.json").is_file() and [path.name for path in tmp_path.iterdir()] == ["out"]
    record = json.loads((out / "run.json").read_text())
    assert record["config"] == json.loads(good("presets", "server", "--json"))["server"]


def default_signals() -> None:
    # Whoever runs the tests may ignore them: a background job SIGINT, nohup SIGHUP.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@needs_compiler
@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_interrupted_nothing_is_left(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    own = program(tmp_path, "for (volatile long i = 0;; i++) { }")
    out = tmp_path / "results" / "out"
    running = subprocess.Popen(
        [COMMAND, "run", own, "-o", out],
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=default_signals,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("results/.*")):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    running.send_signal(sent)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == code
    assert "Traceback" not in errors
    assert list((tmp_path / "results").iterdir()) == []


def test_summary_writes_where_it_is_told_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    good("run", "scan", *SMALL, "-o", out)
    real, link, pipe = tmp_path / "real.csv", tmp_path / "link.csv", tmp_path / "pipe"
    real.write_text("old")
    link.symlink_to(real)
    os.mkfifo(pipe)
    good("summary", out, "--format", "csv", "-o", link)
    assert link.is_symlink() and real.read_text().startswith("run,engine,")
    assert "something else than a file" in one_line(ptshare("summary", out, "-o", pipe))
    assert pipe.is_fifo()
    assert "not a regular file" in one_line(ptshare("run", pipe))


def test_summary_says_which_runs_failed(tmp_path: Path) -> None:
    failed = ptshare("run", "scan", *SMALL, "-o", tmp_path / "bad", "--", "--id", "3")
    assert failed.returncode == 1
    done = ptshare("summary", tmp_path)
    assert done.returncode == 0
    assert done.stderr == f"ptshare: warning: {tmp_path}/bad: the program failed\n"


def test_summary_gathers_a_dataset_and_adds_to_it(tmp_path: Path) -> None:
    runs, target = tmp_path / "runs", tmp_path / "summary"
    good("compare", "scan", *SMALL, "-o", runs)
    gather = ("summary", tmp_path, "-o", target, "--format", "dataset")
    assert good(*gather) == f"{target}: 2 runs, 2 of them new, 0 read again, 0 skipped\n"
    assert good(*gather) == f"{target}: 2 runs, 0 of them new, 0 read again, 0 skipped\n"
    for seed in (2, 3):
        good("run", "scan", *SMALL, "--seed", seed, "-o", runs / str(seed))
    (runs / "2" / "run.json").write_text("{")
    done = ptshare(*gather)
    assert done.returncode == 0
    assert done.stdout == f"{target}: 3 runs, 1 of them new, 0 read again, 1 skipped\n"
    assert done.stderr == f"ptshare: warning: {runs}/2/run.json: damaged: not JSON; skipped\n"
    frame = ptshare_plugin.load(target)
    assert frame["run"].tolist() == ["runs/3", "runs/private", "runs/ptshare"]
    direct = json.loads(good("compare", "scan", *SMALL, "--json"))
    assert frame["pt.bytes"].tolist()[1:] == [row["pt.bytes"] for row in direct.values()]


def test_closed_output_is_one_line() -> None:
    done = subprocess.run(
        ["sh", "-c", f"'{COMMAND}' --version >&-"], capture_output=True, text=True
    )
    assert one_line(done) == "standard output and error must be open"


# Wrong input ----------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("run", "scna"), "unknown workload scna (did you mean scan?)"),
        (("run", "./none"), "./none: no such file"),
        (("run", "/usr"), "/usr: a directory"),
        (("run", "/dev/null"), "not a regular file"),
        (("run", sys.executable), "link it with 'gcc -static -no-pie'"),
        (("run", __file__), "not an ELF program"),
        (("run",), "Missing argument 'PROGRAM'"),
        (("run", "scan", "--region", "3MiB"), "needs a multiple of 2MiB"),
        (("run", "scan", "--region", "5"), "must be a multiple of the page size"),
        (("run", "scan", "--region", "0"), "must be a multiple of the page size"),
        (("run", "scan", "--region", "big"), "--region: 'big' is not a size"),
        (("run", "scan", "--region", "1PiB"), "does not fit into simulated memory"),
        (("run", "scan", "--procs", "0"), "--procs 0: must be 1 to"),
        (("run", "scan", "--procs", "four"), "valid integer"),
        (("run", "scan", "--cores", "65"), f"must be 1 to {spec.MAX_CORES}"),
        (("run", "scan", "--seed", "-1"), "--seed -1: must be 0 to"),
        (("run", "scan", "--work", "0"), "--work 0: must be 1 to"),
        (("run", "scan", "--policy", "ptshar"), "(did you mean ptshare?)"),
        (
            ("run", "scan", "--engine", "linux", "--set", "mmu.pcids=4"),
            "--set: changes a simulated machine; with engine linux",
        ),
        (
            ("run", "scan", "--engine", "linux", "--preset", "gem5-x86"),
            "--preset gem5-x86: is a simulated",
        ),
        (("run", "scan", "--engine", "linux", "--cores", "64"), "lets ptshare run on"),
        (("run", "scan", "--engine", "linux", "--policy", "ptshare"), "unknown policy ptshare"),
        (("run", "scan", "--engine", "linux", "--region", "1PiB"), "of memory available"),
        (("compare", "scan", "--engine", "linux", "--region", "1PiB"), "of memory available"),
        (("validate", "--case", "nothing"), "matches none of"),
        (("validate", "--report", "/none/x.html"), "--report /none/x.html: no such folder"),
        (("validate", "--markdown", "/tmp"), "--markdown /tmp: there is something else"),
        (("run", "scan", "--engine", "embeded"), "(did you mean embedded?)"),
        (("run", "scan", "--preset", "serve"), "(did you mean server?)"),
        (("run", "scan", "--preset", "./none.toml"), "none.toml: no such file"),
        (("run", "scan", "--set", "mmu.stlb.entry=3"), "(did you mean mmu.stlb.entries?)"),
        (("run", "scan", "--set", "mmu.stlb.entries=100"), "must be a multiple of mmu.stlb.ways"),
        (("run", "scan", "--bogus"), "No such option"),
        (("run", "scan", "-o", "/proc/none/x"), "-o /proc/none/x: cannot be made"),
        (("run", "scan", "-o", __file__), "there is a file of that name"),
        (("run", "scan", "--force", "-o", "/usr"), "holds something else than results"),
        (("compare", "scan", "--policy", "private,private"), "named twice"),
        (("run", "scan", "-o", ""), "-o: must name a folder"),
        (("compare", "scan", "--force"), "--force: needs -o"),
        (("frobnicate",), "No such command 'frobnicate'"),
        (("summary",), "Missing argument"),
        (("summary", "/none"), "/none: no such folder"),
        (("summary", "/none", "--format", "xml"), "must be one of table, csv"),
        (("summary", "/none", "--format", "dataset"), "--format dataset needs -o DIR"),
        (("summary", "/none", "--format", "dataset", "-o", "/usr"), "/none: no such folder"),
        (("summary", "/none", "--metrics", "fault.totl"), "(did you mean fault.total?)"),
        (("presets", "nope"), "unknown preset nope"),
    ],
)
def test_wrong_input_is_one_clear_line(args: tuple[str, ...], message: str) -> None:
    done = ptshare(*args)
    assert message in one_line(done)
    assert done.stdout == ""


def test_wrong_arguments_of_a_workload_are_its_own_error() -> None:
    done = ptshare("run", "scan", *SMALL, "--", "--no-such-argument")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("ptshare: error: scan under ptshare: rank ")


def test_a_closed_pipe_is_no_traceback() -> None:
    running = subprocess.Popen(
        [COMMAND, "presets"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None and running.stderr is not None
    running.stdout.close()
    errors = running.stderr.read()
    assert running.wait(60) != 0
    assert "Traceback" not in errors and "Exception" not in errors


def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [COMMAND, "workloads", "--json"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert one_line(done) == "no space left on device"


def test_debug_shows_where() -> None:
    done = ptshare("run", "./none", PTSHARE_DEBUG="1")
    assert done.returncode != 0 and "Traceback" in done.stderr


def test_compare_varies_keys_of_the_machine(tmp_path: Path) -> None:
    args = ("protect", "--procs", "4", "--region", "2MiB", "--policy", "private,rfc-v2")
    vary = ("--vary", "shootdown.strategy=policy,lazy", "--vary", "mmu.pcids=0,6")
    done = ptshare("compare", *args, *vary, "--json", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == [
        f"{policy},shootdown.strategy={strategy},mmu.pcids={pcids}"
        for policy in ("private", "rfc-v2")
        for strategy in ("policy", "lazy")
        for pcids in (0, 6)
    ]
    assert sorted(found) == sorted(path.name for path in (tmp_path / "out").iterdir())
    stale = {name: row["tlb.stale_hits"] for name, row in found.items()}
    assert {name for name, hits in stale.items() if hits} == {
        "rfc-v2,shootdown.strategy=policy,mmu.pcids=0",
        "rfc-v2,shootdown.strategy=policy,mmu.pcids=6",
    }
    kept = json.loads((tmp_path / "out" / sorted(found)[-1] / "run.json").read_text())
    assert kept["overrides"] == ["shootdown.strategy=policy", "mmu.pcids=6"]
    assert kept["config"]["mmu.pcids"] == 6


def test_a_comparison_of_many_columns_fits_the_terminal() -> None:
    done = subprocess.run(
        [
            *(COMMAND, "compare", "protect", "--procs", "2", "--region", "2MiB"),
            *("--policy", "ptshare"),
            *("--vary", "shootdown.strategy=caller-only,all-cpus,sharers,lazy"),
        ],
        text=True,
        capture_output=True,
        env={**os.environ, "COLUMNS": "90"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 90
    # Each strategy has a column, the first one in each block.
    words = done.stdout.split()
    assert {"all-cpus", "sharers", "lazy"} <= set(words)
    assert done.stdout.count("pt.tables.pgd ") == done.stdout.count("Page faults (whole run)") > 1


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ("mmu.pcids", "--vary mmu.pcids: must be KEY=A,B,... with different values"),
        ("mmu.pcids=1,,2", "--vary mmu.pcids=1,,2: must be KEY=A,B,... with different values"),
        ("mmu.pcids=1,1", "--vary mmu.pcids=1,1: must be KEY=A,B,... with different values"),
        ("mmu.pcid=1,2", "unknown key mmu.pcid (did you mean mmu.pcids?)"),
        ("shootdown.strategy=none", "--vary: shootdown.strategy is none, but must be policy or"),
        ("mmu.pcids=0,00", "--vary: mmu.pcids=00 is the same as mmu.pcids=0"),
        ("mmu.pcids=0, 0", "--vary mmu.pcids=0, 0: must be KEY=A,B,... with different values"),
    ],
)
def test_wrong_variations_are_one_line(vary: str, message: str) -> None:
    done = ptshare("compare", "protect", "--vary", vary)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--set", "mmu.pcids=3"), "--vary mmu.pcids: is set for all runs, too"),
        (("--vary", " mmu.pcids=1,2"), "--vary mmu.pcids: is there twice"),
        (
            ("--engine", "linux", "--policy", "private"),
            "--vary: changes a simulated machine; with engine linux",
        ),
    ],
    ids=["set", "twice", "linux"],
)
def test_what_cannot_vary_is_told_in_one_line(args: Sequence[str], message: str) -> None:
    done = ptshare("compare", "protect", "--vary", "mmu.pcids=0,6", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_name_that_no_folder_can_have_is_refused_before_anything_runs(tmp_path: Path) -> None:
    keys = [key for key in KEYS if key.startswith("cost.")][:14]
    varied = [word for key in keys for word in ("--vary", f"{key}=1")]
    done = ptshare("compare", "protect", *varied, "-o", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--vary: too many keys for a folder's name" in done.stderr
    assert not (tmp_path / "out").exists()
