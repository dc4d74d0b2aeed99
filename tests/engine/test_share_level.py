"""What the level of the shared tables costs and saves (S13), on running programs."""

from __future__ import annotations

import pytest
from embedded import execute, totals

MIB, GIB = 1 << 20, 1 << 30
PROCS, REGION = 3, 8 * MIB


@pytest.mark.parametrize(
    ("level", "spans"), [("pte", 2 * MIB), ("pmd", GIB), ("pud", 512 * GIB)], ids=lambda v: str(v)
)
def test_tables_links_and_address_space(level: str, spans: int) -> None:
    run = execute("scan", procs=PROCS, region=REGION, sets=(f"share.level={level}",))
    values = totals(run)
    links = max(REGION // spans, 1)
    assert values["share.links"] == PROCS * links
    assert values["share.room_bytes"] == PROCS * (max(spans, REGION) - REGION)
    assert values["pt.region.pte_tables"] == REGION // (2 * MIB)
    assert values["pt.end.bytes"] == 0


def test_a_range_of_a_process_of_its_own_keeps_no_room() -> None:
    assert totals(execute("scan", policy="private", procs=2))["share.room_bytes"] == 0
