"""What `sccs init` finds in a file or folder: volumes, their resolution levels, and the look of their slices."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from registry.base import UserError
from sccs.data.borders import border
from sccs.data.formats.czi import CZI_SUFFIXES
from sccs.data.formats.dm import DM_SUFFIXES
from sccs.data.formats.flat import FLAT_SUFFIXES
from sccs.data.formats.mrc import MRC_SUFFIXES
from sccs.data.formats.n5 import is_n5
from sccs.data.formats.npy import NPY_SUFFIXES
from sccs.data.formats.tiff import TIFF_SUFFIXES
from sccs.data.formats.zarr import is_zarr
from sccs.data.loading import stem
from sccs.data.readers import ImageSource, expand, open_image, open_levels
from sccs.data.stored import looks_unsigned, natural
from sccs.data.tiler import WINDOW as LEAST
from sccs.data.volumes import drift, evenly, ordinary, stride

FLAT = (*FLAT_SUFFIXES, *TIFF_SUFFIXES, *DM_SUFFIXES)
STACKS = (".h5", ".hdf5", ".hdf", ".he5", *MRC_SUFFIXES, *NPY_SUFFIXES, *CZI_SUFFIXES)
LABELS = re.compile(r"(?:^|[^a-z])(?:labels?|masks?|seg|segmentations?|gt|annotations?)(?:[^a-z]|$)", re.IGNORECASE)
# Letters before a number in a file name, and what the number then counts.
_TAG = re.compile(r"([a-z]*)[^a-z]*$")
SLICES = ("z", "s", "sl", "slice", "slices", "sec", "section", "plane", "layer")
CHANNELS = ("c", "ch", "chan", "channel", "w", "det", "detector")
TILES = ("r", "row", "col", "column", "tile", "tilex", "tiley")
MOSAIC = ("x", "y", "t", "time", "m", "f", "fov", "pos")  # if another number counts slices
MOST_CHANNELS = 8
DEEPEST = 4  # levels of subfolders
BAR = 0.5  # share of equal pixels from which a line at an edge belongs to a bar or to padding
LEAST_INNER = 32  # px that bars must leave
ALIKE = 0.9  # share of equal neighbours above which integers are probably labels
PIXEL = 12.0  # nm, about the geometric mean of the pixels that the bundled MAE was trained on (10, 10 and 16)
LOOKED_AT = 12  # slices of a volume
WINDOW = 2048  # px, side of the central part of a slice to look at
COUNTED = 1 << 18  # px of a slice whose values are counted
FEW_GREYS = 8  # an image with at most this many distinct values is probably a label image
DETAIL = 4.0  # px: narrower structures count as detail
INVERTED = 0.15  # skewness of detail; stained EM has less than -0.15 (measured: -0.17 to -0.31 on seven images)


@dataclass
class Look:
    """What a few slices reveal about a volume; shares refer to the pixels looked at.

    slices: which (z). empty: those with a single grey value. low, high: the range of values. greys: number of
    distinct values. ends: shares at the two ends of the range. skew: of the detail, above 0 if detail is bright.
    busiest: the slice of highest contrast. odd: further remarks.
    """

    slices: list[int]
    empty: list[int]
    low: float
    high: float
    greys: int
    ends: tuple[float, float]
    skew: float
    busiest: int
    odd: list[str] = field(default_factory=list)

    def remarks(self) -> list[str]:
        """Remarks for the user before segmenting, one line each."""
        found = []
        if self.empty:
            found.append(
                f"{len(self.empty)} of {len(self.slices)} slices looked at are empty (a single value "
                f"everywhere): z = {', '.join(map(str, self.empty))}"
            )
        for share, value in zip(self.ends, (self.low, self.high)):
            if share > 0.02:
                found.append(f"{share:.0%} of the pixels are exactly {value:g}: saturated, or padding around tissue")
        if self.greys <= FEW_GREYS:
            found.append(f"only {self.greys} distinct values: is this an image or a label file?")
        elif self.greys < 40:
            found.append(f"only {self.greys} grey values: faint contrast was lost when the file was written")
        if self.skew > INVERTED:
            found.append(
                "contrast looks inverted (fine structures are bright): the features expect dark stain on a bright "
                "background; invert the images (Fiji: Edit > Invert)"
            )
        return found + self.odd


@dataclass
class Found:
    """A volume. levels: (shape (Z, Y, X), voxel size (z, y, x) nm or None) of each; `level` is the chosen one, None
    if the file has no levels. chosen_for: why."""

    path: str
    source: ImageSource
    look: Look
    levels: list[tuple[tuple[int, int, int], tuple[float, float, float] | None]]
    level: int | None
    chosen_for: str

    @property
    def name(self) -> str:
        """The file's stem."""
        return stem(self.path)

    @property
    def voxel_size(self) -> tuple[float, float, float] | None:
        """(z, y, x) nm of the chosen level."""
        return self.levels[self.level or 0][1]


