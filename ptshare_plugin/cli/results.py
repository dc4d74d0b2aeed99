"""Commands that make and read many results: sweeps, summaries, reports, traces."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ptshare_plugin.cli.app import app
from ptshare_plugin.cli.errors import warn
from ptshare_plugin.cli.options import JsonOpt


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
    from ptshare_plugin.sweeps import command

    if dry_run:
        command.list_runs(file, output, as_json)
    else:
        command.run(file, output, workers, dask, retry_failed, as_json)


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


trace_app = typer.Typer(help="Convert traces of real programs", rich_markup_mode=None)
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
    from ptshare_plugin.common import progress
    from ptshare_plugin.engines import traces

    with progress.show(f"{Path(trace).name}, converted") as report:
        records, size, warning = traces.convert(trace, file, force, report)
    if warning is not None:
        warn(warning)
    sys.stdout.write(f"{records:,} records, {size:,} bytes written to {file}\n")
