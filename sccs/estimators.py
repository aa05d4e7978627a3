"""scikit-learn estimators: `Segmenter` for images, `KMeans` for points.

    from sccs.estimators import Segmenter
    clusters = Segmenter(recipe="sccs", n_clusters=6).fit_predict(volume)      # (Z, Y, X) -> (Z, Y, X)

Parts of a recipe (`registry`) also have `get_params` and `set_params`, and can be cloned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import Tags, check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data

from registry.base import UserError
from registry.numeric.kmeans import kmeans
from registry.numeric.nearest import assign
from sccs.pipeline import Pipeline


class Segmenter(ClusterMixin, BaseEstimator):
    """A recipe's whole pipeline as one clusterer of images.

    Parameters
        recipe: a packaged recipe's name, a file, or a dict of the same form; its `data` block is ignored.
        options: changes to the recipe, ``["graph.kappa=3"]``, as on the command line.
        n_clusters, seed, device: replace the recipe's `clusterer.k`, `seed` and `device`, unless None.
        voxel_size: (z, y, x) nm of the images.

    Attributes
        pipeline_: the fitted `sccs.Pipeline`.

    Images are arrays (Z, Y, X) or (Y, X) of NumPy, Dask or Zarr, files, or a list of them: unlike most scikit-learn
    estimators, this one takes no table (n_samples, n_features). Raises `registry.base.UserError`, as SCCS does.
    """

    def __init__(
        self,
        recipe: str | Path | Mapping = "sccs",
        *,
        options: Sequence[str] = (),
        n_clusters: int | None = None,
        seed: int | None = None,
        device: str | None = None,
        voxel_size: Sequence[float] | float | None = None,
    ):
        self.recipe = recipe
        self.options = options
        self.n_clusters = n_clusters
        self.seed = seed
        self.device = device
        self.voxel_size = voxel_size

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags

    def fit(self, X: Any, y: None = None) -> Segmenter:
        """Train on one or several images; `y` is ignored."""
        k = [] if self.n_clusters is None else [f"clusterer.k={self.n_clusters}"]
        seed = int(self.seed) if isinstance(self.seed, Integral) else self.seed  # NumPy's integers, too
        given = self.options if isinstance(self.options, str) else [*(self.options or ()), *k]
        model = Pipeline.from_recipe(self.recipe, given, seed=seed, device=self.device)
        self.pipeline_ = model.fit(X, voxel_size=self.voxel_size)
        return self

    def predict(self, X: Any) -> np.ndarray | list[np.ndarray]:
        """Clusters uint8 in the shape of an image; for a list of images, a list."""
        check_is_fitted(self, "pipeline_")
        if isinstance(X, (list, tuple)):
            return [self.pipeline_.segment(image, self.voxel_size) for image in X]
        return self.pipeline_.segment(X, self.voxel_size)

    def fit_predict(self, X: Any, y: None = None) -> np.ndarray | list[np.ndarray]:
        """Train on one or several images, and return their clusters as `predict` does."""
        return self.fit(X).predict(X)


class KMeans(ClusterMixin, BaseEstimator):
    """The recipes' k-means (FAISS) for points (n_samples, n_features).

    If two centres are equally near within single precision, either may be returned (`registry.numeric.nearest`).

    Parameters
        n_clusters, n_init, iterations: number of clusters, of restarts, and of Lloyd iterations per restart.
        random_state: as everywhere in scikit-learn.

    Attributes
        cluster_centers_: (n_clusters, n_features). labels_: (n_samples,) int64. inertia_: sum of squared
        distances to the nearest centre. n_features_in_.
    """

    def __init__(self, n_clusters: int = 8, *, n_init: int = 10, iterations: int = 100, random_state: Any = None):
        self.n_clusters = n_clusters
        self.n_init = n_init
        self.iterations = iterations
        self.random_state = random_state

    def fit(self, X: Any, y: None = None) -> KMeans:
        """Find the centres. Raises ValueError for fewer than `n_clusters` distinct points, and, as for parameters that
        are too small, TypeError for parameters that are no integers."""
        for name in ("n_clusters", "n_init", "iterations"):
            check_scalar(getattr(self, name), name, Integral, min_val=1)
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        try:
            found = kmeans(X, self.n_clusters, seed, self.n_init, self.iterations)
        except UserError as error:
            raise ValueError(f"n_clusters: {error} (n_samples={len(X)})") from None
        self.cluster_centers_, self.labels_, self.inertia_ = found
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The nearest centre of each point, (n_samples,) int64."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return assign(X, self.cluster_centers_)[0]
