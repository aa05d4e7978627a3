"""Teach a trained model from a few labels: find the superpixels they touch, and fit a head to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from registry.base import UserError
from registry.spg.graphs import RegionGraph
from sccs.data.volumes import Volume
from sccs.inference.blocks import Fields, Span
from sccs.inference.labels import fields_of, of_one_grey, views
from sccs.inference.sparse import ClassNames, Placed, Points, placed
from sccs.model.fovs import label_counts
from sccs.model.model import Model
from sccs.model.teacher import HEADS, Class, Taught, Teacher


@dataclass
class Lesson:
    """Graphs of the fields of view (FOVs) that labels touch, Z (n_s, u) of each, and for each node the number of
    labelled pixels per class, (n_s, C) int64."""

    graphs: list[RegionGraph] = field(default_factory=list)
    embeddings: list[torch.Tensor] = field(default_factory=list)
    counts: list[np.ndarray] = field(default_factory=list)


def touched(model: Model, lessons: Iterable[tuple[Points, Sequence[Volume]]], C: int) -> Lesson:
    """The nodes that labels of C classes touch. lessons: points, and the volumes that make up their image.

    Every FOV that sees a label learns from it. Raises UserError for points outside the volumes, or if no superpixel is
    labelled.
    """
    found = Lesson()
    for points, volumes in lessons:
        for here in placed(points, volumes):
            _touch(model, here, fields_of(model, here.volume), C, found)
    if not found.graphs:
        raise UserError("the labels touch no superpixel: none of them has a class (0 and 255 mean unlabelled)")
    return found


@torch.no_grad()
def _touch(model: Model, here: Placed, fields: Fields, C: int, found: Lesson) -> None:
    for _, y, x, image in views(here.volume, here.z, fields):
        positions = seen_by(y, x, here.y, here.x, here.classes)
        if positions is None or of_one_grey(image, y, x):
            continue
        graph = model.build(np.ascontiguousarray(image))
        found.graphs.append(graph)
        found.embeddings.append(model.embedder.embed(graph))
        found.counts.append(label_counts(graph, positions, C))


def seen_by(vertical: Span, horizontal: Span, y: np.ndarray, x: np.ndarray, classes: np.ndarray) -> np.ndarray | None:
    """Classes of labelled pixels (N,) as positions (h, w) int32 over all that a FOV sees, -1 elsewhere; None if it sees
    no label."""
    seen = (y >= vertical.low) & (y < vertical.high) & (x >= horizontal.low) & (x < horizontal.high)
    if not seen.any():
        return None
    positions = np.full((vertical.high - vertical.low, horizontal.high - horizontal.low), -1, np.int32)
    positions[y[seen] - vertical.low, x[seen] - horizontal.low] = classes[seen]
    return positions


def class_names(model: Model, codes: Mapping[int, str], anew: bool = False) -> ClassNames:
    """Meaning of codes: of the run's data, of earlier labels, and `codes` (from `named_codes`), in this order. Classes
    taught before come first, unless `anew`."""
    of_data = {int(code): name for code, name in model.info.get("classes", {}).items()}
    if model.taught is None or anew:
        return ClassNames({**of_data, **codes})
    teacher = model.taught.teacher
    return ClassNames({**of_data, **teacher.codes, **codes}, [each.name for each in teacher.classes])


def classes(model: Model, known: ClassNames, colours: Mapping[str, str] = {}) -> list[Class]:
    """The classes with these names. colours: the user's, by lower-case name."""
    before = {} if model.taught is None else {c.name.lower(): c.colour for c in model.taught.teacher.classes}
    return [Class(name=name, colour=colours.get(name.lower()) or before.get(name.lower())) for name in known.names]


def teach(
    model: Model, lesson: Lesson, classes: Sequence[Class], said: str, *, head: str | None = None, anew: bool = False
) -> Teacher:
    """The model's teacher after a lesson; the model does not change (see `take`).

    classes: those of the counts in the lesson, starting with the classes taught before. said: description of the
    labels, for the history. head: if it differs from the previous or default one, it is fitted to all labels. anew:
    forget earlier labels. Raises UserError if only one class is taught.
    """
    before = None if model.taught is None or anew else model.taught.teacher
    if before is None:
        teacher = Teacher.new(model.weights, classes, head or HEADS[0], model.recipe.seed)
        teacher.head.begin_with(lesson.graphs)
    else:
        teacher = before.grown(classes, head)
    teacher.head.partial_fit(lesson.graphs, lesson.embeddings, lesson.counts)
    if len(np.unique(teacher.head.classes_)) < 2:
        raise UserError(
            f"all labels have the same class, {classes[int(teacher.head.classes_[0])].name!r}; label another class, too"
        )
    teacher.labels.append(said)
    return teacher


def take(model: Model, teacher: Teacher) -> None:
    """Make this the model's teacher."""
    model.taught = Taught.of(teacher, model.names, model.k)
