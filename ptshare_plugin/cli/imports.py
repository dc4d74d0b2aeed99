"""``ptshare import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ptshare_plugin.cli.app import app
from ptshare_plugin.common.errors import EXIT_USAGE, UserError, nearest


@app.command(name="import")
def import_traces(
    traces: Annotated[
        list[str],
        typer.Argument(
            metavar="TRACE...",
            help="drmemtrace: folders, one a process. ChampSim: files, one a process.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="DIR", help="The recording: a new folder."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="drmemtrace, champsim or cloudsuite, where the traces do not tell.",
        ),
    ] = None,
    shared: Annotated[
        list[str] | None,
        typer.Option(
            "--shared",
            metavar="LOW-HIGH",
            help="Addresses that all processes map shared, as traces do not say; repeatable.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the recording in DIR.")] = False,
) -> None:
    """Make a recording of others' traces: DynamoRIO's drmemtrace, ChampSim's."""
    from ptshare_plugin.common import progress
    from ptshare_plugin.recording import imports
    from ptshare_plugin.recording.checks import check_output
    from ptshare_plugin.recording.record import say, summary

    if output is None or not output.strip():
        raise UserError("needs -o DIR, the folder of the recording", EXIT_USAGE)
    if kind is not None and kind not in imports.KINDS:
        raise UserError(
            f"unknown kind {kind}{nearest(kind, imports.KINDS)}; there are"
            f" {', '.join(imports.KINDS)}",
            EXIT_USAGE,
            option="kind",
        )
    ranges = [imports.parse_range(each) for each in shared or ()]
    check_output(Path(output), force)
    with progress.show(f"{Path(traces[0]).name}, imported") as report:
        manifest, left_out = imports.imported(
            [Path(each) for each in traces], Path(output), kind, ranges, report
        )
    say(summary(manifest, Path(output)))
    for what, times in left_out.items():
        say(f"left out: {what}: {times:,} times")
    if not ranges and len(manifest.streams) > 1:
        say("nothing is mapped shared, as traces do not say what is: --shared LOW-HIGH does")
