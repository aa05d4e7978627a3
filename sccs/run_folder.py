"""The folder of a new or resumed run, and the files written there before anything is computed."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from registry.base import UserError
from sccs.recipe import Recipe
from sccs.recipe.stored import read_resolved, to_yaml
from sccs.system.files import check_place, unwritable, write_json, write_text
from sccs.system.machine import environment

LATEST = "latest"  # name of the newest run on the command line
# What a run writes: folders and files that a new one clears, and files that it writes over or adds to.
FOLDERS = ("checkpoints", "model", "tensorboard", "figures", "segmentation", "history")
OUTCOMES = (
    "metrics.json",
    "tables.json",
    "tables_taught.json",
    "graphs.json",
    "timing.json",
    "report.html",
    "suggestions.html",
    "classes.yaml",
)
KEPT = ("resolved.yaml", "recipe.yaml", "environment.json", "log.txt", "metrics.jsonl")


def new_folder(recipe: Recipe) -> Path:
    """runs/<recipe>/<time>-s<seed>, with a suffix -2, -3 ... if another run of the same second has that name."""
    plain = Path("runs") / recipe.name / f"{datetime.now():%Y%m%d-%H%M%S}-s{recipe.seed}"
    names = itertools.chain([plain.name], (f"{plain.name}-{number}" for number in itertools.count(2)))
    while True:
        folder = plain.with_name(next(names))
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not os.path.lexists(folder):  # then a parent is not a folder
                raise UserError(
                    f"cannot create {folder.parent}: a file is in the way; choose a folder with --out"
                ) from None
        except NotADirectoryError:
            raise UserError(
                f"cannot create {folder.parent}: a file is in the way; choose a folder with --out"
            ) from None
        except OSError as error:
            raise unwritable(folder, error) from error
        else:
            return folder


def newest(base: Path = Path("runs")) -> Path:
    """The newest run in `base`, by the time in its name. Raises UserError if there is none."""
    found = [path.parent for pattern in ("*", "*/*") for path in base.glob(f"{pattern}/resolved.yaml")]
    if not found:
        raise UserError(f"{LATEST}: there is no run in {base.absolute()} yet; give the run's folder instead")
    return max(found, key=lambda run: (re.findall(r"\d{8}-\d{6}", run.name)[-1:], run.name))


def check_folder(out: Path, resume: bool, overwrite: bool) -> None:
    """Raises UserError if `out` is a file, another run, or a folder with other content. `--resume` may find nothing, if
    the first attempt ended before it had a folder."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; --out takes a folder")
    if out.is_dir() and any(out.iterdir()) and not (resume or overwrite):
        raise UserError(
            f"{out} already exists; pass --resume to continue it, --overwrite to replace it, or another --out"
        )
    if out.is_dir() and any(out.iterdir()) and not (out / "resolved.yaml").is_file():
        raise UserError(f"{out} is not empty and not a run folder (no resolved.yaml); give another --out")


def check_same_recipe(recipe: Recipe, out: Path, resume: bool) -> None:
    """Raises UserError if a resumed run has other settings than before: one folder would then mix two runs."""
    if not resume:
        return
    try:
        before = _flat(read_resolved(out)[0])
    except UserError as error:
        raise UserError(f"--resume: {out / 'resolved.yaml'} is damaged ({error}); give another --out") from None
    now = _flat(recipe.resolved())
    changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key) and key != "device"]
    if changed:
        key = changed[0]
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise UserError(
            f"--resume: {key} is {now.get(key)!r}, but the run in {out} was started with {before.get(key)!r}"
            f"{more}; resume with its own settings or give another --out"
        )


def _flat(value: Any, path: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        below = (_flat(item, f"{path}.{key}" if path else str(key)) for key, item in value.items())
        return {key: leaf for part in below for key, leaf in part.items()}
    return {path: value}


def _check_places(out: Path) -> None:
    """Raises UserError if something else has the name of one of a run's files or folders."""
    for name in FOLDERS:
        if os.path.lexists(out / name) and not (out / name).is_dir():
            raise UserError(
                f"{out / name}: is a file or a broken link, but a run has a folder of this name: move it away"
            )
    for name in (*OUTCOMES, *KEPT):
        check_place(out / name, folder=False)


def check_finished(run: Path, taught: bool = False) -> None:
    """Raises UserError, naming the file, unless the run is finished, and its scores and report can be made again.

    A step is recorded only after this check, so that one that fails has changed nothing. taught: the teacher must be
    readable, too; a step that replaces it mends a damaged one.
    """
    from sccs.evaluation.files import read_metrics
    from sccs.evaluation.naming import TABLES, check_scored
    from sccs.report.page import read_everything

    read_metrics(run)
    read_everything(run, taught)
    if (run / TABLES).exists():
        check_scored(run)
    _check_places(run)


def prepare_folder(recipe: Recipe, out: Path, device: str, resume: bool) -> None:
    """Write recipe.yaml (verbatim), resolved.yaml and environment.json. Unless resuming, remove an old run's files.

    If writing fails, nothing new is left behind. Raises UserError, and changes nothing, if something else has
    the name of one of the run's files or folders.
    """
    new = not (out / "resolved.yaml").exists()
    _check_places(out)
    if not resume:
        for name in FOLDERS:
            shutil.rmtree(out / name, ignore_errors=True)
        for name in OUTCOMES:
            (out / name).unlink(missing_ok=True)
    (out / "report.html.lock").unlink(missing_ok=True)  # left by a killed `sccs name`
    resolved = to_yaml(recipe.resolved())
    written = recipe.source.read_text(encoding="utf-8") if recipe.source else resolved
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "resolved.yaml", resolved)  # first: even if we are killed, this is a run folder now
        write_text(out / "recipe.yaml", written)
        write_json(out / "environment.json", environment(device))
    except (OSError, UserError):
        if new:
            for name in ("resolved.yaml", "recipe.yaml", "environment.json"):
                (out / name).unlink(missing_ok=True)
            with suppress(OSError):
                out.rmdir()
        raise
