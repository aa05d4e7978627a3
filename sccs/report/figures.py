"""What a person sees of a run: segmented slices (`SliceView`), and pictures after the paper's Figures 2 to 4.

Functions that end in `_overlay` or `_map` give RGB arrays (H, W, 3) uint8; those that end in `_panel`, `_curves`,
`_chart` or `_bars` draw with matplotlib and give a Figure, which `save_png` writes.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from registry.base import UserError
from sccs.evaluation.scores import rest_position
from sccs.system.colours import PALE, REST, WRONG, class_colours, cluster_colours, colourise, rgb, to_grey
from sccs.system.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_BASES = 12
CROP = 72  # px, side of a crop in a cluster's gallery
OUTLINE = "#ffd24a"
INK = "#333333"


@dataclass
class SliceView:
    """One slice of a volume with all that was computed for it: all that figures and report are drawn from.

    Shapes
        image: (H, W) uint8. labels: (H, W) int class codes, or None. regions: (H, W) int32 superpixel ids 0..n-1,
        unique over the slice (-1: no superpixel). bases: (n, u) float, spectral coordinates. clusters: (n,) int.
        kmeans_raw: (n,) int or None, k-means of each FOV alone, without synchronisation (Figure 4c).
        tiles: (y, x, height, width) of each FOV, px.
    `split` is "train" or "test"; `ignore` is the label code that is not scored. `u` remembers how many bases there
    were, since a saved view keeps only the `SHOWN_BASES` of highest variance, whose numbers are in `columns`. `classes`
    names the label codes. `voxel_size` is (z, y, x) nm, None where nobody knows.
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
    columns: np.ndarray | None = None
    voxel_size: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        n = len(self.clusters)
        if any(each is not None and each.shape != self.image.shape for each in (self.regions, self.labels)):
            raise ValueError(f"SliceView {self.key}: image, labels and regions must share one shape (H, W)")
        if len(self.bases) != n or (self.regions.size and int(self.regions.max()) >= n):
            raise ValueError(f"SliceView {self.key}: regions, bases, clusters must agree on the number of superpixels")
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
            "volume": self.volume,
            "z": int(self.z),
            "split": self.split,
            "u": int(self.u),
            "ignore": None if self.ignore is None else int(self.ignore),
            "tiles": [[int(v) for v in tile] for tile in self.tiles],
            "classes": {int(code): name for code, name in self.classes.items()},
            "voxel_size": None if self.voxel_size is None else [float(size) for size in self.voxel_size],
        }
        path = Path(folder) / f"{self.key}.npz"
        with atomic_path(path) as scratch:
            np.savez_compressed(scratch, about=np.array(json.dumps(about)), **arrays)
        return path

    @classmethod
    def load(cls, path: Path) -> SliceView:
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            about["tiles"] = [tuple(tile) for tile in about["tiles"]]
            about["classes"] = {int(code): name for code, name in about["classes"].items()}
            arrays = {name: stored[name] for name in stored.files if name != "about"}
        arrays["clusters"] = arrays["clusters"].astype(np.int64)
        arrays.setdefault("labels", None)
        arrays.setdefault("kmeans_raw", None)
        return cls(**about, **arrays)

    def class_image(self, class_of_cluster: Sequence[str | None], names: Sequence[str]) -> np.ndarray:
        """(H, W) int position in `names` of each pixel's class under a mapping (class name or None per cluster)."""
        position = {name: i for i, name in enumerate(names)}
        lookup = np.array([position.get(name, -1) for name in class_of_cluster] + [-1], dtype=np.int32)
        return lookup[np.where(self.cluster_image() < len(class_of_cluster), self.cluster_image(), -1)]

    def truth_image(self, names: Sequence[str]) -> np.ndarray | None:
        """(H, W) int position in `names` of each pixel's label, -1 where it is not scored; None without labels."""
        if self.labels is None:
            return None
        position = {name: i for i, name in enumerate(names)}
        truth = np.full(self.labels.shape, -1, dtype=np.int32)
        for code, name in (self.classes or dict(enumerate(names))).items():
            if code != self.ignore and name in position:
                truth[self.labels == code] = position[name]
        return truth


# ------------------------------------------------------------------------------------------------------ RGB images
def grey(image: np.ndarray) -> np.ndarray:
    """(H, W) -> (H, W, 3) uint8 (see `to_grey`)."""
    return np.repeat(to_grey(image)[..., None], 3, axis=2)


