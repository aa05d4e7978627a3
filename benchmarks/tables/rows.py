"""The rows of the tables: systems, settings of one system, and the paper's numbers for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# system -> DSC on BetaSeg c4 as the paper prints it: nucleus, granules, mitochondria, unrecognized, average (Table 1)
PAPER = {
    "sccs": (0.954, 0.573, 0.861, 0.875, 0.816),
    "kmeans": (0.803, 0.571, 0.679, 0.858, 0.728),
    "dsm": (0.848, 0.345, 0.742, 0.817, 0.688),
    "deepcut_cc": (0.861, 0.333, 0.694, 0.778, 0.666),
    "han": (None, None, None, None, 0.659),
    "maester": (0.943, 0.556, 0.778, 0.868, 0.786),
    "wo_nsc": (0.903, 0.365, 0.769, 0.848, 0.721),
    "wo_nc_hm": (0.740, 0.485, 0.664, 0.802, 0.673),
    "wo_nc_inc": (0.945, 0.500, 0.785, 0.858, 0.772),
}
PAPER_K = {6: 0.559, 7: 0.798, 8: 0.816, 9: 0.761}  # Table 2, average DSC
UNSUPERVISED = (
    "sccs_plus",
    "sccs_plus_fine",  # more clusters, so not comparable with the others
    "sccs_plus_own",  # the same
    "sccs_plus_mae",
    "sccs_fast",
    "sccs",
    "kmeans",
    "filters_kmeans",
    "intensity_kmeans",
    "raw_kmeans",
    "pixel_kmeans",
    "spectral",
    "dsm",
    "deepcut_ncut",
    "deepcut_cc",
    "han",
    "maester",
    "wo_nsc",
    "wo_nc_hm",
    "wo_nc_inc",
    "wo_smo",
    "paper_letter",
    "later_code",
)
SUPERVISED = ("linear_probe", "segmenter", "vit")  # trained on the labels of the training images


@dataclass(frozen=True)
class Row:
    """A row of a table: its label, the system, and the changes to its recipe."""

    label: str
    system: str
    overrides: tuple[str, ...] = ()


def plain(systems: Sequence[str], size: str) -> list[Row]:
    """A row for each system, with its recipe unchanged."""
    return [Row(system, system) for system in systems]


def k_rows(systems: Sequence[str], size: str) -> list[Row]:
    """Rows of Table 2: the paper's numbers of clusters."""
    return [
        Row(f"{system}, k = {k}" if len(systems) > 1 else f"k = {k}", system, (f"clusterer.k={k}",) if k != 8 else ())
        for system in systems
        for k in PAPER_K
    ]


def figure5_rows(systems: Sequence[str], size: str) -> list[Row]:
    """Rows of Figure 5: numbers of superpixels, then of bases; `quick` has fewer of the former."""
    area, counts = 560 * 560, (2000, 3000, 4000) if size == "quick" else (2000, 2500, 3000, 3500, 4000)
    # 3,000 superpixels and u = 12 are the recipe's own values, and need no separate run
    return [
        *(
            Row(f"superpixels {n}", s, (f"graph.pixels_per_superpixel={area / n:.2f}",) if n != 3000 else ())
            for s in systems
            for n in counts
        ),
        *(Row(f"u = {u}", s, (f"embedder.u={u}",) if u != 12 else ()) for s in systems for u in (4, 8, 12, 16)),
    ]


def maester_rows(systems: Sequence[str], size: str) -> list[Row]:
    """The published number of central tokens, to which the timings refer, and that of size `quick`."""
    return [Row(f"{s}, central: {n}", s, (f"features.central={n}",)) for s in systems for n in (16, 4)]


# With the published windows, a FOV of 560 x 560 px takes a quarter of a CPU hour. Of these sets, one FOV of a training
# slice and one of a test slice must do; platelet is small enough to be used whole.
CUT = tuple(f"data.{part}.0.region.{axis}=[0, 560]" for part in ("train", "test") for axis in "yx")
MAESTER_CUTS = {"cdeep3m": CUT, "vnc": CUT}


