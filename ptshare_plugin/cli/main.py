"""The ``ptshare`` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ptshare_plugin import __version__
from ptshare_plugin.common.errors import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    UserError,
    os_reason,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from ptshare_plugin.machine.schema import Machine
    from ptshare_plugin.spec.run import RunSpec
    from ptshare_plugin.spec.trace import Trace

# No Rich in help and errors: it costs start-up time, and errors are one line each.
app = typer.Typer(
    name="ptshare",
    help="What sharing page tables between processes saves and costs, by simulation.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_REGION = "64MiB"

ProgramArg = Annotated[
    str | None,
    typer.Argument(
        metavar="PROGRAM", help="A workload's name, or the path (with a slash) of your own program."
    ),
]
ArgsArg = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[-- ARGS]...",
        help="Arguments of the program; {rank}, {procs}, {seed} and {region} are replaced.",
    ),
]
TraceOpt = Annotated[
    str | None,
    typer.Option(
        "--trace",
        metavar="FILE",
        help="Replay this trace in each process, in place of a program; engine stream.",
    ),
]
TraceShareOpt = Annotated[
    str | None,
    typer.Option(
        "--trace-share",
        metavar="0xSTART-0xEND",
        help="Addresses of the trace that all processes share, with MAP_SHARED_PT.",
    ),
]
EngineOpt = Annotated[str, typer.Option("--engine", help="What executes the program.")]
ProcsOpt = Annotated[int, typer.Option("--procs", "-n", help="Number of processes.")]
CoresOpt = Annotated[
    int | None,
    typer.Option(
        "--cores",
        help="Number of simulated cores, at most 64.  [default: procs, at most 16 but with gem5]",
    ),
]
RegionOpt = Annotated[
    str, typer.Option("--region", help="Size of the region that a workload's processes share.")
]
PresetOpt = Annotated[
    str,
    typer.Option(
        "--preset", help="Machine: a preset's name or a .toml file; see 'ptshare presets'."
    ),
]
SetOpt = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the machine; repeatable."),
]
SeedOpt = Annotated[int, typer.Option("--seed", help="Same seed, same result.")]
WorkOpt = Annotated[
    int | None,
    typer.Option(
        "--work", help="Amount of work of a workload.  [default: its own, see 'ptshare workloads']"
    ),
]
NoShareOpt = Annotated[
    bool, typer.Option("--no-share", help="Workloads do not ask for MAP_SHARED_PT.")
]
OutputOpt = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="DIR", help="Keep everything in this new folder."),
]
ForceOpt = Annotated[
    bool, typer.Option("--force", help="Replace the results in DIR once the new ones are whole.")
]
KeepM5outOpt = Annotated[
    bool, typer.Option("--keep-m5out", help="Keep gem5's own files in DIR, too, as m5out.")
]
JsonOpt = Annotated[
    bool, typer.Option("--json", help="Write JSON and nothing else to standard output.")
]


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"ptshare {__version__}\n")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    program: ProgramArg = None,
    args: ArgsArg = None,
    trace: TraceOpt = None,
    trace_share: TraceShareOpt = None,
    engine: EngineOpt = "embedded",
    policy: Annotated[
        str | None,
        typer.Option("--policy", help="Sharing policy.  [default: ptshare; on linux private]"),
    ] = None,
    procs: ProcsOpt = 4,
    cores: CoresOpt = None,
    region: RegionOpt = _REGION,
    preset: PresetOpt = "server",
    overrides: SetOpt = None,
    seed: SeedOpt = 1,
    work: WorkOpt = None,
    no_share: NoShareOpt = False,
    output: OutputOpt = None,
    keep_m5out: KeepM5outOpt = False,
    force: ForceOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Run a program under one policy and print its figures."""
    from contextlib import nullcontext
    from pathlib import Path

    from ptshare_plugin.engines import registry as engines
    from ptshare_plugin.records import folders
    from ptshare_plugin.runs.run import execute, write
    from ptshare_plugin.show import terminal
    from ptshare_plugin.studies import compare

    engine = _engine(engine, program, trace)
    _check_m5out(keep_m5out, engine, output)
    policy = policy or engines.get(engine).default_policy
    (spec,) = _specs(
        program,
        args,
        engine,
        [policy],
        procs,
        cores,
        region,
        preset,
        overrides,
        seed,
        work,
        no_share,
        (trace, trace_share),
    )
    place = folders.whole(Path(output), force) if output is not None else nullcontext()
    with place as folder:
        result = execute(spec, folder if keep_m5out else None)
        if folder is not None:
            write(result, folder)
    if as_json:
        _print_json(result.wide())
    else:
        for line in result.output_lines():
            sys.stdout.write(line + "\n")
        out = terminal.console()
        out.print()
        compare.print_header(out, result, [policy])
        terminal.print_sections(out, [policy], [result.wide()], result.has_roi())
        out.print()
        out.print(compare.speed(result))
        _say_where(output)
    _end(compare.report_failures([result]))


