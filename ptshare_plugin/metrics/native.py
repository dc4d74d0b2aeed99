"""The raw metrics that C++ counts, for C++: ``native/accounting/metric_rows.inc``.

``python -m ptshare_plugin.metrics.native > ptshare_plugin/native/accounting/metric_rows.inc``
writes them.
"""

from __future__ import annotations

import json
import sys

from ptshare_plugin.metrics import vocabulary


def rows() -> str:
    """Text of the file: a ``MetricRow`` of ``native/accounting/vocabulary.h`` a line."""
    head = "// Written by `python -m ptshare_plugin.metrics.native`; do not edit.\n"
    # Quoted as in JSON, text without control characters is quoted as in C++.
    return head + "".join(
        "{" + ", ".join(map(json.dumps, (metric.name, metric.unit, metric.meaning))) + "},\n"
        for metric in (*vocabulary.PROCESS, *vocabulary.MACHINE)
    )


if __name__ == "__main__":
    sys.stdout.write(rows())
