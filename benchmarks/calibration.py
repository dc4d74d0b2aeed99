"""Measure this machine with ``ptshare calibrate`` and put its tables into docs/calibration.md."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "calibration.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"


def main() -> None:
    """Replace what stands between the two marks by what the command prints now."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    command = [Path(sys.executable).with_name("ptshare"), "calibrate"]
    printed = subprocess.run(
        command, check=True, text=True, stdout=subprocess.PIPE, env={**os.environ, "COLUMNS": "110"}
    ).stdout
    block = "".join(f"    {line}".rstrip() + "\n" for line in printed.splitlines())
    DOCUMENT.write_text(f"{before}{BEGIN}\n{block}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
