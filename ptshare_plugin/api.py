"""ptshare from Python: what the ``ptshare`` command does, as functions.

They print nothing, show progress only when asked, and raise ``UserError`` alone. The options of a
run are those of the command line, by the same names with the same defaults, see
``runs.options.Options``; the package gives all of this as ``ptshare_plugin.run`` and so on.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from ptshare_plugin import policies as all_policies
from ptshare_plugin.common import progress as bars
from ptshare_plugin.common.errors import UserError
from ptshare_plugin.common.progress import Progress
from ptshare_plugin.machine import config
from ptshare_plugin.metrics.registry import ALL
from ptshare_plugin.records import folders, run_folder
from ptshare_plugin.runs.options import STATED, Options, read_option
from ptshare_plugin.runs.run import Number, Run, execute, in_order, report_lines
from ptshare_plugin.spec.run import RunSpec
from ptshare_plugin.studies import compare as comparisons
from ptshare_plugin.studies import plan as plans

if TYPE_CHECKING:
    import pandas as pd

AnyPath = str | os.PathLike[str]
Size = int | str
"""Bytes, or as text: ``"64MiB"``."""
Settings = Mapping[str, Any] | Sequence[str]
"""Keys of the machine with their values; or texts, ``"mmu.pcids=4"``."""
Watch = Callable[[str, int, int], None]
"""Called now and then with what runs, and the instructions and cycles simulated so far."""


class RunOptions(TypedDict, total=False):
    """Options of a run; ``ptshare run --help`` says what they mean.

    ``engine``: embedded, stream, gem5 or linux. ``region``: bytes. ``set``: keys of the machine.
    ``work``: amount of work of a workload, in its own unit. ``share``: whether workloads ask for
    MAP_SHARED_PT. ``share_rules``: what of a recording asks for it.
    """

    args: Sequence[str]
    trace: AnyPath
    trace_share: str
    trace_end: str
    recording: AnyPath
    share_rules: Sequence[str]
    align: bool
    times: int
    engine: str
    procs: int
    cores: int
    region: Size
    preset: AnyPath
    set: Settings
    seed: int
    work: int
    share: bool


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run.

    :ivar run: all of it: what was run, how each process ended, what each had at its marks.
    """

    run: Run

    def __repr__(self) -> str:
        """What was run, in few words."""
        spec = self.spec
        count = "1 process" if spec.procs == 1 else f"{spec.procs} processes"
        return f"<Result: {spec.label}, {count}, engine {spec.engine}>"

    @property
    def spec(self) -> RunSpec:
        """What was run."""
        return self.run.spec

    @property
    def metrics(self) -> dict[str, Number]:
        """Every metric for all processes, by name; docs/metrics.md has units and formulas."""
        return in_order(self.run.values[ALL])

    @property
    def by_process(self) -> dict[int, dict[str, Number]]:
        """Metrics of each process, by its index: first the ranks, then what they forked."""
        return {i: in_order(found) for i, found in self.run.values.items() if i != ALL}

    @property
    def output(self) -> list[str]:
        """Lines that the processes wrote to standard output, in rank order."""
        return self.run.output_lines()

    @property
    def frame(self) -> pd.DataFrame:
        """Tidy frame, a row a value, as ``load`` gives it; ``run`` is the run's id."""
        frame: pd.DataFrame = run_folder.table(self.run.record(), self.run.values).to_pandas()
        return frame

    def write(self, folder: AnyPath, force: bool = False) -> Path:
        """Keep the run in a new ``folder``, as ``ptshare run -o`` does; ``load`` reads it.

        :param force: replace results that are there.
        """
        with folders.whole(Path(folder), force) as partial:
            run_folder.write(self.run, partial)
        return Path(folder)


def run(
    program: AnyPath | None = None,
    *,
    policy: str | None = None,
    check: bool = True,
    progress: bool | Watch = False,
    **options: Unpack[RunOptions],
) -> Result:
    """Run a program under one policy: its figures.

    :param program: a workload's name, or the path (with a slash) of a program of your own.
    :param policy: sharing policy; the engine's default without one.
    :param check: raise when a process of the program fails.
    :param progress: True for a bar on standard error, or a callback.
    :raises UserError: for wrong options, and what goes wrong.
    """
    stated = _options(program, policy=policy, **options)
    show = _shown(progress)
    with show(f"{stated.what}, what it is") as report:
        spec = stated.spec(report)
    with show(spec.label) as report:
        done = execute(spec, stated.command(), report)
    _check([done], check)
    return Result(done)


