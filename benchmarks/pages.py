"""The output of every script: a page in Markdown, a CSV of all measurements, and their origin as JSON."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sccs.system.files import atomic_path, write_json, write_text
from sccs.system.machine import environment

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("--out", "--committed", "--folder", "--picture", "--runs", "--root")  # arguments of the machine, on no page
CODE = ("sccs", "registry", "recipes", "benchmarks", ":!benchmarks/results")


@cache
def commit() -> str:
    """Short hash of the checkout's commit, with "+" if the code differs from it; "unknown" if Git cannot tell."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=7", "HEAD") + "+" * bool(git("status", "--porcelain", "--", *CODE))
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def describe(machine: Mapping[str, Any]) -> str:
    """The machine of `sccs.system.machine.environment` in a few words."""
    on = machine["gpu"] or f"{machine['threads']} of {machine['cores']} CPU cores ({machine['processor']})"
    return f"{on}, torch {machine['packages']['torch']}"


@dataclass(frozen=True)
class Origin:
    """The origin of measurements: the command that made them, machines, commits, and seeds if there are several. notes:
    sentences on what was shortened."""

    command: str
    machines: Sequence[str]
    commits: Sequence[str]
    seeds: Sequence[int] = ()
    notes: str = ""

    @classmethod
    def here(cls, command: str, device: str = "cpu", seeds: Sequence[int] = ()) -> Origin:
        """The origin of measurements made now, on this machine and with this checkout."""
        return cls(command, [describe(environment(device))], [commit()], seeds)

    @classmethod
    def read(cls, table: Path) -> Origin:
        """The origin of a CSV that `publish` or `write_csv` wrote."""
        return cls(**json.loads(table.with_suffix(".json").read_text()))

    def write(self, table: Path) -> None:
        """Write the origin as JSON, beside a CSV."""
        write_json(table.with_suffix(".json"), asdict(self))

    def __str__(self) -> str:
        seeds = [f"seeds {', '.join(map(str, self.seeds))}"] if len(self.seeds) > 1 else []
        return "; ".join([f"`{self.command}`", *seeds, *self.machines, f"commit {', '.join(self.commits)}"])


def named(data: str) -> str:
    """The name of a set on pages, which says that the phantom is synthetic."""
    return "phantom (synthetic)" if data == "phantom" else data


def mean_sd(values: Sequence[float | None]) -> str:
    """ "0.481 ± 0.012" over seeds; "-" if there is no value."""
    known = [v for v in values if v is not None and np.isfinite(v)]
    if not known:
        return "-"
    return f"{np.mean(known):.3f}" + (f" ± {np.std(known, ddof=1):.3f}" if len(known) > 1 else "")


def typed(command: str, argv: Sequence[str] | None) -> str:
    """The command with its arguments, `argv` or those of this process, without folders of the machine."""
    words, kept = iter(sys.argv[1:] if argv is None else argv), [command]
    for word in words:
        name, _, value = word.partition("=")
        if name not in FOLDERS:
            kept.append(word)
        elif not value:
            next(words, None)
    return " ".join(kept)


def median_range(values: Sequence[float], digits: int = 4) -> str:
    """ "0.0120 (0.0110 to 0.0134)": median and range of repeated times."""
    return f"{np.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, without the columns in which no row has a value."""
    kept = [i for i in range(len(heads)) if not rows or any(row[i] != "-" for row in rows)]
    lines = ["| " + " | ".join(heads[i] for i in kept) + " |", "|---" * len(kept) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row[i] for i in kept) + " |" for row in rows)])


def publish(
    out: Path, name: str, title: str, origin: Origin, text: str, heads: Sequence[str], rows: Sequence[Sequence[Any]]
) -> Path:
    """Write OUT/NAME.md with title, origin and text, OUT/NAME.csv with every measurement, and the origin as JSON.
    Returns the path of the page."""
    write_text(out / f"{name}.md", f"# {title}\n\n{origin}. {text}\n")
    with atomic_path(out / f"{name}.csv") as scratch, open(scratch, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([heads, *rows])
    origin.write(out / f"{name}.csv")
    return out / f"{name}.md"
