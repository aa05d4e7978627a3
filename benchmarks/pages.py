"""What every script writes: a page in Markdown that says which machine it is of, and a CSV of all measurements."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sccs.system.files import atomic_path, write_text


def describe(machine: Mapping[str, Any]) -> str:
    """The machine of `sccs.system.machine.environment` in a few words."""
    on = machine["gpu"] or f"{machine['threads']} of {machine['cores']} CPU cores ({machine['processor']})"
    return f"{on}, torch {machine['packages']['torch']}"


def named(data: str) -> str:
    """A set as pages name it: the phantom is said to be synthetic."""
    return "phantom (synthetic)" if data == "phantom" else data


def mean_sd(values: Sequence[float | None]) -> str:
    """ "0.481 ± 0.012" over seeds; "-" without any value."""
    known = [v for v in values if v is not None and np.isfinite(v)]
    if not known:
        return "-"
    return f"{np.mean(known):.3f}" + (f" ± {np.std(known, ddof=1):.3f}" if len(known) > 1 else "")


def median_range(values: Sequence[float], digits: int = 4) -> str:
    """ "0.0120 (0.0110 to 0.0134)": median and range of repeated times."""
    return f"{np.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def publish(out: Path, name: str, title: str, text: str, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    """Write OUT/NAME.md with title and text, and OUT/NAME.csv with every measurement; return the path of the former."""
    write_text(out / f"{name}.md", f"# {title}\n\n{text}\n")
    with atomic_path(out / f"{name}.csv") as scratch, open(scratch, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([heads, *rows])
    return out / f"{name}.md"
