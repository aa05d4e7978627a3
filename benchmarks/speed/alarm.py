"""Is this checkout slower than another commit? Runs both in turns; exits with code 1 if a stage takes 10 % longer.

    python -m benchmarks.speed.alarm COMMIT [--limit 1.1] [--rounds 5] [--systems sccs_plus sccs_fast] [--quick]
                                     [--out benchmarks/results/quick]

COMMIT is checked out into a temporary folder and run by this command's interpreter. Each turn is a fresh process with
one thread, and every other round begins with this checkout. CPU time is compared, not wall-clock time, so that a busy
machine raises no alarm; the ratio of a stage is the median over rounds. Stages: features, graph, and embedding
with clustering, of a field of view of 560 px. --quick: `sccs_plus` alone, three rounds. Writes OUT/alarm.md and .csv.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.pages import ROOT, Origin, commit, markdown, median_range, publish, typed
from registry.base import UserError
from sccs.arguments import positive
from sccs.system.exits import guard

COMMAND = "python -m benchmarks.speed.alarm"
CHILD = Path(__file__).with_name("alarm_child.py")
LIMIT = 1.1
BOTH = ("base", "here")
SHORT = 0.02  # s: below this, a stage's time is mostly noise

Rounds = Sequence[Mapping[str, Mapping[str, float]]]  # CPU seconds of each round, by "base" or "here", and by stage


def turn(folder: Path, systems: Sequence[str], scratch: Path) -> dict[str, float]:
    """CPU seconds by "system stage" of one process in a checkout. Raises UserError if it fails."""
    variables = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    variables |= {"NUMBA_CACHE_DIR": str(scratch / "numba"), "PYTHONPYCACHEPREFIX": str(scratch / "bytecode")}
    command = [sys.executable, str(CHILD), *systems]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{folder}: {CHILD.name} ended with code {done.returncode}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def ratios(rounds: Rounds) -> dict[str, float]:
    """CPU time of this checkout over the other's, by stage: medians over rounds."""
    return {
        stage: float(np.median([each["here"][stage] / each["base"][stage] for each in rounds]))
        for stage in rounds[0]["here"]
    }


def slower(rounds: Rounds, limit: float = LIMIT) -> list[str]:
    """Stages whose ratio is above `limit`, except those that take less than `SHORT` in both checkouts."""
    return [
        stage
        for stage, ratio in ratios(rounds).items()
        if ratio > limit and max(float(np.median([each[name][stage] for each in rounds])) for name in BOTH) > SHORT
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises UserError for a commit that is unknown or cannot be run."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("commit", help="any name that Git resolves to a commit, such as HEAD~5")
    parser.add_argument("--limit", type=float, default=LIMIT, help="ratio above which a stage is too slow")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--systems", nargs="+", default=["sccs_plus", "sccs_fast"])
    parser.add_argument("--quick", action="store_true", help="sccs_plus alone, three rounds")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quick"))
    args = parser.parse_args(argv)
    systems, count = (["sccs_plus"], 3) if args.quick else (args.systems, args.rounds)
    rounds: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        git = ["git", "-C", str(ROOT), "worktree"]
        added = [*git, "add", "--quiet", "--detach", str(scratch / "base"), args.commit]
        done = subprocess.run(added, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"{args.commit}: {(done.stderr.strip().splitlines() or ['Git cannot check it out'])[-1]}")
        try:
            both = {"base": scratch / "base", "here": ROOT}
            for name, place in both.items():  # compiles
                turn(place, systems, scratch / f"of_{name}")
            for number in range(count):
                order = BOTH[:: -1 if number % 2 else 1]
                rounds.append({name: turn(both[name], systems, scratch / f"of_{name}") for name in order})
                print(number, json.dumps(rounds[-1]), flush=True)
        finally:
            subprocess.run([*git, "remove", "--force", str(scratch / "base")], check=False)
    found, late = ratios(rounds), slower(rounds, args.limit)
    lines = [
        [stage, *(median_range([each[name][stage] for each in rounds]) for name in BOTH), f"{ratio:.3f}"]
        for stage, ratio in found.items()
    ]
    text = f"CPU seconds, one thread; medians (ranges) of {count} rounds in turns; limit {args.limit:g}.\n\n"
    text += markdown(["stage", f"at {args.commit}", f"at {commit()}", "ratio"], lines)
    rows = [
        [stage, name, number, f"{seconds:.6f}"]
        for number, each in enumerate(rounds)
        for name in BOTH
        for stage, seconds in each[name].items()
    ]
    origin = Origin.here(typed(COMMAND, argv))
    heads = ["stage", "checkout", "round", "CPU seconds"]
    print(publish(args.out, "alarm", "This checkout against another commit", origin, text, heads, rows))
    for stage in late:
        print(f"{stage}: {found[stage]:.2f} times the CPU time at {args.commit}; the limit is {args.limit:g}")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(guard(main)())
