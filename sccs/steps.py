"""The steps that edit a finished run: teach, split, merge, undo.

Each step holds the run's lock and is recorded in its history (`sccs.recipe.history`). It takes effect once
classes.yaml is written, atomically; segmentation and report are then updated.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from registry.base import UserError
from sccs.data import load_dataset
from sccs.data.given import as_volume
from sccs.data.volumes import Dataset, Volume
from sccs.evaluation.class_files import write_class_files
from sccs.evaluation.files import read_metrics
from sccs.evaluation.naming import parse_assignments, rescore
from sccs.inference import teach as lessons
from sccs.inference.sparse import ClassNames, Points, is_table, named_codes, read_image, read_table, shape_of
from sccs.inference.suggest import Suggestion, suggestions
from sccs.model import folder
from sccs.model.edits import Edits
from sccs.model.fovs import pooled, training_fovs
from sccs.model.model import Model
from sccs.model.teacher import Teacher
from sccs.pipeline import Pipeline
from sccs.products import remake_products, write_taught
from sccs.recipe import history, load_recipe
from sccs.recipe.named import FILE, State, parse_state, read_state
from sccs.recipe.stored import read_resolved
from sccs.report.page import QUESTIONS, refresh, write_report
from sccs.report.questions import Question, write_questions
from sccs.run_folder import check_finished
from sccs.system.apart import check_apart
from sccs.system.files import check_text_place, write_text
from sccs.system.lock import BRIEFLY, held
from sccs.system.log import RunLog, say, say_error
from sccs.system.text import printable

PAINT = "paint"  # name of the steps that record painting
MOST_POINTS = 200_000  # used by a split
Given = tuple[Points, list[Volume]]


def teach(
    run: str | Path,
    labels: Sequence[str],
    *,
    image: str | None = None,
    names: Sequence[str] = (),
    head: str | None = None,
    anew: bool = False,
    device: str = "auto",
) -> Teacher:
    """`sccs teach RUN LABELS…`: teach a run its classes from a few labels, and print how many each class has.

    labels: label images, or tables of points z,y,x,class. image: the labelled image; None takes the run's image of
    the same shape. names: "CODE=NAME" or "CODE=NAME:#rrggbb" for codes in label images. head: a clusterer that
    is fitted to sparse labels. anew: forget earlier labels.

    Returns the run's teacher. If it raises UserError, nothing has changed.
    """
    run = Path(run)
    with held(run, "sccs teach", wait=BRIEFLY):
        check_finished(run)
        state, model = read_state(run), Pipeline.load(run, device, taught=not anew)
        codes, colours = parse_assignments(names)
        codes = named_codes(codes, "--name")
        known = lessons.class_names(model, codes, anew)
        given = _given(run, model, labels, image, known)
        lesson = lessons.touched(model, given, len(known.names))
        classes = lessons.classes(model, known, {codes[code].lower(): colour for code, colour in colours.items()})
        said = ", ".join(f"{Path(path).name}" for path in labels)
        teacher = lessons.teach(model, lesson, classes, said, head=head, anew=anew)
        teacher.codes |= codes
        command = shlex.join(["teach", *map(str, labels), *(["--anew"] if anew else [])])
        behind = history.is_behind(run)
        _take(run, state, command, teacher)
        lessons.take(model, teacher)
        with history.taken(run):
            _draw(run, model, behind)
    nodes = sum(int((counts.sum(1) > 0).sum()) for counts in lesson.counts)
    say(
        f"{run}: {nodes} superpixel{'s' * (nodes != 1)} labelled, counted in every field of view; "
        f"classes: {tally(teacher)}"
    )
    return teacher


def paint(run: str | Path, model: Pipeline, image: str, make: Callable[[Teacher | None], Teacher]) -> Teacher:
    """Turn what was painted on `image` in a viewer into the run's teacher, as one step that replaces earlier painting.

    The run's `model` uses this teacher from then on.

    make(teacher without painting, or None) returns the new teacher, which this function also returns.

    Raises UserError, without changing anything, if `make` does, or if the run was retrained since the model was
    loaded.
    """
    run = Path(run)
    with held(run, "napari", wait=BRIEFLY):
        check_finished(run)
        if folder.digest(run / "model") != model.weights:
            raise UserError(f"{run}: the run has been retrained since you opened it; open it again")
        teacher = make(unpainted(run))
        behind = history.is_behind(run)
        _take(run, read_state(run), f"{PAINT} {shlex.quote(image)}", teacher)
        lessons.take(model, teacher)
        with history.taken(run):
            _draw(run, model, behind)
    return teacher


def unpainted(run: str | Path) -> Teacher | None:
    """The run's teacher without painted labels; None if nothing else was taught."""
    run = Path(run)
    known = {step.number: step for step in history.steps(run)}
    where = read_state(run).teacher
    while where is not None:
        step = known.get(int(where.split("/")[1])) if where.startswith(history.FOLDER) else None
        if step is None or step.command.split()[0] != PAINT:
            return Teacher.read(run / where)
        where = parse_state(step.before, run / FILE).teacher
    return None


