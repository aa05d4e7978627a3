"""A few labels of an image: from label images, tables of points and arrays to labelled pixels of volumes."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.planes import turn
from sccs.data.readers import open_image
from sccs.data.volumes import Volume
from sccs.model.parts import MOST_CLUSTERS
from sccs.recipe.named import checked_name
from sccs.system import bounds

UNLABELLED = (0, 255)  # in label images
CODES = "class codes are 1 to 254"
MOST_PIXELS = 1 << 26  # labelled pixels in all label images of a command
COLUMNS = ("z", "y", "x", "class")


@dataclass
class ClassNames:
    """Meaning of labels: names by code, and all names in order of first use.

    codes: of the run's data set, of earlier labels, and from the user; later ones take precedence.
    """

    codes: dict[int, str]
    names: list[str] = field(default_factory=list)

    def of_code(self, code: int, where: str) -> int:
        """Position of a code's class. Raises UserError, with its place `where`, for a code without a name."""
        if code not in self.codes:
            if not 0 < code < 255:
                raise UserError(f"{where}: {CODES}, not {code}")
            raise UserError(f"{where}: class {code} has no name; give it one with --name {code}=nucleus")
        return self.of_name(self.codes[code], where)

    def of_name(self, text: str, where: str) -> int:
        """Position of a class, which is added if new; names match regardless of case."""
        name = checked_name(text, where)
        for position, known in enumerate(self.names):
            if known.lower() == name.lower():
                return position
        if len(self.names) == MOST_CLUSTERS - 1:
            raise UserError(
                f"{where}: {name!r} is one class too many: a run can be taught at most {MOST_CLUSTERS - 1} classes"
            )
        self.names.append(name)
        return len(self.names) - 1

    def of_text(self, text: str, where: str) -> int:
        """Position of a class given by name or code."""
        try:
            number = float(text)  # pandas writes whole numbers beside gaps as 1.0
        except ValueError:
            return self.of_name(text, where)
        if not number.is_integer():
            raise UserError(f"{where}: {CODES}, or names, not {text}")
        return self.of_code(int(number), where)


def named_codes(codes: Mapping[Any, Any], where: str) -> dict[int, str]:
    """Names by code, as the user gave them. Raises UserError, with their place `where`, for a code that no label image
    can have, and for a name that is empty or no text."""
    if not isinstance(codes, Mapping):
        raise UserError(f"{where}: give a dict of names by code, such as {{1: 'nucleus'}}")
    found = {}
    for code, name in codes.items():
        if not isinstance(code, (int, np.integer)) or not 0 < code < 255:
            raise UserError(f"{where}: {CODES}, not {code!r}")
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{where}: code {code} has no name; give it one, such as nucleus")
        found[int(code)] = checked_name(name, where)
    return found


@dataclass
class Points:
    """Labelled pixels of an image, (N, 3) int64 places z, y, x in the file, (N,) int64 positions of their classes."""

    places: np.ndarray
    classes: np.ndarray
    where: str  # their source

    def __len__(self) -> int:
        return len(self.places)


def from_array(array: Any, names: ClassNames, where: str, shape: Sequence[int] | None = None) -> Points:
    """Points from a label array (Z, Y, X) of codes, slice by slice; 0 and 255 mean unlabelled.

    shape: of the image. Raises UserError for another shape, for invalid codes, and for codes without a name.
    """
    if shape is not None and tuple(array.shape) != tuple(shape):
        raise UserError(
            f"{where}: labels have shape {tuple(array.shape)} (z, y, x), but the image has {tuple(shape)}; "
            "give labels of the same shape"
        )
    if np.dtype(array.dtype).kind not in "iub":
        raise UserError(f"{where}: labels are {array.dtype}, but class codes are integers; convert the file")
    places, classes, count = [], [], 0
    for z in range(array.shape[0]):
        plane = np.asarray(array[z])
        seen = ~np.isin(plane, UNLABELLED)
        if not seen.any():
            continue
        count += int(seen.sum())
        if count > MOST_PIXELS:
            raise UserError(
                f"{where}: more than {MOST_PIXELS} labelled pixels; a few slices are enough, leave the others 0"
            )
        y, x = np.nonzero(seen)
        codes, at = np.unique(plane[seen], return_inverse=True)
        if codes[0] < 0 or codes[-1] > 254:
            raise UserError(f"{where}: {CODES}, not {codes[0] if codes[0] < 0 else codes[-1]}")
        positions = np.array([names.of_code(int(code), where) for code in codes], np.int64)
        places.append(np.stack([np.full(len(y), z), y, x], 1))
        classes.append(positions[at])
    if not places:
        return Points(np.zeros((0, 3), np.int64), np.zeros(0, np.int64), where)
    return Points(np.concatenate(places), np.concatenate(classes), where)