SIDES, AREAS = ", sides: [3, 7, 15]", ", areas: [100, 400, 1600, 6400, 25600]"  # of sccs_plus
FILTERS = "{name: filters%s}"
PARTS = f"[student, {FILTERS}]"
CONCAT = f"features={{name: concat, of: {PARTS % (SIDES + AREAS)}}}"
GRID = ("graph.slic=grid", "graph.slic_iterations=5")
MIXTURE = ("clusterer.teacher=mixture", "clusterer.shares=equal")
# recipes/sccs_plus.yaml with one choice changed; then what lies around it
PLUS = (
    ("SCCS+", "sccs_plus", ()),
    ("32 clusters, 4 propagations: `sccs_plus_fine`", "sccs_plus_fine", ()),
    ("the MAE in place of its student, 6 propagations: `sccs_plus_mae`", "sccs_plus_mae", ()),
    ("the student's features alone", "sccs_plus", ("features=student",)),
    ("classical filters alone", "sccs_plus", (f"features={FILTERS % (SIDES + AREAS)}",)),
    ("filters without `sides` and `areas`", "sccs_plus", (f"features.of={PARTS % ''}",)),
    ("filters without `sides`", "sccs_plus", (f"features.of={PARTS % AREAS}",)),
    ("filters without `areas`", "sccs_plus", (f"features.of={PARTS % SIDES}",)),
    ("no propagation", "sccs_plus", ("embedder.hops=0",)),
    ("2 propagations", "sccs_plus", ("embedder.hops=2",)),
    ("4 propagations", "sccs_plus", ("embedder.hops=4",)),
    ("6 propagations", "sccs_plus", ("embedder.hops=6",)),
    ("10 propagations", "sccs_plus", ("embedder.hops=10",)),
    ("propagation by Â of the paper", "sccs_plus", ("embedder.normalisation=symmetric",)),
    ("feature neighbours only", "sccs_plus", ("graph.edges=knn",)),
    ("touching regions only", "sccs_plus", ("graph.edges=adjacent",)),
    ("u = 8", "sccs_plus", ("embedder.u=8",)),
    ("u = 24", "sccs_plus", ("embedder.u=24",)),
    ("k = 16", "sccs_plus", ("clusterer.k=16",)),
    ("k = 32", "sccs_plus", ("clusterer.k=32",)),
    ("taught by spherical Gaussians of equal shares", "sccs_plus", (*MIXTURE, "clusterer.covariance=spherical")),
    ("taught by Gaussians of equal shares", "sccs_plus", MIXTURE),
    ("taught by Gaussians", "sccs_plus", ("clusterer.teacher=mixture",)),
    ("k-means in place of the head", "sccs_plus", ("clusterer={name: kmeans, k: 8}",)),
    ("the paper's head and teacher", "sccs_plus", ("clusterer={name: mlp_incremental, k: 8}", "train.iterations=2000")),
    ("4 propagations by Â", "sccs_plus", ("embedder.hops=4", "embedder.normalisation=symmetric")),
    ("SLIC as tensor operations (`grid`)", "sccs_plus", GRID),
    ("sccs", "sccs", ()),
    ("sccs, k = 32", "sccs", ("clusterer.k=32",)),
    ("sccs, `grid` SLIC", "sccs", GRID),
    ("sccs_fast", "sccs_fast", ()),
    ("kmeans on both features", "kmeans", (CONCAT,)),
    ("kmeans on both features, k = 32", "kmeans", (CONCAT, "clusterer.k=32")),
    ("linear_probe on both features (supervised)", "linear_probe", (CONCAT,)),
    ("linear_probe on the MAE's features (supervised)", "linear_probe", ()),
)


def plus_rows(systems: Sequence[str], size: str) -> list[Row]:
    """Rows of PLUS whose system is requested."""
    return [Row(label, system, overrides) for label, system, overrides in PLUS if system in systems]