@app.command("compare")
def compare_command(
    program: ProgramArg = None,
    args: ArgsArg = None,
    trace: TraceOpt = None,
    trace_share: TraceShareOpt = None,
    engine: EngineOpt = "embedded",
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            help="Sharing policies, a,b,... or repeated; changes are against the first."
            "  [default: private,ptshare; on linux private,hugetlb-pmd]",
        ),
    ] = None,
    procs: ProcsOpt = 4,
    cores: CoresOpt = None,
    region: RegionOpt = _REGION,
    preset: PresetOpt = "server",
    overrides: SetOpt = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            metavar="KEY=A,B,...",
            help="Each of these values of a key of the machine; repeatable, for every combination.",
        ),
    ] = None,
    seed: SeedOpt = 1,
    work: WorkOpt = None,
    no_share: NoShareOpt = False,
    output: OutputOpt = None,
    keep_m5out: KeepM5outOpt = False,
    force: ForceOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Run a program under several policies or machines and print the figures side by side."""
    from contextlib import nullcontext
    from pathlib import Path

    from ptshare_plugin.records import folders
    from ptshare_plugin.studies import compare

    engine = _engine(engine, program, trace)
    _check_m5out(keep_m5out, engine, output)
    policies = _policy_names(policy or compare.default_policies(engine))
    specs = _specs(
        program,
        args,
        engine,
        policies,
        procs,
        cores,
        region,
        preset,
        overrides,
        seed,
        work,
        no_share,
        (trace, trace_share),
        vary,
    )
    place = folders.whole(Path(output), force) if output is not None else nullcontext()
    with place as folder:
        runs = compare.compare(specs, folder, keep_m5out)
    if as_json:
        _print_json({result.spec.name: result.wide() for result in runs})
    else:
        compare.print_comparison(runs)
        _say_where(output)
    problems = compare.report_failures(runs)
    difference = compare.output_differs(runs)
    _end(problems if problems or difference is None else [difference])


@app.command()
def sweep(
    file: Annotated[str, typer.Argument(metavar="FILE", help="TOML file of the sweep.")],
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="DIR", help="Runs are kept here; it may hold some."),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and list the runs.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Runs at once on this machine.  [default: its cores]"),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option("--dask", metavar="ADDRESS", help="Dask scheduler that executes the runs."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what has failed before.")
    ] = False,
    as_json: JsonOpt = False,
) -> None:
    """Make many runs, described by one file; go on where it was interrupted."""
    from ptshare_plugin.sweep import command

    if dry_run:
        command.list_runs(file, output, as_json)
    else:
        command.run(file, output, workers, dask, retry_failed, as_json)


trace_app = typer.Typer(help="Traces of real programs.", rich_markup_mode=None)
app.add_typer(trace_app, name="trace", no_args_is_help=True)


@trace_app.callback()
def _trace_commands() -> None:
    """Traces of real programs."""


@trace_app.command()
def convert(
    trace: Annotated[
        str,
        typer.Argument(metavar="TRACE", help="Text of valgrind's lackey; - for standard input."),
    ],
    file: Annotated[str, typer.Argument(metavar="FILE", help="The binary form is written here.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
) -> None:
    """Convert valgrind lackey's text to the binary form, which replays faster."""
    from ptshare_plugin.spec import trace as traces

    records, size = traces.convert(trace, file, force)
    sys.stdout.write(f"{records:,} records, {size:,} bytes written to {file}\n")


