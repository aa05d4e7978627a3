"""What a file or folder holds, as `sccs init` sees it: volumes, their resolution levels, and what slices look like."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from registry.base import UserError
from sccs.data.formats.flat import FLAT_SUFFIXES
from sccs.data.formats.mrc import MRC_SUFFIXES
from sccs.data.formats.n5 import is_n5
from sccs.data.formats.tiff import TIFF_SUFFIXES
from sccs.data.formats.zarr import is_zarr
from sccs.data.loading import stem
from sccs.data.readers import ImageSource, expand, open_image
from sccs.data.stored import natural
from sccs.data.tiler import WINDOW as LEAST
from sccs.data.volumes import evenly

FLAT = (*FLAT_SUFFIXES, *TIFF_SUFFIXES)
STACKS = (".h5", ".hdf5", ".hdf", ".he5", *MRC_SUFFIXES)
LABELS = re.compile(r"(?:^|[^a-z])(?:labels?|masks?|seg|segmentations?|gt|annotations?)(?:[^a-z]|$)", re.IGNORECASE)
PIXEL = 12.0  # nm, about the geometric mean of the pixels that the bundled MAE was trained on (10, 10 and 16)
LOOKED_AT = 12  # slices of a volume
WINDOW = 2048  # px, the central part of a slice that is looked at
COUNTED = 1 << 18  # px of a slice whose values are counted
FEW_GREYS = 8  # an image with no more different values is probably one of labels
DETAIL = 4.0  # px: what is narrower counts as detail
INVERTED = 0.15  # skewness of detail; stained EM has less than -0.15 (measured: -0.17 to -0.31 on seven images)


@dataclass
class Look:
    """What a few slices of a volume tell; shares are of the pixels looked at.

    slices: which (z). empty: those of them in which all pixels are alike. low, high: the range of values. greys:
    different values. ends: shares at the two ends of the range that occurs. skew: of the detail, above 0 where detail
    is bright. busiest: the slice of most contrast.
    """

    slices: list[int]
    empty: list[int]
    low: float
    high: float
    greys: int
    ends: tuple[float, float]
    skew: float
    busiest: int

    def remarks(self) -> list[str]:
        """What a person should know before segmenting, one line each."""
        found = []
        if self.empty:
            found.append(
                f"{len(self.empty)} of {len(self.slices)} slices looked at are empty (one and the same value "
                f"everywhere): z = {', '.join(map(str, self.empty))}"
            )
        for share, value in zip(self.ends, (self.low, self.high)):
            if share > 0.02:
                found.append(f"{share:.0%} of the pixels are exactly {value:g}: saturated, or padding around tissue")
        if self.greys <= FEW_GREYS:
            found.append(f"only {self.greys} different values: is this an image, or a file of labels?")
        elif self.greys < 40:
            found.append(f"only {self.greys} grey values: faint contrast was lost when the file was written")
        if self.skew > INVERTED:
            found.append(
                "contrast looks inverted (fine structures are bright): features expect dark stain on bright "
                "ground; invert the images (Fiji: Edit > Invert)"
            )
        return found


@dataclass
class Found:
    """A volume. levels: (shape (Z, Y, X), voxel size (z, y, x) nm or None) of each; `level` is the chosen one, None
    where the file has no levels. chosen_for: why that one."""

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
    """The volumes in a file or folder, and what is said about those left out.

    axes, level: as `sccs.data.readers.open_image`. voxel_size: (z, y, x) nm of the finest level, where files do not
    say. Raises UserError where nothing can be used; of several volumes, an unreadable one is left out and said.
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
            notes.append(f"left out: {found.path}: only {found.look.greys} different values, so labels, not an image")
    if not volumes:
        assert first is not None  # or there would be a volume
        raise first
    return volumes, notes


def find_volumes(given: str) -> tuple[list[str], list[str]]:
    """Paths of the volumes that `given` names, in natural order, and notes on what else is there.

    A folder's 2-D images whose names differ by numbers alone, and which are of one size, are slices of one volume.
    """
    folder = expand(given)
    if not os.path.isdir(folder) or is_zarr(folder) or is_n5(folder):
        return [given], []
    names = sorted((n for n in os.listdir(folder) if not n.startswith(".")), key=natural)
    volumes: list[str] = []
    flat: dict[tuple[str, tuple], list[str]] = {}
    notes: list[str] = []
    for name in names:
        path = os.path.join(folder, name)
        suffix = Path(name).suffix.lower()
        image = suffix in (*FLAT, *STACKS) or (os.path.isdir(path) and (is_zarr(path) or is_n5(path) or _holds(path)))
        if image and LABELS.search(stem(path)):
            notes.append(f"left out: {path}: labels, by its name")
        elif suffix in FLAT and os.path.isfile(path) and (kind := _flat_kind(path)) is not None:
            flat.setdefault((re.sub(r"\d+", "*", glob.escape(name)), kind), []).append(path)
        elif image:
            volumes.append(path)
        else:
            notes.append(f"left out: {path}: no image that SCCS reads")
    for (pattern, _), files in flat.items():
        whole = os.path.join(glob.escape(folder), pattern)
        if len(files) == 1 or set(glob.glob(whole)) != set(files):
            volumes += files
            continue
        volumes.append(folder if len(files) == len(names) else whole)
        notes.append(
            f"{len(files)} images of one size, {Path(files[0]).name} to {Path(files[-1]).name}: taken as "
            "slices of one volume"
        )
    if not volumes:
        raise UserError(
            f"{folder}: no image to segment; give TIFF, PNG, HDF5, MRC, Zarr or N5, or a folder of them"
            + (f" ({notes[0]})" if notes else "")
        )
    return sorted(volumes, key=natural), notes


