"""Sizes as people write them, and figures as people read them. Standard library only."""

from __future__ import annotations

import re

from ptshare_plugin.common.errors import UserError

PAGE_BYTES = 4096
PMD_BYTES = 2 * 1024 * 1024

_PREFIXES = "KMGTP"
_SIZE = re.compile(rf"\s*(\d+)(?:\.(\d+))?\s*(?:([{_PREFIXES}])(i?B)?|B)?\s*", re.IGNORECASE)


_LONGEST = 40  # characters of a size


def parse_size(text: str) -> int:
    """Bytes in ``text``: ``64MiB``, ``4K``, ``2M``, ``1.5GiB``, ``300GB``, ``4096``, ``512B``.

    K, M, G, T and P alone, and with ``iB``, are powers of 1024; with ``B`` they are powers of
    1000, as the SI has them.
    Raises UserError when it is no size or no whole number of bytes.
    """
    match = _SIZE.fullmatch(text)
    if match is None or len(text) > _LONGEST:
        text = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
        raise UserError(f"'{text}' is not a size: write it like 64MiB, 4KiB, 2M or 4096")
    whole, fraction, prefix, unit = match.groups()
    base = 1000 if unit and unit.upper() == "B" else 1024
    scale = base ** (_PREFIXES.index(prefix.upper()) + 1) if prefix else 1
    if fraction is None:
        return int(whole) * scale
    numerator = int(whole + fraction) * scale
    denominator = int(10 ** len(fraction))
    if numerator % denominator:
        raise UserError(f"'{text}' is not a whole number of bytes")
    return numerator // denominator


def read_size(value: object) -> int:
    """The same of a text, or of a number of bytes."""
    if isinstance(value, str):
        return parse_size(value)
    if type(value) is not int:
        raise UserError(f"must be a size, like 4MiB, not {value!r}")
    return value


def exact_size(count: int) -> str:
    """``count`` bytes in the largest unit that needs no fraction: ``64MiB``, ``4097B``."""
    for power in range(len(_PREFIXES), 0, -1):
        scale = 1024**power
        if count >= scale and count % scale == 0:
            return f"{count // scale}{_PREFIXES[power - 1]}iB"
    return f"{count}B"


def short_size(count: float) -> str:
    """``count`` bytes rounded for a table: ``132.0 KiB``."""
    if abs(count) < 1024:
        return f"{count:.0f} B"
    value, power = float(count), 0
    while abs(value) >= 1024 and power < len(_PREFIXES):
        value /= 1024
        power += 1
    return f"{value:.1f} {_PREFIXES[power - 1]}iB"


def short_value(value: float | None, unit: str) -> str:
    """One figure of ``unit`` for a table; a dash where there is none."""
    if value is None or value != value:  # NaN: the metric does not exist in this run
        return "-"
    if unit == "bytes":
        return short_size(value)
    if unit == "ratio":
        return f"{100 * value:.2f} %"
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.3f}" if abs(value) < 1000 else f"{value:,.1f}"


def change(base: float | None, value: float | None) -> str:
    """Change from ``base`` to ``value`` in per cent; ``=`` when equal, ``new`` from nothing."""
    if base is None or value is None or base != base or value != value:
        return "-"
    if base == value:
        return "="
    if base == 0:
        return "new"
    percent = 100 * (value - base) / base
    if abs(percent) < 0.05:
        return "< 0.1 %"
    if abs(percent) >= 1000:
        return f"{percent:+,.0f} %"
    return f"{percent:+.1f} %"