@app.command("plan")
def plan_command(
    procs: Annotated[int, typer.Option("--procs", "-n", help="Number of clients.")] = 1500,
    region: Annotated[
        str, typer.Option("--region", help="Size of the file that all clients map.")
    ] = "300GiB",
    memory: Annotated[str, typer.Option("--memory", help="The machine's memory.")] = "512GiB",
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            help="Sharing policies, a,b,... or repeated."
            "  [default: private,ptshare,mshare,huge-2m]",
        ),
    ] = None,
    pattern: Annotated[
        str,
        typer.Option(
            "--pattern",
            help="Pages that each client touches: all, fraction:F (the first), spread:F (at even"
            " distances) or zipf:VISITS.",
        ),
    ] = "all",
    access: Annotated[
        str, typer.Option("--access", help="How they are touched: read or write.")
    ] = "read",
    resident: Annotated[
        str,
        typer.Option(
            "--resident", help="What of the file is in memory: all from the start, or touched."
        ),
    ] = "all",
    cpus: Annotated[
        int, typer.Option("--cpus", help="CPUs that run a client each during mprotect.")
    ] = 64,
    preset: PresetOpt = "server",
    overrides: SetOpt = None,
    seed: SeedOpt = 1,
    as_json: JsonOpt = False,
) -> None:
    """Compute what many clients of a large file need: page tables, memory, faults, mprotect."""
    from ptshare_plugin import policies as all_policies
    from ptshare_plugin.studies import plan as planning

    policies = _policy_names(policy or all_policies.candidates())
    if access not in ("read", "write"):
        raise UserError(f"--access {access}: must be read or write", EXIT_USAGE)
    size = planning.size_of("--region", region)
    asked = planning.Plan(
        procs=procs,
        region=size,
        memory=planning.size_of("--memory", memory),
        pattern=planning.parse_pattern(pattern, size),
        write=access == "write",
        resident=resident,
        cpus=cpus,
        seed=seed,
        machine=_machine(preset, overrides or []),
    )
    planning.check(asked, policies)
    rows = planning.compute_all(asked, policies)
    if as_json:
        _print_json(rows)
    else:
        planning.print_plan(asked, rows)


@app.command()
def summary(
    paths: Annotated[
        list[str], typer.Argument(metavar="DIR...", help="Run folders, or folders that hold some.")
    ],
    form: Annotated[
        str, typer.Option("--format", help="table, csv, json, parquet, markdown or dataset.")
    ] = "table",
    patterns: Annotated[
        list[str] | None,
        typer.Option(
            "--metrics", metavar="GLOB,...", help="Metrics to show, like 'fault.*,pt.bytes'."
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to this file; a dataset: add to this folder what is new.",
        ),
    ] = None,
) -> None:
    """Put the figures of run folders into one table, a row a run."""
    from ptshare_plugin.records.summary import summarise

    globs = [glob.strip() for item in patterns or [] for glob in item.split(",") if glob.strip()]
    summarise(paths, form, globs, output)


@app.command()
def report(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Run folders, folders that hold some, datasets, .csv files of runs, files of"
            " protect-ways -o.",
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The page, an .html file.")
    ],
    figures: Annotated[
        str | None,
        typer.Option(
            "--figures", metavar="DIR", help="Write each figure as PDF and SVG to this folder too."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace FILE, and figures in DIR, if they exist.")
    ] = False,
) -> None:
    """Make one HTML page of many runs: figures, tables, differences, commands."""
    from ptshare_plugin.report import command

    command.report(paths, output, figures, force)


@app.command()
def workloads(as_json: JsonOpt = False) -> None:
    """List the programs that come with ptshare."""
    from dataclasses import asdict

    from ptshare_plugin.show import terminal
    from ptshare_plugin.spec import workloads as installed

    known = [installed.describe(name) for name in installed.names()]
    if as_json:
        _print_json(
            {
                item.name: {
                    "description": item.description,
                    "work": item.work,
                    "path": str(item.path),
                    "kills_itself": item.expected_kill,
                    "output_depends_on_policy": item.output_depends_on_policy,
                    "arguments": [asdict(argument) for argument in item.arguments],
                }
                for item in known
            }
        )
        return
    out = terminal.console()
    terminal.print_words(
        out,
        ["workload", "default work", "what it does"],
        [[item.name, item.work, item.description] for item in known],
    )
    out.print()
    own = [(item.name, each) for item in known for each in item.arguments if each.own]
    common = {each.name: ("all", each) for item in known for each in item.arguments if not each.own}
    terminal.print_words(
        out,
        ["after --", "of", "default", "values", "meaning"],
        [
            [each.name, owner, each.default_text, each.limits, each.meaning]
            for owner, each in (*own, *common.values())
        ],
    )