def is_table(path: str | os.PathLike[str]) -> bool:
    """Whether the labels are a table of points."""
    return Path(path).suffix.lower() == ".csv"


def read_table(path: str | os.PathLike[str], names: ClassNames) -> dict[str, Points]:
    """A CSV with the columns z, y, x, class and optionally image: image ("" if missing) -> points.

    A class is a name or a code; rows with an empty class are skipped as unlabelled. Raises UserError that names the
    line for anything else.
    """
    rows = _rows(path)
    _, header = next(rows, (1, []))
    header = [cell.lower() for cell in header]
    needed = {**dict.fromkeys(COLUMNS, 1), "image": min(header.count("image"), 1)}
    if wrong := [name for name, count in needed.items() if header.count(name) != count]:
        count = "two columns" if wrong[0] in header else "no column"
        raise UserError(f"{path}: line 1: {count} {wrong[0]!r}; write the line z,y,x,class above the points")
    at = {name: header.index(name) for name in (*COLUMNS, "image") if name in header}
    found: dict[str, tuple[list, list]] = {}
    for line, row in rows:
        where = f"{path}: line {line}"
        if not any(row):
            continue
        if len(row) < len(header) or any(row[len(header) :]):
            raise UserError(f"{where}: {len(row)} values for {len(header)} columns")
        if not (given := row[at["class"]]):
            continue
        place = [_number(row[at[axis]], axis, where) for axis in "zyx"]
        places, classes = found.setdefault(row[at["image"]] if "image" in at else "", ([], []))
        places.append(place)
        classes.append(names.of_text(given, where))
    return {
        image: Points(np.array(places, np.int64), np.array(classes, np.int64), str(path))
        for image, (places, classes) in found.items()
    }


def _rows(path: str | os.PathLike[str]) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and stripped cells of a CSV, separated by semicolons or tabs if line 1 is, as spreadsheets in many
    languages write it. Raises UserError for an invalid CSV."""
    try:
        text = bounds.read_text(path, bounds.JSON).removeprefix("\ufeff")
    except UserError as error:
        raise UserError(f"{error}; save the table as CSV in UTF-8") from None
    first = next(iter(text.splitlines()), "")
    rows = csv.reader(io.StringIO(text, newline=None), delimiter=max(",;\t", key=first.count))
    try:
        for row in rows:
            yield rows.line_num, [cell.strip() for cell in row]
    except csv.Error as error:
        raise UserError(
            f"{path}: line {rows.line_num}: not a valid table row ({error}); is a closing quote missing?"
        ) from None


def _number(text: str, axis: str, where: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < 2**31:
        raise UserError(f"{where}: {axis} is {text.strip()[:40]!r}, but coordinates are whole numbers of voxels")
    return round(value)


def read_image(path: str | os.PathLike[str], names: ClassNames, shape: Sequence[int] | None = None) -> Points:
    """Points from a label image in a file, as `from_array`."""
    return from_array(open_image(path, codes=True).array, names, str(path), shape)


def shape_of(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """(Z, Y, X) of an image in a file."""
    return open_image(path, codes=True).shape


@dataclass(frozen=True)
class Placed:
    """Labelled pixels of one slice of a volume: rows y and columns x of the region."""

    volume: Volume
    z: int
    y: np.ndarray
    x: np.ndarray
    classes: np.ndarray


def placed(points: Points, volumes: Sequence[Volume]) -> Iterator[Placed]:
    """The points in each slice of the volumes that make up one image.

    Raises UserError if a point lies outside all of them.
    """
    outside = np.ones(len(points), bool)
    for volume in volumes:
        z, y, x = turn([*points.places.T], volume.plane)
        _, top, left = volume.origin
        y, x = y - top, x - left
        inside = (y >= 0) & (y < volume.shape[1]) & (x >= 0) & (x < volume.shape[2]) & np.isin(z, volume.z_slices)
        outside &= ~inside
        for each in np.unique(z[inside]):
            here = inside & (z == each)
            yield Placed(volume, int(each), y[here], x[here], points.classes[here])
    if outside.any():
        z, y, x = points.places[outside.argmax()].tolist()
        shape = volumes[0].file_shape
        whole = all(0 <= at < side for at, side in zip((z, y, x), shape))
        why = (
            "outside the run's region; to label there, pass the whole image with --image"
            if whole
            else f"outside the image of shape {shape}"
        )
        raise UserError(f"{points.where}: a label at z={z} y={y} x={x} lies {why}")
