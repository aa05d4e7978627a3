"""What a run trains on and what it segments, within the given time and memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass

from sccs.data.survey import Found
from sccs.data.tiler import tiles
from sccs.inference.blocks import overlapping

FOV = 560  # px, longest side of a field of view


@dataclass
class Cost:
    """The cost of one FOV of `pixels` px.

    seconds: in total; connect: in `connect` alone; start: before the first FOV, once in a process; learning: until
    features that learn from the training images have done so; all in seconds. graph_bytes, cache_bytes, nodes: bytes
    of a training graph in memory and in the cache, and its nodes. peak: peak memory of this process in bytes.
    """

    pixels: int
    nodes: int
    seconds: float
    connect: float
    start: float
    graph_bytes: int
    cache_bytes: int
    peak: int
    learning: float = 0.0
    fit: float = 0.0  # seconds of the training itself, for the planned number of graphs


@dataclass
class Entry:
    """One line of the recipe's `train` or `test`: a volume, or a region of it."""

    found: Found
    region: dict[str, list[int]]
    mask: str | None = None  # path of the mask, if the volume has one

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X) of the voxels used."""
        Z, Y, X = (len(range(*self.region.get(axis, (0, n)))) for axis, n in zip("zyx", self.found.source.shape))
        return Z, Y, X


@dataclass
class Plan:
    """What to train on and what to segment. slices: `max_test_slices`, None for all."""

    train: list[Entry]
    test: list[Entry]
    slices: int | None

    def fovs(self, part: str) -> int:
        """Fields of view of `part`: "train", to train on, or "test", to segment; only the latter overlap."""
        cut: Callable[..., Sized] = tiles if part == "train" else overlapping
        return sum(self._depth(part, entry) * len(cut(entry.shape[1:], FOV)) for entry in getattr(self, part))

    def segmented(self) -> int:
        """Fields of view that a run segments, of both parts; they overlap."""
        parts = [("train", entry) for entry in self.train] + [("test", entry) for entry in self.test]
        return sum(self._depth(part, entry) * len(overlapping(entry.shape[1:], FOV)) for part, entry in parts)

    def seen(self, part: str) -> int:
        """Pixels that go through the model to segment `part`; training slices of one FOV do not, as nodes are known."""
        fields = [(entry, overlapping(entry.shape[1:], FOV)) for entry in getattr(self, part)]
        return sum(self._depth(part, entry) * each.seen for entry, each in fields if part == "test" or len(each) > 1)

    def pixels(self, part: str) -> int:
        """Pixels of `part`, "train" or "test"."""
        return sum(self._depth(part, entry) * math.prod(entry.shape[1:]) for entry in getattr(self, part))

    def drawn(self, views: Mapping[str, int]) -> int:
        """Pixels of the slices that a run draws, `views` of each part at most."""
        shown = 0
        for part, count in views.items():
            entries: list[Entry] = getattr(self, part)
            for entry in entries:
                depth = min(self._depth(part, entry), max(1, count // len(entries)))
                shown += depth * math.prod(entry.shape[1:])
        return shown

    def _depth(self, part: str, entry: Entry) -> int:
        return min(entry.shape[0], self.slices or entry.shape[0]) if part == "test" else entry.shape[0]


def make_plan(volumes: list[Found], most: int, cost: Cost, minutes: float) -> Plan:
    """Divide the volumes: `most` FOVs to train on, and as many to segment as `minutes` allow.

    Of several volumes, the last quarter (at least one) is only segmented; the others are trained on at evenly spaced
    slices, or at the middle of slices with many FOVs.
    """
    last = max(1, len(volumes) // 4) if len(volumes) > 1 else 0
    learnt = volumes[: max(1, min(len(volumes) - last, most))]
    train = [Entry(found, _region_of(found, max(1, most // len(learnt)))) for found in learnt]
    rest = [Entry(found, {}) for found in volumes[len(learnt) :]]
    if not rest and train[0].shape != train[0].found.source.shape:
        rest = [Entry(train[0].found, {})]
    left = Plan(train, rest, None)
    if not rest:
        return left
    budget = 60 * minutes * cost.pixels / cost.seconds - left.pixels("train") - left.seen("train")  # pixels
    area = sum(overlapping(entry.shape[1:], FOV).seen for entry in rest)
    if area > budget:
        for entry in rest:
            entry.region |= _middle(entry.found, max(1, int(budget / len(rest) / FOV**2)))
        area = sum(overlapping(entry.shape[1:], FOV).seen for entry in rest)
    slices = max(1, int(budget / area))
    left.slices = slices if slices < max(entry.shape[0] for entry in rest) else None
    return left


def _region_of(found: Found, most: int) -> dict[str, list[int]]:
    """The region to train on: without empty slices at either end, at most `most` FOVs."""
    region = _middle(found, most)
    inside = [z for z in found.look.slices if z not in found.look.empty]
    depth = found.source.shape[0]
    first = 0 if found.look.slices[0] not in found.look.empty else inside[0]
    end = depth if found.look.slices[-1] not in found.look.empty else inside[-1] + 1
    height, width = (len(range(*region.get(axis, (0, n)))) for axis, n in zip("yx", found.source.shape[1:]))
    count = max(1, most // len(tiles((height, width), FOV)))
    step = -(-(end - first) // count)
    if step > 1:
        return {"z": [first + (step - 1) // 2, end, step], **region}
    return {"z": [first, end], **region} if (first, end) != (0, depth) else region


def _middle(found: Found, most: int) -> dict[str, list[int]]:
    """{} if a slice has at most `most` FOVs, else its largest central square that does."""
    if len(tiles(found.source.shape[1:], FOV)) <= most:
        return {}
    side = FOV * math.isqrt(most)
    return {
        axis: [max(0, (n - side) // 2), min(n, max(0, (n - side) // 2) + side)]
        for axis, n in zip("yx", found.source.shape[1:])
    }
