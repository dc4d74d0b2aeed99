"""Commands that list what there is: workloads, presets, policies, and what this machine has."""

from __future__ import annotations

from typing import Annotated

import typer

from ptshare_plugin.cli.app import app
from ptshare_plugin.cli.options import JsonOpt, machine, print_json
from ptshare_plugin.common.errors import EXIT_FAILURE


@app.command()
def workloads(as_json: JsonOpt = False) -> None:
    """List the programs that come with ptshare."""
    from ptshare_plugin.show import terminal
    from ptshare_plugin.spec import workloads as installed

    known = [installed.describe(name) for name in installed.names()]
    if as_json:
        print_json(
            {
                item.name: {
                    "description": item.description,
                    "work": item.work,
                    "path": str(item.path),
                }
                for item in known
            }
        )
        return
    terminal.print_words(
        terminal.console(),
        ["workload", "default work", "what it does"],
        [[item.name, item.work, item.description] for item in known],
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
    machines = [flatten(machine(preset, [])) for preset in chosen]
    if as_json:
        print_json(dict(zip(chosen, machines, strict=True)))
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
    from ptshare_plugin.engines import registry as engines
    from ptshare_plugin.show import terminal
    from ptshare_plugin.studies import policy_matrix

    known = dict(engines.get("embedded").policies())
    if as_json:
        print_json(
            {
                "policies": {name: known[name] for name in policy_matrix.POLICIES},
                "answers": [
                    {"operation": case.operation, "situation": case.situation, **case.answers}
                    for case in policy_matrix.CASES
                ],
            }
        )
        return
    out = terminal.console()
    for name in policy_matrix.POLICIES:
        out.print(f"{name}: {known[name]}")
    out.print()
    terminal.print_words(
        out,
        ["", "", *policy_matrix.POLICIES],
        [
            [
                case.operation,
                case.situation,
                *(case.answers[name] for name in policy_matrix.POLICIES),
            ]
            for case in policy_matrix.CASES
        ],
    )


@app.command()
def doctor(as_json: JsonOpt = False) -> None:
    """Say which engines this machine has, and what is missing for the others."""
    from ptshare_plugin.cli import doctor as checks
    from ptshare_plugin.show import terminal

    findings = checks.examine()
    if as_json:
        print_json({item.name: {"ok": item.ok, "text": item.text} for item in findings})
    else:
        terminal.print_words(
            terminal.console(),
            ["", "", ""],
            [["ok" if item.ok else "missing", item.name, item.text] for item in findings],
        )
    if not all(item.ok for item in findings if item.needed):
        raise typer.Exit(EXIT_FAILURE)
