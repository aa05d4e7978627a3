"""SCCS: unsupervised segmentation of electron microscopy volumes by spectral clustering of superpixel graphs.

    import sccs
    model = sccs.load("runs/sccs/...")                          # a trained run
    labels = model.segment(volume, voxel_size=(16, 16, 16))      # (Z, Y, X)
    sccs.Pipeline.from_recipe("recipes/sccs.yaml").fit(volumes)
"""
import importlib

__version__ = "0.1.0"
__all__ = ["Pipeline", "load", "__version__"]


def __getattr__(name: str):
    # PyTorch and DGL take seconds to import: only who uses a pipeline waits for them.
    if name in ("Pipeline", "load"):
        pipeline = importlib.import_module("sccs.pipeline").Pipeline
        return pipeline if name == "Pipeline" else pipeline.load
    raise AttributeError(f"module 'sccs' has no attribute {name!r}")
