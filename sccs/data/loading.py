"""From a recipe's `data` block to a Dataset: paths, the phantom's cache, the published BetaSeg layout."""

from __future__ import annotations

import hashlib
import json
import pkgutil
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.lazy import VolumeArray
from sccs.data.readers import expand, open_image
from sccs.data.schema import LONGEST_NAME, BetasegBlock, PhantomBlock, VolumesBlock, parse_block
from sccs.data.volumes import Dataset, LabelCodes, Volume
from sccs.system.cache import code_of, kept_folder, usable_folder

CELL_CLASSES = {0: "unrecognized", 1: "nucleus", 2: "granules", 3: "mitochondria"}
CELL_IGNORE = 255  # outside the cell
FILE_SUFFIXES = (
    ".ome.zarr",
    ".ome.tiff",
    ".ome.tif",
    ".zarr",
    ".n5",
    ".tiff",
    ".tif",
    ".png",
    ".mrc",
    ".rec",
    ".h5",
    ".hdf5",
)


def load(data: Mapping[str, Any], base: Path, seed: int, min_side: int) -> Dataset:
    """See sccs.data.load_dataset."""
    block = parse_block(dict(data))
    if isinstance(block, PhantomBlock):
        return _phantom(block, seed, min_side)
    if isinstance(block, BetasegBlock):
        return _betaseg(block, base, min_side)
    return _volumes(block, base, min_side)


def storage() -> Path:
    """The cache folder, or a temporary one without a cache, as the phantom is always memory-mapped from files."""
    return usable_folder() or Path(tempfile.gettempdir()) / "sccs"


# ----------------------------------------------------------------------------------------------------- own volumes
def _volumes(block: VolumesBlock, base: Path, min_side: int) -> Dataset:
    codes = LabelCodes(block.classes, block.ignore, block.merge)
    parts: dict[str, list[Volume]] = {}
    names = _names(block)
    for part, limit in (("train", block.max_train_slices), ("test", block.max_test_slices)):
        parts[part] = []
        for position, entry in enumerate(getattr(block, part)):
            key = f"data.{part}.{position}"
            if entry.labels is not None and not block.classes:
                raise UserError(f"{key}.labels: given, but data.classes is empty; name the label codes there")
            image, path, voxel_size = _open(
                entry.image, base, f"{key}.image", entry.axes, entry.voxel_size, entry.level
            )
            labels, labels_path = None, "labels"
            if entry.labels is not None:
                axes = entry.labels_axes or entry.axes
                labels, labels_path, stated = _open(
                    entry.labels, base, f"{key}.labels", axes, entry.voxel_size, entry.labels_level, codes=True
                )
                voxel_size = voxel_size or stated
            mask, mask_path = None, "mask"
            if entry.mask is not None:
                mask, mask_path, _ = _open(entry.mask, base, f"{key}.mask", None, None, None, codes=True)
            parts[part].append(
                Volume(
                    names[part, position],
                    image,
                    path=path,
                    labels=labels,
                    labels_path=labels_path,
                    mask=mask,
                    mask_path=mask_path,
                    voxel_size=voxel_size,
                    codes=codes,
                    region=entry.region,
                    fov=block.fov,
                    max_slices=limit,
                    min_side=min_side,
                    plane=block.plane,
                )
            )
    if parts["train"] and not any(volume.mask is None or volume.count_fovs() for volume in parts["train"]):
        raise UserError("data.train: the masks leave no field of view to train on; only nonzero pixels are used")
    return Dataset("volumes", parts["train"], parts["test"], block.classes, block.ignore, block.anchor)


def _open(
    given: str | np.ndarray,
    base: Path,
    key: str,
    axes: str | None,
    voxel_size: tuple[float, float, float] | None,
    level: int | None,
    codes: bool = False,
) -> tuple[VolumeArray, str, tuple[float, float, float] | None]:
    """A file or an array -> lazy (Z, Y, X) array, a name for messages, voxel size or None."""
    if isinstance(given, np.ndarray):
        if given.ndim not in (2, 3):
            raise UserError(f"{key}: an array of shape {given.shape} is neither a volume (Z, Y, X) nor an image (Y, X)")
        return given.reshape((-1, *given.shape[-2:])), key, voxel_size
    path = str(resolve_path(given, base, key))
    source = open_image(path, axes=axes, voxel_size=voxel_size, level=level, codes=codes)
    return source.array, given, source.voxel_size


def resolve_path(text: str, base: Path, key: str, hint: str = "") -> Path:
    """Expand ``${VARIABLE}`` and ``~``; a relative path is relative to `base`, the recipe's folder.

    Raises UserError for a variable that is not set; `hint` says how to get the data.
    """
    try:
        return base / expand(text)
    except UserError as error:
        raise UserError(f"{key}: {error}{hint and '; ' + hint}") from None


def _names(block: VolumesBlock) -> dict[tuple[str, int], str]:
    """Names as given, or taken from files; repeated files are distinguished by part, then by number."""
    entries = {(part, i): entry for part in ("train", "test") for i, entry in enumerate(getattr(block, part))}
    given = Counter(entry.name for entry in entries.values() if entry.name is not None)
    for name, count in given.items():
        if count > 1:
            raise UserError(f"data: {count} volumes are named {name!r}; give each a unique name, used in output files")
    names = {key: entry.name for key, entry in entries.items() if entry.name is not None}
    stems = {
        key: "volume" if isinstance(entry.image, np.ndarray) else stem(entry.image)
        for key, entry in entries.items()
        if entry.name is None
    }
    often = Counter(stems.values())
    for (part, position), plain in stems.items():
        wanted = plain if often[plain] == 1 and plain not in given else f"{plain}-{part}"
        name, number = wanted, 2
        while _alike(name) in map(_alike, names.values()):
            name, number = f"{wanted}-{number}", number + 1
        names[part, position] = name
    return names


