"""`python -m tests.fuzz [--minutes 15] [--first SEED] [TARGET ...]`: looks for inputs that end in a traceback.

Seeds count up from the first; a finding is printed with its seed, once for each place in the code that it comes from.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from tests.fuzz.targets import TARGETS, attempt


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--minutes", type=float, default=15, help="for all targets together")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    names = args.targets or list(TARGETS)
    places: set[tuple] = set()
    for name in names:
        seed, slowest, start = args.first, 0.0, time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            while time.monotonic() < start + 60 * args.minutes / len(names):
                began = time.monotonic()
                error = attempt(TARGETS[name], seed, Path(scratch, "input"))
                slowest = max(slowest, time.monotonic() - began)
                if error is not None:
                    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/sccs/" in f.filename]
                    place = (type(error), *[(f.filename, f.lineno) for f in frames[-1:]])
                    if place not in places:
                        places.add(place)
                        print(f"--- {name} {seed}: {type(error).__name__}: {str(error)[:300]}")
                        traceback.print_exception(error, limit=-8)
                        sys.stdout.flush()
                seed += 1
        print(f"{name}: seeds {args.first} to {seed - 1}, slowest {slowest:.1f} s", flush=True)
    print(f"{len(places)} findings")
    return 1 if places else 0


if __name__ == "__main__":
    sys.exit(main())
