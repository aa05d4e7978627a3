"""How large an image may say that it is. What a header announces is held against these bounds before anything is
planned, listed or decoded: a header costs its author nothing. docs/reliability.md gives the reasons to users.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Sequence

from registry.base import UserError

MOST_SIDE = 1 << 20  # voxels along an axis; the largest volume published, H01, has 516,000
MOST_SLICE = 1 << 38  # pixels of a slice; H01: 1.8e11
MOST_VOXELS = 1 << 51  # of a volume; H01: 1e15
# Bytes of what can only be decoded whole: a chunk, a compressed strip or tile. Its codec holds it two or three times
# over, which keeps a command below 1.8 GB.
MOST_DECODED = 1 << 29
MOST_FLAT = 1 << 30  # bytes of a PNG, JPEG, BMP or PGM, which is decoded whole, and held once
DEFLATED = 1100  # no PNG is smaller than its pixels by more: deflate ends at 1032 to 1
MOST_METADATA = 1 << 26  # bytes of JSON or XML beside or before the pixels
LEAST_VOXEL, MOST_VOXEL = 1e-3, 1e9  # nm along an axis: of a voxel of light and electron microscopes, and far beyond
MOST_FILES = 1 << 18  # that a pattern may match; links may lead it round in circles
LEAST_CHUNK = 256  # pixels of a slice in one chunk, of slices in more than
MANY_CHUNKS = 1 << 16  # chunks: each is a file that is looked for


def check_shape(path: str, shape: Sequence[int], slice_shape: Sequence[int] = ()) -> None:
    """Raises UserError for a volume larger than any; slice_shape: (Y, X), where it is known."""
    sides = [int(n) for n in shape]
    if max(sides, default=0) > MOST_SIDE or math.prod(sides) > MOST_VOXELS or math.prod(slice_shape) > MOST_SLICE:
        said = " x ".join(map(str, sides))
        raise UserError(
            f"{path}: its header announces {said} voxels, more than any volume has (at most {MOST_SIDE:,} along an "
            f"axis, {MOST_SLICE:.1g} in a slice, {MOST_VOXELS:.1g} in all): the header is damaged, write the file anew"
        )


def check_decoded(path: str, what: str, shape: Sequence[int], itemsize: int, most: int = MOST_DECODED) -> None:
    """Raises UserError where `what`, of that shape, must be decoded whole and is too large, or has a side below 1."""
    sides = [int(n) for n in shape]
    said = " x ".join(map(str, sides))
    if sides and min(sides) < 1:
        raise UserError(f"{path}: its header announces {what} of {said}: it is damaged, write the file anew")
    if math.prod(sides) * itemsize > most:
        raise UserError(
            f"{path}: {what} of {said} values takes {math.prod(sides) * itemsize / 2**30:.3g} GiB to decode, SCCS "
            f"decodes {most / 2**30:.2g} GiB at once: save it in smaller pieces (OME-Zarr, or TIFF in tiles)"
        )


def check_chunks(path: str, shape: Sequence[int], chunks: Sequence[int]) -> None:
    """Raises UserError for slices, (Z, Y, X), in so many tiny chunks that reading them would not end."""
    count = math.prod(-(-int(n) // int(c)) for n, c in zip(shape[1:], chunks[1:]))
    if math.prod(chunks[1:]) < LEAST_CHUNK and count > MANY_CHUNKS:
        raise UserError(
            f"{path}: a slice lies in {count:,} chunks of {chunks[1]} x {chunks[2]} px, which takes hours to read: "
            "save it in larger ones, such as 64 x 64"
        )


def check_file(path: str) -> None:
    """Raises UserError for what is there and is no file to read: a pipe, a device, a folder, a link in a circle."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        what = "a link that leads nowhere" if os.path.islink(path) else error.strerror
        raise UserError(f"{path}: {what}: fix it or move it away") from None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
        raise UserError(f"{path}: {what}, not a file: give a file, or move it away")


def check_metadata(path: str) -> None:
    """Raises UserError for a file of metadata beyond all measure; none at all is for others to judge."""
    if os.path.lexists(path):
        check_file(path)
        if os.path.getsize(path) > MOST_METADATA:
            size = os.path.getsize(path) / 2**20
            raise UserError(f"{path}: {size:.0f} MiB of metadata, an image has {MOST_METADATA >> 20} at most: fix it")
