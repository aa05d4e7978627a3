"""Volumes, fields of view and data sets: how images are cut and standardised.

Axis order is (Z, Y, X) everywhere, voxel sizes are (z, y, x) in nm, images are read lazily and standardised per
volume: (x - mean) / std, over the volume's region.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from registry.base import UserError
from sccs.data.borders import border
from sccs.data.lazy import LazyArray, VolumeArray
from sccs.data.mask import Mask
from sccs.data.planes import Plane, axes_of, check_plane, turn, turn_back, turned
from sccs.data.schema import Region
from sccs.data.stored import listed, looks_unsigned
from sccs.data.tiler import WINDOW, Tile, tiles

SAMPLED_SLICES = 16  # slices used for a volume's mean and std
PLANE_AT_ONCE = 1 << 24  # px; larger slices are read in bands, to keep memory flat
SAMPLED_PIXELS = 1 << 26  # of a sampled slice; larger slices contribute evenly spaced bands
# Statistics exclude abnormal pixels. On four real sets (vnc, HeLa, cdeep3m, platelet) and 50 phantom volumes none of
# the bounds below applies: their outermost pixels lie 0.49 TAILS ranges out, 5.6 deviations from the mean; medians of
# slices differ by 0.52 deviations, deviations by a factor of 1.23; at most 2.0 % of a slice's pixels share a value.
JUDGED = 1 << 18  # px by which a slice is judged
LEAST_INSIDE = 0.1  # share of a FOV within the mask, to train on it
EMPTY = 0.999  # share of equal pixels from which a slice contains no image
TAILS = (0.005, 0.995)  # quantiles; their distance is the normal range,
FAR_OUT = 5.0  # and pixels more than so many ranges beyond are excluded from mean and deviation
FAR = 20.0  # deviations from the mean, at which pixels are clipped
DRIFT = 0.75  # of slice medians, in deviations of a slice, from which we warn
CONTRAST = 2.0  # ratio of slice deviations from which we warn
COARSE = 2.0**14  # mean over deviation from which single precision is too coarse
HUGE = 1e30  # deviations beyond this, or below its inverse, need double precision, too
LARGEST = 1e150  # double precision cannot hold squares of larger values, nor of those below its inverse
EXACT = 2.0**53  # integers up to here are exact as double precision
MISMATCH = 1.5  # ratio of voxel sizes from which we warn
EXCLUDED = "excluded from mean and deviation"  # ends a note on what was dealt with

T = TypeVar("T")
logger = logging.getLogger("sccs.data")


@dataclass
class FOV:
    """One field of view. `y`, `x`: its corner within the volume's region; `z`: the slice's index in the file."""

    image: np.ndarray  # (H, W) float32, standardised, contiguous
    labels: np.ndarray | None  # (H, W) int32 class codes, `ignore` if not scored; None: unlabelled
    volume: str
    z: int
    y: int
    x: int
    inside: np.ndarray | None = None  # (H, W) bool, where the mask is not 0; None: no mask

    @property
    def key(self) -> str:
        """``volume:z:y:x``."""
        return f"{self.volume}:{self.z}:{self.y}:{self.x}"


@dataclass(frozen=True)
class LabelCodes:
    """The codes allowed in label files, and the classes they map to."""

    classes: dict[int, str] = field(default_factory=dict)
    ignore: int | None = None
    merge: dict[int, int] = field(default_factory=dict)

    def read(self, raw: np.ndarray, path: str) -> np.ndarray:
        """Map codes of the file to int32 class codes; raises UserError that lists unnamed codes."""
        if raw.dtype.kind not in "iub":
            raise UserError(f"{path}: labels are {raw.dtype}, but class codes are integers; convert the file")
        raw = raw.astype(np.uint8) if raw.dtype == bool else raw
        known = [*self.classes, *self.merge, *([] if self.ignore is None else [self.ignore])]
        named = np.isin(raw, np.array(known, np.int64)) if known else np.zeros(raw.shape, bool)
        if not named.all():
            strange = np.unique(raw[~named])
            listed = ", ".join(map(str, strange[:20])) + (f" and {len(strange) - 20} more" if len(strange) > 20 else "")
            raise UserError(
                f"{path}: label codes {listed} are in neither data.classes nor data.ignore; "
                "name them, or map them with data.merge"
            )
        codes = raw.astype(np.int32)
        for code, target in self.merge.items():
            codes[raw == code] = target
        return codes


class Volume:
    """One image volume, or a region of it, as standardised slices and FOVs.

    Arguments
        name: unique in the data set; names output files.
        image: (Z, Y, X) array-like that reads by basic slices; `path` names it in messages.
        labels: the same with class codes, or None.
        mask: the same, or coarser (`sccs.data.mask`): where it is 0, nothing is trained on or segmented. FOVs with less
            than `LEAST_INSIDE` inside are left out of training.
        region: part of the image to use; default all.
        max_slices: number of evenly spaced slices of the region to use; None: all.
        min_side: the shortest side that the features can work on (px).
        plane: orientation of the slices. For xz and yz planes, slices are counted along y and x, and rows run along z;
        `image`, `labels`, `voxel_size` and "z, y, x" below are then in the order of that stack, while
        arguments and `file_shape`, `file_voxel_size` are in the order of the file.
        statistics: mean and std, if already known.

    Attributes
        mean, std: of up to 16 evenly spaced slices of the region, of which 2**26 px each at most; independent of
            `max_slices`. Slices without an image, borders and extreme outliers are excluded.
        notes: remarks on the image for the user, one line each; they are logged, as warnings if they ask for attention.
        z_slices: indices of the used slices in the file.
        origin, shape: corner (z, y, x) and size (Z, Y, X) of the region in the file.

    Raises UserError for images that no method can work on (see the messages).
    """

    def __init__(
        self,
        name: str,
        image: VolumeArray,
        *,
        path: str = "image",
        labels: VolumeArray | None = None,
        labels_path: str = "labels",
        mask: VolumeArray | None = None,
        mask_path: str = "mask",
        voxel_size: Sequence[float] | None = None,
        codes: LabelCodes = LabelCodes(),
        region: Region = Region(),
        fov: int | str = 560,
        max_slices: int | None = None,
        min_side: int = WINDOW,
        plane: Plane = "xy",
        statistics: tuple[float, float] | None = None,
    ) -> None:
        self.name, self.codes, self.fov, self.plane = name, codes, fov, plane
        self.path, self.labels_path = path, labels_path
        check_plane(plane, voxel_size, path)
        self.voxel_size = None if voxel_size is None else turn([float(size) for size in voxel_size], plane)
        if labels is not None and tuple(labels.shape) != tuple(image.shape):
            raise UserError(
                f"{labels_path}: labels have shape {tuple(labels.shape)} (z, y, x), "
                f"but the image {path} has {tuple(image.shape)}"
            )
        self.image, self.labels = turned(image, plane), None if labels is None else turned(labels, plane)
        axes, ranges = axes_of(plane), []
        for axis, size in zip(axes, self.image.shape):
            start, stop, *step = getattr(region, axis) or (0, size)
            if step and axis != axes[0]:
                raise UserError(
                    f"{path}: region {axis}: a step would skip pixels of {plane} planes; write [{start}, {stop}]"
                )
            if stop > size:
                raise UserError(f"{path}: region {axis}: [{start}, {stop}] is out of range; the image has {size}")
            ranges.append(range(start, stop, *step))
        across, rows, columns = ranges
        self.origin = across.start, rows.start, columns.start
        self.shape = across.stop - across.start, rows.stop - rows.start, columns.stop - columns.start
        if min(self.shape[1:]) < min_side:
            height, width = self.shape[1:]
            mend = "use a larger region, or give `axes` if their order differs"
            if plane != "xy":
                mend = "use a larger region, or plane xy"
            elif image.shape[2] in (3, 4) and min(image.shape[:2]) >= min_side:
                mend = "it looks like a colour image: convert it to grey"
            raise UserError(
                f"{path}: {height} x {width} px ({axes[1]}, {axes[2]}) is smaller than a window of "
                f"{min_side} x {min_side} px; {mend}"
            )
        self.z_slices = evenly(across, max_slices)
        origin = turn_back(self.origin, plane)
        self.mask = None if mask is None else Mask(mask, self.file_shape, origin, mask_path, plane)
        self.notes: list[str] = [*getattr(image, "notes", ())]
        self.mean, self.std = statistics or self._statistics(evenly(across, SAMPLED_SLICES))
        if statistics is None:
            for note in self.notes:
                level = logging.INFO if note.endswith(EXCLUDED) else logging.WARNING  # the former needs no attention
                logger.log(level, "%s: %s", path, note)
        if labels is not None:
            self._check_labels(evenly(self.z_slices, SAMPLED_SLICES))

    @property
    def file_shape(self) -> tuple[int, int, int]:
        """(Z, Y, X) of the whole file."""
        return turn_back(self.image.shape, self.plane)

    @property
    def file_voxel_size(self) -> tuple[float, float, float] | None:
        """(z, y, x) nm."""
        return None if self.voxel_size is None else turn_back(self.voxel_size, self.plane)

    @property
    def tiles(self) -> list[Tile]:
        """Tiles of every slice, in the order of `fovs`."""
        return tiles(self.shape[1:], self.fov)

    def read_slice(self, z: int) -> np.ndarray:
        """Slice z of the region -> (H, W) float32, standardised."""
        return self._read(z, 0, self.shape[1])

    def read_labels(self, z: int) -> np.ndarray | None:
        """Slice z of the region -> (H, W) int32 class codes, or None without labels."""
        return self._read_labels(z, 0, self.shape[1])

    def fovs(self) -> Iterator[FOV]:
        """Every FOV of every used slice that the mask does not leave out: slice by slice, row by row."""
        whole = self.shape[1] * self.shape[2] <= PLANE_AT_ONCE
        for z in self.z_slices:
            top, bottom = 0, 0
            for tile in self.tiles:
                inside = self._inside(z, tile)
                if not _used(inside):
                    continue
                if tile.y1 > bottom:
                    top, bottom = tile.y0, self.shape[1] if whole else tile.y1
                    image, labels = self._read(z, top, bottom), self._read_labels(z, top, bottom)
                window = slice(tile.y0 - top, tile.y1 - top), slice(tile.x0, tile.x1)
                yield FOV(
                    np.ascontiguousarray(image[window]),
                    None if labels is None else np.ascontiguousarray(labels[window]),
                    self.name,
                    z,
                    tile.y0,
                    tile.x0,
                    inside,
                )

    def count_fovs(self) -> int:
        """Number of `fovs`."""
        if self.mask is None:
            return len(self.z_slices) * len(self.tiles)
        return sum(_used(self._inside(z, tile)) for z in self.z_slices for tile in self.tiles)

    def _inside(self, z: int, tile: Tile) -> np.ndarray | None:
        if self.mask is None:
            return None
        return self.mask(z - self.origin[0], slice(tile.y0, tile.y1), slice(tile.x0, tile.x1))

    def read_window(self, z: int, y: slice, x: slice) -> np.ndarray:
        """Part of slice z, rows y and columns x of the region -> (h, w) float32, standardised."""
        _, top, left = self.origin
        pixels = np.asarray(self.image[z, top + y.start : top + y.stop, left + x.start : left + x.stop])
        return self._standardised(pixels, z)

    def _raw(self, array: VolumeArray, z: int, top: int, bottom: int) -> np.ndarray:
        _, y, x = self.origin
        return np.asarray(array[z, y + top : y + bottom, x : x + self.shape[2]])

    def _read(self, z: int, top: int, bottom: int) -> np.ndarray:
        return self._standardised(self._raw(self.image, z, top, bottom), z)

    def _standardised(self, pixels: np.ndarray, z: int) -> np.ndarray:
        self._check_finite(pixels, z)
        if abs(self.mean) > COARSE * self.std or not 1 / HUGE < self.std < HUGE:  # float32 is too coarse
            standard = ((pixels.astype(np.float64) - self.mean) / self.std).clip(-FAR, FAR).astype(np.float32)
        else:
            with np.errstate(over="ignore"):  # infinity is clipped
                standard = pixels.astype(np.float32)
            standard -= np.float32(self.mean)
            standard /= np.float32(self.std)
            np.clip(standard, -FAR, FAR, out=standard)
        return standard

    def _read_labels(self, z: int, top: int, bottom: int) -> np.ndarray | None:
        if self.labels is None:
            return None
        return self.codes.read(self._raw(self.labels, z, top, bottom), self.labels_path)

    def _bands(self) -> list[tuple[int, int]]:
        rows = max(1, PLANE_AT_ONCE // self.shape[2])
        return [(top, min(top + rows, self.shape[1])) for top in range(0, self.shape[1], rows)]

    def _sampled_bands(self) -> list[tuple[int, int]]:
        bands = self._bands()
        return evenly(bands, max(1, SAMPLED_PIXELS * len(bands) // (self.shape[1] * self.shape[2])))

    def _check_finite(self, pixels: np.ndarray, z: int) -> None:
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise UserError(f"{self.path}: slice z={z} has NaN or infinite pixels; replace them or leave the slice out")

    def _check_reach(self, seen: Moments) -> None:
        """Raises UserError for values whose squares double precision cannot hold."""
        reach = max(-seen.low, seen.high)
        if seen.low < seen.high and not 1 / LARGEST < reach < LARGEST:
            raise UserError(
                f"{self.path}: values reach {reach:.4g}, too {'large' if reach > 1 else 'small'} for double "
                "precision; rescale them"
            )

    def _statistics(self, sample: Sequence[int], borders: bool = True) -> tuple[float, float]:
        """Mean and deviation; borders: whether these are left out. Where nothing but one value is between them, they
        are the image."""
        bands = self._sampled_bands()
        parts: dict[int, list[Moments]] = {z: [] for z in sample}
        thin = stride(sum(bottom - top for top, bottom in bands) * self.shape[2], self.shape[2])
        values: dict[int, list[np.ndarray]] = {z: [] for z in sample}  # evenly spaced pixels, to judge slices by
        bordered: set[int] = set()
        for top, bottom in bands:
            for z, pixels in zip(sample, self._planes(self.image, sample, top, bottom)):
                self._check_finite(pixels, z)
                inner = self._inner(pixels, top, bottom) if borders else None
                parts[z].append(Moments.of(pixels if inner is None else pixels[inner]))
                chosen = pixels.ravel()[::thin]
                values[z].append(chosen.copy() if inner is None else chosen[inner.ravel()[::thin]])
                bordered |= set() if inner is None else {z}
        seen = {z: np.concatenate(each) for z, each in values.items()}
        kept = [z for z in sample if not _empty(seen[z])] or list(sample)
        joined = Moments.joined(part for z in kept for part in parts[z])
        kind = getattr(self.image, "dtype", seen[sample[0]].dtype).kind  # arrays that only read by slices may lack it
        if kind in "iu" and max(-joined.low, joined.high) > EXACT:
            raise UserError(
                f"{self.path}: values reach {joined.high:.6g}, but beyond {EXACT:.2g} double precision rounds "
                "neighbouring values to one; subtract the smallest value and save as 16 or 32 bits"
            )
        if joined.low >= joined.high or joined.spread == 0:
            if bordered:
                return self._statistics(sample, borders=False)
            self._check_reach(joined)
            raise UserError(
                f"{self.path}: the image is constant ({joined.mean:g}) in the region; check the file, or choose "
                "another region"
            )
        low, high = ordinary(np.concatenate([seen[z] for z in kept]))
        if joined.low < low or joined.high > high:
            joined = Moments.joined(
                Moments.of(pixels[(pixels >= low) & (pixels <= high) & (True if inner is None else inner)])
                for top, bottom in bands
                for pixels in self._planes(self.image, kept, top, bottom)
                for inner in [self._inner(pixels, top, bottom) if borders else None]
            )
            self._note(f"a few pixels lie far outside {low:.4g} to {high:.4g}: {EXCLUDED}")
        self._check_reach(joined)
        middle = kept[len(kept) // 2]
        if kind == "i" and looks_unsigned(np.asarray(self._raw(self.image, middle, *bands[0]))):
            self._note(
                "values jump from the largest to the smallest: unsigned values were saved as signed; convert them"
            )
        if len(kept) < len(sample):
            empty = ", ".join(str(z) for z in sample if z not in kept)
            self._note(f"slices without an image (z = {empty}) are {EXCLUDED}")
        if framed := [str(z) for z in kept if z in bordered]:
            self._note(f"borders of one value (z = {listed(framed)}) are {EXCLUDED}")
        if (note := drift({z: seen[z] for z in kept})) is not None:
            self._note(note)
        return joined.mean, (joined.spread / joined.count) ** 0.5

    def _inner(self, pixels: np.ndarray, top: int, bottom: int) -> np.ndarray | None:
        """Which pixels of a band of a slice are of its image; None: all, as there is no border, or next to nothing
        else."""
        found = border(pixels, top == 0, bottom == self.shape[1])
        whole = (top, bottom) == (0, self.shape[1])
        return None if found is None or (whole and found.mean() >= EMPTY) else ~found

    def _note(self, text: str) -> None:
        self.notes.append(text)

    def _planes(self, array: VolumeArray, zs: Sequence[int], top: int, bottom: int) -> Iterator[np.ndarray]:
        """Rows of several slices; a chunk that spans several of them is decoded once."""
        _, y, x = self.origin
        if isinstance(array, LazyArray):
            yield from array.slices(zs, slice(y + top, y + bottom), slice(x, x + self.shape[2]))
        else:
            yield from (self._raw(array, z, top, bottom) for z in zs)

    def _check_labels(self, sample: Sequence[int]) -> None:
        # The message lists every unknown code of the sample, not only those of the first slice.
        assert self.labels is not None
        known = {*self.codes.classes, *self.codes.merge, self.codes.ignore}
        strange: set[int] = set()
        for top, bottom in self._bands():
            for raw in self._planes(self.labels, sample, top, bottom):
                if raw.dtype.kind in "iub":
                    strange.update(int(code) for code in np.unique(raw) if int(code) not in known)
                else:
                    self.codes.read(raw, self.labels_path)
        if strange:
            self.codes.read(np.array(sorted(strange)), self.labels_path)


@dataclass
class Moments:
    """Number, mean, sum of squared deviations, and range of some pixels."""

    count: int = 0
    mean: float = 0.0
    spread: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, pixels: np.ndarray) -> Moments:
        """Moments of an array, in double precision."""
        if not pixels.size:
            return cls()
        with np.errstate(over="ignore", invalid="ignore"):  # from absurd values, which are excluded later
            mean, variance = float(pixels.mean(dtype=np.float64)), float(pixels.var(dtype=np.float64))
        return cls(pixels.size, mean, variance * pixels.size, float(pixels.min()), float(pixels.max()))

    @classmethod
    def joined(cls, parts: Iterable[Moments]) -> Moments:
        """Moments of all parts together, joined in order."""
        count, mean, spread, low, high = 0, 0.0, 0.0, math.inf, -math.inf
        for part in parts:
            if not part.count:
                continue
            total, shift = count + part.count, part.mean - mean
            spread += part.spread + shift * shift * count * part.count / total
            mean += shift * part.count / total
            count, low, high = total, min(low, part.low), max(high, part.high)
        return cls(count, mean, spread, low, high)


def stride(count: int, width: int) -> int:
    """The step at which to sample `count` pixels of an image of that width, so that all its columns are covered."""
    step = -(-count // JUDGED)
    while step > 1 and math.gcd(step, width) > 1:
        step += 1
    return step


def _empty(values: np.ndarray) -> bool:
    return not values.size or bool((values == np.median(values)).mean() >= EMPTY)


def ordinary(values: np.ndarray) -> tuple[float, float]:
    """The range beyond which pixels are extreme outliers; the full range, if most pixels have the same value."""
    low, high = (float(value) for value in np.quantile(values, TAILS))
    reach = FAR_OUT * (high - low)
    return (low - reach, high + reach) if reach > 0 else (-math.inf, math.inf)


def drift(slices: Mapping[int, np.ndarray]) -> str | None:
    """A remark on slices (z -> pixels) that differ in brightness or contrast; else None."""
    medians = {z: float(np.median(values)) for z, values in slices.items()}
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.quantile(np.concatenate(list(slices.values())), (0.001, 0.999))
        deviations = {z: float(values.clip(low, high).std(dtype=np.float64)) for z, values in slices.items()}
    usual = float(np.median(list(deviations.values())))
    darkest, brightest = (pick(medians, key=medians.__getitem__) for pick in (min, max))
    faintest, strongest = (pick(deviations, key=deviations.__getitem__) for pick in (min, max))
    even = "correct this first (Fiji: Image > Adjust > Bleach Correction), as clusters follow brightness"
    if medians[brightest] - medians[darkest] > DRIFT * usual:
        times = (medians[brightest] - medians[darkest]) / usual if usual else math.inf
        return (
            f"brightness varies along z by {times:.1f} deviations: the median is {medians[darkest]:.4g} at "
            f"z={darkest}, {medians[brightest]:.4g} at z={brightest}; {even}"
        )
    if deviations[strongest] > CONTRAST * deviations[faintest]:
        return (
            f"contrast varies along z: the deviation is {deviations[faintest]:.4g} at z={faintest}, "
            f"{deviations[strongest]:.4g} at z={strongest}; {even}"
        )
    return None


def voxel_mismatch(here: Sequence[float] | None, trained: Sequence[float] | None) -> str | None:
    """A remark on an image whose pixel size differs from that of the model's training images; else None.

    Both sizes are (z, y, x) in nm, None if unknown.
    """
    if here is None or trained is None or 1 / MISMATCH < here[-1] / trained[-1] < MISMATCH:
        return None
    return (
        f"the image has {here[-1]:.4g} nm pixels, but the model was trained at {trained[-1]:.4g} nm: "
        "expect worse results; choose another resolution level or rescale the image"
    )


def _used(inside: np.ndarray | None) -> bool:
    """Whether to train on a FOV, by its mask."""
    return inside is None or bool(inside.mean() >= LEAST_INSIDE)


def evenly(items: Sequence[T], count: int | None) -> list[T]:
    """`count` evenly spaced items (the middles of equal parts), or all if there are fewer."""
    if count is None or count >= len(items):
        return list(items)
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


@dataclass
class Dataset:
    """Training and test volumes, and the meaning of their labels.

    classes: label code -> name, in the order of the confusion tables. ignore: the code that is not scored. Raises
    UserError if the training list is empty, or if the anchor is not a training FOV.
    """

    name: str
    train: list[Volume]
    test: list[Volume]
    classes: dict[int, str]
    ignore: int | None = None
    anchor: str | None = None  # key of a training FOV

    def __post_init__(self) -> None:
        if not self.train:
            raise UserError("data.train: the list of training volumes is empty; give at least one")
        if self.anchor is not None and not any(self.anchor in _keys(volume) for volume in self.train):
            volume = next((v for v in self.train if v.name == self.anchor.split(":")[0]), self.train[0])
            raise UserError(
                f"data.anchor: {self.anchor!r} is not a training FOV; a FOV of volume {volume.name} "
                f"is written like {next(_keys(volume))}, with z among {_short(volume.z_slices)}"
            )


def _keys(volume: Volume) -> Iterator[str]:
    return (f"{volume.name}:{z}:{tile.y0}:{tile.x0}" for z in volume.z_slices for tile in volume.tiles)


def _short(numbers: Sequence[int]) -> str:
    head = ", ".join(map(str, numbers[:8]))
    return head if len(numbers) <= 8 else f"{head}, ... {numbers[-1]}"
