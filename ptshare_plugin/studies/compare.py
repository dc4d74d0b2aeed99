"""``ptshare compare``: one program under several policies or machines, side by side."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from ptshare_plugin import policies as all_policies
from ptshare_plugin.common import units
from ptshare_plugin.common.errors import EXIT_USAGE, UserError
from ptshare_plugin.common.progress import Progress, silent
from ptshare_plugin.engines import registry as engines
from ptshare_plugin.machine import config
from ptshare_plugin.machine.schema import Machine
from ptshare_plugin.records.run_folder import M5OUT, write
from ptshare_plugin.runs.options import Options
from ptshare_plugin.runs.run import Run, execute
from ptshare_plugin.show import terminal
from ptshare_plugin.spec.run import RunSpec

if TYPE_CHECKING:
    from rich.console import Console


def default_policies(engine: str) -> tuple[str, ...]:
    """The baseline, and what the engine shares tables by: by default, or else at all."""
    usable = engines.get(engine)
    sharing = [name for name, _ in usable.policies() if all_policies.known()[name].shares_tables]
    default = usable.default_policy
    return all_policies.BASELINE, default if default in sharing else sharing[0]


def specs(
    options: Options,
    policies: Sequence[str] = (),
    vary: Sequence[str] = (),
    progress: Progress = silent,
) -> list[RunSpec]:
    """The runs of a comparison, checked: each policy with each combination of varied keys.

    :param options: what all runs share; their policy counts for nothing.
    :param policies: none for ``default_policies`` of the engine.
    :param vary: ``KEY=A,B,...`` each.
    :param progress: of reading a trace.
    """
    wanted = tuple(policies) or default_policies(options.engine)
    all_policies.check_distinct(wanted)
    machines: dict[Machine, tuple[str, ...]] = {}
    for varied in variants(vary, options.set):
        machine = config.load(options.preset, options.set, varied)
        if machine in machines:
            raise UserError(
                f"{', '.join(varied)} is the same as {', '.join(machines[machine])}",
                EXIT_USAGE,
                option="vary",
            )
        machines[machine] = varied
    base = options.spec(progress)
    made = [
        dataclasses.replace(base, policy=policy, config=machine, varied=varied)
        for policy in wanted
        for machine, varied in machines.items()
    ]
    for spec in made:
        engines.check(spec)
    return made


def variants(vary: Sequence[str], fixed: Sequence[str]) -> list[tuple[str, ...]]:
    """All combinations of ``KEY=A,B,...``, each as overrides; one empty one for none.

    :param fixed: overrides of all runs, whose keys cannot vary.
    :raises UserError: for what is no such list; whether keys and values exist is not looked at.
    """
    axes = {}
    for text in vary:
        key, equals, values = (part.strip() for part in text.partition("="))
        each = [value.strip() for value in values.split(",")]
        if not equals or not key or "" in each or len(set(each)) < len(each):
            raise _wrong_variation(text, "must be KEY=A,B,... with different values")
        if key in axes:
            raise _wrong_variation(key, "is there twice")
        if any(override.partition("=")[0].strip() == key for override in fixed):
            raise _wrong_variation(key, "is set for all runs, too")
        axes[key] = [f"{key}={value}" for value in each]
    return list(itertools.product(*axes.values()))


def command(options: Options, specs: Sequence[RunSpec]) -> list[str]:
    """The command line that makes the same comparison."""
    words = dataclasses.replace(options, policy=None).command()
    policies = dict.fromkeys(spec.policy for spec in specs)
    values: dict[str, dict[str, None]] = {}
    for spec in specs:
        for text in spec.varied:
            key, _, value = text.partition("=")
            values.setdefault(key, {})[value] = None
    own = ["--policy", ",".join(policies)]
    own += [word for key, each in values.items() for word in ("--vary", f"{key}={','.join(each)}")]
    at = words.index("--") if "--" in words else len(words)
    return [words[0], "compare", *words[2:at], *own, *words[at:]]


def _wrong_variation(value: str, message: str) -> UserError:
    return UserError(message, EXIT_USAGE, option="vary", value=value)


def compare(
    specs: Sequence[RunSpec],
    command: Sequence[str],
    progress: Callable[[str], AbstractContextManager[Progress]],
    folder: Path | None = None,
    m5out: bool = False,
) -> list[Run]:
    """Run ``specs`` and write each into its own folder in ``folder``.

    :param command: that makes them, for their records.
    :param progress: what shows that of one run, whose label it is given.
    :param m5out: keep gem5's own files there, too.
    """
    runs = []
    for spec in specs:
        keep = folder / spec.name / M5OUT if folder and m5out else None
        with progress(spec.label) as report:
            runs.append(execute(spec, command, report, keep))
    # After the last run: what writing needs must not count as the simulator's resident memory.
    if folder is not None:
        for run in runs:
            place = folder / run.spec.name
            place.mkdir(exist_ok=True)
            write(run, place)
    return runs


def output_differs(runs: Sequence[Run]) -> str | None:
    """Where the program's output differs from that of the first run, in one line; or None.

    None also for a workload that prints the policy's own answers.
    """
    first = runs[0]
    if first.spec.workload is not None and first.spec.workload.output_depends_on_policy:
        return None
    for run in runs[1:]:
        for rank, (one, other) in enumerate(zip(first.ranks, run.ranks, strict=True)):
            if (one.stdout, one.status) != (other.stdout, other.status):
                return (
                    f"program output differs: rank {rank} under {first.spec.heading} and "
                    f"under {run.spec.heading}"
                )
    return None


def print_comparison(runs: Sequence[Run]) -> None:
    """Print all tables and what they are about to standard output."""
    out = terminal.console()
    headings = [run.spec.heading for run in runs]
    print_header(out, runs[0], headings)
    roi = all(run.has_roi() for run in runs)
    terminal.print_sections(out, headings, [run.wide() for run in runs], roi)
    out.print()
    if output_differs(runs) is None:
        out.print(_agreement(runs))
    for run in runs:
        out.print(speed(run))


def print_header(out: Console, run: Run, headings: Sequence[str]) -> None:
    """Print what was run and which part of it the figures are about."""
    spec = run.spec
    what = f"{spec.program.name}: {spec.procs} processes on {spec.cores} cores"
    if spec.procs == 1:
        what = what.replace("processes", "process")
    if spec.cores == 1:
        what = what.replace("cores", "core")
    if spec.workload is not None:
        what += f", region {units.exact_size(spec.region)}"
        what += "" if spec.share else ", MAP_SHARED_PT not asked for"
    # A real machine is as it is.
    real = run.result.settings
    machine = f"Linux {real['release']}" if real else f"preset {spec.preset}"
    out.print(f"{what}, {machine}, seed {spec.seed}, engine {spec.engine}")
    for override in spec.overrides:
        out.print(f"  with {override}")
    if spec.varied:
        keys = [each.partition("=")[0] for each in spec.varied]
        out.print(f"  each column: policy, {', '.join(keys)}")
    if len(headings) > 1:
        out.print(f"Change in per cent against {headings[0]}. Sums over all processes.")
    else:
        out.print(f"Policy {headings[0]}. Sums over all processes.")
    if not run.has_roi():
        out.print("No region of interest is marked: all figures are of the whole run.")
    out.print()


def _agreement(runs: Sequence[Run]) -> str:
    spec = runs[0].spec
    if spec.trace is not None or spec.recording is not None:
        return "A replay executes nothing: there is no output to compare."
    workload = spec.workload
    if workload is not None and workload.output_depends_on_policy:
        return "Program output is what each policy answers, so it is not compared."
    count = len(runs[0].output_lines())
    return f"Program output is equal in all runs ({count} lines)."


def speed(run: Run) -> str:
    """How fast the simulation was, in one line."""
    count = int(run.values[-1].get("instructions", 0))
    seconds = run.result.seconds
    resident = units.short_size(run.result.peak_rss_bytes)
    if run.result.settings:
        largest = f", largest process {resident} resident" if run.result.peak_rss_bytes else ""
        return f"{run.spec.heading}: {seconds:.2f} s{largest}"
    rate = count / seconds / 1e6 if seconds else 0.0
    return (
        f"{run.spec.heading}: {count:,} instructions simulated in {seconds:.2f} s "
        f"({rate:.1f} M/s), {resident} resident"
    )