def compare(
    program: AnyPath | None = None,
    *,
    policy: str | Sequence[str] = (),
    vary: Mapping[str, Sequence[Any]] | None = None,
    check: bool = True,
    progress: bool | Watch = False,
    **options: Unpack[RunOptions],
) -> list[Result]:
    """Run a program under several policies, or on several machines: a result each.

    :param program: a workload's name, or the path (with a slash) of a program of your own.
    :param policy: policies in the order of the results; without any, the baseline and the
        engine's default.
    :param vary: values by key of the machine; each combination is run under each policy.
    :param check: raise when a process of the program fails, or when its output differs between
        runs where it should not.
    :param progress: True for a bar on standard error, or a callback.
    :raises UserError: for wrong options, and what goes wrong.
    """
    stated = _options(program, **options)
    policies = _policies(policy)
    show = _shown(progress)
    with show(f"{stated.what}, what it is") as report:
        specs = comparisons.specs(stated, policies, _variations(vary or {}), report)
    command = comparisons.command(stated, specs)
    runs = comparisons.compare(specs, command, show)
    _check(runs, check)
    if check and (difference := comparisons.output_differs(runs)) is not None:
        raise UserError(difference)
    return [Result(done) for done in runs]


@dataclass(frozen=True, slots=True)
class Planned:
    """What many clients of a large file need.

    :ivar asked: the question, with its defaults.
    :ivar rows: figures by policy and name, in bytes, counts, ratios and cycles (docs/plan.md).
    :ivar left_out: why others of the policies could not be computed.
    """

    asked: plans.Plan
    rows: dict[str, dict[str, Any]]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def frame(self) -> pd.DataFrame:
        """A row a policy, a column a figure."""
        import pandas as pd

        return pd.DataFrame([{"policy": name, **row} for name, row in self.rows.items()])


def plan(
    *,
    procs: int = plans.DEFAULTS.procs,
    region: Size = plans.DEFAULTS.region,
    memory: Size = plans.DEFAULTS.memory,
    policy: str | Sequence[str] = (),
    pattern: str = plans.DEFAULTS.pattern,
    access: str = plans.DEFAULTS.access,
    resident: str = plans.DEFAULTS.resident,
    cpus: int = plans.DEFAULTS.cpus,
    own_tables: Size = plans.DEFAULTS.own_tables,
    own_memory: Size = plans.DEFAULTS.own_memory,
    preset: AnyPath = config.DEFAULT_PRESET,
    set: Settings = (),
    seed: int = plans.DEFAULTS.seed,
) -> Planned:
    """Compute what many clients of one large file need: page tables, memory, faults, mprotect.

    :param procs: clients.
    :param region: bytes of the file that all of them map.
    :param memory: bytes of the machine's memory.
    :param policy: policies to compute; those of ``ptshare plan`` without any.
    :param pattern: pages that each touches: all, fraction:F, spread:F or zipf:VISITS.
    :param access: read or write.
    :param resident: what of the file is in memory: all from the start, or touched.
    :param cpus: CPUs that run a client each during mprotect.
    :param own_tables: bytes of page tables of each client beside those of the region.
    :param own_memory: bytes of other memory that each client has for itself.
    :raises UserError: for wrong options, and where the simulator's memory would not do.
    """
    machine = config.load(read_option("preset", preset), read_option("set", set))
    asked = plans.asked(
        procs=procs,
        region=region,
        memory=memory,
        pattern=pattern,
        access=access,
        resident=resident,
        cpus=cpus,
        seed=seed,
        machine=machine,
        own_tables=own_tables,
        own_memory=own_memory,
    )
    policies = _policies(policy) or all_policies.candidates()
    plans.check(asked, policies)
    left_out = plans.left_out(asked, policies)
    computed = [name for name in policies if name not in left_out]
    return Planned(asked, plans.compute_all(asked, computed), left_out)


@dataclass(frozen=True, slots=True)
class Swept:
    """What came of a sweep.

    :ivar folder: of the sweep; ``load`` reads its ``runs``.
    :ivar made: runs made now; ``before``: that were there.
    :ivar failures: run and reason of each that failed now.
    :ivar skipped: runs that had failed before and were not tried again.
    """

    folder: Path
    total: int
    made: int
    before: int
    failures: list[tuple[str, str]]
    skipped: int

    @property
    def frame(self) -> pd.DataFrame:
        """Tidy frame of all its runs, as ``load`` gives it."""
        from ptshare_plugin.records.frames import load_tidy
        from ptshare_plugin.sweeps.store import RUNS

        return load_tidy(self.folder / RUNS)


