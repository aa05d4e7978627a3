"""The four roles of a recipe, and the parts that can fill them: a recipe names one part for each role.

A part is a class with keyword-only typed arguments (`registry.base` has the four protocols); its recipe block is
checked against that signature. Parts are imported only when a recipe names them, so this page costs nothing to load.
Third parties add parts with an entry point ``role.name = module:Class`` in the group ``sccs.components``, or with a
module that a recipe lists under ``plugins:`` (see `registry.registry`).
"""

import os

from registry import moved  # noqa: F401  # old module names keep working
from registry.registry import Registry

# OpenMP's threads spin while they wait for one another. When other programs run, they spin on the core that the awaited
# thread needs, and everything takes several times as long (benchmarks/speed/beside.py). This setting sends them to
# sleep soon. libgomp reads it when torch or FAISS loads libgomp.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# image (H, W) -> dense features (h, w, q) on a regular grid
FEATURES = {
    "mae": ("registry.features.mae:MAE", "masked autoencoder, tokens of the encoder's last layer (paper; MAESTER)"),
    "student": ("registry.features.student:StudentFeatures", "a small, fast convolutional net distilled from the MAE"),
    "contrast": ("registry.features.contrast:Contrast", "a convolutional net that learns from the run's own images"),
    "maester": ("registry.features.maester:Maester", "MAE feature of every pixel by shifted windows (MAESTER)"),
    "intensity": ("registry.features.intensity:Intensity", "the grey value of each pixel, the simplest baseline"),
    "filters": ("registry.features.filters:Filters", "classical filters at several scales: edges, blobs, texture"),
    "concat": ("registry.features.concat:Concat", "several features parts side by side, with equal weight"),
    "vae": ("registry.features.vae:VAE", "semantic code of a VAE with metric learning, on patches (Han et al. 2022)"),
    "vit": ("registry.features.vit:ViT", "keys of a vision transformer from a local DINO checkpoint"),
    "segmenter": (
        "registry.features.segmenter:Segmenter",
        "class scores of a vision transformer trained on labels (supervised reference)",
    ),
}

# image and features -> region graph: nodes, node features, affinity
GRAPH = {
    "superpixel": ("registry.graph.superpixel:Superpixel", "SLIC superpixels, mean and std of their features (paper)"),
    "patch": ("registry.graph.patch:Patch", "square cells of a fixed size instead of superpixels"),
    "pixel": ("registry.graph.pixel:Pixel", "every pixel a node, no edges (MAESTER, raw k-means)"),
}

# region graph -> spectral coordinates Z (n, u) of its nodes
EMBEDDER = {
    "lgc": ("registry.embedder.lgc:LGC", "linear graph convolutions trained with the spectral loss (paper)"),
    "gnn": ("registry.embedder.gnn:GNN", "layers of any DGL graph convolution, trained with the spectral loss"),
    "lgc_principal": (
        "registry.embedder.lgc_principal:LGCPrincipal",
        "linear graph convolution along the directions of highest variance preserved by the graph",
    ),
    "eigsh": ("registry.embedder.eigsh:Eigsh", "eigenvectors of each graph's Laplacian, by a numerical solver"),
    "dsm": ("registry.embedder.dsm:DSM", "eigensegments of each graph's feature similarity (Deep Spectral Methods)"),
    "identity": ("registry.embedder.identity:Identity", "the node features, unchanged"),
}

# region graph and Z -> cluster probabilities P (n, k)
CLUSTERER = {
    "mlp_incremental": (
        "registry.clusterer.mlp_incremental:MLPIncremental",
        "MLP taught by incremental centroids, with smoothness (paper)",
    ),
    "mlp_global": (
        "registry.clusterer.mlp_global:MLPGlobal",
        "MLP taught by clusters over the nodes of all training graphs, with smoothness",
    ),
    "incremental_kmeans": (
        "registry.clusterer.incremental_kmeans:IncrementalKMeans",
        "running centroids over the training graphs, no network",
    ),
    "hungarian_kmeans": (
        "registry.clusterer.hungarian_kmeans:HungarianKMeans",
        "k-means on each graph separately, with clusters matched between graphs",
    ),
    "kmeans": ("registry.clusterer.kmeans:KMeans", "k-means over the nodes of all training graphs"),
    "minibatch_kmeans": (
        "registry.clusterer.minibatch_kmeans:MiniBatchKMeans",
        "k-means by mini-batches, for very many nodes (Han et al. 2022)",
    ),
    "segment_kmeans": (
        "registry.clusterer.segment_kmeans:SegmentKMeans",
        "k-means in each graph, then k-means over the segments of all graphs (Deep Spectral Methods)",
    ),
    "deepcut": (
        "registry.clusterer.deepcut:DeepCut",
        "a GNN trained on each graph separately, by N-cut or correlation clustering (DeepCut)",
    ),
    "class_scores": (
        "registry.clusterer.class_scores:ClassScores",
        "the class with the highest score, for features trained on labels (supervised reference)",
    ),
    "linear_probe": (
        "registry.clusterer.linear_probe:LinearProbe",
        "logistic regression on labelled nodes (supervised yardstick for features)",
    ),
    "sparse_trees": (
        "registry.clusterer.sparse_trees:SparseTrees",
        "extremely randomised trees on a few labelled nodes (sccs teach)",
    ),
    "sparse_logistic": (
        "registry.clusterer.sparse_logistic:SparseLogistic",
        "logistic regression on a few labelled nodes (sccs teach)",
    ),
    "label_spreading": (
        "registry.clusterer.label_spreading:LabelSpreading",
        "spreads a few labels along the edges of the graph, by correct and smooth (sccs teach)",
    ),
}

PARTS = Registry(features=FEATURES, graph=GRAPH, embedder=EMBEDDER, clusterer=CLUSTERER)

ROLES = PARTS.roles  # ("features", "graph", "embedder", "clusterer")
available = PARTS.available  # available(role) -> {name: one-line description}
resolve = PARTS.resolve  # resolve(role, name) -> the name as it is registered
get = PARTS.get  # get(role, name) -> class
schema = PARTS.schema  # schema(role, name) -> pydantic model of the class's arguments
register = PARTS.register  # register(role, name, class or "module:Class", description="")
load_plugin = PARTS.load_plugin  # load_plugin(module name or path of a .py file)
is_loaded = PARTS.is_loaded  # is_loaded(module name or path) -> whether this process has imported it
added = PARTS.added  # added() -> the parts of plug-ins in use, for a message
