"""This checkout against another, in turns: seconds of a field of view, of a training, and of commands.

    python -m benchmarks.speed.engine --base FOLDER [--base-python FILE] [--rounds 5] [--iterations 6000] [--fovs 7]
                                      [--graphs 4] [--side 560] [--out benchmarks/results/quick]

FOLDER is a checkout of another commit, run by its own interpreter (FOLDER/.venv/bin/python by default); this one is run
by this command's interpreter. Each turn is a fresh process; the two take turns, and every other round begins
with this one. A warm-up round fills the caches, one folder for each checkout. Recipe `sccs` on the synthetic
phantom: a field of view after a training (median of several, from features to clusters), `train.iterations` on cached
graphs in a process that has imported everything, and the first training of a process with its imports. Commands: the
whole process. Ratios are medians over rounds of this checkout's seconds over the other's. Writes
OUT/engine.md and .csv.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.pages import ROOT, Origin, commit, markdown, median_range, publish
from registry.base import UserError
from sccs.arguments import positive
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.engine"
CHILD = Path(__file__).with_name("engine_child.py")
COMMANDS = {"sccs --help": ["--help"], "sccs list": ["list"], "sccs show sccs": ["show", "sccs"]}
LIMITS = {"a field of view": 1.05, "training": 1.2, "training, with imports": 1.2}


@dataclass
class Checkout:
    """A folder with `sccs` in it, the interpreter that runs it, and its own cache."""

    name: str
    folder: Path
    python: Path
    cache: Path

    def run(self, *arguments: str) -> tuple[float, str]:
        """Seconds and output of a process. Raises UserError if it fails."""
        variables = {**os.environ, "PYTHONPATH": str(self.folder), "SCCS_CACHE": str(self.cache)}
        variables.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode, so both must have it
        variables["PYTHONPYCACHEPREFIX"] = str(self.cache / "bytecode")
        start = time.perf_counter()
        done = subprocess.run(
            [self.python, *arguments], cwd=self.folder, env=variables, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"{self.folder}: {Path(arguments[0]).name} ended with code {done.returncode}: {last}")
        return seconds, done.stdout

    def turn(self, wanted: dict[str, int]) -> dict[str, float]:
        """Seconds by action."""
        seconds = json.loads(self.run(str(CHILD), json.dumps(wanted))[1].splitlines()[-1])
        return {**seconds, **{name: self.run("-m", "sccs", *options)[0] for name, options in COMMANDS.items()}}


def _commit(folder: Path) -> str:
    git = ["git", "-C", str(folder), "rev-parse", "--short=7", "HEAD"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


Rounds = Sequence[Mapping[str, Mapping[str, float]]]  # seconds of each round, by "base" or "here", and by action


def table(rounds: Rounds, base: str, here: str) -> str:
    """Medians, ranges and ratios of two commits, with their limits."""
    lines = []
    for what in rounds[0]["here"]:
        own, other = ([turns[name][what] for turns in rounds] for name in ("here", "base"))
        ratios = np.divide(own, other).tolist()
        limit, middle = LIMITS.get(what), float(np.median(ratios))
        kept = "-" if limit is None else "yes" if middle <= limit else "no"
        lines.append(
            [
                what,
                median_range(other, 3),
                median_range(own, 3),
                median_range(ratios, 3),
                "-" if limit is None else f"{limit:g}",
                kept,
            ]
        )
    heads = ["what", f"at {base}, s", f"at {here}, s", "ratio", "limit", "within it"]
    return markdown(heads, lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises UserError if the other checkout cannot be run."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--base", type=Path, required=True, metavar="FOLDER", help="checkout of another commit")
    parser.add_argument("--base-python", type=Path, metavar="FILE", help="its interpreter")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--iterations", type=positive, default=6000)
    parser.add_argument("--fovs", type=positive, default=7, help="how often the field of view is segmented")
    parser.add_argument("--graphs", type=positive, default=4)
    parser.add_argument("--side", type=positive, default=560, help="px of a slice")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quick"))
    args = parser.parse_args(argv)
    folder = args.base.resolve()
    # not resolved: the interpreter of a virtual environment is a link
    python = (args.base_python or folder / ".venv" / "bin" / "python").absolute()
    for needed in (folder / "sccs" / "pipeline.py", python):
        if not needed.exists():
            raise UserError(f"--base: {needed} does not exist; give a checkout, and its interpreter by --base-python")
    wanted = {key: getattr(args, key) for key in ("iterations", "fovs", "graphs", "side")}
    rounds: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as scratch:
        both = [
            Checkout("base", folder, python, Path(scratch) / "base"),
            Checkout("here", ROOT, Path(sys.executable), Path(scratch) / "here"),
        ]
        for checkout in both:
            checkout.turn({**wanted, "iterations": 20, "fovs": 1})
        for turn in range(args.rounds):
            rounds.append({checkout.name: checkout.turn(wanted) for checkout in both[:: -1 if turn % 2 else 1]})
            print(turn, json.dumps(rounds[-1]), flush=True)
    base = _commit(folder)
    options = "".join(f" --{key} {value}" for key, value in {"rounds": args.rounds, **wanted}.items())
    rows = [
        [what, name, base if name == "base" else commit(), turn, f"{seconds:.6f}"]
        for turn, turns in enumerate(rounds)
        for name, found in turns.items()
        for what, seconds in found.items()
    ]
    origin = Origin.here(f"{COMMAND} --base CHECKOUT_OF_{base}{options}")
    heads = ["what", "checkout", "commit", "round", "seconds"]
    text = f"Medians (ranges) of {len(rounds)} rounds in which the two take turns, each in its own process."
    text += f"\n\n{table(rounds, base, commit())}"
    print(publish(args.out, "engine", "This checkout against another", origin, text, heads, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
