"""What a person sees of a run: slices as they were segmented (`SliceView`), and pictures after the paper's Figures 2 to 4.

Functions that end in `_overlay` or `_map` give RGB arrays (H, W, 3) uint8; those that end in `_panel`, `_curves`,
`_chart` or `_bars` draw with matplotlib and give a Figure, which `save_png` writes.
"""
from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SHOWN_BASES = 12


@dataclass
class SliceView:
    """One slice of a volume with all that was computed for it: all that figures and report are drawn from.

    Shapes
        image: (H, W) uint8. labels: (H, W) int class codes, or None. regions: (H, W) int32 superpixel ids 0..n-1,
        unique over the slice (-1: no superpixel). bases: (n, u) float, spectral coordinates. clusters: (n,) int.
        kmeans_raw: (n,) int or None, k-means of each FOV alone, without synchronisation (Figure 4c).
        tiles: (y, x, height, width) of each FOV, px.
    `split` is "train" or "test"; `ignore` is the label code that is not scored. `u` remembers how many bases there
    were, since a saved view keeps only the `SHOWN_BASES` of highest variance, whose numbers are in `columns`.
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
    u: int = 0
    columns: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.clusters)
        if self.regions.shape != self.image.shape or (self.labels is not None and self.labels.shape != self.image.shape):
            raise ValueError(f"SliceView {self.key}: image, labels and regions must share one shape (H, W)")
        if len(self.bases) != n or (self.regions.size and int(self.regions.max()) >= n):
            raise ValueError(f"SliceView {self.key}: regions, bases and clusters must agree on the number of superpixels")
        if self.columns is None:
            self.u = self.bases.shape[1]
            order = np.argsort(-np.nan_to_num(self.bases.astype(np.float64).var(axis=0)), kind="stable")
            self.columns = np.sort(order[:SHOWN_BASES])
            self.bases = np.ascontiguousarray(self.bases[:, self.columns], dtype=np.float32)

    @property
    def key(self) -> str:
        return f"{self.volume}_z{self.z:04d}"

    @property
    def title(self) -> str:
        return f"{self.volume}, z = {self.z}"

    def paint(self, per_region: np.ndarray, outside: float = -1) -> np.ndarray:
        """Values per superpixel (n,) -> pixels (H, W)."""
        values = np.append(np.asarray(per_region), np.asarray([outside], dtype=np.asarray(per_region).dtype))
        return values[self.regions]  # region -1 picks the appended one

    def cluster_image(self) -> np.ndarray:
        """(H, W) int cluster of each pixel, -1 without superpixel."""
        return self.paint(self.clusters.astype(np.int32))

    def save(self, folder: Path) -> Path:
        """Writes `<volume>_z<z>.npz` into `folder` (a run's figures/data)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {
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
        about = {
            "volume": self.volume, "z": int(self.z), "split": self.split, "u": int(self.u),
            "ignore": None if self.ignore is None else int(self.ignore),
            "tiles": [[int(v) for v in tile] for tile in self.tiles],
        }
        path = folder / f"{self.key}.npz"
        np.savez_compressed(path, about=np.array(json.dumps(about)), **arrays)
        return path

    @classmethod
    def load(cls, path: Path) -> "SliceView":
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            about["tiles"] = [tuple(tile) for tile in about["tiles"]]
            arrays = {name: stored[name] for name in stored.files if name != "about"}
        arrays["clusters"] = arrays["clusters"].astype(np.int64)
        arrays.setdefault("labels", None)
        arrays.setdefault("kmeans_raw", None)
        return cls(**about, **arrays)