@app.command()
def presets(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A preset's name or a .toml file; all presets side by side without it."
        ),
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """List the keys of the machine with their values, units and meaning."""
    from ptshare_plugin.machine import config
    from ptshare_plugin.machine.schema import KEYS, flatten
    from ptshare_plugin.show import terminal

    chosen = [name] if name is not None else config.preset_names()
    machines = [flatten(_machine(preset, [])) for preset in chosen]
    if as_json:
        _print_json(dict(zip(chosen, machines, strict=True)))
        return
    out = terminal.console()
    for preset in chosen:
        if description := config.preset_description(preset):
            out.print(f"{preset}: {description}")
    out.print()
    limits = name is not None  # side by side there is no room for them
    terminal.print_words(
        out,
        ["key", *chosen, "unit", *(["allowed"] if limits else []), "meaning"],
        [
            [
                key.name,
                *(config.show(key, machine[key.name]) for machine in machines),
                key.unit,
                *([config.describe_limits(key)] if limits else []),
                key.meaning,
            ]
            for key in KEYS.values()
        ],
        right=range(1, 1 + len(chosen)),
    )


@app.command()
def policies(as_json: JsonOpt = False) -> None:
    """Print what each policy answers to each operation."""
    from ptshare_plugin import policies as all_policies
    from ptshare_plugin.engines.registry import require_core
    from ptshare_plugin.show import terminal

    require_core()
    from ptshare_plugin.studies import policy_matrix

    known = all_policies.known()
    rows = [
        (case.operation, case.situation, {name: case.answer(name) for name in known})
        for case in policy_matrix.CASES
    ]
    if as_json:
        _print_json(
            {
                "policies": dict(all_policies.described()),
                "answers": [
                    {"operation": operation, "situation": situation, **answers}
                    for operation, situation, answers in rows
                ],
            }
        )
        return
    out = terminal.console()
    for name, description in all_policies.described():
        out.print(f"{name}: {description}")
    out.print()
    terminal.print_words(
        out,
        ["", "", *known],
        [[operation, situation, *answers.values()] for operation, situation, answers in rows],
    )


@app.command()
def doctor(as_json: JsonOpt = False) -> None:
    """Say which engines this machine has, and what is missing for the others."""
    from ptshare_plugin.cli import doctor as checks
    from ptshare_plugin.show import terminal

    findings = checks.examine()
    if as_json:
        _print_json({item.name: {"ok": item.ok, "text": item.text} for item in findings})
    else:
        terminal.print_words(
            terminal.console(),
            ["", "", ""],
            [["ok" if item.ok else "missing", item.name, item.text] for item in findings],
        )
    if not all(item.ok for item in findings if item.needed):
        raise typer.Exit(EXIT_FAILURE)


@app.command("protect-ways")
def protect_ways_command(
    procs: Annotated[
        str, typer.Option("--procs", "-n", metavar="N,...", help="Numbers of processes.")
    ] = "2,8,16,32,128,512,2000",
    cores: Annotated[
        int, typer.Option("--cores", help="Number of simulated cores, at most 64.")
    ] = 16,
    region: Annotated[
        str, typer.Option("--region", help="Size of the region that all processes map.")
    ] = "64MiB",
    piece: Annotated[
        str, typer.Option("--piece", help="Size of its part whose protection changes.")
    ] = "2MiB",
    ways: Annotated[
        str, typer.Option("--ways", metavar="WAY,...", help="shared, message and trap.")
    ] = "shared,message,trap",
    policy: Annotated[
        str,
        typer.Option(
            "--policy",
            help="Policies, a,b,...; those that share tables are for way shared, others for"
            " message and trap.",
        ),
    ] = "ptshare,private",
    preset: PresetOpt = "server",
    overrides: SetOpt = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write every column: .csv or .parquet."
        ),
    ] = None,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="Draw the costs: .svg or .pdf.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Measure three ways to change a protection that many processes use."""
    from pathlib import Path

    from ptshare_plugin.studies import protect_ways

    setting = protect_ways.parse(procs, cores, region, piece, ways, policy)
    if output is not None:
        protect_ways.check_output(Path(output), protect_ways.TABLE_SUFFIXES, "-o", force)
    if plot is not None:
        protect_ways.check_output(Path(plot), protect_ways.PLOT_SUFFIXES, "--plot", force)
    measurement = protect_ways.Measurement(setting, _machine(preset, overrides or []))
    rows = measurement.rows()
    if as_json:
        protect_ways.print_json(measurement, rows)
    else:
        protect_ways.print_tables(measurement, rows, preset)
    if output is not None:
        protect_ways.write(rows, Path(output))
    if plot is not None:
        protect_ways.plot(rows, Path(plot))


