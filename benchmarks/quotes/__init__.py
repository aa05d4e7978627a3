"""What the pages quote from benchmarks/results, a function for each marked place: `python -m benchmarks.readme`."""

from __future__ import annotations

import csv
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def lines(path: Path) -> list[dict[str, str]]:
    """Of a CSV."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def paragraph(text: str) -> str:
    """The text, wrapped like the pages."""
    return "\n".join(textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False))


def sourced(table: str, source: str) -> str:
    """A table, with its source below."""
    return f"{table}\n\n{paragraph(source)}"


def short(value: float, digits: int = 3) -> str:
    """ ".473", as prose writes scores."""
    return f"{value:.{digits}f}".replace("0.", ".", 1)


def short_sd(values: Sequence[float]) -> str:
    """ ".473 ± .015" over seeds; "-" without any."""
    if not len(values):
        return "-"
    return short(float(np.mean(values))) + (f" ± {short(float(np.std(values, ddof=1)))}" if len(values) > 1 else "")
