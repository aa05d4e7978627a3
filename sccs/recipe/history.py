"""A run's history of user steps (names, splits, merges, labels), each of which can be undone.

RUN/history/0004/ is a step: step.json, with classes.yaml before and after, and the parts that the step made (edits,
teacher). It is written completely, under a temporary name, before classes.yaml is: a killed command leaves the old
state and an unused folder. Undone steps are kept until the next step. Images and report are updated after a step; the
file `BEHIND` exists until they are, so that the next command completes what a killed one left undone.

Every writer holds the run's lock (`sccs.system.lock.held`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from registry.base import UserError
from sccs.recipe.named import FILE, State, read_state
from sccs.recipe.stored import Stored, read_json
from sccs.system.archive import read_text
from sccs.system.files import atomic_path, disk_fault, remove, write_json, write_text
from sccs.system.log import say, say_error
from sccs.system.text import printable

FOLDER = "history"
UNDONE = "undone"  # a file in the folder of an undone step
BEHIND = "behind"  # a file that exists while images and report do not show the last step
MEND = "copy the run again, or move its folder `history` away, which forgets all steps"
BY_HAND = "edited by hand"
LAST = 10**8
Number = Annotated[int, Field(ge=1, lt=LAST)]


class Step(Stored):
    """step.json. parent: the previous step, None for the first. before, after: classes.yaml, None if absent."""

    number: Number
    parent: Number | None
    command: str
    when: str
    before: str | None
    after: str | None


def tell(run: Path) -> None:
    """`sccs history RUN`: print the steps, oldest first. Raises UserError for a step that is missing or damaged."""
    lines = [f"{step.number:3d}  {step.when or 'not recorded yet':19s}  {step.command}" for step in steps(run)]
    if is_behind(run):
        say_error(f"{run}: segmentation and report do not show the last step yet; the next step updates them")
    say(
        "\n".join(map(printable, lines))
        if lines
        else f"{run}: no steps yet; `sccs name`, `split`, `merge` and `teach` record steps"
    )


def steps(run: Path) -> list[Step]:
    """The steps that led to the current state, oldest first; the last may be a manual edit of classes.yaml.

    Raises UserError for a step that is missing or damaged.
    """
    found, number = [], _current(run)
    while number is not None:
        found.append(_read(run, number))
        if found[-1].parent is not None and found[-1].parent >= number:
            raise UserError(f"{_path(run, number)}: step {number} follows {found[-1].parent}; {MEND}")
        number = found[-1].parent
    found.reverse()
    text = read_text(run, FILE)
    if found and text != found[-1].after:
        last = found[-1]
        found.append(
            Step(number=last.number + 1, parent=last.number, command=BY_HAND, when="", before=last.after, after=text)
        )
    return found


def take(run: Path, command: str, state: State, fill: Callable[[Path], None] | None = None) -> State:
    """Record a step that puts the run into `state`. Returns the state, with the step's number.

    command: its name in the history. fill: writes the step's parts into its folder, before the step takes effect;
    `state` refers to them by `part(run, name)`.
    """
    known = steps(run)
    if known and known[-1].command == BY_HAND:
        _write(run, known[-1].model_copy(update={"when": _now()}), None)
    number, parent = _next(run), known[-1].number if known else None
    after = replace(state, history=number)
    _discard(run, parent or 0)
    step = Step(
        number=number, parent=parent, command=command, when=_now(), before=read_text(run, FILE), after=after.text()
    )
    _write(run, step, fill)
    write_text(run / FILE, after.text())
    return after


def part(run: Path, name: str) -> str:
    """The state's reference to a part, `teacher` or `edits`, that the next step makes."""
    return f"{FOLDER}/{_next(run):04d}/{name}"


def last_step(run: Path) -> Step:
    """The step that `take_back` would undo. Raises UserError if there is none."""
    if known := steps(run):
        return known[-1]
    raise UserError(f"{run}: no step to undo; `sccs name`, `split`, `merge` and `teach` record steps")


def take_back(run: Path) -> Step:
    """Undo the last step and return it. Raises UserError if there is none."""
    last = last_step(run)
    if last.command == BY_HAND:
        _discard(run, last.number - 1)
        _write(run, last.model_copy(update={"when": _now()}), None)
    write_text(_path(run, last.number) / UNDONE, "")
    if last.before is None:
        remove(run / FILE)
    else:
        write_text(run / FILE, last.before)
    return last


@contextmanager
def falling_behind(run: Path) -> Iterator[None]:
    """Mark that the run's images and report do not show the step yet that takes effect in the block, if it does."""
    already, text = is_behind(run), read_text(run, FILE)
    write_text(run / FOLDER / BEHIND, "")
    try:
        yield
    except BaseException:
        if not already and read_text(run, FILE) == text:
            catch_up(run)
        raise


@contextmanager
def taken(run: str | Path) -> Iterator[None]:
    """Add to the error of what follows a step, such as drawing, that the step is recorded all the same."""
    try:
        yield
    except (UserError, OSError) as error:
        if (said := str(error) if isinstance(error, UserError) else disk_fault(error)) is None:
            raise
        place = "" if isinstance(error, UserError) else f"{getattr(error, 'filename', None) or run}: "
        raise UserError(
            f"{place}{said} (the step took effect, see `sccs history {run}`; the next step updates segmentation and "
            "report)"
        ) from error


def catch_up(run: Path) -> None:
    """Mark that images and report show the last step."""
    (run / FOLDER / BEHIND).unlink(missing_ok=True)


def is_behind(run: Path) -> bool:
    """Whether a step was interrupted before images and report showed it."""
    return (run / FOLDER / BEHIND).exists()


def _current(run: Path) -> int | None:
    """The step that made the current state; after a manual edit of classes.yaml, the step before it."""
    stated, numbers, text = None, _numbers(run), read_text(run, FILE)
    for number in reversed(numbers):
        step = _read(run, number)
        if text == step.after:
            return number
        if text == step.before:
            return step.parent
    if text is not None:
        stated = read_state(run).history
    if stated in numbers:
        return stated
    return max((number for number in numbers if not (_path(run, number) / UNDONE).exists()), default=None)


def _next(run: Path) -> int:
    """The number of the next step, which no earlier step had, as classes.yaml refers to its step by number."""
    known = steps(run)
    number = max([0, *_numbers(run), *(step.number for step in known)]) + 1
    if number >= LAST:
        raise UserError(f"{run / FOLDER}: there is no number after {number - 1}; {MEND}")
    return number


def _discard(run: Path, after: int) -> None:
    """Remove the steps after a number: undone, or of a killed command."""
    for spare in _numbers(run):
        if spare > after:
            remove(_path(run, spare))


def _numbers(run: Path) -> list[int]:
    folder = run / FOLDER
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if re.fullmatch("[0-9]{4,8}", name))


def _path(run: Path, number: int) -> Path:
    return run / FOLDER / f"{number:04d}"


def _read(run: Path, number: int) -> Step:
    return read_json(_path(run, number) / "step.json", Step, MEND)


def _write(run: Path, step: Step, fill: Callable[[Path], None] | None) -> None:
    with atomic_path(_path(run, step.number)) as scratch:
        scratch.mkdir()
        if fill is not None:
            fill(scratch)
        write_json(scratch / "step.json", step.model_dump())


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