def survey(
    given: str, *, axes: str | None = None, voxel_size: Sequence[float] | None = None, level: int | None = None
) -> tuple[list[Found], list[str]]:
    """The volumes in a file or folder, and notes on those left out.

    axes, level: as `sccs.data.readers.open_image`. voxel_size: (z, y, x) nm of the finest level, for files that do not
    give it. Raises UserError if nothing can be used; an unreadable one among several is left out with a note.
    """
    paths, notes = find_volumes(given)
    volumes: list[Found] = []
    first: UserError | None = None
    for path in paths:
        try:
            volumes.append(examine(path, axes=axes, voxel_size=voxel_size, level=level))
        except UserError as error:
            first = first or error
            notes.append(f"left out: {error}")
    labels = [found for found in volumes if found.look.greys <= FEW_GREYS and found.source.dtype.kind != "f"]
    if len(labels) < len(volumes):
        for found in labels:
            volumes.remove(found)
            notes.append(f"left out: {found.path}: only {found.look.greys} distinct values, so probably labels")
    notes += [f"{found.path}: {note}" for found in volumes for note in found.source.notes]
    if not volumes:
        assert first is not None  # otherwise there would be a volume
        raise first
    return volumes, notes


def find_volumes(given: str) -> tuple[list[str], list[str]]:
    """Paths of the volumes that `given` names, in natural order, and notes on what else is there.

    Searches subfolders. 2-D images of one size in a folder whose names differ only by one number are the slices of one
    volume; if more numbers differ, the letters before them tell which one counts slices, and the others distinguish
    channels, tiles or samples, which are separate volumes.
    """
    folder = expand(given)
    if not os.path.isdir(folder) or is_zarr(folder) or is_n5(folder):
        return [given], []
    volumes, notes = _in_folder(folder, {os.path.realpath(folder)}, DEEPEST)
    if not volumes:
        raise UserError(
            f"{folder}: no image to segment; give a TIFF, PNG, HDF5, MRC, Zarr or N5 image, or a folder of them"
            + (f" ({notes[0]})" if notes else "")
        )
    return sorted(volumes, key=natural), notes


def _in_folder(folder: str, seen: set[str], depth: int) -> tuple[list[str], list[str]]:
    """As `find_volumes`; seen: folders already visited, in case links form loops."""
    try:
        names = sorted((n for n in os.listdir(folder) if not n.startswith(".")), key=natural)
    except OSError as error:
        return [], [f"left out: {folder}: {error.strerror}"]
    volumes: list[str] = []
    flat: dict[tuple[str, tuple], list[str]] = {}
    notes: list[str] = []
    for name in names:
        path = os.path.join(folder, name)
        suffix = Path(name).suffix.lower()
        inside = os.path.isdir(path)
        image = suffix in (*FLAT, *STACKS) if not inside else is_zarr(path) or is_n5(path)
        if (image or inside) and LABELS.search(stem(path)):
            notes.append(f"left out: {path}: labels, judging by its name")
        elif image and suffix in FLAT and os.path.isfile(path) and (kind := _flat_kind(path)) is not None:
            flat.setdefault((re.sub(r"\d+", "*", glob.escape(name)), kind), []).append(path)
        elif image:
            volumes.append(path)
        elif inside and (real := os.path.realpath(path)) not in seen and depth:
            seen.add(real)
            more, said = _in_folder(path, seen, depth - 1)
            volumes += more
            notes += said if more else [f"left out: {path}: not an image that SCCS reads"]
        else:
            notes.append(f"left out: {path}: not an image that SCCS reads")
    for alike in flat.values():
        stacks, note = slices_of(alike)
        notes += [f"{folder}: {note}"] if note else []
        for files in stacks:
            whole = os.path.join(glob.escape(folder), _pattern([os.path.basename(file) for file in files]))
            if len(files) == 1 or set(glob.glob(whole)) != set(files):
                volumes += files
                continue
            volumes.append(folder if len(files) == len(names) else whole)
            notes.append(
                f"{len(files)} images of one size, {Path(files[0]).name} to {Path(files[-1]).name}: taken as "
                "slices of one volume"
            )
    return volumes, notes


