"""One slice of a volume with all results, stored in a run folder: the source of every picture."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from registry.base import UserError
from sccs.evaluation.files import AGAIN
from sccs.recipe.stored import Length, Stored, parse_json
from sccs.system import bounds
from sccs.system.archive import UNREADABLE
from sccs.system.files import atomic_path

SHOWN_BASES = 12
Natural = Annotated[int, Field(ge=0, le=10**6)]


# array: (kind of its numbers, axes, smallest number)
ARRAYS = {
    "image": ("u", 2, 0),
    "regions": ("i", 2, -1),
    "bases": ("f", 2, None),
    "clusters": ("i", 1, 0),
    "columns": ("i", 1, 0),
    "labels": ("i", 2, None),
    "kmeans_raw": ("i", 1, 0),
    "judged": ("f", 2, 0),
}


class Kept(Stored):
    """A saved view's metadata."""

    volume: str
    z: Annotated[int, Field(ge=0, le=10**9)]
    split: Literal["train", "test"]
    u: Annotated[int, Field(ge=0, le=10**6)]
    ignore: int | None = None
    tiles: list[tuple[Natural, Natural, Natural, Natural]] = []
    classes: dict[Annotated[int, Field(ge=0, le=254)], str] = {}
    voxel_size: tuple[Length, Length, Length] | None = None
    teacher: str = ""


def _check(arrays: dict[str, np.ndarray], about: Kept) -> None:
    """Raises ValueError for arrays that do not form a view."""
    for name, (kind, axes, least) in ARRAYS.items():
        if (array := arrays.get(name)) is None:
            if name not in ("labels", "kmeans_raw", "judged"):
                raise ValueError(f"{name} is missing")
        elif array.dtype.kind != kind or array.ndim != axes or (least is not None and array.min(initial=0) < least):
            raise ValueError(f"{name} is not a valid array")
    (H, W), n = arrays["image"].shape, len(arrays["clusters"])
    if arrays["image"].dtype != np.uint8 or not H * W:
        raise ValueError("image is not a valid array")
    if arrays["bases"].shape[1] != len(arrays["columns"]) or arrays.get("kmeans_raw", arrays["clusters"]).shape != (n,):
        raise ValueError("arrays do not match")
    if len(arrays.get("judged", arrays["clusters"])) != n:
        raise ValueError("judged is not a valid array")
    if any(y >= H or x >= W or not height * width for y, x, height, width in about.tiles):
        raise ValueError("tiles lie outside the image")


