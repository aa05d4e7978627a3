"""What a person painted on an image, slice by slice, and the file of the run that keeps it from stroke to stroke."""

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
NOTHING = 0  # code of pixels that are not painted
CODES = range(1, 255)
UNNAMED = r"class \d+"  # what classes are called before a person does
NODE = ("points", "classes", "drawn")  # what is kept of labelled nodes
MEND = "move the file away, and paint anew"
Pixels = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows, columns, codes


class Content(Stored):
    """Facts of a file. shape: of the image. classes: by code. model: digest of the weights whose nodes it holds."""

    model: str = ""
    shape: Annotated[list[int], Field(min_length=2, max_length=3)]
    classes: dict[str, Class]


class Painted:
    """Codes 1 to 254 on an image (Z, Y, X) or (Y, X), as sparse as a person paints.

    slices: z -> rows (N,), columns (N,) int64 and codes (N,) uint8, without slices that are not painted. classes: what
    codes mean, names that differ in any case.

    What a model makes of it is kept as well, so that it can teach without the image: model, digest of its weights;
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
        """A new class; its code, the next one that is free if the one asked for is not. Raises UserError as `rename`,
        and where there are no more codes."""
        free = [c for c in (code, *CODES) if c in CODES and c not in self.classes]
        if not free:
            raise UserError(f"there are {len(self.classes)} classes already, as many as a label image can hold")
        self.classes[free[0]] = Class(name=self._checked(name))
        self._colour()
        return free[0]

    def rename(self, code: int, text: str) -> None:
        """Call a class `text`, NAME or NAME:#rrggbb. Raises UserError for a name that is empty, or another class's."""
        name, colon, colour = text.partition(":")
        named = self._checked(name, code)
        chosen = None if re.fullmatch(UNNAMED, self.classes[code].name) else self.classes[code].colour
        self.classes[code] = Class(name=named, colour=parse_colour(colour, text) if colon else chosen)
        self._colour()

    def _checked(self, text: str, code: int | None = None) -> str:
        name = checked_name(text, repr(text))
        if not name:
            raise UserError("the name is empty: write one, such as nucleus")
        if any(c != code and name.lower() == other.name.lower() for c, other in self.classes.items()):
            raise UserError(f"{name!r} is the name of another class already: paint with that one")
        return name

    def _colour(self) -> None:
        """Give a colour to classes that have none."""
        chosen = {each.name: each.colour for each in self.classes.values() if each.colour}
        table = class_colours([each.name for each in self.classes.values()], chosen)
        self.classes = {c: Class(name=each.name, colour=table[each.name]) for c, each in self.classes.items()}

    # ------------------------------------------------------------------------------------------------------ pixels
    def take(self, z: int, plane: np.ndarray) -> bool:
        """Slice z is painted like this, (Y, X) of codes. Returns whether it was painted otherwise before.

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
        """Paint it on an array of its shape."""
        stack = array.reshape((-1, *self.shape[-2:]))
        for z, (y, x, codes) in self.slices.items():
            stack[z, y, x] = codes

    # -------------------------------------------------------------------------------------------------------- file
    def write(self, path: Path) -> None:
        """To a safetensors file, whole. `places` (N, 3) int32 z, y, x and `codes` (N,) uint8 are what is painted;
        `node.*` and `coordinates.*` what a model makes of it."""
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
        """What `write` has written. Raises UserError for a file that is damaged, FileNotFoundError."""
        arrays, facts = read_arrays(path)
        content = parse_json(facts.get("painted", ""), path, Content, MEND)
        try:
            found = cls(content.shape, {int(code): each for code, each in content.classes.items()})
            places, codes = arrays["places"], arrays["codes"]
            whole = np.array((1, *found.shape)[-3:])
            if places.shape != (len(codes), 3) or not ((places >= 0) & (places < whole)).all():
                raise ValueError("places outside of the image")
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
    """Classes to begin with: those of a run, or two without a name. known: codes of its data set; colours: by name."""
    painted, codes = Painted((1, 1)), {name.lower(): code for code, name in known.items()}
    for name in dict.fromkeys(names) or ("class 1", "class 2"):
        code = painted.add(name, codes.get(name.lower()))
        if name in colours:
            painted.classes[code] = Class(name=name, colour=colours[name])
    return painted.classes
