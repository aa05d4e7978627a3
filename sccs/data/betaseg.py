"""BetaSeg: FIB-SEM of four beta cells (Müller et al. 2020), the paper's data set, read from the published files.

Masks are binarised (> 0; granules are instance labels) and merged slice by slice, as they are read, into
1 nucleus, 2 granules, 3 mitochondria, 0 unrecognized (rest of the cell) and 255 (outside the membrane mask; ignored).
Where masks overlap, nucleus wins over mitochondria over granules: a granule detected within a nucleus or within a
mitochondrion is a false positive of the detection, while the other order would punch holes into larger bodies.
Split of MAESTER and SCCS: c1 to c3 train, c4 test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from registry.base import UserError
from sccs.data.lazy import VolumeArray
from sccs.data.readers import ImageSource, open_image

URL = "https://cloud.mpi-cbg.de/index.php/s/UJopHTRuh6f4wR8/download"
SHA256 = "4872eec0211721dc224acee319c27c4f51c190adc36004e3d5bb60dfcd67eb7b"
ZIP_NAMES = ("download.zip", "betaseg.zip")
HOW_TO = f"download {URL} as download.zip (sha256 {SHA256}), unzip it there, and set data.root to that folder"

TRAIN, TEST = ("high_c1", "high_c2", "high_c3"), ("high_c4",)
ORGANELLES = ((2, "granules"), (3, "mitochondria_mask"), (1, "nucleus_mask"))  # painted in this order: last wins
CELL = "membrane_full_mask"
PUBLISHED = ("centrioles", "golgi_corrected", "granules", CELL, "microtubules", "mitochondria_mask", "nucleus_mask")
IGNORE = 255
# The published cells fit their slices (c4: about 0.5 k x 1.1 k px) only at 16 nm, a 4-fold reduction of the
# 4 nm acquisition; used where the file itself states no voxel size.
VOXEL_SIZE = (16.0, 16.0, 16.0)


class MergedMasks:
    """Lazy (Z, Y, X) uint8 class codes from binary masks of the same shape; reads only what an index asks for."""

    dtype = np.dtype(np.uint8)

    def __init__(self, cell: VolumeArray, organelles: Sequence[tuple[int, VolumeArray]]) -> None:
        self.cell, self.organelles = cell, organelles
        self.shape = tuple(cell.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        inside = np.asarray(self.cell[index]) > 0
        codes = np.zeros(inside.shape, np.uint8)
        for code, mask in self.organelles:
            codes[np.asarray(mask[index]) > 0] = code
        codes[~inside] = IGNORE
        return codes


def find_volumes(root: Path) -> dict[str, Path]:
    """Folder of each volume below `root`, with or without the zip's top folder ``download``.

    Raises UserError that lists the missing files, or says how to get the data if there is none.
    """
    if not root.is_dir():
        raise UserError(f"data.root: no folder {root}; {HOW_TO}")
    top = root / "download" if (root / "download").is_dir() else root
    missing, folders = [], {}
    for volume in TRAIN + TEST:
        folders[volume] = top / volume
        names = [f"{volume}_source.tif", *(f"{volume}_{mask}.tif" for mask in PUBLISHED)]
        missing += [f"{volume}/{name}" for name in names if not (top / volume / name).is_file()]
    if len(missing) == (len(PUBLISHED) + 1) * len(folders):
        raise UserError(f"data.root: no BetaSeg volume in {root}; {HOW_TO}")
    if missing:
        raise UserError(f"data.root: {len(missing)} BetaSeg files are missing in {top}: {', '.join(missing)}; {HOW_TO}")
    return folders


def check_download(root: Path, seen: Path) -> None:
    """Compare the sha256 of the zip, if `root` contains it, with the published one.

    Hashing takes a minute, so the folder `seen` records checked files by path, size and time.
    """
    for path in (root / name for name in ZIP_NAMES):
        if not path.is_file():
            continue
        stat = path.stat()
        identity = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
        marker = seen / f"betaseg-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.ok"
        if marker.exists():
            continue
        with path.open("rb") as file:
            found = _digest(file)
        if found != SHA256:
            raise UserError(
                f"data.root: {path} has sha256 {found}, expected {SHA256}: the download is damaged or another version; "
                "download it again, or set data.checksum to false"
            )
        seen.mkdir(parents=True, exist_ok=True)
        marker.touch()


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def open_volume(name: str, folder: Path) -> tuple[ImageSource, MergedMasks]:
    """Source image (ImageSource) and merged labels (MergedMasks) of one volume; both lazy, (Z, Y, X).

    Raises UserError if a mask's shape is not the image's.
    """
    source = open_image(folder / f"{name}_source.tif")
    masks = {}
    for mask in (CELL, *(mask for _, mask in ORGANELLES)):
        path = folder / f"{name}_{mask}.tif"
        masks[mask] = open_image(path, codes=True).array
        if tuple(masks[mask].shape) != tuple(source.array.shape):
            raise UserError(
                f"{path}: shape {tuple(masks[mask].shape)} is not the image's {tuple(source.array.shape)}; "
                "the file is damaged or of another version, unzip it again"
            )
    return source, MergedMasks(masks[CELL], [(code, masks[mask]) for code, mask in ORGANELLES])
