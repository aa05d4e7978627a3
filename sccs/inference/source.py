"""What to segment: the image at a resolution level, a region of it as a volume, and the mask."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from registry.base import UserError
from sccs.data.mask import Inside, Mask
from sccs.data.planes import Plane, turn
from sccs.data.readers import ImageSource, expand, open_image, open_levels
from sccs.data.schema import Region
from sccs.data.volumes import Volume, voxel_mismatch
from sccs.inference.blocks import chosen_level
from sccs.system.log import say, say_error


def absolute(path: str | os.PathLike) -> str:
    """The absolute path of a file, pattern or path inside a container; `~` and variables are expanded."""
    return os.path.abspath(expand(path))


def open_level(
    input: str,
    level: int | str | None,
    voxel_size: Sequence[float] | None,
    axes: str | None,
    trained: Sequence[float] | None,
    min_side: int = 1,
    plane: Plane = "xy",
) -> tuple[ImageSource, int | None]:
    """The image at the requested level, and its number; `trained`: voxel size (z, y, x) nm of the training images.

    "auto" skips levels whose planes have a side below `min_side` px, as long as others remain.
    """
    if level == "auto":
        if voxel_size is not None:
            raise UserError("--level auto uses the voxel sizes in the file; with --voxel-size, give --level L instead")
        level = _nearest_level(input, axes, trained, min_side, plane)
    assert not isinstance(level, str)
    return open_image(input, axes=axes, voxel_size=voxel_size, level=level), level


def _nearest_level(
    input: str, axes: str | None, trained: Sequence[float] | None, min_side: int, plane: Plane
) -> int | None:
    """The chosen level, which is printed; None for a file without levels."""
    if trained is None:
        raise UserError("--level auto: the voxel size of the run's training images is unknown; give --level L")
    sources = open_levels(input, axes)
    sizes, count = [each.voxel_size for each in sources if each.voxel_size is not None], len(sources)
    if len(sizes) < count:
        raise UserError(f"--level auto: {input} does not give its voxel size; give --level L and --voxel-size")
    levels = list(range(count))
    if count > 1:
        levels = [number for number in levels if min(turn(sources[number].shape, plane)[1:]) >= min_side] or levels
    level = levels[chosen_level([sizes[number] for number in levels], trained)]
    note = "" if len(levels) == count else f", among levels with sides of at least {min_side} px"
    say(f"level {level} of {count}: {_nm(sizes[level])}, closest to the training images' {_nm(trained)}{note}")
    return level if count > 1 else None


def _nm(size: Sequence[float]) -> str:
    return " x ".join(f"{s:.4g}" for s in size) + " nm"


def parse_region(text: str | None) -> list[tuple[int | None, int | None]]:
    """ "z0:z1,y0:y1,x0:x1", each number optional -> three pairs. Raises UserError for anything else.

    >>> parse_region("0:100,:,512:")
    [(0, 100), (None, None), (512, None)]
    """
    if text is None:
        return [(None, None)] * 3
    parts = [
        part for part in (re.fullmatch(r"(\d{0,18}):(\d{0,18})", part.strip()) for part in text.split(",")) if part
    ]
    if len(parts) != 3 or text.count(",") != 2:
        raise UserError(
            f"--region {text[:80]}: write z0:z1,y0:y1,x0:x1 in voxels of the level, such as 0:100,:,512:1536"
        )
    return [(int(part[1]) if part[1] else None, int(part[2]) if part[2] else None) for part in parts]


def whole_region(region: Sequence[tuple[int | None, int | None]], shape: Sequence[int], path: str) -> list[list[int]]:
    """[[z0, z1], [y0, y1], [x0, x1]], half-open, within an image of that shape (Z, Y, X)."""
    found = []
    for axis, (start, stop), size in zip("zyx", region, shape):
        start, stop = start or 0, size if stop is None else stop
        if not 0 <= start < stop <= size:
            raise UserError(f"--region: {axis} {start}:{stop} is not within {path}, which has {size}")
        found.append([start, stop])
    return found


def open_volume(
    settings: Mapping[str, Any], min_side: int, statistics: tuple[float, float] | None = None, plane: Plane = "xy"
) -> Volume:
    """The region of the image as standardised slices; statistics: its mean and deviation, if known."""
    source = open_image(
        settings["input"], axes=settings["axes"], voxel_size=settings["voxel_size"], level=settings["level"]
    )
    z, y, x = settings["region"]
    return Volume(
        "volume",
        source.array,
        path=source.path,
        voxel_size=source.voxel_size,
        fov=settings["fov"],
        region=Region(z=z, y=y, x=x),
        min_side=min_side,
        statistics=statistics,
        plane=plane,
    )


def say_absent(source: ImageSource, region: Sequence[Sequence[int]]) -> None:
    """Warn on stderr if part of a region of the image was never written."""
    share = source.array.absent(*(slice(start, stop) for start, stop in region))
    if share:
        said = f"{share:.1%}" if share >= 0.001 else "less than 0.1%"
        say_error(f"{source.path}: {said} of the chunks in the region were never written; they hold the fill value")


def open_mask(settings: Mapping[str, Any], plane: Plane = "xy") -> Mask | None:
    """The mask in a job's settings, or None. Raises UserError if its shape does not fit."""
    if settings["mask"] is None:
        return None
    source = open_image(
        settings["input"], axes=settings["axes"], voxel_size=settings["voxel_size"], level=settings["level"]
    )
    mask = open_image(settings["mask"], codes=True)
    origin = [start for start, _ in settings["region"]]
    return Mask(mask.array, source.shape, origin, f"--mask {settings['mask']}", plane)


def by_planes(mask: Inside, shape: Sequence[int], kept: int) -> Inside:
    """`mask`, read in whole planes of `shape` (H, W), of which the latest `kept` stay in memory."""
    plane = functools.lru_cache(maxsize=kept)(lambda z: mask(z, slice(0, shape[0]), slice(0, shape[1])))
    return lambda z, y, x: plane(z)[y, x]


def warn_of_voxels(here: Sequence[float] | None, trained: Sequence[float] | None) -> None:
    """Print the remark of `sccs.data.volumes.voxel_mismatch`, if any, on stderr."""
    if (note := voxel_mismatch(here, trained)) is not None:
        say_error(f"warning: {note}")
