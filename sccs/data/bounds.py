"""Bounds on the size that an image may claim, checked before anything is planned, listed or decoded, as a header can
claim anything. docs/reliability.md explains them to users.
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
# Bytes of what must be decoded in one piece: a chunk, a compressed strip or tile. Its codec needs two or three copies,
# which keeps a command below 1.8 GB.
MOST_DECODED = 1 << 29
MOST_FLAT = 1 << 30  # bytes of a PNG, JPEG, BMP or PGM, which is decoded in one piece, in a single copy
DEFLATED = 1100  # highest compression ratio of a PNG: deflate reaches 1032 to 1
MOST_METADATA = 1 << 26  # bytes of JSON or XML beside or before the pixels
LEAST_VOXEL, MOST_VOXEL = 1e-3, 1e9  # nm along an axis: far beyond light and electron microscopes
MOST_FILES = 1 << 18  # that a pattern may match; links may form loops
LEAST_CHUNK = 256  # pixels of a slice per chunk, for slices of more than
MANY_CHUNKS = 1 << 16  # chunks, each of which is a file to look for


def check_shape(path: str, shape: Sequence[int], slice_shape: Sequence[int] = ()) -> None:
    """Raises UserError for a volume larger than any known; slice_shape: (Y, X), if known."""
    sides = [int(n) for n in shape]
    if max(sides, default=0) > MOST_SIDE or math.prod(sides) > MOST_VOXELS or math.prod(slice_shape) > MOST_SLICE:
        said = " x ".join(map(str, sides))
        raise UserError(
            f"{path}: its header claims {said} voxels, more than any volume has (at most {MOST_SIDE:,} along an "
            f"axis, {MOST_SLICE:.1g} in a slice, {MOST_VOXELS:.1g} in all): the header is damaged; write the file again"
        )


def check_decoded(path: str, what: str, shape: Sequence[int], itemsize: int, most: int = MOST_DECODED) -> None:
    """Raises UserError if `what`, of that shape, is too large to decode in one piece, or has a side below 1."""
    sides = [int(n) for n in shape]
    said = " x ".join(map(str, sides))
    if sides and min(sides) < 1:
        raise UserError(f"{path}: its header claims {what} of {said}: it is damaged; write the file again")
    if math.prod(sides) * itemsize > most:
        raise UserError(
            f"{path}: {what} of {said} values takes {math.prod(sides) * itemsize / 2**30:.3g} GiB to decode, more than "
            f"the limit of {most / 2**30:.2g} GiB: save it in smaller pieces (OME-Zarr, or tiled TIFF)"
        )


def check_chunks(path: str, shape: Sequence[int], chunks: Sequence[int]) -> None:
    """Raises UserError for slices, (Z, Y, X), in so many tiny chunks that reading them would take hours."""
    count = math.prod(-(-int(n) // int(c)) for n, c in zip(shape[1:], chunks[1:]))
    if math.prod(chunks[1:]) < LEAST_CHUNK and count > MANY_CHUNKS:
        raise UserError(
            f"{path}: a slice spans {count:,} chunks of {chunks[1]} x {chunks[2]} px, which take hours to read: "
            "save it in larger chunks, such as 64 x 64"
        )


def check_file(path: str) -> None:
    """Raises UserError if `path` exists but is not a readable file: a pipe, device, folder, or looping link."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        what = "a broken link" if os.path.islink(path) else error.strerror
        raise UserError(f"{path}: {what}: fix it or move it away") from None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
        raise UserError(f"{path}: {what}, not a file: give a file, or move it away")


def check_metadata(path: str) -> None:
    """Raises UserError for an oversized metadata file; a missing one is the caller's business."""
    if os.path.lexists(path):
        check_file(path)
        if os.path.getsize(path) > MOST_METADATA:
            size = os.path.getsize(path) / 2**20
            raise UserError(
                f"{path}: {size:.0f} MiB of metadata, more than the limit of {MOST_METADATA >> 20} MiB: fix it"
            )