def split(run: str | Path, cluster: int, into: int, *, device: str = "auto") -> list[int]:
    """`sccs split RUN 5 --into 3`: re-cluster the superpixels of one cluster, the same way in all images.

    The first part keeps the cluster's number, the others take new ones; all keep its name. k-means (FAISS) over the
    coordinates of all training images. The run's own images are segmented again.

    Returns the numbers. Raises UserError, without changing anything, if the cluster does not exist or is too small,
    or if the run's images are missing.
    """
    run = Path(run)
    with held(run, "sccs split", wait=BRIEFLY):
        state, model, dataset = _edited(run, [cluster], device)
        points = _points(model, dataset, cluster)
        edits = _edits(model).split(cluster, into, points, model.recipe.seed)
        numbers = edits.edits[-1].to
        clusters = dict(state.clusters)
        if cluster in clusters:
            clusters |= dict.fromkeys(numbers, clusters[cluster])
        _take_edits(run, state, f"split {cluster} --into {into}", edits, clusters)
        with history.taken(run):
            _remake(run, dataset, device)
    say(f"{run}: cluster {cluster} is now {', '.join(map(str, numbers))}")
    return numbers


def merge(run: str | Path, clusters: Sequence[int], *, device: str = "auto") -> int:
    """`sccs merge RUN 3 7`: merge the other clusters into the first, which keeps its number.

    It also keeps its name; if it has none, it takes the first name among the others.

    Returns the number. Raises UserError as `split` does.
    """
    run = Path(run)
    with held(run, "sccs merge", wait=BRIEFLY):
        if len(set(clusters)) < max(len(clusters), 2):
            raise UserError(f"merge {' '.join(map(str, clusters))}: give two or more different clusters")
        state, model, dataset = _edited(run, clusters, device)
        edits = _edits(model).merge(clusters)
        named = [state.clusters[c] for c in clusters if c in state.clusters]
        entries = {c: entry for c, entry in state.clusters.items() if c not in clusters}
        if named:
            entries[clusters[0]] = named[0]
        _take_edits(run, state, f"merge {' '.join(map(str, clusters))}", edits, dict(sorted(entries.items())))
        with history.taken(run):
            _remake(run, dataset, device)
    say(f"{run}: merged {', '.join(map(str, clusters[1:]))} into cluster {clusters[0]}")
    return clusters[0]


def undo(run: str | Path, *, device: str = "auto") -> history.Step:
    """`sccs undo RUN`: undo the last step, and redraw what depends on it.

    Returns the step. Raises UserError if there is none.
    """
    run = Path(run)
    with held(run, "sccs undo", wait=BRIEFLY):
        check_finished(run)
        before, after = read_state(run), parse_state(history.last_step(run).before, run / FILE)
        edited = after.edits != before.edits
        dataset = run_data(run, Pipeline.load(run, device)) if edited else None  # raises before anything changes
        behind = history.is_behind(run)
        with history.falling_behind(run):
            step = history.take_back(run)
        said = f"{run}: undid step {step.number}, {printable(step.command)}"
        with history.taken(run):
            if dataset is not None:
                _remake(run, dataset, device)
            else:
                metrics = rescore(run)
                if after.teacher is not None or behind:
                    _draw(run, Pipeline.load(run, device), behind)
                else:
                    write_class_files(run, metrics)
                    refresh(run)
                    history.catch_up(run)
    say(said)
    return step