@app.command()
def validate(
    quick: Annotated[
        bool, typer.Option("--quick", help="The small cases alone: some seconds.")
    ] = False,
    patterns: Annotated[
        list[str] | None,
        typer.Option("--case", metavar="GLOB", help="Cases by name, like 'scan*'; repeatable."),
    ] = None,
    no_gem5: Annotated[
        bool, typer.Option("--no-gem5", help="Leave gem5 out where there is one.")
    ] = False,
    report: Annotated[
        str | None, typer.Option("--report", metavar="FILE", help="Write an HTML page with plots.")
    ] = None,
    markdown: Annotated[
        str | None, typer.Option("--markdown", metavar="FILE", help="Write the table as Markdown.")
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Compare the model with this machine's kernel, case by case."""
    from pathlib import Path

    from ptshare_plugin.studies.validation import cases
    from ptshare_plugin.studies.validation import validate as validation

    wrong = validation.command(
        chosen=cases.select(quick, patterns or []),
        gem5=not no_gem5,
        as_json=as_json,
        report=Path(report) if report is not None else None,
        markdown=Path(markdown) if markdown is not None else None,
    )
    if wrong:
        raise UserError(f"{wrong} cases differ from this kernel without a documented cause")


@app.command()
def calibrate(
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the preset to this TOML file."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few repeats and small regions: seconds, less exact.")
    ] = False,
    as_json: JsonOpt = False,
) -> None:
    """Measure what this machine's kernel takes, and make a preset of it."""
    from ptshare_plugin.studies.calibration.calibrate import calibrate as measure

    measure(output, force, quick, as_json)


def _engine(engine: str, program: str | None, trace: str | None) -> str:
    """Engine of a run, once it is clear what is to be run."""
    if trace is None:
        if program is None:
            raise UserError("Missing argument 'PROGRAM'; see 'ptshare --help'", EXIT_USAGE)
        return engine
    if program is not None:
        raise UserError(f"--trace: replaces the program; leave {program} out", EXIT_USAGE)
    if engine not in ("embedded", "stream"):
        raise UserError(
            f"--trace: engine {engine} replays no traces; leave --engine out", EXIT_USAGE
        )
    return "stream"


def _check_m5out(keep: bool, engine: str, output: str | None) -> None:
    if keep and engine != "gem5":
        raise UserError(f"--keep-m5out: is for --engine gem5, not {engine}", EXIT_USAGE)
    if keep and output is None:
        raise UserError("--keep-m5out: needs -o DIR", EXIT_USAGE)


def _policy_names(items: Sequence[str]) -> list[str]:
    names = [name.strip() for item in items for name in item.split(",")]
    if not all(names):
        raise UserError("--policy: names separated by commas, none of them empty", EXIT_USAGE)
    if len(set(names)) != len(names):
        raise UserError("--policy: a policy is named twice", EXIT_USAGE)
    return names


