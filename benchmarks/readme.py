"""Numbers in README.md and docs, from benchmarks/results: write the text between the marks, or check it.

    python -m benchmarks.readme           fill the marked places
    python -m benchmarks.readme --check   change nothing; print what differs, and exit with code 2

A marked place is `<!-- numbers: NAME -->`, lines, `<!-- /numbers -->`; `benchmarks/quotes` has a function for each
NAME.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.pages import ROOT
from benchmarks.quotes import accuracy, speed, volumes
from registry.base import UserError
from sccs.system.exits import guard
from sccs.system.files import write_text

COMMAND = "python -m benchmarks.readme"
QUOTES: dict[str, Callable[[Path], str]] = {**accuracy.QUOTES, **speed.QUOTES, **volumes.QUOTES}
PLACE = re.compile(r"(<!-- numbers: (\S+) -->\n)(.*?)(^<!-- /numbers -->$)", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- /?numbers\b")


def pages(root: Path) -> list[Path]:
    """README.md and every page below docs."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def filled(page: Path, results: Path) -> str:
    """The page with its marked places updated. Raises UserError for an unknown name, and for a mark without its
    counterpart."""
    text = page.read_text()

    def place(found: re.Match[str]) -> str:
        begin, name, _, end = found.groups()
        if name not in QUOTES:
            raise UserError(
                f"{page}:{_line(text, found.start())}: numbers: {name} is unknown; use one of {', '.join(QUOTES)}"
            )
        return f"{begin}\n{QUOTES[name](results)}\n\n{end}"

    new = PLACE.sub(place, text)
    if len(MARK.findall(text)) != 2 * len(PLACE.findall(text)):
        alone = next(
            m for m in MARK.finditer(text) if not any(p.start() <= m.start() < p.end() for p in PLACE.finditer(text))
        )
        raise UserError(f"{page}:{_line(text, alone.start())}: numbers: the opening or the closing mark is missing")
    return new


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def differences(root: Path, results: Path) -> Iterator[str]:
    """A line for each marked place that differs from the CSVs: page, line, the text there and the text expected."""
    for page in pages(root):
        text, new = page.read_text(), filled(page, results)
        for is_, should in zip(PLACE.finditer(text), PLACE.finditer(new)):
            if is_[3] != should[3]:
                old, wanted = is_[3].split("\n"), should[3].split("\n")
                i = next(i for i in range(len(old)) if i >= len(wanted) or old[i] != wanted[i])
                line = _line(text, is_.start(3)) + i
                where = f"{page.relative_to(root)}:{line}: numbers: {is_[2]}"
                yield f"{where}: has {old[i]!r}, the results give {(wanted[i] if i < len(wanted) else '')!r}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="change nothing, print what differs")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of README.md and docs")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args(argv)
    if args.check:
        if found := list(differences(args.root, args.results)):
            print(*found, sep="\n")
            raise UserError(f"{len(found)} places differ from {args.results}; run `{COMMAND}` to update them")
        return 0
    for page in pages(args.root):
        if (new := filled(page, args.results)) != page.read_text():
            write_text(page, new)
            print(page)
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
