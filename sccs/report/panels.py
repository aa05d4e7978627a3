"""Panels after the paper's Figures 2 to 4: several views of slices side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sccs.report.drawing import add_legend, new_figure, show
from sccs.report.overlays import (
    as_scored,
    basis_map,
    class_overlay,
    cluster_overlay,
    error_colours,
    error_map,
    grey,
    unsynchronised_overlay,
)
from sccs.report.views import SliceView
from sccs.system.colours import WRONG

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def basis_panel(view: SliceView, count: int = 8) -> Figure:
    """Figure 2: the image and spectral bases of highest variance as heat maps."""
    shown = _most_varied(view, min(count, len(view.columns)))
    columns = min(len(shown) + 1, 5)
    rows = -(-(len(shown) + 1) // columns)
    figure, axes = new_figure(2.1 * columns, 2.3 * rows * _aspect(view) + 0.3, rows, columns)
    axes = axes.ravel()
    show(axes[0], grey(view.image), view.title)
    for axis, column in zip(axes[1:], shown):
        show(axis, basis_map(view, column), f"basis {view.columns[column] + 1} of {view.u}")
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

    colours: of `classes`, the labelled ones, and of names added by the user.
    """
    names = list(colours)
    labelled = any(view.labels is not None for view in views)
    figure, axes = new_figure(
        2.6 * (4 if labelled else 2), sum(2.6 * _aspect(view) for view in views) + 0.6, len(views), 4 if labelled else 2
    )
    for row, view in enumerate(views):
        predicted, truth = view.class_image(class_of_cluster, names), view.truth_image(names)
        show(axes[row, 0], grey(view.image), view.title)
        ours = class_overlay(view, predicted, colours)
        if not labelled:
            show(axes[row, 1], ours, "" if row else "classes")
            continue
        theirs = wrong = None
        if truth is not None:
            theirs = class_overlay(view, truth, colours)
            wrong = error_map(view, truth, as_scored(predicted, classes, rest), colours)
        show(axes[row, 1], theirs, "" if row else "ground truth")
        show(axes[row, 2], ours, "" if row else "classes")
        show(axes[row, 3], wrong, "" if row else "wrong pixels, by true class")
    legend = dict(colours)
    legend.update({f"false positive ({n})": c for n, c in error_colours(colours).items() if labelled and c == WRONG})
    add_legend(figure, legend)
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
            show(axis, image, "" if row else title)
    if class_of_cluster is not None:
        add_legend(figure, colours)
    return figure