def suggest(
    run: str | Path,
    n: int = 20,
    *,
    image: str | None = None,
    out: str | None = None,
    page: str | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> list[Suggestion]:
    """`sccs suggest RUN -n 20`: list the superpixels most worth labelling, as a table to fill in.

    They lie in the run's training images, or in `image`. The table, z,y,x,class,image with an empty `class`, is printed
    or written to the file `out`; fill in the classes and pass it to `sccs teach RUN TABLE`. page: an HTML file with a
    picture of each superpixel, which saves such a table; "" means the run's suggestions.html, to which the
    report then links. Nothing else in the run changes.

    Raises UserError if the run is unfinished or the images are missing.
    """
    run = Path(run)
    if page is None:
        read_metrics(run)
    else:  # the report will link to it
        check_finished(run)
    model = Pipeline.load(run, device)
    given = [] if image is None else [as_volume(image, image, None, model.fov, model.min_side)]
    volumes = given or run_data(run, model).train
    outputs = [each for each in (out, page) if each]
    if len(set(map(os.path.realpath, outputs))) < len(outputs):
        raise UserError(f"{out}: given as both --out and --page; choose another name for one of them")
    for each in outputs:
        _check_free(run, each, overwrite, [volume.path for volume in volumes])
    found = suggestions(model, volumes, n)
    if page is not None:
        _ask(run, model, page or str(run / QUESTIONS), found, image)
    text = "z,y,x,class,image\n" + "".join(f"{s.z},{s.y},{s.x},,{_cell(image or s.volume)}\n" for s in found)
    if out is None and page is None:
        say(text.rstrip("\n"))
    if out is None:
        return found
    with held(out, "sccs suggest"):
        write_text(Path(out), text)
    say(f"{out}: {len(found)} places; fill in the column `class`, then run `sccs teach {run} {out}`")
    return found


def _ask(run: Path, model: Pipeline, page: str, found: Sequence[Suggestion], image: str | None) -> None:
    """Write the page of pictures to label."""
    known = model.taught.names if model.taught else [entry["name"] for entry in model.names.values()]
    names = list(dict.fromkeys([*known, *model.info.get("classes", {}).values()]))
    asked = [Question(s.image, s.mask, (s.z, s.y, s.x), image or s.volume, s.doubt) for s in found]
    own = Path(page) == run / QUESTIONS
    with held(page, "sccs suggest"):
        write_questions(Path(page), asked, names, shlex.quote(str(run)))
    if own:
        with held(run / "report.html", "sccs suggest", wait=10 * BRIEFLY):
            write_report(run)
    say(f"{page}: {len(found)} places; open it, label them, save answers.csv, then run `sccs teach {run} answers.csv`")


def _check_free(run: Path, out: str, overwrite: bool, images: Sequence[str]) -> None:
    if os.path.realpath(out) == os.path.realpath(run / QUESTIONS):
        return
    if os.path.lexists(out) and not overwrite:
        raise UserError(f"{out}: already exists; choose another name, or pass --overwrite")
    check_apart(Path(out), {"RUN": [str(run)], "the image": images}, within=False)
    check_apart(Path(out), {"RUN": [str(run)]})
    check_text_place(out)


def _cell(text: str) -> str:
    """A cell of a CSV."""
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text


def _edited(run: Path, clusters: Sequence[int], device: str) -> tuple[State, Pipeline, Dataset]:
    """What a split or merge starts from. Raises UserError if a cluster does not exist."""
    check_finished(run)
    state, model = read_state(run), Pipeline.load(run, device)
    merged = model.gone
    for cluster in clusters:
        if not 0 <= cluster < model.k or cluster in merged:
            there = [c for c in range(model.k) if c not in merged]
            raise UserError(f"{run}: there is no cluster {cluster}; the run has {', '.join(map(str, there))}")
    return state, model, run_data(run, model)


def _edits(model: Pipeline) -> Edits:
    return model.edits or Edits(model.weights, model.k)


def _take_edits(run: Path, state: State, command: str, edits: Edits, clusters: dict[int, dict]) -> None:
    after = replace(state, clusters=clusters, edits=history.part(run, "edits"))
    with history.falling_behind(run):
        history.take(run, command, after, lambda step: edits.write(step / "edits"))


@torch.no_grad()
def _points(model: Pipeline, dataset: Dataset, cluster: int) -> np.ndarray:
    """Z (N, u) of the cluster's nodes in all training images, at most `MOST_POINTS`."""
    found = []
    for fov in training_fovs(dataset.train):
        if fov.image.min() < fov.image.max():
            graph = model.graph.connect(pooled(model, fov)).to(model.device)
            Z = model.embedder.embed(graph)
            found.append(Z.cpu().numpy()[model.assign(graph, Z) == cluster])
    points = np.concatenate(found)
    if len(points) > MOST_POINTS:
        chosen = np.random.default_rng(model.recipe.seed).choice(len(points), MOST_POINTS, replace=False)
        points = points[np.sort(chosen)]
    return points


def _remake(run: Path, dataset: Dataset, device: str) -> None:
    with RunLog(run, tensorboard=False, resume=True) as log:
        remake_products(Pipeline.load(run, device), dataset, run, log)
    history.catch_up(run)


def show(run: str | Path, device: str = "auto") -> None:
    """Update what names alone do not determine: <volume>_classes.tif, scores and report of a taught run.

    If the last step was interrupted, update everything.
    """
    run = Path(run)
    if (behind := history.is_behind(run)) or read_state(run).teacher is not None:
        _draw(run, Pipeline.load(run, device), behind)


def _draw(run: Path, model: Pipeline, whole: bool) -> None:
    """Redraw a taught run's classes, or everything (`whole`), if the run's images are still there."""
    try:
        dataset = run_data(run, model)
    except UserError as error:
        say_error(f"segmentation/ and the report's pictures were not updated: {error}")
        return
    with RunLog(run, tensorboard=False, resume=True) as log:
        (remake_products if whole else write_taught)(model, dataset, run, log)
    history.catch_up(run)


def tally(teacher: Teacher) -> str:
    """A teacher's classes, each with its number of labelled superpixels."""
    count = [int((teacher.head.classes_ == c).sum()) for c in range(len(teacher.classes))]
    return ", ".join(f"{each.name} ({n})" for each, n in zip(teacher.classes, count))


def _take(run: Path, state: State, command: str, teacher: Teacher) -> State:
    after = replace(state, teacher=history.part(run, "teacher"))
    with history.falling_behind(run):
        return history.take(run, command, after, lambda step: teacher.write(step / "teacher"))


# --------------------------------------------------------------------------------------------- which image is labelled
def _given(run: Path, model: Model, labels: Sequence[str], image: str | None, known: ClassNames) -> list[Given]:
    """Labelled points, each with the volumes that are parts of its image."""
    images = _Images(run, model, image)
    found: list[Given] = []
    for path in labels:
        if is_table(path):
            if not (answered := read_table(path, known)):
                raise UserError(f"{path}: no row has a class: fill in the column `class`")
            found += [(points, images.named(name, path)) for name, points in answered.items()]
        else:
            volumes = images.of_shape(shape_of(path), path)
            found.append((read_image(path, known, volumes[0].file_shape), volumes))
    return found


class _Images:
    """The images that labels may belong to: the given one, or those of the run."""

    def __init__(self, run: Path, model: Model, image: str | None):
        self.run, self.model = run, model
        self.given = None if image is None else [as_volume(image, "image", None, model.fov, model.min_side)]
        self._groups: dict[str, list[Volume]] | None = None

    @property
    def groups(self) -> dict[str, list[Volume]]:
        """The run's volumes, grouped by the file that they are parts of."""
        if self._groups is None:
            dataset = run_data(self.run, self.model)
            self._groups = {}
            for volume in [*dataset.train, *dataset.test]:
                self._groups.setdefault(volume.path, []).append(volume)
        return self._groups

    def of_shape(self, shape: tuple[int, int, int], labels: str) -> list[Volume]:
        """The image of that shape (Z, Y, X); among several, the one that the labels are named after."""
        if self.given is not None:
            return self.given
        fitting = [group for group in self.groups.values() if group[0].file_shape == shape]
        if not fitting:
            shapes = ", ".join(f"{group[0].name} {group[0].file_shape}" for group in self.groups.values())
            raise UserError(
                f"{labels}: labels have shape {shape} (z, y, x), but the run's images have {shapes}; "
                "give the image with --image"
            )
        if len(fitting) > 1:
            stem = Path(labels).name
            named = [group for group in fitting if any(stem.startswith(volume.name) for volume in group)]
            if len(named) != 1:
                raise UserError(f"{labels}: {len(fitting)} images of the run have this shape; choose one with --image")
            fitting = named
        return fitting[0]

    def named(self, name: str, labels: str) -> list[Volume]:
        """The image of that name or path; "" means the only one."""
        if self.given is not None:
            return self.given
        for path, group in self.groups.items():
            if name in (path, *(volume.name for volume in group)):
                return group
        if not name and len(self.groups) == 1:
            return next(iter(self.groups.values()))
        if name and Path(name).exists():
            return [as_volume(name, name, None, self.model.fov, self.model.min_side)]
        volumes = ", ".join(volume.name for group in self.groups.values() for volume in group)
        asked = f"the run has no image {name!r}" if name else "does not say which image its points belong to"
        raise UserError(f"{labels}: {asked}; give --image, or a column `image` with one of {volumes}")


def run_data(run: Path, model: Model) -> Dataset:
    """The run's own images. Raises UserError if it was not trained on files, or if they no longer exist."""
    data = read_resolved(run)[0].get("data")
    if data is None:
        raise UserError(
            f"{run}: trained on arrays (in napari or Python), so its images are not on disk; only `sccs teach` and "
            "`sccs suggest` work without them, with --image; for all else, train a run on files"
        )
    _, recipe, _ = folder.read(run, run)
    block = load_recipe({**recipe, "data": data}).data
    assert block is not None  # as there is one
    return load_dataset(block, Path.cwd(), model.recipe.seed, model.min_side)
