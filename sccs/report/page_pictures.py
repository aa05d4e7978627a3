"""The pictures of the report page: stages of the slices, galleries of clusters, charts.

The page embeds small pictures as data URIs, and charts as inline SVG; large pictures are files next to it (`Album`),
and so are small ones if very many clusters fill up the page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from sccs.evaluation.scores import scores
from sccs.evaluation.tables import confusion
from sccs.report.charts import agreement_curve, cluster_use_chart, dsc_bars, loss_curves, rule_title, share_curves
from sccs.report.crops import CROP, cluster_crops, cluster_grey, cluster_place, most_alike
from sccs.report.drawing import reduced, to_svg
from sccs.report.figures import RunView
from sccs.report.overlays import (
    as_scored,
    basis_map,
    class_overlay,
    cluster_overlay,
    doubt_map,
    error_map,
    grey,
    superpixel_overlay,
    unsynchronised_overlay,
)
from sccs.report.page_tables import percent
from sccs.report.views import SliceView
from sccs.system.colours import cluster_colours
from sccs.system.files import atomic_path, remove

SHOWN_SLICES = 6
WIDEST = 900  # px of the files next to the page; larger pictures are reduced
SMALL, THUMBNAIL = 360, 140  # px in the page: a slice's pictures, a spectral basis
SPOTS, MOST_SPOTS = 8, 96  # in a cluster's gallery, and in all galleries
FOLDER = Path("figures", "pictures")
ROOM = 1_900_000  # bytes of pictures in a page, which stays below 3 MB with text, tables and charts of 189 clusters


class Album:
    """The pictures of a page: files in a run's `FOLDER`, and embedded ones as far as there is room."""

    def __init__(self, run: Path):
        self.run, self.room = run, ROOM
        self.names: set[str] = set()

    def add(self, name: str, rgb: np.ndarray, widest: int = WIDEST) -> str:
        """Write <name>.jpg, at most `widest` px wide and high; returns its URL, relative to the run."""
        file = f"{name}.jpg".replace(" ", "_")
        with atomic_path(self.run / FOLDER / file) as scratch:
            reduced(rgb, widest).save(scratch, "JPEG", quality=84)
        self.names.add(file)
        return quote((FOLDER / file).as_posix())

    def small(self, name: str, rgb: np.ndarray, widest: int = WIDEST) -> str:
        """A picture embedded by `picture_uri`, or written by `add` if the page has no room left."""
        uri = picture_uri(rgb, widest)
        if len(uri) > self.room:
            return self.add(name, rgb, widest)
        self.room -= len(uri)
        return uri

    def close(self) -> None:
        """Remove the pictures of an earlier page."""
        for path in (self.run / FOLDER).glob("*.jpg"):
            if path.name not in self.names:
                remove(path)


def shown_views(views: list[SliceView]) -> list[SliceView]:
    """At most `SHOWN_SLICES`: test slices first, evenly spread, with room for one of the training slices."""
    test, train = ([view for view in views if view.split == part] for part in ("test", "train"))
    room = SHOWN_SLICES - (1 if train else 0)
    test = _spread(test, room)
    return test + _spread(train, min(2, SHOWN_SLICES - len(test)))


def _spread(items: list, most: int) -> list:
    if len(items) <= most:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def slice_pictures(view: SliceView, seen: RunView, album: Album) -> dict[str, Any]:
    """Pictures, captions and scores of one slice; `more`: those of interest to developers."""
    names = list(seen.colours)
    truth = view.truth_image(names) if names else None
    n = len(view.clusters)
    pictures = [("input", grey(view.image), "the image, standardised over its volume")]
    more = [("superpixels", superpixel_overlay(view), f"{n} superpixels; inset enlarged 3 ×")]
    clusters = ("clusters", cluster_overlay(view, seen.k), f"{len(np.unique(view.clusters))} of {seen.k} occur here")
    (pictures if seen.class_of_cluster is None else more).append(clusters)
    score = None
    if seen.class_of_cluster is not None:
        predicted = view.class_image(seen.class_of_cluster, names)
        about = f"clusters as classes, mapping {rule_title(seen.rule or '')}"
        if view.taught is not None:
            about = "classes from a few labels (sccs teach), completed by the names of clusters"
        pictures.append(("classes", class_overlay(view, predicted, seen.colours), about))
    if view.doubt is not None:
        more.append(("doubt", doubt_map(view), "bright where a label would help most"))
    if truth is not None:
        labels = class_overlay(view, truth, seen.colours)
        pictures.append(("ground truth", labels, "labels; blank where not scored"))
    if truth is not None and seen.class_of_cluster is not None:
        rest = seen.metrics.get("rest")
        predicted = as_scored(predicted, seen.metrics.get("classes", []), rest)
        wrong = float((predicted != truth)[truth >= 0].mean()) if (truth >= 0).any() else 0.0
        about = f"{percent(wrong)} of the scored pixels are wrong, shown in the colour of their true class"
        pictures.append(("errors", error_map(view, truth, predicted, seen.colours), about))
        score = _slice_score(truth, predicted, names, rest)
    alone = unsynchronised_overlay(view)
    if alone is not None:
        about = "each FOV on its own: a colour may mean something else in another FOV"
        more.append(("k-means alone", alone, about))
    bases = [(f"basis {int(number_) + 1}", basis_map(view, column), "") for column, number_ in enumerate(view.columns)]

    def kept(each: list[tuple[str, np.ndarray, str]], widest: int = SMALL) -> list[dict[str, str]]:
        return [
            {
                "name": name,
                "src": album.small(f"{view.key}_{name}_small", rgb, widest),
                "full": album.add(f"{view.key}_{name}", rgb),
                "about": about,
            }
            for name, rgb, about in ((name, np.asarray(reduced(rgb, WIDEST)), about) for name, rgb, about in each)
        ]

    return {
        "present": [name for i, name in enumerate(names) if truth is not None and (truth == i).any()],
        "key": view.key,
        "title": view.title,
        "split": view.split,
        "score": score,
        "u": view.u,
        "bases": kept(bases, THUMBNAIL),
        "pictures": kept(pictures),
        "more": kept(more),
        "size": f"{view.image.shape[1]} × {view.image.shape[0]} px, {max(len(view.tiles), 1)} FOV"
        + ("s" if len(view.tiles) > 1 else ""),
    }


