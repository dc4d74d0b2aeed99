"""A database question: how many clients of one large buffer cache fit, with which tables.

1,500 clients map a file of 300 GiB on a machine of 512 GiB. What they would hold in page tables,
how many fit before memory runs out, and how much of the file all of them could touch.
"""

from __future__ import annotations

import ptshare_plugin as pt

GIB = 1 << 30
PLAN = pt.plan(procs=1500, region="300GiB", memory="512GiB")

print(f"{'policy':<12} {'page tables':>14} {'clients that fit':>17} {'of the file':>12}")
for policy, row in PLAN.rows.items():
    print(
        f"{policy:<12} {row['pt.bytes'] / GIB:>10,.1f} GiB {row['memory.clients']:>17,}"
        f" {row['coverage.ratio']:>12.1%}"
    )
