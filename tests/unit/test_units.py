import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptshare_plugin.common import units
from ptshare_plugin.common.errors import UserError


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4096", 4096),
        ("512B", 512),
        ("4K", 4096),
        ("4KB", 4000),
        ("4KiB", 4096),
        ("2M", 2 << 20),
        ("64MiB", 64 << 20),
        ("64 mib", 64 << 20),
        ("1.5GiB", 3 << 29),
        ("1T", 1 << 40),
        ("0", 0),
        ("0.5K", 512),
    ],
)
def test_sizes_are_powers_of_1024(text: str, count: int) -> None:
    assert units.parse_size(text) == count


@pytest.mark.parametrize("text", ["", "MiB", "-4K", "4X", "4KiBs", "1e6", "0x10", "4 4", "1.2.3M"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match="is not a size: write it like 64MiB"):
        units.parse_size(text)


def test_a_fraction_of_a_byte_is_refused() -> None:
    with pytest.raises(UserError, match="not a whole number of bytes"):
        units.parse_size("0.3K")


@given(st.integers(0, 1 << 60))
def test_exact_size_reads_back(count: int) -> None:
    assert units.parse_size(units.exact_size(count)) == count


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (135168, "132.0 KiB"),
        (64 << 20, "64.0 MiB"),
    ],
)
def test_short_size(count: int, text: str) -> None:
    assert units.short_size(count) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "count", "-"),
        (float("nan"), "count", "-"),
        (1234567, "count", "1,234,567"),
        (3.0, "count", "3"),
        (0.25, "ratio", "25.00 %"),
        (2048, "bytes", "2.0 KiB"),
        (1.5, "cycles", "1.500"),
    ],
)
def test_short_value(value: float | None, unit: str, text: str) -> None:
    assert units.short_value(value, unit) == text


@pytest.mark.parametrize(
    ("base", "value", "text"),
    [
        (4, 1, "-75.0 %"),
        (1, 4, "+300.0 %"),
        (5, 5, "="),
        (0, 0, "="),
        (0, 3, "new"),
        (None, 3, "-"),
        (3, None, "-"),
        (1, 100, "+9,900 %"),
        (100000, 100001, "< 0.1 %"),
    ],
)
def test_change(base: float | None, value: float | None, text: str) -> None:
    assert units.change(base, value) == text