def _slice_score(truth: np.ndarray, predicted: np.ndarray, names: list[str], rest: str | None) -> dict[str, Any]:
    """DSC of one slice from class positions (H, W); each class counts as the cluster of the same number."""
    C = len(names)
    table = confusion(np.where(predicted < 0, C, predicted), truth, C + 1, list(range(C)))
    return scores(table, np.array([*range(C), -1]), names, rest)


def cluster_cards(seen: RunView, shown: list[SliceView], album: Album) -> list[dict[str, Any]]:
    """For each cluster: a gallery, share of the pixels, mean grey, and its class under each mapping.

    If the page has no room for all pictures, the most common clusters come first.
    """
    share = {part: each for part, each in seen.metrics.get("cluster_share", {}).items() if sum(each) > 0}
    made = []
    count = max(3, min(SPOTS, MOST_SPOTS // seen.k))
    alike, colours = most_alike(shown, seen.k), cluster_colours(seen.k)
    images = [view.cluster_image() for view in shown]
    pixels = np.array([np.bincount(image[image >= 0], minlength=seen.k) for image in images]).reshape(-1, seen.k)
    for cluster in np.argsort(-pixels.sum(0), kind="stable").tolist():
        colour, name = colours[cluster], f"cluster{cluster}"
        crops = cluster_crops(shown, cluster, colour, count)
        where = shown[int(np.argmax(pixels[:, cluster]))] if pixels[:, cluster].any() else None
        mapped: dict[str | None, list[str]] = {}
        for rule, classes in seen.metrics.get("mapping", {}).items():
            if rule != "named":
                mapped.setdefault(classes[cluster], []).append(rule)
        drawn = seen.class_of_cluster[cluster] if seen.class_of_cluster else None
        made.append(
            {
                "number": cluster,
                "colour": colour,
                "drawn": drawn,
                "given": "" if seen.cluster_labels[cluster] == f"cluster {cluster}" else seen.cluster_labels[cluster],
                "share": {part: values[cluster] for part, values in share.items() if cluster < len(values)},
                "mapped": mapped,
                "crops": [
                    {"src": album.small(f"{name}_{i}", crop.picture), "title": crop.view.title}
                    for i, crop in enumerate(crops)
                ],
                "size": _crop_size([crop.view for crop in crops]),
                "alike": alike[cluster],
                "grey": _grey_words(cluster_grey(shown, cluster)),
                "place": where
                and album.small(name, cluster_place(where, cluster, colour), 260 if seen.k <= 2 * SPOTS else 180),
                "where": where.title if where else None,
            }
        )
    return sorted(made, key=lambda card: card["number"])


def to_merge(made: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    """Numbers of two clusters, of `cluster_cards`, that one might merge: they share a name, or have none
    and are each the most similar to the other."""
    named = {card["number"]: card["given"] for card in made}
    same = [pair for pair in combinations(named, 2) if named[pair[0]] == named[pair[1]] != ""]
    alike = [tuple(sorted((card["number"], card["alike"]))) for card in made if card["alike"] is not None]
    mutual = [(a, b) for a, b in dict.fromkeys(alike) if alike.count((a, b)) == 2 and not (named[a] or named[b])]
    return next(iter([*same, *mutual]), None)


def _crop_size(views: list[SliceView]) -> str:
    """Width of a crop in px, and in nm if all slices agree."""
    sizes = {view.voxel_size and view.voxel_size[2] for view in views}
    nm = sizes.pop() if len(sizes) == 1 else None
    return f"{CROP} px" + (f" ({CROP * nm:.0f} nm)" if nm else "")


def _grey_words(grey: float | None) -> str:
    """-1.2 -> "-1.2 sd, dark"."""
    if grey is None:
        return "–"
    return f"{grey:+.1f} sd, {'dark' if grey < -0.5 else 'bright' if grey > 0.5 else 'medium'}"


def charts(seen: RunView, logged: Mapping) -> dict[str, str]:
    """Inline SVG by name, without empty charts."""
    metrics = seen.metrics
    headline = metrics.get("headline")
    share = metrics.get("cluster_share", {})
    made = {
        "losses": loss_curves(logged),
        "shares": share_curves(logged),
        "agreement": agreement_curve(logged),
        "use": cluster_use_chart(share) if any(sum(values) > 0 for values in share.values()) else None,
        "dsc": dsc_bars(metrics.get("test", {}), _only(seen.colours, metrics.get("classes", [])), headline),
    }
    return {name: to_svg(figure, name) for name, figure in made.items() if figure is not None}


def _only(colours: Mapping[str, str], names: list[str]) -> dict[str, str]:
    return {name: colours[name] for name in names if name in colours}


def picture_uri(rgb: np.ndarray, widest: int = WIDEST, quality: int = 66) -> str:
    """(H, W, 3) uint8 -> a WebP data URI, reduced to `widest` px on its longer side."""
    buffer = io.BytesIO()
    reduced(rgb, widest).save(buffer, "WEBP", quality=quality)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
