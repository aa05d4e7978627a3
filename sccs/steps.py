"""What a person does to a finished run, step by step: teach, split, merge, take back.

Each holds the run's lock, and is one step of its history (`sccs.recipe.history`): it counts when classes.yaml is
written, whole, and what is drawn from it follows.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from registry.base import UserError
from sccs.data import load_dataset
from sccs.data.given import as_volume
from sccs.data.volumes import Dataset, Volume
from sccs.evaluation.files import read_metrics
from sccs.evaluation.naming import parse_assignments
from sccs.inference import teach as lessons
from sccs.inference.sparse import ClassNames, Points, is_table, read_image, read_table, shape_of
from sccs.model import folder
from sccs.model.model import Model
from sccs.model.teacher import Teacher
from sccs.pipeline import Pipeline
from sccs.recipe import history, load_recipe
from sccs.recipe.named import State, read_state
from sccs.recipe.stored import read_resolved
from sccs.system.lock import BRIEFLY, held
from sccs.system.log import say

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
    """`sccs teach RUN LABELS…`: learn from a few labels, and say of which.

    labels: label images, or tables of points z,y,x,class. image: what they are labels of; None: an image of the run,
    the one of their shape. names: "CODE=NAME" or "CODE=NAME:#rrggbb" of codes in label images. head: a clusterer that
    is fitted on sparse labels. anew: forget what was taught before.

    Returns the run's teacher. Raises UserError, and then changes nothing.
    """
    run = Path(run)
    with held(run, "sccs teach", wait=BRIEFLY):
        read_metrics(run)
        state, model = read_state(run), Pipeline.load(run, device, taught=not anew)
        codes, colours = parse_assignments(names)
        known = lessons.class_names(model, codes, anew)
        given = _given(run, model, labels, image, known)
        lesson = lessons.touched(model, given, len(known.names))
        classes = lessons.classes(model, known, {codes[code].lower(): colour for code, colour in colours.items()})
        said = ", ".join(f"{Path(path).name}" for path in labels)
        teacher = lessons.teach(model, lesson, classes, said, head=head, anew=anew)
        teacher.codes |= codes
        command = shlex.join(["teach", *map(str, labels), *(["--anew"] if anew else [])])
        _take(run, state, command, teacher)
        lessons.take(model, teacher)
    nodes = sum(int((counts.sum(1) > 0).sum()) for counts in lesson.counts)
    say(f"{run}: {nodes} superpixels labelled; it now knows {tally(teacher)}")
    return teacher


def tally(teacher: Teacher) -> str:
    """The classes of a teacher, with the number of labelled superpixels of each."""
    count = [int((teacher.head.classes_ == c).sum()) for c in range(len(teacher.classes))]
    return ", ".join(f"{each.name} ({n})" for each, n in zip(teacher.classes, count))


def _take(run: Path, state: State, command: str, teacher: Teacher) -> State:
    after = replace(state, teacher=history.part(run, "teacher"))
    return history.take(run, command, after, lambda step: teacher.write(step / "teacher"))


# --------------------------------------------------------------------------------------------- which image is labelled
def _given(run: Path, model: Model, labels: Sequence[str], image: str | None, known: ClassNames) -> list[Given]:
    """Points, and the volumes that are parts of the image that they are of."""
    images = _Images(run, model, image)
    found: list[Given] = []
    for path in labels:
        if is_table(path):
            for name, points in read_table(path, known).items():
                found.append((points, images.named(name, path)))
        else:
            volumes = images.of_shape(shape_of(path), path)
            found.append((read_image(path, known, volumes[0].file_shape), volumes))
    return found


class _Images:
    """The images that labels may be of: the one that the user gave, or those of the run."""

    def __init__(self, run: Path, model: Model, image: str | None):
        self.run, self.model = run, model
        self.given = None if image is None else [as_volume(image, "image", None, model.fov, model.min_side)]
        self._groups: dict[str, list[Volume]] | None = None

    @property
    def groups(self) -> dict[str, list[Volume]]:
        """Volumes of the run by the file that they are parts of."""
        if self._groups is None:
            dataset = run_data(self.run, self.model)
            self._groups = {}
            for volume in [*dataset.train, *dataset.test]:
                self._groups.setdefault(volume.path, []).append(volume)
        return self._groups

    def of_shape(self, shape: tuple[int, int, int], labels: str) -> list[Volume]:
        """The image of that shape (Z, Y, X); where there are several, the one that the labels are named after."""
        if self.given is not None:
            return self.given
        fitting = [group for group in self.groups.values() if group[0].file_shape == shape]
        if not fitting:
            shapes = ", ".join(f"{group[0].name} {group[0].file_shape}" for group in self.groups.values())
            raise UserError(
                f"{labels}: labels have shape {shape} (z, y, x), which no image of the run has ({shapes}); "
                "give the image with --image"
            )
        if len(fitting) > 1:
            stem = Path(labels).name
            named = [group for group in fitting if any(stem.startswith(volume.name) for volume in group)]
            if len(named) != 1:
                raise UserError(
                    f"{labels}: {len(fitting)} images of the run have its shape; say with --image which one it is of"
                )
            fitting = named
        return fitting[0]

    def named(self, name: str, labels: str) -> list[Volume]:
        """The image of that name or path; "": the only one."""
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
        asked = f"the run has no image {name!r}" if name else "does not say which image its points are of"
        raise UserError(f"{labels}: {asked}; give --image, or a column `image` with one of {volumes}")


def run_data(run: Path, model: Model) -> Dataset:
    """The run's own images. Raises UserError where it was not made from files, or they are not there any more."""
    data = read_resolved(run)[0].get("data")
    if data is None:
        raise UserError(f"{run}: does not know where its images are, as it was not trained on files; give --image")
    _, recipe, _ = folder.read(run, run)
    block = load_recipe({**recipe, "data": data}).data
    assert block is not None  # as there is one
    return load_dataset(block, Path.cwd(), model.recipe.seed, model.min_side)
