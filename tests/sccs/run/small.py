"""A small recipe and its volumes, and how a wrong command is answered."""

import numpy as np

from sccs.run import main
from sccs.system.exits import guard

SMALL = {
    "features": "intensity",
    "graph": {"name": "superpixel", "pixels_per_superpixel": 64, "standardize": "none"},
    "embedder": {"name": "lgc", "u": 2, "channels": [4]},
    "clusterer": {"name": "mlp_incremental", "k": 3, "warmup": 20},
    "train": {"iterations": 120, "checkpoint_every": 40},
    "device": "cpu",
}


def volume(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (2, 96, 100) uint8 of three greys and its labels 0, 1, 2."""
    rng = np.random.default_rng(seed)
    labels = np.broadcast_to(np.digitize(np.arange(100), [33, 66]), (2, 96, 100)).astype(np.uint8)
    return (60 + 60 * labels + rng.normal(0, 8, labels.shape)).clip(0, 255).astype(np.uint8), labels


def fails(capsys, arguments: list[str], *words: str) -> None:
    """The command ends with code 2 and one line that has all `words`."""
    capsys.readouterr()
    assert guard(main)([str(a) for a in arguments]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "sccs: error" in line]
    assert len(error) == 1
    for word in words:
        assert word in error[0]
    assert "Traceback" not in error[0]


PRETRAIN = "pretrain: {data: [{name: volumes, train: [{image: %s}]}], checkpoint: %s, steps: 1}\n"


CLASSES = {0: "unrecognized", 1: "nucleus", 4: "mitochondria"}
