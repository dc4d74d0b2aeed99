"""What commands have in common: the options of a run, as ``runs.options`` states them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
import typer.core

from ptshare_plugin.common.errors import EXIT_USAGE, UserError
from ptshare_plugin.runs.options import STATED, Statement, flag

if TYPE_CHECKING:
    from ptshare_plugin.machine.schema import Machine

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

Command = TypeVar("Command", bound=Callable[..., None])


def takes_run_options(command: Command) -> Command:
    """Give ``command`` the options of a run, in place of its ``**given``.

    Those that it has itself, under the same name, it has in its own way.
    """
    parameters: list[inspect.Parameter] = []
    signature = inspect.signature(command, eval_str=True)
    own = signature.parameters
    for parameter in own.values():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            parameters.append(parameter)
    at = 0
    for stated in STATED.values():
        if stated.name in own:
            at = [parameter.name for parameter in parameters].index(stated.name) + 1
            continue
        parameters.insert(
            at,
            inspect.Parameter(
                _parameter(stated),
                inspect.Parameter.KEYWORD_ONLY,
                default=False if stated.kind is bool else None,
                annotation=run_option(stated.name),
            ),
        )
        at += 1
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


def run_option(name: str) -> Any:
    """Annotation of a command's parameter for an option of a run."""
    stated = STATED[name]
    kind: Any = list[str] if stated.kind is list else stated.kind
    if stated.kind is not bool:
        kind |= None  # which says that it was not given
    told: dict[str, Any] = {"metavar": stated.metavar, "help": _help(stated)}
    if stated.parse is not None:
        told["parser"] = _parser(stated.parse)
    if name in ("program", "args"):
        return Annotated[kind, typer.Argument(**told)]
    return Annotated[kind, typer.Option(flag(name), *stated.flags, **told)]


def _parser(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def parser(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    return parser


def _parameter(stated: Statement) -> str:
    """Name of a command's parameter; that of a switch that turns the option off says so."""
    return f"no_{stated.name}" if stated.turns_off else stated.name


def _help(stated: Statement) -> str:
    if stated.off is not None:
        return stated.off
    shown = stated.shown or (None if stated.kind in (list, bool) else stated.default)
    return stated.help if shown is None else f"{stated.help}  [default: {shown}]"


def given_options(given: dict[str, Any]) -> dict[str, Any]:
    """Options of a run that a command was given, by name."""
    found = {}
    for name, stated in STATED.items():
        value = given.get(_parameter(stated))
        if stated.kind is bool:
            if value:
                found[name] = not stated.turns_off
        elif value is not None and (value or stated.kind is not list):
            found[name] = value
    return found


class RunCommand(typer.core.TyperCommand):
    """A command whose help ends with the engines, policies and workloads that there are."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Ask for them only now: it takes the extension module."""
        from ptshare_plugin.engines import registry as engines
        from ptshare_plugin.spec import workloads

        with formatter.section("Engines"):
            formatter.write_dl([(each.name, each.description) for each in engines.all_engines()])
        try:
            policies = engines.get(engines.DEFAULT).policies()
            programs = [workloads.describe(name) for name in workloads.names()]
        except UserError as error:  # not built: 'ptshare doctor' says all of it
            formatter.write_text(str(error))
            return
        with formatter.section("Policies"):
            formatter.write_dl(policies)
        with formatter.section("Workloads"):
            formatter.write_dl([(each.name, each.description) for each in programs])


def policy_names(items: Sequence[str]) -> list[str]:
    """Names of ``a,b,...`` options; a UserError for an empty one."""
    names = [name.strip() for item in items for name in item.split(",")]
    if not all(names):
        raise UserError(
            "names separated by commas, none of them empty", EXIT_USAGE, option="policy"
        )
    return names


def check_kept(output: str | None, force: bool) -> None:
    """Refuse a folder without a name, and a ``--force`` that has nothing to replace."""
    if output is not None and not output.strip():
        raise UserError("must name a folder", EXIT_USAGE, option="output")
    if force and output is None:
        raise UserError("needs -o", EXIT_USAGE, option="force")


def machine(preset: str, overrides: Sequence[str] | None) -> Machine:
    """Machine of ``--preset`` and ``--set``."""
    from ptshare_plugin.machine import config

    return config.load(preset, overrides or ())


def print_json(value: object) -> None:
    """Write ``value`` to standard output, and nothing else."""
    import json

    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def say_where(output: str | None) -> None:
    """Say where results were kept."""
    if output is not None:
        sys.stdout.write(f"Written to {output}\n")
