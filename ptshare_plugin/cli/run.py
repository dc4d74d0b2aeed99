"""``ptshare run`` and ``ptshare compare``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptshare_plugin.cli.app import app
from ptshare_plugin.cli.errors import complain, warn
from ptshare_plugin.cli.options import (
    ForceOpt,
    JsonOpt,
    KeepM5outOpt,
    OutputOpt,
    RunCommand,
    check_kept,
    given_options,
    policy_names,
    print_json,
    say_where,
    takes_run_options,
)
from ptshare_plugin.common.errors import EXIT_USAGE, UserError
from ptshare_plugin.runs.options import Options
from ptshare_plugin.spec.run import RunSpec

if TYPE_CHECKING:
    from ptshare_plugin.runs.run import Run


@app.command(cls=RunCommand)
@takes_run_options
def run(
    *,
    output: OutputOpt = None,
    keep_m5out: KeepM5outOpt = False,
    force: ForceOpt = False,
    as_json: JsonOpt = False,
    **given: Any,
) -> None:
    """Run a program under one policy and print its figures."""
    from contextlib import nullcontext

    from ptshare_plugin.common import progress
    from ptshare_plugin.engines import registry as engines
    from ptshare_plugin.records import folders
    from ptshare_plugin.records.run_folder import M5OUT, write
    from ptshare_plugin.runs.run import execute, report_failures
    from ptshare_plugin.show import terminal
    from ptshare_plugin.studies import compare

    check_kept(output, force)
    options = _options(given, keep_m5out, output)
    with progress.show(_reading(options)) as report:
        spec = options.spec(report)
    engines.check(spec)
    _warn(spec)
    place = folders.whole(Path(output), force) if output is not None else nullcontext()
    with place as folder:
        keep = folder / M5OUT if folder is not None and keep_m5out else None
        with progress.show(spec.label) as report:
            result = execute(spec, sys.argv, report, keep)
        if folder is not None:
            write(result, folder)
    if as_json:
        print_json(result.wide())
    else:
        for line in result.output_lines():
            sys.stdout.write(line + "\n")
        out = terminal.console()
        out.print()
        compare.print_header(out, result, [spec.policy])
        terminal.print_sections(out, [spec.policy], [result.wide()], result.has_roi())
        out.print()
        out.print(compare.speed(result))
        say_where(output)
    _remark([result])
    _end(report_failures([result]))


@app.command("compare", cls=RunCommand)
@takes_run_options
def compare_command(
    *,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            help="Sharing policies, a,b,... or repeated; changes are against the first."
            "  [default: private,ptshare; on linux private,hugetlb-pmd]",
        ),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            metavar="KEY=A,B,...",
            help="Each of these values of a key of the machine; repeatable, for every combination.",
        ),
    ] = None,
    output: OutputOpt = None,
    keep_m5out: KeepM5outOpt = False,
    force: ForceOpt = False,
    as_json: JsonOpt = False,
    **given: Any,
) -> None:
    """Run a program under several policies or machines and print the figures side by side."""
    from contextlib import nullcontext

    from ptshare_plugin.common import progress
    from ptshare_plugin.records import folders
    from ptshare_plugin.runs.run import report_failures
    from ptshare_plugin.studies import compare

    check_kept(output, force)
    options = _options(given, keep_m5out, output)
    with progress.show(_reading(options)) as report:
        specs = compare.specs(options, policy_names(policy or ()), vary or (), report)
    _warn(specs[0])
    place = folders.whole(Path(output), force) if output is not None else nullcontext()
    with place as folder:
        runs = compare.compare(specs, sys.argv, progress.show, folder, keep_m5out)
    if as_json:
        print_json({result.spec.name: result.wide() for result in runs})
    else:
        compare.print_comparison(runs)
        say_where(output)
    _remark(runs)
    problems = report_failures(runs)
    difference = compare.output_differs(runs)
    _end(problems if problems or difference is None else [difference])


def _options(given: dict[str, Any], keep_m5out: bool, output: str | None) -> Options:
    """Options of a run, once it is clear what is to be run and kept."""
    from ptshare_plugin.engines import registry as engines

    if given["program"] is None and given["trace"] is None and given["recording"] is None:
        raise UserError("Missing argument 'PROGRAM'; see 'ptshare --help'", EXIT_USAGE)
    options = Options.of(given_options(given))
    if keep_m5out and not engines.by_name(options.engine).keeps_own_files:
        raise UserError(
            f"is for --engine gem5, not {options.engine}",
            EXIT_USAGE,
            option="keep_m5out",
        )
    if keep_m5out and output is None:
        raise UserError("needs -o DIR", EXIT_USAGE, option="keep_m5out")
    return options


def _warn(spec: RunSpec) -> None:
    if spec.trace is not None and (warning := spec.trace.warning()) is not None:
        warn(warning)


def _remark(runs: Sequence[Run]) -> None:
    """Say where the runs are not what was to be replayed."""
    said: dict[str, list[str]] = {}
    for each in runs:
        for remark in each.result.remarks:
            said.setdefault(remark, []).append(each.spec.heading)
    for remark, headings in said.items():
        warn(f"{', '.join(headings)}: {remark}")


def _reading(options: Options) -> str:
    """What progress is shown under while a trace or a recording is read."""
    if options.recording is not None:
        return f"{Path(options.recording).name}, what it maps"
    return f"{Path(options.trace or '').name}, what it touches"


def _end(problems: list[str]) -> None:
    sys.stdout.flush()
    if problems:
        for problem in problems[:-1]:
            complain(problem)
        raise UserError(problems[-1])