@dataclass
class SliceView:
    """One slice of a volume with all results: the source of figures and report.

    Shapes
        image: (H, W) uint8. labels: (H, W) int class codes, or None. regions: (H, W) int32 superpixel ids 0..n-1,
        unique over the slice (-1: no superpixel). bases: (n, u) float, spectral coordinates. clusters: (n,) int.
        kmeans_raw: (n,) int or None, k-means of each FOV alone, without synchronisation (Figure 4c).
        tiles: (y, x, height, width) of each FOV, px.
    `split` is "train" or "test"; `ignore` is the label code that is not scored. `u` is the original number of bases,
    as a saved view keeps only the `SHOWN_BASES` of highest variance, whose numbers are in `columns`. `classes`
    names the label codes. `voxel_size` is (z, y, x) nm, None if unknown. In a taught run, `judged` (n, C) float32 are
    the scores of the teacher with the digest `teacher`; `taught`, the class (n,) of each superpixel by teacher and
    clusters' names, and `doubt` (n,), its uncertainty, follow the current names and are never saved.
    """

    volume: str
    z: int
    split: str
    image: np.ndarray
    labels: np.ndarray | None
    regions: np.ndarray
    bases: np.ndarray
    clusters: np.ndarray
    kmeans_raw: np.ndarray | None = None
    ignore: int | None = None
    tiles: list[tuple[int, int, int, int]] = field(default_factory=list)
    classes: dict[int, str] = field(default_factory=dict)
    u: int = 0
    columns: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    voxel_size: tuple[float, float, float] | None = None
    judged: np.ndarray | None = None
    teacher: str = ""
    taught: list[str] | None = None
    doubt: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.clusters)
        if any(each is not None and each.shape != self.image.shape for each in (self.regions, self.labels)):
            raise ValueError(f"SliceView {self.key}: image, labels and regions must share one shape (H, W)")
        if len(self.bases) != n or (self.regions.size and int(self.regions.max()) >= n):
            raise ValueError(f"SliceView {self.key}: regions, bases, clusters must agree on the number of superpixels")
        if not len(self.columns):
            self.u = self.bases.shape[1]
            order = np.argsort(-np.nan_to_num(self.bases.astype(np.float64).var(axis=0)), kind="stable")
            self.columns = np.sort(order[:SHOWN_BASES])
            self.bases = np.ascontiguousarray(self.bases[:, self.columns], dtype=np.float32)

    @property
    def key(self) -> str:
        """<volume>_z<z>, its name in files."""
        return f"{self.volume}_z{self.z:04d}"

    @property
    def title(self) -> str:
        """Its name in pictures."""
        return f"{self.volume}, z = {self.z}"

    @functools.cached_property
    def areas(self) -> np.ndarray:
        """Pixels of each superpixel, (n,)."""
        return np.bincount(self.regions[self.regions >= 0], minlength=len(self.clusters))

    def paint(self, per_region: np.ndarray, outside: float = -1) -> np.ndarray:
        """Values per superpixel (n,) -> pixels (H, W)."""
        values = np.append(np.asarray(per_region), np.asarray([outside], dtype=np.asarray(per_region).dtype))
        return values[self.regions]  # region -1 picks the appended one

    def cluster_image(self) -> np.ndarray:
        """(H, W) int cluster of each pixel, -1 without superpixel."""
        return self.paint(self.clusters.astype(np.int32))

    def save(self, folder: Path) -> Path:
        """Write `<volume>_z<z>.npz` into `folder` (a run's figures/data)."""
        arrays: dict[str, Any] = {
            "image": self.image.astype(np.uint8),
            "regions": self.regions.astype(np.int32),
            "bases": self.bases,
            "clusters": self.clusters.astype(np.int16),
            "columns": self.columns.astype(np.int32),
        }
        if self.labels is not None:
            arrays["labels"] = self.labels.astype(np.int32)
        if self.kmeans_raw is not None:
            arrays["kmeans_raw"] = self.kmeans_raw.astype(np.int16)
        if self.judged is not None:
            arrays["judged"] = self.judged.astype(np.float32)
        about = {
            "volume": self.volume,
            "z": int(self.z),
            "split": self.split,
            "u": int(self.u),
            "ignore": None if self.ignore is None else int(self.ignore),
            "tiles": [[int(v) for v in tile] for tile in self.tiles],
            "classes": {int(code): name for code, name in self.classes.items()},
            **({"teacher": self.teacher} if self.judged is not None else {}),
            "voxel_size": None if self.voxel_size is None else [float(size) for size in self.voxel_size],
        }
        path = Path(folder) / f"{self.key}.npz"
        with atomic_path(path) as scratch:
            np.savez_compressed(scratch, about=np.array(json.dumps(about)), **arrays)
        return path

    @classmethod
    def load(cls, path: Path) -> SliceView:
        """Read what `save` wrote."""
        try:
            bounds.check_zip(path)
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in ARRAYS if name in stored.files}
                about = parse_json(str(stored["about"]), path, Kept, AGAIN)
            _check(arrays, about)
            arrays["clusters"] = arrays["clusters"].astype(np.int64)
            found = cls(**about.model_dump(include=set(Kept.model_fields)), **{"labels": None, **arrays})
            if path.name != f"{found.key}.npz":
                raise ValueError(f"it contains {found.key}")
        except (*UNREADABLE, SyntaxError, TypeError, MemoryError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"{path}: damaged ({reason}); {AGAIN}") from None
        return found

    def class_image(self, class_of_cluster: Sequence[str | None], names: Sequence[str]) -> np.ndarray:
        """(H, W) int position in `names` of each pixel's class under a mapping (class name or None per cluster), or by
        the teacher."""
        position: dict[str | None, int] = {name: i for i, name in enumerate(names)}
        if self.taught is not None:
            return self.paint(np.array([position.get(name, -1) for name in self.taught], np.int32))
        lookup = np.array([*(position.get(name, -1) for name in class_of_cluster), -1], dtype=np.int32)
        return lookup[np.where(self.cluster_image() < len(class_of_cluster), self.cluster_image(), -1)]

    def truth_image(self, names: Sequence[str]) -> np.ndarray | None:
        """(H, W) int position in `names` of each pixel's label, -1 if not scored; None without labels."""
        if self.labels is None:
            return None
        position = {name: i for i, name in enumerate(names)}
        truth = np.full(self.labels.shape, -1, dtype=np.int32)
        for code, name in (self.classes or dict(enumerate(names))).items():
            if code != self.ignore and name in position:
                truth[self.labels == code] = position[name]
        return truth
