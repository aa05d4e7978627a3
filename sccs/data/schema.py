"""The schema of a recipe's `data` block: one pydantic model for each data set that it can name.

Regions are in voxels, voxel sizes are (z, y, x) in nm.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator, field_validator, model_validator

from registry.base import UserError
from sccs.data.bounds import LEAST_VOXEL, MOST_VOXEL
from sccs.data.planes import Plane
from sccs.data.tiler import WINDOW
from sccs.system.text import UNPRINTABLE

MOST_CODE = 254  # classes are written as uint8, and 255 means no class
LONGEST_NAME = 200  # bytes of a volume's name: with suffixes, file names stay within the 255 that disks allow
LONGEST_CLASS = 100  # characters of a class's name, which a legend shows
MOST_VOXELS = 10**8  # of a synthetic volume, which is generated in memory


class Block(BaseModel):
    """A block of the data section; unknown keys are rejected."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)


class Region(Block):
    """Part of a volume in voxels, half-open; omitted axes are used in full. Only z may have a step, with xy planes."""

    z: list[int] | None = None
    y: list[int] | None = None
    x: list[int] | None = None

    @model_validator(mode="after")
    def _ranges(self) -> Region:
        for axis in "zyx":
            value = getattr(self, axis)
            lengths = (2, 3) if axis == "z" else (2,)
            if value is None:
                continue
            if len(value) not in lengths or value[0] < 0 or value[1] <= value[0] or (len(value) == 3 and value[2] < 1):
                form = "[first, end] or [first, end, step]" if axis == "z" else "[first, end]"
                raise ValueError(f"{axis}: {value} is not {form} with 0 <= first < end")
        return self


def _array_or_text(value: Any, text: Callable[[Any], str]) -> str | np.ndarray:
    return value if isinstance(value, np.ndarray) else text(value)


Image = Annotated[str, WrapValidator(_array_or_text)]  # a recipe writes a path; Python may give an array
Level = Annotated[int, Field(ge=0, le=100)] | None


class VolumeEntry(Block):
    """One volume: a file (see sccs.data.readers for the formats) or, from Python, an array (Z, Y, X) or (Y, X)."""

    image: Image
    labels: Image | None = None
    mask: Image | None = None  # 0: neither trained on nor segmented; of the image's shape, or coarser
    name: str | None = None  # default: the image file's stem
    voxel_size: tuple[float, float, float] | None = None  # (z, y, x) nm; default: the file's
    axes: str | None = None
    level: Level = None
    labels_axes: str | None = None  # default: `axes`
    labels_level: Level = None
    region: Region = Region()

    @field_validator("name")
    @classmethod
    def _safe(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[\w.+-]+", name):
            raise ValueError("a volume's name may contain only letters, digits and . _ + - (it is part of file names)")
        if name is not None and len(name.encode()) > LONGEST_NAME:
            raise ValueError(
                f"a volume's name may have at most {LONGEST_NAME} bytes, not {len(name.encode())} (it is part of file "
                "names)"
            )
        return name

    @field_validator("voxel_size")
    @classmethod
    def _positive(cls, size: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        if size is not None and not LEAST_VOXEL <= min(size) <= max(size) <= MOST_VOXEL:
            raise ValueError(f"voxel sizes must be positive numbers in nm, from {LEAST_VOXEL:g} to {MOST_VOXEL:g}")
        return size


Fov = Annotated[int, Field(ge=WINDOW, le=1_000_000)] | Literal["full"]
Count = Annotated[int, Field(ge=1, le=10**9)] | None


class VolumesBlock(Block):
    """The user's own volumes."""

    name: Literal["volumes"] = "volumes"
    fov: Fov = 560
    train: list[VolumeEntry] = []
    test: list[VolumeEntry] = []
    classes: dict[int, str] = {}
    ignore: int | None = None
    merge: dict[int, int] = {}  # label code -> the code it counts as
    anchor: str | None = None  # "volume:z:y:x", a training FOV
    plane: Plane = "xy"  # orientation of the FOVs; other planes are stacked along y (xz) or x (yz) instead of z
    max_train_slices: Count = None  # evenly spaced slices per volume; null: all
    max_test_slices: Count = None

    @model_validator(mode="after")
    def _codes(self) -> VolumesBlock:
        if len(set(self.classes.values())) < len(self.classes):
            raise ValueError(f"classes: names are not unique: {list(self.classes.values())}; join codes with `merge`")
        for code, name in self.classes.items():
            if len(name) > LONGEST_CLASS or UNPRINTABLE.search(name):
                raise ValueError(
                    f"classes: the name of {code} must have at most {LONGEST_CLASS} characters, all printable"
                )
            if not 0 <= code <= MOST_CODE:
                free = next((c for c in range(MOST_CODE) if c not in {*self.classes, self.ignore}), MOST_CODE)
                raise ValueError(
                    f"classes: code {code} of {name!r} is not within 0 to {MOST_CODE} (segmentations are "
                    f"written as uint8); use code {free} instead and write merge: {{{code}: {free}}}"
                )
        if self.ignore in self.classes:
            raise ValueError(f"ignore: code {self.ignore} is also a class, {self.classes[self.ignore]!r}")
        for code, target in self.merge.items():
            if target not in self.classes and target != self.ignore:
                raise ValueError(f"merge: {code} maps to {target}, which is neither a class nor `ignore`")
        return self


class PhantomBlock(Block):
    """Synthetic beta-like cells, generated once and cached; the last is the test volume."""

    name: Literal["phantom"] = "phantom"
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = 0  # of the generator; null: the run's seed
    shapes: Annotated[list[tuple[int, int, int]] | None, Field(min_length=2)] = None  # (Z, Y, X) of each volume
    fov: Fov = 560
    train_slices: Count = 4
    test_slices: Count = 4
    anchor: str | None = None
    plane: Plane = "xy"

    @field_validator("shapes")
    @classmethod
    def _small(cls, shapes: list[tuple[int, int, int]] | None) -> list[tuple[int, int, int]] | None:
        for shape in shapes or ():
            if min(shape) < 4 or math.prod(shape) > MOST_VOXELS:
                raise ValueError(
                    f"shape {list(shape)}: each side must be at least 4 px, and the volume at most {MOST_VOXELS} voxels"
                )
        return shapes


class BetasegBlock(Block):
    """BetaSeg as published; `root` is the folder into which the zip was unpacked."""

    name: Literal["betaseg"] = "betaseg"
    root: str
    fov: Fov = 560
    train_slices: Count = None
    test_slices: Count = None
    checksum: bool = True  # compare the zip's sha256, if the zip is there
    anchor: str | None = None
    plane: Plane = "xy"


DataBlock = PhantomBlock | BetasegBlock | VolumesBlock
DATA_MODELS: dict[str, type[DataBlock]] = {"phantom": PhantomBlock, "betaseg": BetasegBlock, "volumes": VolumesBlock}


def parse_block(data: dict) -> DataBlock:
    """Validate a `data` block; raises UserError with the dotted path of the mistake."""
    name = data.get("name", "volumes")
    if name not in DATA_MODELS:
        raise UserError(f"data.name: no data set {name!r}; one of {', '.join(DATA_MODELS)}")
    try:
        return DATA_MODELS[name].model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("data", *first["loc"]))
        raise UserError(f"{where}: {first['msg']}") from None