def slices_of(files: Sequence[str]) -> tuple[list[list[str]], str | None]:
    """Group images whose names differ only by numbers into volumes; also returns a note on the grouping.

    >>> slices_of(["z0_c0.tif", "z0_c1.tif", "z1_c0.tif", "z1_c1.tif"])[0]
    [['z0_c0.tif', 'z1_c0.tif'], ['z0_c1.tif', 'z1_c1.tif']]
    """
    names = [os.path.basename(file) for file in files]
    columns = list(zip(*(re.findall(r"\d+", name) for name in names)))
    tags = [_TAG.search(text.lower())[1] for text in re.split(r"\d+", names[0])]  # type: ignore[index]
    places: list[int] = []  # of numbers that differ; if several differ together, the first
    for place, column in enumerate(columns):
        if len(set(column)) > 1 and not any(_together(column, columns[other]) for other in places):
            places.append(place)
    if not places:
        return [list(files)], None
    if len(places) == 1:
        tag, count = tags[places[0]], len(files)
        if tag in TILES or (tag in CHANNELS and count <= MOST_CHANNELS):
            return [[file] for file in files], f"{names[0]} to {names[-1]}: not named like slices of one volume"
        return [list(files)], None
    chosen = None
    for fits in (SLICES.__contains__, lambda tag: not tag, lambda tag: tag not in (*TILES, *CHANNELS, *MOSAIC)):
        found = [place for place in places if fits(tags[place])]
        if len(found) == 1:
            chosen = found[0]
            break
    what = f"{names[0]} to {names[-1]}: more than one number differs, so probably channels, tiles or samples"
    if chosen is None:
        return [[file] for file in files], f"{what}; each is taken as a separate image"
    groups: dict[tuple, list[str]] = {}
    for index, file in enumerate(files):
        groups.setdefault(tuple(columns[place][index] for place in places if place != chosen), []).append(file)
    return list(groups.values()), f"{what}; taken as {len(groups)} volumes"