def _specs(
    program: str | None,
    args: list[str] | None,
    engine: str,
    policies: list[str],
    procs: int,
    cores: int | None,
    region: str,
    preset: str,
    overrides: list[str] | None,
    seed: int,
    work: int | None,
    no_share: bool,
    traced: tuple[str | None, str | None],
    vary: list[str] | None = None,
) -> list[RunSpec]:
    from ptshare_plugin.common import units
    from ptshare_plugin.engines import registry as engines
    from ptshare_plugin.spec import program as programs
    from ptshare_plugin.spec import run as specs
    from ptshare_plugin.spec import workloads as installed
    from ptshare_plugin.studies import compare

    known = [name for name, _ in engines.get(engine).policies()]
    fixed = overrides or []
    machines: dict[Machine, tuple[str, ...]] = {}
    for varied in compare.variants(vary or [], fixed):
        machine = _machine(preset, fixed, varied)
        if machine in machines:
            raise UserError(
                f"--vary: {', '.join(varied)} is the same as {', '.join(machines[machine])}",
                EXIT_USAGE,
            )
        machines[machine] = varied
    try:
        size = units.parse_size(region)
    except UserError as error:
        raise UserError(f"--region: {error}", EXIT_USAGE) from error
    trace = _trace(*traced)
    workload = None
    if trace is not None:
        if region != _REGION:
            raise UserError("--region: is for workloads; a trace has --trace-share", EXIT_USAGE)
        loaded, args, size = trace.program(), list(trace.args), trace.share[1] - trace.share[0]
    else:
        assert program is not None
        workload = None if "/" in program else installed.describe(program)
        loaded = programs.load(program if workload is None else workload.path)
    made = [
        specs.RunSpec(
            program=loaded,
            workload=workload,
            args=tuple(args or ()),
            engine=engine,
            policy=policy,
            procs=procs,
            cores=specs.default_cores(procs, engine) if cores is None else cores,
            region=size,
            share=not no_share,
            seed=seed,
            work=work,
            preset=preset,
            overrides=tuple(overrides or ()),
            varied=varied,
            config=machine,
            trace=trace,
        )
        for policy in policies
        for machine, varied in machines.items()
    ]
    for one in made:
        specs.check(one, known)
    return made


def _trace(path: str | None, share: str | None) -> Trace | None:
    if path is None:
        if share is not None:
            raise UserError("--trace-share: is for --trace FILE", EXIT_USAGE)
        return None
    from ptshare_plugin.spec import trace

    return trace.load(path, share)


def _print_json(value: object) -> None:
    import json

    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def _say_where(output: str | None) -> None:
    if output is not None:
        sys.stdout.write(f"Written to {output}\n")


def _end(problems: list[str]) -> None:
    sys.stdout.flush()
    if problems:
        for problem in problems[:-1]:
            _complain(problem)
        raise UserError(problems[-1])


def _machine(preset: str, overrides: list[str], varied: tuple[str, ...] = ()) -> Machine:
    from ptshare_plugin.machine import config

    try:
        return config.load(preset, overrides, varied)
    except UserError as error:
        raise UserError(str(error), EXIT_USAGE) from error


def _complain(message: str) -> None:
    sys.stderr.write(f"ptshare: error: {message}\n")


def _terminated(number: int, _frame: FrameType | None) -> NoReturn:
    # As an exception, so that half-written folders are removed.
    sys.exit(128 + number)


def main() -> None:
    """Entry point of the ``ptshare`` command: errors are one line, and the exit code tells."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _terminated)
    if sys.stdout is None or sys.stderr is None:  # closed by whoever started this
        os.write(2, b"ptshare: error: standard output and error must be open\n")
        sys.exit(EXIT_FAILURE)
    if os.environ.get("PTSHARE_DEBUG"):
        sys.exit(app(standalone_mode=False))
    sys.exit(_guarded())


def _guarded() -> int:
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        sys.stdout.flush()
        if code == EXIT_INTERRUPTED:  # Typer's answer to Ctrl-C
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except UserError as error:
        for line in error.lines:
            _complain(line)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read standard output is gone; the interpreter's own flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        _complain(f"{name}{os_reason(error)}")
        return EXIT_FAILURE
    except MemoryError:
        _complain("out of memory on this machine")
        return EXIT_FAILURE
    except Exception as error:
        if hasattr(error, "format_message"):  # the command line, as Typer sees it
            text = " ".join(str(error.format_message()).split()).rstrip(".")
            _complain(f"{text}; see 'ptshare --help'")
            return EXIT_USAGE
        _complain(
            f"unexpected {type(error).__name__}: {' '.join(str(error).split())}; "
            "PTSHARE_DEBUG=1 shows where"
        )
        return EXIT_FAILURE


if __name__ == "__main__":
    main()