def outlines(regions: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels whose right or lower neighbour belongs to another region; one pixel thin."""
    edge = np.zeros(regions.shape, dtype=bool)
    edge[:, :-1] |= regions[:, :-1] != regions[:, 1:]
    edge[:-1] |= regions[:-1] != regions[1:]
    return edge


def superpixel_overlay(view: SliceView, inset: bool = True) -> np.ndarray:
    """Thin superpixel outlines on the image, with an inset that magnifies the most structured spot by three."""
    out = _outlined(view.image, view.regions, alpha=0.5)
    side = min(view.image.shape) // 7
    if not inset or side < 16:
        return out
    y, x = _busiest(view.image, side)
    place = (slice(y, y + side), slice(x, x + side))
    zoomed = _outlined(_enlarge(view.image[place], 3), _enlarge(view.regions[place], 3), alpha=0.9)
    _frame(out, y, x, side, side)
    out[-len(zoomed) :, -len(zoomed) :] = zoomed
    _frame(out, len(out) - len(zoomed), out.shape[1] - len(zoomed), len(zoomed), len(zoomed), width=2)
    return out


def _outlined(image: np.ndarray, regions: np.ndarray, alpha: float) -> np.ndarray:
    out = grey(image).astype(np.float32)
    edge = outlines(regions)
    out[edge] = (1 - alpha) * out[edge] + alpha * np.array(rgb(OUTLINE), dtype=np.float32)
    return out.astype(np.uint8)


def _busiest(image: np.ndarray, side: int) -> tuple[int, int]:
    """Corner of the (side, side) window of greatest contrast, clear of the lower right corner where the inset lies."""
    H, W = image.shape
    best, corner = -1.0, (0, 0)
    for y in range(0, H - side + 1, side):
        for x in range(0, W - side + 1, side):
            contrast = float(image[y : y + side, x : x + side].std())
            if contrast > best and not (y + side > H - 3 * side and x + side > W - 3 * side):
                best, corner = contrast, (y, x)
    return corner


def _enlarge(image: np.ndarray, times: int) -> np.ndarray:
    return image.repeat(times, axis=0).repeat(times, axis=1)


def _frame(out: np.ndarray, y: int, x: int, height: int, width_px: int, width: int = 1) -> None:
    """Draw a white rectangle in place."""
    for far in range(width):
        out[y + far, x : x + width_px] = out[y + height - 1 - far, x : x + width_px] = 255
        out[y : y + height, x + far] = out[y : y + height, x + width_px - 1 - far] = 255


def basis_map(view: SliceView, column: int, alpha: float = 0.72) -> np.ndarray:
    """Heat map of one spectral basis over the image (Figure 2). `column` counts the kept ones, 0..len(columns)-1."""
    values = view.paint(np.nan_to_num(view.bases[:, column]), outside=np.nan)
    return (alpha * _heat(values) + (1 - alpha) * grey(view.image)).astype(np.uint8)


def _heat(values: np.ndarray) -> np.ndarray:
    """(H, W) -> (H, W, 3) in 0..255: blue at the 2nd percentile of the pixels or lower, red at the 98th or higher."""
    from matplotlib import colormaps

    inside = values[np.isfinite(values)]
    low, high = np.percentile(inside, [2, 98]) if inside.size else (0.0, 0.0)
    scaled = np.clip((values - low) / (high - low), 0, 1) if high > low else np.full(values.shape, 0.5)
    return 255 * colormaps["Spectral_r"](np.nan_to_num(scaled, nan=0.5))[..., :3]


def basis_mosaic(Z: np.ndarray, regions: np.ndarray, columns: int = 4) -> np.ndarray:
    """The bases of highest variance side by side as one RGB image; Z (n, u), regions (H, W)."""
    Z = np.nan_to_num(np.asarray(Z, dtype=np.float64))
    shown = np.sort(np.argsort(-Z.var(axis=0), kind="stable")[:SHOWN_BASES])
    tiles = [_heat(Z[:, column][regions]).astype(np.uint8) for column in shown]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    return np.concatenate([np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)])


def cluster_overlay(view: SliceView, k: int, alpha: float = 0.6) -> np.ndarray:
    return colourise(view.cluster_image(), cluster_colours(k), view.image, alpha)


def class_overlay(view: SliceView, positions: np.ndarray, colours: Mapping[str, str], alpha: float = 0.6) -> np.ndarray:
    """positions: (H, W) from `class_image` or `truth_image`; colours: name -> hex, in the same order."""
    return colourise(positions, list(colours.values()), view.image, alpha)


def unsynchronised_overlay(view: SliceView, alpha: float = 0.6) -> np.ndarray | None:
    """k-means of each FOV by itself (Figure 4c): the same structure may change its colour from FOV to FOV."""
    if view.kmeans_raw is None:
        return None
    k = int(max(view.kmeans_raw.max(), view.clusters.max())) + 1
    out = colourise(view.paint(view.kmeans_raw.astype(np.int32)), cluster_colours(k), view.image, alpha)
    if len(view.tiles) > 1:
        for y, x, height, width in view.tiles:
            _frame(out, y, x, min(height, len(out) - y), min(width, out.shape[1] - x))
    return out


def as_scored(predicted: np.ndarray, classes: Sequence[str], rest: str | None = None) -> np.ndarray:
    """What class positions (H, W) count as: pixels without class, or of a name that no label has, are the rest class.

    `classes` are the labelled classes, which come first among the positions. Without a rest class nothing changes.
    """
    position = rest_position(classes, rest)
    if position is None:
        return predicted
    return np.where((predicted < 0) | (predicted >= len(classes)), position, predicted)


def error_colours(colours: Mapping[str, str]) -> dict[str, str]:
    """True class -> the colour of its wrong pixels: its own; pixels of a rest class are false alarms, in red."""
    return {name: WRONG if name.strip().lower() in REST else colour for name, colour in colours.items()}


def error_map(view: SliceView, truth: np.ndarray, predicted: np.ndarray, colours: Mapping[str, str]) -> np.ndarray:
    """Wrong pixels in the colour of the class they truly are (`error_colours`), right ones as a pale image.

    truth, predicted: (H, W) class positions; truth -1 is not scored and stays white.
    """
    out = (0.35 * grey(view.image) + 0.65 * np.array(rgb(PALE))).astype(np.uint8)
    for position, colour in enumerate(error_colours(colours).values()):
        out[(truth == position) & (predicted != position)] = rgb(colour)
    out[truth < 0] = 255
    return out


class Crop(NamedTuple):
    """A cut-out of a slice: picture (2 side, 2 side, 3) uint8, and the slice."""

    picture: np.ndarray
    view: SliceView


def cluster_crops(
    views: Sequence[SliceView], cluster: int, colour: str, count: int = 8, side: int = CROP
) -> list[Crop]:
    """Up to `count` crops of `side` px around typical superpixels of a cluster, which is outlined.

    Typical: near the cluster's mean in the spectral coordinates of the slice. Slices take turns, and centres lie at
    least one crop apart, so that a person sees more than one corner of one image.
    """
    queues = [_typical(view, cluster, side, count) for view in views]
    picked = []
    for turn in range(count):
        for view, queue in zip(views, queues):
            if turn < len(queue) and len(picked) < count:
                picked.append(Crop(_crop(view, cluster, queue[turn], side, colour), view))
    return picked


def _typical(view: SliceView, cluster: int, side: int, count: int) -> list[tuple[int, int]]:
    """Centres (y, x) px of a cluster's typical superpixels, best first."""
    n = len(view.clusters)
    inside = view.regions >= 0
    ids = view.regions[inside]
    area = np.maximum(np.bincount(ids, minlength=n), 1)
    y, x = (np.bincount(ids, where, minlength=n) / area for where in np.nonzero(inside))
    members = np.flatnonzero((view.clusters == cluster) & (np.bincount(ids, minlength=n) > 0))
    coordinates = np.nan_to_num(view.bases[members].astype(np.float64))
    coordinates /= view.bases.std(axis=0) + 1e-12
    distance = np.linalg.norm(coordinates - coordinates.mean(axis=0), axis=1) if len(members) else np.zeros(0)
    centres: list[tuple[int, int]] = []
    for member in members[np.argsort(distance, kind="stable")]:
        here = (int(y[member]), int(x[member]))
        if all(max(abs(here[0] - a), abs(here[1] - b)) >= side for a, b in centres):
            centres.append(here)
            if len(centres) == count:
                break
    return centres


def _crop(view: SliceView, cluster: int, centre: tuple[int, int], side: int, colour: str) -> np.ndarray:
    corner = [int(np.clip(c - side // 2, 0, max(size - side, 0))) for c, size in zip(centre, view.image.shape)]
    place = tuple(slice(c, c + side) for c in corner)
    mask = _enlarge((view.cluster_image()[place] == cluster).astype(np.int8), 2)
    out = _enlarge(grey(view.image[place]), 2)
    edge = outlines(mask)
    edge[1:] |= edge[:-1]
    out[edge] = rgb(colour)
    framed = np.full((2 * side, 2 * side, 3), 255, dtype=np.uint8)  # of an image smaller than the crop
    framed[: out.shape[0], : out.shape[1]] = out
    return framed


def cluster_grey(views: Sequence[SliceView], cluster: int) -> float | None:
    """Mean grey of a cluster's pixels in standard deviations from the volume's mean; None of an empty cluster.

    Views of images that were given as uint8, not standardised, count as `to_grey` draws them.
    """
    pixels = np.concatenate([view.image[view.cluster_image() == cluster] for view in views] or [np.zeros(0)])
    return 6 * float(pixels.mean()) / 255 - 3 if pixels.size else None


def cluster_place(view: SliceView, cluster: int, colour: str) -> np.ndarray:
    """Where one cluster lies: its pixels in colour, all others paler."""
    out = (0.5 * grey(view.image) + 110).astype(np.uint8)
    here = view.cluster_image() == cluster
    out[here] = (0.35 * grey(view.image)[here] + 0.65 * np.array(rgb(colour))).astype(np.uint8)
    return out


# --------------------------------------------------------------------------------------------------------- figures
def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **kw: Any) -> tuple[Figure, np.ndarray]:
    """A Figure (inches) and its axes (rows, columns), without touching matplotlib's global state or a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **kw)


def save_png(figure: Figure, path: Path, dpi: int = 110) -> Path:
    with atomic_path(path) as scratch:
        figure.savefig(scratch, dpi=dpi, facecolor="white")
    return Path(path)


def to_rgb(figure: Figure, dpi: int = 90) -> np.ndarray:
    """Figure -> (H, W, 3) uint8, for TensorBoard."""
    figure.set_dpi(dpi)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def to_svg(figure: Figure, name: str) -> str:
    """Figure -> an <svg> element whose text and axes take the page's colour; `name` keeps ids apart on one page."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)


def _show(axis: Any, image: np.ndarray | None, title: str = "") -> None:
    axis.set_axis_off()
    if image is not None:
        axis.imshow(image, interpolation="antialiased")
    if title:
        axis.set_title(title, fontsize=9, color=INK)


def _legend(figure: Figure, colours: Mapping[str, str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=colour, label=name) for name, colour in colours.items()]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 8),
        frameon=False,
        fontsize=8,
        labelcolor=INK,
    )


def basis_panel(view: SliceView, count: int = 8) -> Figure:
    """Figure 2: the image and spectral bases of highest variance as heat maps."""
    shown = _most_varied(view, min(count, len(view.columns)))
    columns = min(len(shown) + 1, 5)
    rows = -(-(len(shown) + 1) // columns)
    figure, axes = new_figure(2.1 * columns, 2.3 * rows * _aspect(view) + 0.3, rows, columns)
    axes = axes.ravel()
    _show(axes[0], grey(view.image), view.title)
    for axis, column in zip(axes[1:], shown):
        _show(axis, basis_map(view, column), f"basis {view.columns[column] + 1} of {view.u}")
    for axis in axes[len(shown) + 1 :]:
        axis.set_axis_off()
    return figure


def _most_varied(view: SliceView, count: int) -> list[int]:
    variance = np.nan_to_num(view.bases.astype(np.float64).var(axis=0))
    return sorted(np.argsort(-variance, kind="stable")[:count].tolist())


def _aspect(view: SliceView) -> float:
    return view.image.shape[0] / view.image.shape[1]


def comparison_panel(
    views: Sequence[SliceView],
    class_of_cluster: Sequence[str | None],
    colours: Mapping[str, str],
    classes: Sequence[str],
    rest: str | None = None,
) -> Figure:
    """Figure 3: a row per slice with input, ground truth, our classes and the error map (the latter if labelled).

    colours: of `classes`, the labelled ones, and of names that a person added.
    """
    names = list(colours)
    labelled = any(view.labels is not None for view in views)
    figure, axes = new_figure(
        2.6 * (4 if labelled else 2), sum(2.6 * _aspect(view) for view in views) + 0.6, len(views), 4 if labelled else 2
    )
    for row, view in enumerate(views):
        predicted, truth = view.class_image(class_of_cluster, names), view.truth_image(names)
        _show(axes[row, 0], grey(view.image), view.title)
        ours = class_overlay(view, predicted, colours)
        if not labelled:
            _show(axes[row, 1], ours, "" if row else "classes")
            continue
        has = truth is not None
        _show(axes[row, 1], class_overlay(view, truth, colours) if has else None, "" if row else "ground truth")
        _show(axes[row, 2], ours, "" if row else "classes")
        wrong = error_map(view, truth, as_scored(predicted, classes, rest), colours) if has else None
        _show(axes[row, 3], wrong, "" if row else "wrong pixels, by true class")
    legend = dict(colours)
    legend.update({f"false alarm ({n})": c for n, c in error_colours(colours).items() if labelled and c == WRONG})
    _legend(figure, legend)
    return figure


def overview_panel(
    views: Sequence[SliceView], k: int, class_of_cluster: Sequence[str | None] | None, colours: Mapping[str, str]
) -> Figure:
    """Figure 4, a row per slice: (a) input, (b) two bases, (c) k-means of each FOV alone, (d) our approach.

    Without a mapping (no labels, no names), (d) shows the clusters.
    """
    figure, axes = new_figure(2.3 * 5, sum(2.3 * _aspect(view) for view in views) + 0.7, len(views), 5)
    titles = ["(a) input", "(b) bases", "(b) bases", "(c) k-means, not synchronised", "(d) ours"]
    for row, view in enumerate(views):
        bases = [basis_map(view, column) for column in _most_varied(view, 2)]
        if class_of_cluster is None:
            ours = cluster_overlay(view, k)
        else:
            ours = class_overlay(view, view.class_image(class_of_cluster, list(colours)), colours)
        images = [grey(view.image), *([*bases, None, None])[:2], unsynchronised_overlay(view), ours]
        for axis, image, title in zip(axes[row], images, titles):
            _show(axis, image, "" if row else title)
    if class_of_cluster is not None:
        _legend(figure, colours)
    return figure


def read_metrics(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """metrics.jsonl -> tag -> (steps, values), each (n,); null is nan."""
    found: dict[str, list[tuple[int, float]]] = {}
    if Path(path).exists():
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            step = entry.pop("step", 0)
            for tag, value in entry.items():
                found.setdefault(tag, []).append((step, np.nan if value is None else float(value)))
    return {tag: tuple(np.array(column) for column in zip(*sorted(pairs))) for tag, pairs in found.items()}


def loss_curves(metrics: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure | None:
    """A small plot for each tag that names a loss (`read_metrics`): thin as logged, thick smoothed. None without."""
    tags = [tag for tag in metrics if "loss" in tag.lower() and len(metrics[tag][0]) > 1]
    tags.sort(key=lambda tag: "total" not in tag)
    if not tags:
        return None
    columns = min(len(tags), 4)
    rows = -(-len(tags) // columns)
    figure, axes = new_figure(2.7 * columns, 1.9 * rows, rows, columns)
    for axis, tag in zip(axes.ravel(), tags):
        steps, values = _thinned(*metrics[tag])
        axis.plot(steps, values, color="#3d7edb", alpha=0.35, linewidth=0.7)
        axis.plot(steps, _smoothed(values), color="#3d7edb", linewidth=1.6)
        low, high = np.nanpercentile(values, [0, 100]) if np.isfinite(values).any() else (0, 0)
        if low > 0 and high / low > 30:
            axis.set_yscale("log")
        axis.set_title(tag.removeprefix("loss/"), fontsize=9, color=INK)
        _plain(axis)
        axis.set_xlabel("iteration", fontsize=8, color=INK)
    for axis in axes.ravel()[len(tags) :]:
        axis.set_axis_off()
    return figure


def share_curves(metrics: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure | None:
    """Each cluster's share of the nodes over training (tags clusters/share_<i>), in the clusters' colours."""
    tags = [tag for tag in metrics if tag.startswith("clusters/share_") and len(metrics[tag][0]) > 1]
    tags.sort(key=lambda tag: int(tag.split("_")[-1]))
    if not tags:
        return None
    figure, axes = new_figure(7.2, 2.2)
    axis = axes[0, 0]
    for colour, tag in zip(cluster_colours(len(tags)), tags):
        steps, values = _thinned(*metrics[tag])
        axis.plot(steps, 100 * values, color=colour, linewidth=1.5, label=tag.split("_")[-1])
    axis.set_xlabel("iteration", fontsize=8, color=INK)
    axis.set_ylabel("nodes, %", fontsize=8, color=INK)
    axis.set_ylim(bottom=0)
    _plain(axis)
    figure.legend(
        loc="outside right center",
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        title="cluster",
        title_fontproperties={"size": 8},
        ncols=1 + len(tags) // 12,
    ).get_title().set_color(INK)
    return figure


def _plain(axis: Any) -> None:
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    axis.tick_params(labelsize=8, colors=INK, which="both")
    axis.grid(axis="y", color="#888888", alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)


def _thinned(steps: np.ndarray, values: np.ndarray, most: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Means over equal runs of points, so that a long training draws as quickly as a short one."""
    if len(steps) <= most:
        return steps, values
    size = -(-len(steps) // most)
    starts = np.arange(0, len(steps), size)
    count = np.diff(np.append(starts, len(steps)))
    return np.add.reduceat(steps, starts) / count, np.add.reduceat(values, starts) / count


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Centred moving mean over a twentieth of the points; nan are left out."""
    half = max(1, len(values) // 40)
    known = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0))])
    count = np.concatenate([[0], np.cumsum(known)])
    low = np.clip(np.arange(len(values)) - half, 0, None)
    high = np.clip(np.arange(len(values)) + half + 1, None, len(values))
    return (total[high] - total[low]) / np.maximum(count[high] - count[low], 1)


def cluster_use_chart(share: Mapping[str, Sequence[float]], labels: Sequence[str] | None = None) -> Figure:
    """Bars of each cluster's share of the pixels; `share` maps "train" and "test" to k shares, labels name clusters."""
    parts = {part: np.asarray(values, float) for part, values in share.items() if np.sum(values) > 0}
    k = max((len(values) for values in share.values()), default=0)
    colours = cluster_colours(k)
    figure, axes = new_figure(0.62 * max(k, 5) + 0.8, 2.2)
    axis = axes[0, 0]
    width = 0.8 / max(len(parts), 1)
    for i, (part, values) in enumerate(parts.items()):
        at = np.arange(len(values)) + (i - (len(parts) - 1) / 2) * width
        bars = axis.bar(at, 100 * values, width * 0.92, color=colours, alpha=0.45 if part == "train" else 1.0)
        if len(parts) > 1:
            axis.bar_label(bars, [part] * len(values), fontsize=6, color=INK, padding=1)
    axis.set_xticks(range(k), labels or [str(i) for i in range(k)], fontsize=8)
    axis.set_ylabel("pixels, %", fontsize=8, color=INK)
    _plain(axis)
    return figure


def dsc_bars(part: Mapping[str, Any], colours: Mapping[str, str], headline: str | None = None) -> Figure | None:
    """DSC of every class, a group of bars per mapping, from metrics.json's "test" or "train". None if that is empty.

    The headline mapping stands first; `oracle` is hatched, since it has seen the labels that it is scored on.
    """
    rules = sorted(part, key=lambda rule: (rule != headline, rule == "oracle"))
    if not rules:
        return None
    figure, axes = new_figure(max(4.0, 1.35 * len(rules) + 1), 2.4)
    axis = axes[0, 0]
    width = 0.84 / len(colours)
    for i, (name, colour) in enumerate(colours.items()):
        values = [part[rule]["classes"].get(name, {}).get("dsc") or 0.0 for rule in rules]
        at = np.arange(len(rules)) + (i - (len(colours) - 1) / 2) * width
        bars = axis.bar(at, values, width * 0.9, color=colour, label=name)
        axis.bar_label(bars, [f"{value:.2f}"[1:] if value < 1 else "1" for value in values], fontsize=6, color=INK)
        for bar, rule in zip(bars, rules):
            if rule == "oracle":
                bar.set_hatch("////")
                bar.set_edgecolor("white")
    for at, rule in enumerate(rules):
        mean = part[rule].get("mean", {}).get("dsc")
        if mean is not None:
            axis.hlines(mean, at - 0.44, at + 0.44, color=INK, linewidth=1.2, linestyle=(0, (3, 2)))
    axis.set_xticks(range(len(rules)), [rule_title(rule, headline) for rule in rules], fontsize=8)
    axis.set_ylim(0, 1.08)
    _legend(figure, colours)
    axis.set_ylabel("DSC", fontsize=8, color=INK)
    _plain(axis)
    return figure


def rule_title(rule: str, headline: str | None = None) -> str:
    return rule + (" (upper bound)" if rule == "oracle" else " (headline)" if rule == headline else "")


# ------------------------------------------------------------------------------------------------------ whole runs
@dataclass
class RunView:
    """What a run folder says about its clusters: all that figures and report need beside the slices.

    k: number of clusters. rule: the mapping that is drawn, or None; class_of_cluster: its class (or None) of each
    cluster. colours: class name -> hex. metrics: metrics.json, {} where the run is not scored yet.
    """

    k: int
    views: list[SliceView]
    rule: str | None
    class_of_cluster: list[str | None] | None
    colours: dict[str, str]
    metrics: dict[str, Any]
    cluster_labels: list[str]


def read_run(run: Path) -> RunView:
    """Reads metrics.json, classes.yaml, model/model.json and figures/data of a run folder.

    Drawn are the names that a person gave (classes.yaml) if there are any, else the headline mapping. UserError for a
    folder that holds no run.
    """
    from sccs.evaluation.naming import cluster_names, read_names

    run = Path(run)
    if not run.is_dir():
        raise UserError(f"{run}: no such run folder")
    metrics = _json(run / "metrics.json", {})
    views = sorted((SliceView.load(path) for path in (run / "figures" / "data").glob("*.npz")), key=_order)
    if not metrics and not views:
        raise UserError(f"{run}: neither metrics.json nor figures/data; is this the folder of a finished run?")
    k = metrics.get("k") or 1 + max(int(view.clusters.max(initial=0)) for view in views)
    codes = {int(code): name for code, name in _json(run / "model" / "model.json", {}).get("classes", {}).items()}
    for view in views:
        view.classes = view.classes or codes
    entries = read_names(run)
    names = list(metrics.get("classes") or codes.values())
    rule, classes = metrics.get("headline"), metrics.get("mapping", {}).get(metrics.get("headline"))
    if entries:
        position = {name.lower(): name for name in names}
        given = {c: position.get(entry["name"].lower(), entry["name"]) for c, entry in entries.items()}
        rule, classes = "named", [given.get(c) for c in range(k)]
        names += [name for name in dict.fromkeys(given.values()) if name not in names]
    chosen = {entry["name"]: entry["colour"] for entry in entries.values()}
    colours = class_colours(names, {n: chosen[m] for n in names for m in chosen if m.lower() == n.lower()})
    labels = cluster_names(entries, k)
    return RunView(k, views, rule if classes else None, classes, colours, metrics, labels)


def _json(path: Path, otherwise: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else otherwise


def _order(view: SliceView) -> tuple[bool, str, int]:
    return view.split != "test", view.volume, view.z


def draw_all(run: Path, most: int = 4) -> list[Path]:
    """The run's figures/*.png from its folder alone; at most `most` slices each, test slices first."""
    run = Path(run)
    seen = read_run(run)
    folder, figures = run / "figures", {}
    shown = [view for view in seen.views if view.split == "test"][:most] or seen.views[:most]
    for view in shown:
        figures[f"figure2_bases_{view.key}"] = basis_panel(view)
    if shown:
        figures["figure4_overview"] = overview_panel(shown, seen.k, seen.class_of_cluster, seen.colours)
        if seen.class_of_cluster is not None:
            figures["figure3_comparison"] = comparison_panel(
                shown, seen.class_of_cluster, seen.colours, seen.metrics.get("classes", []), seen.metrics.get("rest")
            )
    figures["training"] = loss_curves(read_metrics(run / "metrics.jsonl"))
    if seen.metrics.get("cluster_share"):
        figures["cluster_use"] = cluster_use_chart(seen.metrics["cluster_share"])
    if seen.metrics.get("test"):
        figures["dsc"] = dsc_bars(seen.metrics["test"], seen.colours, seen.metrics.get("headline"))
    return [save_png(figure, folder / f"{name}.png") for name, figure in figures.items() if figure is not None]