def _holds(folder: str) -> bool:
    return any(Path(name).suffix.lower() in FLAT for name in os.listdir(folder))


def _flat_kind(path: str) -> tuple | None:
    """(shape, dtype) of a readable 2-D image; None for stacks and for what only its reader can complain of."""
    try:
        source = open_image(path)
    except UserError:
        return None
    return (source.shape, str(source.dtype)) if source.shape[0] == 1 else None


def examine(
    path: str, *, axes: str | None = None, voxel_size: Sequence[float] | None = None, level: int | None = None
) -> Found:
    """Open a volume at the level that suits the features, and look at it."""
    sources = _levels(path, axes)
    if level is not None:
        open_image(path, axes=axes, level=level)  # refuses one that is not there
    sizes = [source.voxel_size for source in sources]
    if voxel_size is not None:
        sizes = [_scaled(voxel_size, sources[0].shape, source.shape) for source in sources]
    chosen, why = level, "asked for"
    if level is None:
        chosen, why = choose_level(sizes, [source.shape for source in sources])
    source = sources[chosen or 0]
    levels = list(zip((s.shape for s in sources), sizes))
    return Found(path, source, look_at(source), levels, chosen if len(levels) > 1 else None, why)


def _scaled(size: Sequence[float], finest: Sequence[int], shape: Sequence[int]) -> tuple[float, float, float]:
    """Voxel size (z, y, x) of a level, where the finest level's is `size`; by the shapes of both."""
    z, y, x = (float(f"{v * a / b:.6g}") for v, a, b in zip(size, finest, shape))
    return z, y, x


def _levels(path: str, axes: str | None) -> list[ImageSource]:
    sources = [open_image(path, axes=axes)]
    while sources[0].array.stored.has_levels:
        try:
            sources.append(open_image(path, axes=axes, level=len(sources)))
        except UserError as error:
            if "level" not in str(error):
                raise
            break
    return sources


def choose_level(
    sizes: Sequence[tuple[float, float, float] | None], shapes: Sequence[tuple[int, int, int]] = ()
) -> tuple[int, str]:
    """The level whose pixels are nearest in size to those that the bundled MAE was trained on, and why; of the levels
    whose slices hold one of its windows, if any do.

    sizes: (z, y, x) nm. shapes: (Z, Y, X).
    """
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return 0, "the finest, as the file does not say how large its voxels are"
    distance = [abs(np.log((size[1] * size[2]) ** 0.5 / PIXEL)) for size in known]
    large = [i for i, shape in enumerate(shapes) if min(shape[1:]) >= LEAST] or range(len(sizes))
    chosen = min(large, key=distance.__getitem__)
    why = f"pixels nearest to {PIXEL:g} nm, as the bundled MAE was trained on"
    return chosen, why + ("" if chosen == np.argmin(distance) else f", of the levels of {LEAST} px and more")


def look_at(source: ImageSource) -> Look:
    """Sample a few slices, of large ones the central part. Raises UserError where no slice has any contrast."""
    from scipy.ndimage import gaussian_filter

    y, x = (slice(max(0, (n - WINDOW) // 2), max(0, (n - WINDOW) // 2) + WINDOW) for n in source.shape[1:])
    slices = evenly(range(source.shape[0]), LOOKED_AT)
    values: np.ndarray = np.zeros(0, source.dtype)
    counts: np.ndarray = np.zeros(0)
    empty: list[int] = []
    contrast: dict[int, float] = {}
    skew: list[float] = []
    for z in slices:
        plane = source.array[z, y, x]
        here, count = np.unique(plane.ravel()[:: -(-plane.size // COUNTED)], return_counts=True)
        values, place = np.unique(np.concatenate([values, here]), return_inverse=True)
        counts = np.bincount(place, np.concatenate([counts, count]))
        if plane.min() == plane.max():
            empty.append(z)
            continue
        pixels = plane.astype(np.float32)
        detail = pixels - gaussian_filter(pixels, DETAIL)
        contrast[z] = float(pixels.std(dtype=np.float64))
        skew.append(float((detail.astype(np.float64) ** 3).mean() / max(detail.std(dtype=np.float64), 1e-30) ** 3))
    if not contrast:
        raise UserError(
            f"{source.path}: every slice looked at is empty (one and the same value, {values[0]}): check the file"
        )
    ends = (counts[0] / counts.sum(), counts[-1] / counts.sum())
    return Look(
        slices,
        empty,
        float(values[0]),
        float(values[-1]),
        len(values),
        (float(ends[0]), float(ends[1])),
        float(np.median(skew)),
        max(contrast, key=contrast.__getitem__),
    )
