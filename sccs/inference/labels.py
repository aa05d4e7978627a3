"""Labels of fields of view (FOVs) and of whole slices from a trained model: the only way from pixels to labels.

`sccs run`, its report, `sccs segment`, napari and Python all use it, so that they give the same pixels. FOVs are
stitched by clusters, whatever is shown: classes are looked up afterwards and do not move borders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sccs.data.mask import Inside
from sccs.data.pyramid import EMPTY
from sccs.data.volumes import PLANE_AT_ONCE, Volume
from sccs.inference.blocks import Fields, Place, Span, overlapping
from sccs.inference.stitch import stitched
from sccs.model.model import Model, Segmented
from sccs.model.teacher import doubt


class Shown(Protocol):
    """What to return for a taught model instead of clusters.

    Stitching still uses clusters: teaching does not change which FOV a pixel comes from.
    """

    def of(self, model: Model, result: Segmented | None, labels: np.ndarray) -> np.ndarray:
        """Channels (h, w, c) of a FOV; labels: its clusters (h, w), `EMPTY` if not segmented."""


@dataclass(frozen=True)
class Classes:
    """Shows class codes uint8 and, if requested, 0 .. 255 for each class probability and for the uncertainty.

    codes: (C,) uint8, of the classes of `Model.taught`.
    """

    codes: np.ndarray
    probabilities: bool = False

    @property
    def empty(self) -> np.ndarray:
        """The channels (1 or C + 2,) uint8 of an unsegmented pixel."""
        return np.array([EMPTY, *([0] * (len(self.codes) + 1) * self.probabilities)], np.uint8)

    def of(self, model: Model, result: Segmented | None, labels: np.ndarray) -> np.ndarray:
        """(h, w, 1 or C + 2) uint8."""
        if result is None:
            return np.broadcast_to(self.empty, (*labels.shape, len(self.empty)))
        P = model.probabilities(result)
        shares = np.column_stack([P, doubt(P)]) if self.probabilities else P[:, :0]
        values = np.column_stack([self.codes[P.argmax(1)], np.rint(255 * shares).astype(np.uint8)])
        return np.where((labels == EMPTY)[..., None], self.empty, values[result.graph.regions])


class Probabilities:
    """Shows the probability of each class, float32; zeros for unsegmented pixels."""

    def of(self, model: Model, result: Segmented | None, labels: np.ndarray) -> np.ndarray:
        """(h, w, C) float32."""
        assert model.taught is not None  # checked by the caller
        if result is None:
            return np.zeros((*labels.shape, len(model.taught.names)), np.float32)
        P = model.probabilities(result)[result.graph.regions]
        return np.where((labels == EMPTY)[..., None], np.float32(0), P)


def label_fovs(
    model: Model, mask: Inside | None, z: int, fovs: Iterable[tuple[Place, Span, Span, np.ndarray]], keep: bool = False
) -> Iterator[tuple[Place, np.ndarray, Segmented | None]]:
    """Clusters (h, w) uint8 of all that each FOV sees of slice z of the region, and the results behind them; on a
    device in batches (`Model.segment_fovs`), not necessarily in order.

    `EMPTY` where the mask is 0. If the FOV's centre is outside the mask or constant, nothing is to be written: all is
    `EMPTY`, and the result is None. fovs: place, spans and pixels of each; FOVs outside the mask need no pixels. keep:
    read nodes from the cache, and store them there.
    """

    def asked() -> Iterator[tuple[tuple[Place, np.ndarray | None, np.ndarray], np.ndarray | None]]:
        for place, y, x, image in fovs:
            inside = None if mask is None else mask(z, slice(y.low, y.high), slice(x.low, x.high))
            outside = inside is not None and not inside[y.core, x.core].any()
            empty = np.full((y.high - y.low, x.high - x.low), EMPTY, np.uint8)
            nothing = outside or of_one_grey(image, y, x)
            yield (place, inside, empty), None if nothing else np.ascontiguousarray(image)

    for (place, inside, empty), result in model.segment_fovs(asked(), keep):
        yield place, empty if result is None else masked(result.clusters, inside), result


def of_one_grey(image: np.ndarray, y: Span, x: Span) -> bool:
    """Whether the centre of a FOV has a single grey value; image: all (h, w) that it sees."""
    core = image[y.core, x.core]
    return bool(core.min() == core.max())


def masked(clusters: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    """Clusters (h, w) uint8; `EMPTY` outside."""
    return clusters if inside is None else np.where(inside, clusters, np.uint8(EMPTY))


def look_up(table: np.ndarray) -> np.ndarray:
    """Table (256,) uint8 from clusters and `EMPTY` to labels; table: (k,) uint8, for the clusters."""
    return np.append(table, np.full(256 - len(table), EMPTY, np.uint8))


@dataclass
class Slice:
    """One slice by its FOVs: the clusters (h, w) uint8 of each and, if requested, the results."""

    fields: Fields
    labels: dict[Place, np.ndarray] = field(default_factory=dict)
    results: dict[Place, Segmented] = field(default_factory=dict)  # without constant FOVs
    shown: dict[Place, np.ndarray] = field(default_factory=dict)  # (h, w, channels), if more than labels is shown

    def plane(self, values: Mapping[Place, np.ndarray] | None = None) -> np.ndarray:
        """Clusters (Y, X) uint8, with each pixel from the FOV that stitching assigns it to; or what is `shown`, or the
        given `values` (h, w)."""
        fields, values = self.fields, values or self.shown or self.labels

        def reader(arrays: Mapping[Place, np.ndarray]) -> Callable[[int, int, slice, slice], np.ndarray]:
            def read(i: int, j: int, rows: slice, columns: slice) -> np.ndarray:
                top, left = fields.y[i].low, fields.x[j].low
                return arrays[i, j][
                    None, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
                ]

            return read

        labels, shown = reader(self.labels), reader(values)
        plane = np.empty((*fields.sides, *values[0, 0].shape[2:]), values[0, 0].dtype)
        for (i, j), y, x in fields:
            found = stitched(i, j, fields.y, fields.x, fields.halo, labels, EMPTY, shown)
            plane[y.start : y.stop, x.start : x.stop] = found[0]
        return plane

    def regions(self) -> np.ndarray:
        """(Y, X) int32, the superpixel of each pixel in the FOV that stitching assigns it to, numbered through all
        `results` in order; -1 if there is none."""
        numbers = {place: np.full(labels.shape, -1, np.int32) for place, labels in self.labels.items()}
        offset = 0
        for place, result in self.results.items():
            inside = self.labels[place] != EMPTY
            numbers[place] = np.where(inside, result.graph.regions + np.int32(offset), np.int32(-1))
            offset += result.graph.n
        return self.plane(numbers)


def views(volume: Volume, z: int, fields: Fields) -> Iterator[tuple[Place, Span, Span, np.ndarray]]:
    """Each FOV of slice z of the file, with the pixels (h, w) float32 that it sees, standardised."""
    height, width = fields.sides
    whole = height * width <= PLANE_AT_ONCE  # otherwise the slice is read in bands
    for (i, j), y, x in fields:
        if j == 0 and (i == 0 or not whole):
            rows = slice(0, height) if whole else slice(y.low, y.high)
            image = volume.read_window(z, rows, slice(0, width))
        yield (i, j), y, x, image[y.low - rows.start : y.high - rows.start, x.low : x.high]


def segment_slice(
    model: Model,
    volume: Volume,
    z: int,
    fields: Fields,
    mask: Inside | None = None,
    *,
    keep: bool = False,
    results: bool = False,
    shown: Shown | None = None,
    done: Callable[[], object] = lambda: None,
) -> Slice:
    """Segment slice z of the file, FOV by FOV, with their `results` if requested. done() is called after each.

    mask, keep: as for `label_fovs`; None: the volume's own mask, if it has one. shown: what to show of a taught model.
    """
    found, mask = Slice(fields), mask or volume.mask
    with sharing(model, len(fields)):
        each = label_fovs(model, mask, z - volume.origin[0], views(volume, z, fields), keep)
        for place, found.labels[place], result in each:
            if shown is not None:
                found.shown[place] = shown.of(model, result, found.labels[place])
            if results and result is not None:
                found.results[place] = result
            done()
    return found


def fields_of(model: Model, volume: Volume) -> Fields:
    """The FOVs of each slice of a volume, with the default halo."""
    return overlapping(volume.shape[1:], volume.fov, context=model.features.context)


def sharing(model: Model, fovs: int) -> AbstractContextManager[object]:
    """A context in which the features that so many FOVs of a slice share are computed once."""
    return model.features.sharing() if fovs > 1 else nullcontext()


def segment_slices(
    model: Model,
    volume: Volume,
    fields: Fields | None = None,
    mask: Inside | None = None,
    *,
    shown: Shown | None = None,
    done: Callable[[], object] = lambda: None,
) -> Iterator[np.ndarray]:
    """Yields clusters (Y, X) uint8 of every used slice of a volume; `EMPTY` as in `label_fovs`.

    They equal the blocks of `sccs.inference.block_job`. fields: None for FOVs that overlap by the default halo. shown:
    what to return for a taught model instead of labels, as (Y, X, channels). done() is called after every FOV.
    """
    fields = fields or fields_of(model, volume)
    for z in volume.z_slices:
        yield segment_slice(model, volume, z, fields, mask, shown=shown, done=done).plane()