def sweep(
    file: AnyPath,
    output: AnyPath,
    *,
    workers: int | None = None,
    dask: str | None = None,
    retry_failed: bool = False,
    check: bool = True,
    progress: bool = False,
) -> Swept:
    """Make the runs of the sweep ``file`` (docs/sweep.md) in ``output``; go on with what is there.

    :param workers: runs at once on this machine; as many as it has cores without it.
    :param dask: address of a Dask scheduler that executes the runs.
    :param retry_failed: try again what has failed before.
    :param check: raise when runs failed.
    :param progress: True for a bar on standard error.
    :raises UserError: for every wrong key and value of the file, and what goes wrong.
    """
    from ptshare_plugin.sweeps import execute as executor
    from ptshare_plugin.sweeps import plan as sweeps

    report = executor.sweep(
        sweeps.load(Path(file)), Path(output), workers, dask, retry_failed, shown=progress
    )
    if check:
        report.raise_failures(Path(output))
    return Swept(
        folder=Path(output),
        total=report.total,
        made=report.made,
        before=report.before,
        failures=report.failures,
        skipped=report.skipped,
    )


def load(path: AnyPath) -> pd.DataFrame:
    """Frame of run folders, or of a dataset that ``ptshare summary --format dataset`` made.

    Run folders, ``path`` itself or all below it, give a tidy frame, a row a value. Columns: run
    (the folder below ``path``), engine, policy, process (-1: all processes or the machine),
    component, metric, value, unit.

    A dataset gives a wide frame, a row a run, ordered by run. Columns:

    - run: its folder, from the folder that holds the dataset; no two rows have the same;
    - engine, policy, program, args, procs, cores, region_bytes, share, seed, work (missing: the
      workload's default), preset;
    - run_id (hash of what decides the result: repeats have the same), program_sha256, started,
      ptshare and gem5 (their versions), failed (processes that did not end as they should),
      command (which made it); of gem5's m5out only the first two are there;
    - every key of the machine, like ``mmu.pcids``;
    - every metric that some run has, for all processes, in the order of docs/metrics.md: counts as
      nullable integers, others as floats, missing where a run has none.

    A ``.csv`` file that this frame's ``to_csv(path, index=False)`` wrote gives it again.

    :raises UserError: names the file when one is unreadable, or there are no runs.
    """
    from ptshare_plugin.records import dataset
    from ptshare_plugin.records.frames import load_tidy

    if Path(path).suffix == ".csv":
        return dataset.read_csv(path)
    return dataset.load(path) if dataset.is_dataset(path) else load_tidy(path)


def _options(program: AnyPath | None, **options: Any) -> Options:
    """Options as they were given. Paths become absolute ones."""
    return Options.of({"program": program, **options}, Path.cwd())


def _policies(policy: str | Sequence[str]) -> list[str]:
    names = [policy] if isinstance(policy, str) else policy
    if not isinstance(names, Sequence):
        raise UserError(f"must be names of policies, not {policy!r}", option="policy")
    return [read_option("policy", name) for name in names]


def _variations(vary: Mapping[str, Sequence[Any]]) -> list[str]:
    """``KEY=A,B,...`` of values by key, each checked."""
    found = []
    if not isinstance(vary, Mapping):
        raise UserError(f"must be lists of values by key, not {vary!r}", option="vary")
    for key, values in vary.items():
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise UserError(f"must be a list of values, not {values!r}", option="vary", value=key)
        texts = [text for value in values for text in read_option("set", {key: value})]
        found.append(f"{key}=" + ",".join(text.partition("=")[2] for text in texts))
    return found


def _shown(progress: bool | Watch) -> Callable[[str], AbstractContextManager[Progress]]:
    if progress is True:
        return bars.show
    if progress is not False and not callable(progress):
        raise UserError(f"must be True, False or a function, not {progress!r}", option="progress")

    @contextmanager
    def watch(label: str) -> Iterator[Progress]:
        if progress is False:
            yield bars.silent
        else:
            yield lambda instructions, cycles: progress(label, instructions, cycles)

    return watch


def _check(runs: Sequence[Run], wanted: bool) -> None:
    if wanted and (lines := report_lines(runs)):
        said = [text for run in runs for _, process in run.failures() for text in process.said]
        raise UserError("; ".join([*lines, *said[:1]]))


# Options that Python takes in other forms than a command line does.
_HERE = {
    "region": "Size of the region that a workload's processes share: bytes, or a text.",
    "set": "Keys of the machine with their values; or texts, KEY=VALUE each.",
}


def _with_options(function: Callable[..., Any]) -> None:
    """Have ``help`` name every option of a run, with its default, in place of ``**options``."""
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    parameters += [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=STATED[name].default,
            annotation=annotation.__forward_arg__,
        )
        for name, annotation in RunOptions.__annotations__.items()
    ]
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    options = "".join(
        f"    :param {name}: {_HERE.get(name, STATED[name].help)}"
        f"{f'  [default: {STATED[name].shown}]' if STATED[name].shown else ''}\n"
        for name in RunOptions.__annotations__
    )
    assert function.__doc__ is not None
    function.__doc__ = function.__doc__.replace("    :param check:", f"{options}    :param check:")


for _function in (run, compare):
    _with_options(_function)
