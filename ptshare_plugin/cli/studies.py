"""Commands that answer one question each."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ptshare_plugin.cli.app import app
from ptshare_plugin.cli.errors import warn
from ptshare_plugin.cli.options import JsonOpt, machine, policy_names, print_json, run_option
from ptshare_plugin.common.errors import EXIT_USAGE, UserError
from ptshare_plugin.common.units import exact_size
from ptshare_plugin.runs.options import STATED
from ptshare_plugin.studies.plan import DEFAULTS

PresetOpt: Any = run_option("preset")
SetOpt: Any = run_option("set")
SeedOpt: Any = run_option("seed")


@app.command("plan")
def plan_command(
    procs: Annotated[
        int, typer.Option("--procs", "-n", help="Number of clients.")
    ] = DEFAULTS.procs,
    region: Annotated[
        str, typer.Option("--region", help="Size of the file that all clients map.")
    ] = exact_size(DEFAULTS.region),
    memory: Annotated[str, typer.Option("--memory", help="The machine's memory.")] = exact_size(
        DEFAULTS.memory
    ),
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
    ] = DEFAULTS.pattern,
    access: Annotated[
        str, typer.Option("--access", help="How they are touched: read or write.")
    ] = DEFAULTS.access,
    resident: Annotated[
        str,
        typer.Option(
            "--resident", help="What of the file is in memory: all from the start, or touched."
        ),
    ] = DEFAULTS.resident,
    cpus: Annotated[
        int, typer.Option("--cpus", help="CPUs that run a client each during mprotect.")
    ] = DEFAULTS.cpus,
    own_tables: Annotated[
        str,
        typer.Option(
            "--own-tables",
            help="Page tables of each client beside the region's: an idle backend's.",
        ),
    ] = exact_size(DEFAULTS.own_tables),
    own_memory: Annotated[
        str, typer.Option("--own-memory", help="Memory that each client has for itself.")
    ] = exact_size(DEFAULTS.own_memory),
    preset: PresetOpt = STATED["preset"].default,
    overrides: SetOpt = None,
    seed: SeedOpt = DEFAULTS.seed,
    as_json: JsonOpt = False,
) -> None:
    """Compute what many clients of a large file need: page tables, memory, faults, mprotect."""
    from ptshare_plugin import policies as all_policies
    from ptshare_plugin.studies import plan as planning
    from ptshare_plugin.studies import plan_table

    asked = planning.asked(
        procs=procs,
        region=region,
        memory=memory,
        pattern=pattern,
        access=access,
        resident=resident,
        cpus=cpus,
        seed=seed,
        machine=machine(preset, overrides),
        own_tables=own_tables,
        own_memory=own_memory,
    )
    policies = policy_names(policy) if policy else all_policies.candidates()
    planning.check(asked, policies)
    left_out = planning.left_out(asked, policies)
    for reason in left_out.values():
        warn(f"left out: {reason}")
    rows = planning.compute_all(asked, [name for name in policies if name not in left_out])
    if as_json:
        print_json(rows)
    else:
        plan_table.print_plan(asked, rows)


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
    preset: PresetOpt = STATED["preset"].default,
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
        protect_ways.check_output(Path(output), protect_ways.TABLE_SUFFIXES, "output", force)
    if plot is not None:
        protect_ways.check_output(Path(plot), protect_ways.PLOT_SUFFIXES, "plot", force)
    measurement = protect_ways.Measurement(setting, machine(preset, overrides))
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
    recording: Annotated[
        str | None,
        typer.Option(
            "--recording",
            metavar="DIR",
            help="The programs of this recording instead, with the kernel that ran them.",
        ),
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Compare the model with this machine's kernel, case by case."""
    from pathlib import Path

    from ptshare_plugin.studies.validation import cases
    from ptshare_plugin.studies.validation import validate as validation

    if recording is not None:
        beside = {"quick": quick, "case": patterns, "no_gem5": no_gem5}
        for name, given in {**beside, "report": report}.items():
            if given:
                raise UserError("is not for --recording", EXIT_USAGE, option=name)
        table = Path(markdown) if markdown is not None else None
        if wrong := validation.of_recording(recording, as_json, table):
            raise UserError(f"{wrong} programs differ from the kernel without a documented cause")
        return
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