def _together(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether the numbers at two places correspond one to one."""
    return len(set(zip(one, other))) == len(set(one)) == len(set(other))


def _pattern(names: Sequence[str]) -> str:
    """A glob for names that differ only by numbers."""
    parts = [re.split(r"(\d+)", name) for name in names]
    return "".join(glob.escape(each[0]) if len(set(each)) == 1 else "*" for each in zip(*parts))


def _flat_kind(path: str) -> tuple | None:
    """(shape, dtype) of a readable 2-D image; None for stacks, and for faults that its reader will report."""
    try:
        source = open_image(path)
    except UserError:
        return None
    return (source.shape, str(source.dtype)) if source.shape[0] == 1 else None


def examine(
    path: str, *, axes: str | None = None, voxel_size: Sequence[float] | None = None, level: int | None = None
) -> Found:
    """Open a volume at the level that suits the features, and look at it."""
    sources = open_levels(path, axes)
    if level is not None:
        open_image(path, axes=axes, level=level)  # raises for a missing level
    sizes = [source.voxel_size for source in sources]
    if voxel_size is not None:
        sizes = [_scaled(voxel_size, sources[0].shape, source.shape) for source in sources]
    chosen, why = level, "as requested"
    if level is None:
        chosen, why = choose_level(sizes, [source.shape for source in sources])
    source = sources[chosen or 0]
    levels = list(zip((s.shape for s in sources), sizes))
    return Found(path, source, look_at(source), levels, chosen if len(levels) > 1 else None, why)


def _scaled(size: Sequence[float], finest: Sequence[int], shape: Sequence[int]) -> tuple[float, float, float]:
    """Voxel size (z, y, x) of a level, from the finest level's `size` and the shapes of both."""
    z, y, x = (float(f"{v * a / b:.6g}") for v, a, b in zip(size, finest, shape))
    return z, y, x


def choose_level(
    sizes: Sequence[tuple[float, float, float] | None], shapes: Sequence[tuple[int, int, int]] = ()
) -> tuple[int, str]:
    """The level whose pixel size is closest to that of the bundled MAE's training images, and why. Considers only
    levels whose slices are at least as large as the MAE's window, if there are any.

    sizes: (z, y, x) nm. shapes: (Z, Y, X).
    """
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return 0, "the finest, because the file does not give the voxel size"
    distance = [abs(np.log((size[1] * size[2]) ** 0.5 / PIXEL)) for size in known]
    large = [i for i, shape in enumerate(shapes) if min(shape[1:]) >= LEAST] or range(len(sizes))
    chosen = min(large, key=distance.__getitem__)
    why = f"its pixel size is closest to {PIXEL:g} nm, on which the bundled MAE was trained"
    return chosen, why + ("" if chosen == np.argmin(distance) else f", among levels of at least {LEAST} px")


def look_at(source: ImageSource) -> Look:
    """Sample a few slices (the central part of large ones). Raises UserError if no slice has any contrast."""
    from scipy.ndimage import gaussian_filter

    y, x = (slice(max(0, (n - WINDOW) // 2), min(n, max(0, (n - WINDOW) // 2) + WINDOW)) for n in source.shape[1:])
    slices = evenly(range(source.shape[0]), LOOKED_AT)
    values: np.ndarray = np.zeros(0, source.dtype)
    counts: np.ndarray = np.zeros(0)
    empty: list[int] = []
    contrast: dict[int, float] = {}
    skew: list[float] = []
    bars: list[tuple[int, int]] = []
    sample: dict[int, np.ndarray] = {}
    alike: list[float] = []
    wrapped: list[bool] = []
    for z, plane in zip(slices, source.array.slices(slices, y, x)):
        here = plane.ravel()[:: -(-plane.size // COUNTED)]
        here, count = np.unique(here, return_counts=True)
        values, place = np.unique(np.concatenate([values, here]), return_inverse=True)
        counts = np.bincount(place, np.concatenate([counts, count]))
        if plane.min() == plane.max():
            empty.append(z)
            continue
        rows, columns = (bare(plane, axis) for axis in (0, 1))
        bars.append((y.start + rows.start, y.start + rows.stop) if _written_on(plane, rows) else (0, source.shape[1]))
        inner = plane[rows, columns]
        pixels = inner.astype(np.float32)
        detail = pixels - gaussian_filter(pixels, DETAIL)
        contrast[z] = float(plane.astype(np.float32).std(dtype=np.float64))
        skew.append(float((detail.astype(np.float64) ** 3).mean() / max(detail.std(dtype=np.float64), 1e-30) ** 3))
        outside = border(inner)
        sample[z] = inner[~outside] if outside is not None and not outside.all() else inner.ravel()
        sample[z] = sample[z][:: stride(inner.size, inner.shape[1])]
        alike.append(float((inner[:, 1:] == inner[:, :-1]).mean()))
        wrapped.append(plane.dtype.kind == "i" and looks_unsigned(plane))
    if not contrast:
        raise UserError(f"{source.path}: every slice looked at is empty (a single value, {values[0]}): check the file")
    ends = (counts[0] / counts.sum(), counts[-1] / counts.sum())
    return Look(
        slices,
        empty,
        float(values[0]),
        float(values[-1]),
        len(values),
        (float(ends[0]), float(ends[1])),
        0.0 if np.mean(wrapped) > 0.5 else float(np.median(skew)),
        max(contrast, key=contrast.__getitem__),
        _odd(source, bars, sample, float(np.median(alike)), np.mean(wrapped) > 0.5),
    )


def bare(plane: np.ndarray, axis: int) -> slice:
    """The lines (0: rows, 1: columns) between bars and padding at the edges, in which most pixels have the same value;
    all lines, if that would leave next to nothing."""
    flat = (plane == np.median(plane, axis=1 - axis, keepdims=True)).mean(1 - axis) > BAR
    count = len(flat)
    first, last = (_run(lines) for lines in (flat, flat[::-1]))
    return slice(first, count - last) if count - first - last >= LEAST_INNER else slice(0, count)


def _run(flat: np.ndarray) -> int:
    """Number of lines from the edge that form a bar: at least four in five are flat, including the last."""
    shares = np.cumsum(flat) / np.arange(1, len(flat) + 1)
    inside = np.flatnonzero(flat & (shares >= 0.8))
    return int(inside[-1]) + 1 if flat[:3].any() and len(inside) else 0


def _written_on(plane: np.ndarray, rows: slice) -> bool:
    """Whether bars above or below the rows carry text, and are not just padding."""
    return any(bar.size and bar.min() < bar.max() for bar in (plane[: rows.start], plane[rows.stop :]))


def _odd(
    source: ImageSource, bars: list[tuple[int, int]], sample: dict[int, np.ndarray], alike: float, wrapped: np.bool_
) -> list[str]:
    """Remarks on data bars, signs, labels, hot pixels, drift."""
    found = []
    top, bottom = (int(np.median(ends)) for ends in zip(*bars))
    if (top, bottom) != (0, source.shape[1]):
        found.append(f"a data bar above or below the image: leave it out (region: {{y: [{top}, {bottom}]}})")
    if wrapped:
        found.append("values jump from the largest to the smallest: unsigned values were saved as signed; convert them")
    if alike > ALIKE and source.dtype.kind != "f":
        found.append(f"{alike:.0%} of neighbouring pixels are equal: is this an image or a label file?")
    low, high = ordinary(np.concatenate(list(sample.values())))
    far = [z for z, values in sample.items() if values.min() < low or values.max() > high]
    if far:
        found.append(
            f"single pixels far outside {low:.4g} to {high:.4g} (z = {', '.join(map(str, far))}): hot pixels, excluded "
            "from mean and deviation"
        )
    note = drift(sample)
    return [*found, note] if note else found
