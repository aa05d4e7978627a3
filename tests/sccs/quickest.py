"""The recipe that trains in a blink: k-means of the grey of superpixels."""

RECIPE = {
    "features": "intensity",
    "graph": {"name": "superpixel", "pixels_per_superpixel": 64},
    "embedder": "identity",
    "clusterer": {"name": "kmeans", "k": 3},
    "device": "cpu",
}