def _alike(name: str) -> str:
    """The same for names whose files would be one on disks that know no capitals, as of macOS and Windows."""
    return unicodedata.normalize("NFC", name).casefold()


def stem(path: str) -> str:
    """A volume's name from its file, without folders, path inside a container, and suffix."""
    path = re.sub(r"(\.(?:h5|hdf5|zarr|n5))[:/].*$", r"\1", path.rstrip("/"))
    parts = [part for part in path.split("/") if part]
    while len(parts) > 1 and any(wild in parts[-1] for wild in "*?["):
        parts.pop()  # a glob is named after its folder
    last = parts[-1] if parts else ""
    suffix = next((suffix for suffix in FILE_SUFFIXES if last.lower().endswith(suffix)), "")
    name = re.sub(r"[^\w.+-]", "_", last[: len(last) - len(suffix)])
    return name.encode()[:LONGEST_NAME].decode(errors="ignore") or "volume"


# --------------------------------------------------------------------------------------------------------- phantom
def _phantom(block: PhantomBlock, seed: int, min_side: int) -> Dataset:
    arguments: dict[str, Any] = {"seed": seed if block.seed is None else block.seed}
    if block.shapes is not None:
        arguments["shapes"] = [list(shape) for shape in block.shapes]
    folder = phantom_folder(arguments)
    cells = json.loads((folder / "cells.json").read_text(encoding="utf-8"))
    volumes = []
    for number, cell in enumerate(cells):
        last = number == len(cells) - 1
        image, labels = (np.load(folder / f"{cell['name']}_{kind}.npy", mmap_mode="r") for kind in ("image", "labels"))
        volumes.append(
            Volume(
                cell["name"],
                image,
                path=cell["name"],
                labels=labels,
                labels_path=f"labels of {cell['name']}",
                voxel_size=cell["voxel_size"],
                codes=LabelCodes(CELL_CLASSES, CELL_IGNORE),
                fov=block.fov,
                max_slices=block.test_slices if last else block.train_slices,
                min_side=min_side,
                plane=block.plane,
            )
        )
    return Dataset("phantom", volumes[:-1], volumes[-1:], CELL_CLASSES, CELL_IGNORE, block.anchor)


def phantom_folder(arguments: dict[str, Any]) -> Path:
    """Folder with the phantom's arrays, generated on first use, and again if damaged.

    Keyed by the code of the generator's modules and its arguments.
    """
    from sccs.data import phantom

    modules = {f"{phantom.__name__}.{module.name}" for module in pkgutil.iter_modules(phantom.__path__)}
    code = code_of({phantom.__name__, *modules})
    key = hashlib.sha256((code + json.dumps(arguments, sort_keys=True)).encode()).hexdigest()[:16]

    def make(folder: Path) -> None:
        cells = []
        for cell in phantom.make_phantom(**arguments):
            np.save(folder / f"{cell.name}_image.npy", cell.image)
            np.save(folder / f"{cell.name}_labels.npy", cell.labels)
            cells.append({"name": cell.name, "voxel_size": [float(size) for size in cell.voxel_size]})
        (folder / "cells.json").write_text(json.dumps(cells), encoding="utf-8")

    return kept_folder(storage() / f"phantom-{key}", make)


# --------------------------------------------------------------------------------------------------------- BetaSeg
def _betaseg(block: BetasegBlock, base: Path, min_side: int) -> Dataset:
    from sccs.data import betaseg

    root = resolve_path(block.root, base, "data.root", betaseg.HOW_TO)
    folders = betaseg.find_volumes(root)
    if block.checksum:
        betaseg.check_download(root, storage())
    volumes = {}
    for name, folder in folders.items():
        source, labels = betaseg.open_volume(name, folder)
        volumes[name] = Volume(
            f"{name}_source",
            source.array,
            path=source.path,
            labels=labels,
            labels_path=f"{folder} (merged masks)",
            voxel_size=source.voxel_size or betaseg.VOXEL_SIZE,
            codes=LabelCodes(CELL_CLASSES, CELL_IGNORE),
            fov=block.fov,
            max_slices=block.test_slices if name in betaseg.TEST else block.train_slices,
            min_side=min_side,
            plane=block.plane,
        )
    train, test = ([volumes[name] for name in part] for part in (betaseg.TRAIN, betaseg.TEST))
    return Dataset("betaseg", train, test, CELL_CLASSES, CELL_IGNORE, block.anchor)


# --------------------------------------------------------------------------------------------------------- summary
def summary(dataset: Dataset) -> str:
    """See sccs.data.describe."""
    classes = ", ".join(f"{code} {name}" for code, name in dataset.classes.items()) or "none"
    lines = [f"data set {dataset.name}: classes {classes}; ignored code {dataset.ignore}"]
    for part in ("train", "test"):
        for volume in getattr(dataset, part):
            slices, (_, height, width) = volume.z_slices, volume.shape
            voxel = "unknown"
            if volume.voxel_size is not None:
                voxel = " x ".join(f"{size:g}" for size in volume.voxel_size) + " nm"
            lines.append(
                f"{part:5} {volume.name}: {len(slices)} slices (z {slices[0]} to {slices[-1]}), {height} x {width} px, "
                f"{len(slices) * len(volume.tiles)} FOVs, voxel {voxel}, mean {volume.mean:.4g}, sd {volume.std:.4g}, "
                f"{'unlabelled' if volume.labels is None else 'labelled'}"
            )
    return "\n".join(lines)
