"""A model taught by painting: strokes of a slice in, classes of that slice out; without a window."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.volumes import Volume
from sccs.evaluation.legend import Legend
from sccs.inference.live import LiveSlice
from sccs.inference.segment import taught_meaning
from sccs.inference.suggest import Suggestion, suggestions
from sccs.inference.teach import take
from sccs.model.teacher import HEADS, Class, Teacher
from sccs.napari.painted import FOLDER, Painted, beginning
from sccs.napari.watch import Watch, unwatched
from sccs.pipeline import Pipeline
from sccs.recipe.named import parse_colour
from sccs.steps import paint, unpainted
from sccs.system.lock import BRIEFLY, held

KEPT = 3  # slices whose nodes stay in memory
TOO_FEW = "paint at least two classes, one stroke of each"


class Teaching:
    """The labels of one image, and the teacher that learns from them.

    All strokes of all slices and images painted in this run teach, in addition to its other labels; erased strokes are
    forgotten. Every change is saved in the run's folder at once.

    volume: the image, standardised for the model. name: of the image, in files.
    """

    def __init__(self, run: Path, model: Pipeline, volume: Volume, name: str):
        self.run, self.model, self.volume, self.image = run, model, volume, name
        self.path = run / FOLDER / f"{name}-{'x'.join(map(str, volume.shape))}.safetensors"
        self.kept = True  # whether the run's teacher knows all strokes
        self._base = unpainted(run)
        self._live: dict[int, LiveSlice] = {}  # the latest last
        others = sorted((run / FOLDER).glob("*.safetensors"))
        self._others = [Painted.read(path) for path in others if path != self.path]
        self.painted = self._begin()
        self._head = self._blank()

    def _begin(self) -> Painted:
        with suppress(FileNotFoundError):
            return Painted.read(self.path)
        info, taught, named = self.model.info, self.model.taught, self.model.names.values()
        known = {int(code): name for code, name in info.get("classes", {}).items() if int(code) != info.get("ignore")}
        colours = {entry["name"]: entry["colour"] for entry in named}
        names = list(known.values()) or list(colours)
        if taught is not None:
            names = list(taught.names)
            colours |= {name: colour for name, colour in zip(taught.names, taught.colours) if colour}
        return Painted(self.volume.shape, beginning(names, known, colours))

    def _blank(self) -> Any:
        """An untrained head in the same coordinates as all others of this run."""
        head: Any = Teacher.new(self.model.weights, [Class(name="any")], HEADS[0], self.model.recipe.seed).head
        before = self._base or (self.model.taught and self.model.taught.teacher)
        if before:
            head.coordinates_ = before.head.coordinates_
            return head
        for painted in (self.painted, *self._others):
            if painted.coordinates and painted.model == self.model.weights:
                return _with(head, painted.coordinates)
        return head

    # ----------------------------------------------------------------------------------------------------- strokes
    def adopt(self, other: Teaching) -> None:
        """Take over the strokes on this image from another run, if this run has none."""
        if not self.painted.slices and other.image == self.image and other.painted.shape == self.painted.shape:
            self.painted.slices, self.painted.classes = dict(other.painted.slices), dict(other.painted.classes)

    def open(self, watch: Watch = unwatched) -> None:
        """Learn earlier strokes. This takes time if the run was retrained since, or was taught by other means first, as
        nodes must be computed again."""
        known = self.painted.labelled if self._fits(self.painted) else {}
        self.painted.labelled = dict(known)
        missing = sorted(self.painted.slices.keys() - known.keys())
        for done, z in enumerate(missing):
            watch(done, len(missing), "reading painted slices")
            self._label(z)
        before = self.model.taught and self.model.taught.teacher.digest
        self._learn()
        self.kept = before == (self.model.taught and self.model.taught.teacher.digest)

    def _fits(self, painted: Painted) -> bool:
        """Whether the nodes in a file come from this model, in its coordinates."""
        if painted.model != self.model.weights or not hasattr(self._head, "coordinates_"):
            return False
        state = self._head.coordinates_.get_state()
        return state.keys() == painted.coordinates.keys() and all(
            np.array_equal(value, painted.coordinates[name]) for name, value in state.items()
        )

    def stroke(self, z: int, plane: np.ndarray) -> bool:
        """Set the painted codes (Y, X) of slice z; if they changed, learn them and return True."""
        if not self.painted.take(z, plane):
            return False
        self.kept = False
        self.painted.labelled.pop(z, None)
        self.write()  # first, as what follows may fail
        self._label(z)
        self.write()
        self._learn()
        return True

    def add(self, text: str) -> int:
        """As `Painted.add`, with NAME or NAME:#rrggbb; returns its code."""
        name, _, colour = text.partition(":")
        if colour:
            parse_colour(colour, text)
        code = self.painted.add(name)
        if colour:
            self.painted.rename(code, text)
        self.write()
        return code

    def rename(self, code: int, text: str) -> None:
        """As `Painted.rename`."""
        self.painted.rename(code, text)
        self.kept &= not self.painted.slices
        self.write()
        self._learn()

    def write(self) -> None:
        """Save the strokes and their classes."""
        with held(self.path, "napari", wait=BRIEFLY):
            self.painted.write(self.path)

    def live(self, z: int) -> LiveSlice:
        """The nodes of a slice."""
        found = self._live.pop(z, None) or LiveSlice.of(self.model, self.volume, z)
        self._live[z] = found
        for old in list(self._live)[:-KEPT]:
            del self._live[old]
        if hasattr(self._head, "coordinates_"):
            found.know(self._head)
        return found

    def _label(self, z: int) -> None:
        """Label the nodes touched by slice z's strokes."""
        if z not in self.painted.slices:
            return
        live = self.live(z)
        if not hasattr(self._head, "coordinates_"):
            if not live.graphs:
                return
            self._head.begin_with([graph for _, _, graph in live.graphs])
            live.know(self._head)
        y, x, codes = self.painted.slices[z]
        self.painted.labelled[z] = live.labelled(y, x, codes.astype(np.int64), 256)
        self.painted.model, self.painted.coordinates = self.model.weights, self._head.coordinates_.get_state()

    def _learn(self) -> None:
        """Teach the model all strokes and the run's other labels; without strokes, the latter alone."""
        if (teacher := self._taught_by(self._base)) is not None:
            take(self.model, teacher)
        else:
            self.model.taught = None

    def _taught_by(self, base: Teacher | None) -> Teacher | None:
        """`base` with all strokes added; None if fewer than two classes are labelled."""
        parts = [(painted.classes, part) for painted in self._others if self._fits(painted)
                 for part in painted.labelled.values()]  # fmt: skip
        parts += [(self.painted.classes, self.painted.labelled[z]) for z in sorted(self.painted.labelled)]
        if not parts:
            return base
        classes = [] if base is None else list(base.classes)
        labels = [_positions(each, part.classes, classes) for each, part in parts]
        points = [part.points for _, part in parts]
        if base is None:
            teacher = Teacher.new(self.model.weights, classes, HEADS[0], self.model.recipe.seed)
            teacher.head.coordinates_ = self._head.coordinates_
        else:
            teacher = base.grown(classes)
            points, labels = [base.head.points_, *points], [base.head.classes_, *labels]
        if len(np.unique(np.concatenate(labels))) < 2:
            return None
        teacher.head.learn(np.concatenate(points), np.concatenate(labels))
        teacher.labels.append("painted")
        return teacher

    # ----------------------------------------------------------------------------------------------------- answers
    @property
    def counts(self) -> dict[int, int]:
        """Number of painted superpixels of each class of this image, by code."""
        drawn = [part.classes[part.drawn] for part in self.painted.labelled.values()]
        total = np.bincount(np.concatenate([np.zeros(0, np.int64), *drawn]), minlength=256)
        return {code: int(total[code]) for code in self.painted.classes}

    def predict(self, z: int) -> tuple[np.ndarray, Legend] | None:
        """Class codes (Y, X) uint8 of a slice, as `sccs segment --classes` writes them, and their meaning; None until
        two classes are labelled."""
        if (taught := self.model.taught) is None:
            return None
        live = self.live(z)
        shown, legend = taught_meaning(self.model)
        return live.paint(shown.codes[live.probabilities(taught).argmax(1)]), legend

    def suggest(self, n: int = 20) -> list[Suggestion]:
        """The superpixels of the image most worth labelling, as `sccs suggest --image` finds them."""
        return suggestions(self.model, [self.volume], n)

    def keep(self) -> None:
        """Teach the run, as a step of its history (`sccs.steps.paint`). Raises UserError until two classes are
        labelled."""

        def make(base: Teacher | None) -> Teacher:
            if base is not None and (self._base is None or base.digest != self._base.digest):  # by another process
                self._base = base
                self._head, self._live = self._blank(), {}
                self.open()
            if (teacher := self._taught_by(base)) is None:
                raise UserError(TOO_FEW)
            return teacher

        paint(self.run, self.model, self.image, make)
        self.write()
        self.kept = True


def _with(head: Any, state: Mapping[str, np.ndarray]) -> Any:
    empty = {"points": np.zeros((0, head.coordinates * len(head.hops)), np.float32), "classes": np.zeros(0, np.int64)}
    head.set_state({**empty, **{f"coordinates.{name}": value for name, value in state.items()}})
    return head


def _positions(known: Mapping[int, Class], codes: np.ndarray, classes: list[Class]) -> np.ndarray:
    """Positions (N,) int64 in `classes` of class codes (N,); missing classes are added, names match regardless of case,
    and the colour chosen last wins."""
    table = np.full(256, -1, np.int64)
    names = [each.name.lower() for each in classes]
    for code in np.unique(codes).tolist():
        each = known[code]
        if each.name.lower() not in names:
            names.append(each.name.lower())
            classes.append(each)
        table[code] = names.index(each.name.lower())
        classes[table[code]] = each
    return table[codes]
