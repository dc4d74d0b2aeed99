"""``ptshare record`` and ``ptshare recording``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from ptshare_plugin.cli.app import app
from ptshare_plugin.cli.errors import warn
from ptshare_plugin.cli.options import JsonOpt, print_json
from ptshare_plugin.common.errors import EXIT_FAILURE, EXIT_USAGE, UserError
from ptshare_plugin.recording import recipes

_COMMAND = "ptshare.command"


class RecordCommand(typer.core.TyperCommand):
    """A command line whose part behind ``--`` is another program's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep that part apart: a recipe and a program may be called alike."""
        if "--" in args:
            place = args.index("--")
            ctx.meta[_COMMAND] = args[place + 1 :]
            args = args[:place]
        return super().parse_args(ctx, args)


def _takes_recipe_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command`` the options of every recipe, in place of its ``**given``."""
    signature = inspect.signature(command, eval_str=True)
    parameters = [
        each
        for each in signature.parameters.values()
        if each.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    for option in recipes.options():
        kind: Any = Annotated[
            option.kind | None,
            typer.Option(f"--{option.name}", metavar=option.metavar, help=option.help),
        ]
        parameters.append(
            inspect.Parameter(
                option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind
            )
        )
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


@app.command(cls=RecordCommand)
@_takes_recipe_options
def record(
    context: typer.Context,
    what: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="One of --list; or, behind --,")
    ] = None,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="-- COMMAND", help="any command.")
    ] = None,
    *,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="DIR", help="The recording: a new folder."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", metavar="N", help="End the command after N seconds."),
    ] = None,
    until_exit: Annotated[
        int | None,
        typer.Option(
            "--until-exit", metavar="PID", help="End the command when this process has ended."
        ),
    ] = None,
    roi_after: Annotated[
        float | None,
        typer.Option(
            "--roi-after", metavar="N", help="The region of interest begins after N seconds."
        ),
    ] = None,
    mark: Annotated[
        str | None,
        typer.Option(
            "--mark",
            metavar="begin|end",
            help="Where the region of interest of a recording being made begins or ends: now."
            " Its folder stands in place of RECIPE.",
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the recipes.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the recording in DIR.")] = False,
    **given: Any,
) -> None:
    """Record what a real program does with memory, under Valgrind."""
    command = context.meta.get(_COMMAND)
    chosen = {name: value for name, value in given.items() if value is not None}
    if words:
        given_words = " ".join((what or "", *words))
        raise UserError(f"put -- before the command: -- {given_words}", EXIT_USAGE)
    if listed:
        _list_recipes()
        return
    if mark is not None:
        _mark(what, mark)
        return
    for name, value in (("seconds", seconds), ("roi_after", roi_after)):
        if value is not None and not 0 < value < 1e9:
            raise UserError("must be more than 0", EXIT_USAGE, option=name, value=value)
    if output is None or not output.strip():
        raise UserError("needs -o DIR, the folder of the recording", EXIT_USAGE)
    if what is not None:
        if command is not None:
            raise UserError("either a recipe or a command behind --, not both", EXIT_USAGE)
        if seconds is not None or until_exit is not None:
            raise UserError("a recipe ends by itself: no --seconds, no --until-exit", EXIT_USAGE)
        _end(recipes.record(what, Path(output), force, roi_after, chosen), output)
        return
    if not command:
        raise UserError("what is to be recorded? A recipe, or -- COMMAND...", EXIT_USAGE)
    if chosen:
        raise UserError(f"--{next(iter(chosen))} is of a recipe, not of a command", EXIT_USAGE)
    from ptshare_plugin.recording.checks import check_process
    from ptshare_plugin.recording.record import Recording

    if until_exit is not None:
        check_process(until_exit)
    with Recording(command, Path(output), force=force, roi_after=roi_after) as recording:
        recording.run(seconds, until_exit)
    _end(recording, output)


def _end(recording: Any, output: str) -> None:
    from ptshare_plugin.recording.record import exit_status, say, summary

    manifest = recording.manifest
    say(summary(manifest, Path(output)))
    status = exit_status(recording)
    if manifest.partial is not None:
        raise UserError(f"the recording is partial: {manifest.partial}", status or EXIT_FAILURE)
    if status:
        raise typer.Exit(status)


def _list_recipes() -> None:
    from ptshare_plugin.show import terminal

    lines = []
    for recipe in recipes.all_recipes():
        lines.append([recipe.NAME, "", recipe.DESCRIPTION])
        lines += [["", f"--{each.name}", each.help] for each in recipe.OPTIONS]
    terminal.print_words(terminal.console(), ["recipe", "option", "what it does"], lines)


def _mark(what: str | None, name: str) -> None:
    from ptshare_plugin.recording.record import mark as set_mark

    if what is None:
        raise UserError("of which recording? --mark begin DIR", EXIT_USAGE)
    set_mark(Path(what), name)
    sys.stdout.write(f"{what}: the region of interest {name}s here\n")


@app.command()
def recording(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="A recording that ptshare record has made.")
    ],
    as_json: JsonOpt = False,
) -> None:
    """Say who ran in a recording, who mapped what, and which areas could share page tables."""
    from ptshare_plugin.recording import look

    seen = look.look(Path(folder))
    if seen.manifest.partial is not None:
        warn(f"{folder} is partial: {seen.manifest.partial}")
    if as_json:
        print_json(look.as_json(seen))
    else:
        look.print_tables(seen)
