"""ptshare: what sharing page tables between processes saves and costs, by simulation.

    import ptshare_plugin as pt

    private, shared = pt.compare("scan", procs=4, region="64MiB", policy=["private", "ptshare"])
    shared.metrics["walk.cycles"], shared.frame
    pt.run("./a.out", procs=8, set={"mmu.stlb.entries": 1024}).write("out")
    pt.sweep("sweep.toml", "out").frame
    pt.plan(procs=1500, region="300GiB").frame
    pt.load("out")

``run``, ``compare``, ``plan`` and ``sweep`` take the options of the ``ptshare`` commands of these
names, print nothing, and raise ``UserError`` alone. ``analysis`` computes savings and confidence
intervals from frames. Importing the package imports nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptshare_plugin.api import Planned as Planned
    from ptshare_plugin.api import Result as Result
    from ptshare_plugin.api import Swept as Swept
    from ptshare_plugin.api import compare as compare
    from ptshare_plugin.api import load as load
    from ptshare_plugin.api import plan as plan
    from ptshare_plugin.api import run as run
    from ptshare_plugin.api import sweep as sweep
    from ptshare_plugin.common.errors import UserError as UserError
    from ptshare_plugin.records import analysis as analysis

__all__ = [
    "Planned",
    "Result",
    "Swept",
    "UserError",
    "__version__",
    "analysis",
    "compare",
    "load",
    "plan",
    "run",
    "sweep",
]

__version__ = "0.1.0"

_ELSEWHERE = {
    "UserError": ("ptshare_plugin.common.errors", "UserError"),
    "analysis": ("ptshare_plugin.records.analysis", None),
}


def __getattr__(name: str) -> Any:
    # Only when it is asked for: inside gem5, and for 'ptshare --help', there is no pandas.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _ELSEWHERE.get(name, ("ptshare_plugin.api", name))
    found = importlib.import_module(module)
    value = found if attribute is None else getattr(found, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
