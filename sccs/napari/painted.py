"""What was painted on an image, slice by slice, and the run's file that saves it after every stroke."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from registry.base import UserError
from registry.clusterer.sparse import below
from sccs.inference.live import Labelled
from sccs.model.teacher import Class
from sccs.recipe.named import checked_name, parse_colour
from sccs.recipe.stored import Stored, parse_json
from sccs.system.colours import class_colours
from sccs.system.tensors import read_arrays, write_arrays

FOLDER = "painted"  # of a run
NOTHING = 0  # code of unpainted pixels
CODES = range(1, 255)
UNNAMED = r"class \d+"  # default names of classes
NODE = ("points", "classes", "drawn")  # what is saved of labelled nodes
MEND = "move the file away, and paint again"
Pixels = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows, columns, codes


class Content(Stored):
    """A file's metadata. shape: of the image. classes: by code. model: digest of the weights that made its nodes."""

    model: str = ""
    shape: Annotated[list[int], Field(min_length=2, max_length=3)]
    classes: dict[str, Class]


class Painted:
    """Sparse painted codes 1 to 254 on an image (Z, Y, X) or (Y, X).

    slices: z -> rows (N,), columns (N,) int64 and codes (N,) uint8, for painted slices only. classes: meaning of
    the codes, with names that are unique regardless of case.

    Also stores the model's view of it, so that it can teach without the image: model, digest of its weights;
    coordinates, the state of `registry.spg.principal.Coordinates`; labelled, the nodes of each slice.
    """

    def __init__(self, shape: Sequence[int], classes: Mapping[int, Class] = {}):
        self.shape = tuple(int(n) for n in shape)
        self.slices: dict[int, Pixels] = {}
        self.classes = dict(classes)
        self.model = ""
        self.coordinates: dict[str, np.ndarray] = {}
        self.labelled: dict[int, Labelled] = {}

    # ----------------------------------------------------------------------------------------------------- classes
    def add(self, name: str, code: int | None = None) -> int:
        """Add a class and return its code, the next free one if the requested one is taken. Raises UserError as
        `rename` does, and if no codes are left."""
        free = [c for c in (code, *CODES) if c in CODES and c not in self.classes]
        if not free:
            raise UserError(f"there are already {len(self.classes)} classes, the most that a label image can have")
        self.classes[free[0]] = Class(name=self._checked(name))
        self._colour()
        return free[0]

    def rename(self, code: int, text: str) -> None:
        """Rename a class to `text`, NAME or NAME:#rrggbb. Raises UserError if the name is empty or taken."""
        name, colon, colour = text.partition(":")
        named = self._checked(name, code)
        chosen = None if re.fullmatch(UNNAMED, self.classes[code].name) else self.classes[code].colour
        self.classes[code] = Class(name=named, colour=parse_colour(colour, text) if colon else chosen)
        self._colour()

    def _checked(self, text: str, code: int | None = None) -> str:
        name = checked_name(text, repr(text))
        if not name:
            raise UserError("the name is empty: enter one, such as nucleus")
        if any(c != code and name.lower() == other.name.lower() for c, other in self.classes.items()):
            raise UserError(f"there is already a class named {name!r}: paint with that one")
        return name

    def _colour(self) -> None:
        """Assign colours to classes without one."""
        chosen = {each.name: each.colour for each in self.classes.values() if each.colour}
        table = class_colours([each.name for each in self.classes.values()], chosen)
        self.classes = {c: Class(name=each.name, colour=table[each.name]) for c, each in self.classes.items()}

    # ------------------------------------------------------------------------------------------------------ pixels
    def take(self, z: int, plane: np.ndarray) -> bool:
        """Set the painted codes (Y, X) of slice z. Returns whether they changed.

        A code without a class gets one, "class 7".
        """
        y, x = np.nonzero(plane)
        now = y, x, plane[y, x].astype(np.uint8)
        before = self.slices.get(z, (y[:0], x[:0], now[2][:0]))
        if all(np.array_equal(now[i], before[i]) for i in range(3)):
            return False
        self.slices[z] = now
        if not len(y):
            del self.slices[z]
        for code in np.unique(now[2]).tolist():
            if code not in self.classes:
                self.add(f"class {code}", code)
        return True

    def fill(self, array: np.ndarray) -> None:
        """Copy the painted codes into an array of the image's shape."""
        stack = array.reshape((-1, *self.shape[-2:]))
        for z, (y, x, codes) in self.slices.items():
            stack[z, y, x] = codes

    # -------------------------------------------------------------------------------------------------------- file
    def write(self, path: Path) -> None:
        """Write a safetensors file atomically. `places` (N, 3) int32 z, y, x and `codes` (N,) uint8 are the painting;
        `node.*` and `coordinates.*` are the model's view of it."""
        order = sorted(self.slices)
        places = [np.stack([np.full(len(self.slices[z][0]), z), *self.slices[z][:2]], 1) for z in order]
        arrays = {
            "places": np.concatenate([np.zeros((0, 3), np.int32), *places]).astype(np.int32),
            "codes": np.concatenate([np.zeros(0, np.uint8), *(self.slices[z][2] for z in order)]),
            **{f"coordinates.{name}": value for name, value in self.coordinates.items()},
        }
        if self.labelled:
            parts = sorted(self.labelled.items())
            arrays["node.z"] = np.concatenate([np.full(len(part.classes), z, np.int32) for z, part in parts])
            for name in NODE:
                arrays[f"node.{name}"] = np.concatenate([getattr(part, name) for _, part in parts])
        classes = {str(code): each for code, each in self.classes.items()}
        content = Content(model=self.model, shape=list(self.shape), classes=classes)
        write_arrays(path, arrays, {"painted": json.dumps(content.model_dump())})

    @classmethod
    def read(cls, path: Path) -> Painted:
        """Read what `write` wrote. Raises UserError for a damaged file, FileNotFoundError."""
        arrays, facts = read_arrays(path)
        content = parse_json(facts.get("painted", ""), path, Content, MEND)
        try:
            found = cls(content.shape, {int(code): each for code, each in content.classes.items()})
            places, codes = arrays["places"], arrays["codes"]
            whole = np.array((1, *found.shape)[-3:])
            if places.shape != (len(codes), 3) or not ((places >= 0) & (places < whole)).all():
                raise ValueError("places outside the image")
            if not set(np.unique(codes).tolist()) <= set(found.classes) <= set(CODES):
                raise ValueError("codes without a class")
            for z in np.unique(places[:, 0]).tolist():
                here = places[:, 0] == z
                y, x = places[here, 1:].T.astype(np.int64)
                found.slices[z] = y, x, codes[here]
            found.model = content.model
            found.coordinates = below("coordinates.", arrays)
            nodes = below("node.", arrays)
            for z in np.unique(nodes.get("z", [])).tolist():
                found.labelled[z] = Labelled(*(nodes[name][nodes["z"] == z] for name in NODE))
        except (KeyError, ValueError, IndexError) as error:
            raise UserError(f"{path}: damaged ({error}); {MEND}") from None
        return found


def beginning(names: Iterable[str], known: Mapping[int, str], colours: Mapping[str, str] = {}) -> dict[int, Class]:
    """Initial classes: those of a run, or two unnamed ones. known: codes of its data set; colours: by name."""
    painted, codes = Painted((1, 1)), {name.lower(): code for code, name in known.items()}
    for name in dict.fromkeys(names) or ("class 1", "class 2"):
        code = painted.add(name, codes.get(name.lower()))
        if name in colours:
            painted.classes[code] = Class(name=name, colour=colours[name])
    return painted.classes
