"""A small finished run folder, made without any training."""

import json

import numpy as np
import pytest

from sccs.evaluation.naming import write_metrics
from sccs.evaluation.tables import confusion
from sccs.report.views import SliceView

CLASSES = {0: "unrecognized", 1: "nucleus", 2: "granules"}
K = 4


def make_view(volume="cell", z=0, split="test", labelled=True, shape=(96, 112), u=5, seed=0):
    """Three kinds of disks on noise, superpixels of 8 x 8 px; cluster 3 is one that nothing belongs to."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    truth = np.zeros(shape, np.int32)
    truth[(y - 40) ** 2 + (x - 36) ** 2 < 26**2] = 1
    truth[(y - 60) ** 2 + (x - 86) ** 2 < 14**2] = 2
    image = np.clip(90 + 50 * truth + rng.normal(0, 8, shape), 0, 255).astype(np.uint8)
    regions = (y // 8 * -(-shape[1] // 8) + x // 8).astype(np.int32)
    n = int(regions.max()) + 1
    kind = np.array([np.bincount(truth[regions == i]).argmax() for i in range(n)])
    bases = (kind[:, None] * np.arange(1, u + 1) / u + rng.normal(0, 0.1, (n, u))).astype(np.float32)
    labels = np.where(y < 4, 255, truth).astype(np.int32) if labelled else None
    tiles = [(0, 0, shape[0], 56), (0, 56, shape[0], shape[1] - 56)]
    return SliceView(volume, z, split, image, labels, regions, bases, kind, (kind + 1) % K, 255, tiles, dict(CLASSES))


@pytest.fixture
def view():
    return make_view()


@pytest.fixture
def run_folder(tmp_path):
    """Function that makes a run folder: run_folder(labelled=True, slices=2, data="volumes")."""

    def make(labelled=True, slices=2, data="volumes", name="run"):
        run = tmp_path / name
        views = [make_view(z=z, labelled=labelled, seed=z) for z in range(slices)]
        views.append(make_view("other", split="train", labelled=labelled, seed=99))
        tables, pixels = {"train": {}, "test": {}}, {"train": np.zeros(K, int), "test": np.zeros(K, int)}
        for view in views:
            view.save(run / "figures" / "data")
            pixels[view.split] += np.bincount(view.cluster_image().ravel(), minlength=K)
            if labelled:
                table = confusion(view.cluster_image(), view.labels, K, list(CLASSES), 255)
                tables[view.split][f"{view.volume}:{view.z}:0:0"] = table
        write_metrics(
            run,
            tables["train"],
            tables["test"],
            list(CLASSES.values()),
            k=K,
            train_pixels=pixels["train"],
            test_pixels=pixels["test"],
        )
        graph = {"key": "other:0:0:0", "nodes": 168, "edges": 900, "density": 0.03, "isolated": 0, "components": 1}
        for file, content in {
            "graphs.json": [graph],
            "timing.json": {
                "features": 0.5,
                "graph": 0.25,
                "embed": 0.001,
                "cluster": 0.001,
                "total": 0.752,
                "fovs": 2,
                "pixels_per_fov": 10752.0,
                "training_seconds": 61.0,
            },
            "environment.json": {"python": "3.11", "device": "cpu", "gpu": None, "packages": {"torch": "2.4"}},
        }.items():
            (run / file).write_text(json.dumps(content))
        recipe = f"name: tiny\ndescription: a tiny run\nseed: 3\ndata: {{name: {data}}}\ntrain: {{iterations: 100}}\n"
        (run / "resolved.yaml").write_text(recipe)
        (run / "recipe.yaml").write_text("extends: sccs\n")
        with open(run / "metrics.jsonl", "w") as file:
            for step in range(10, 101, 10):
                values = {"loss/total": 1 / step, "loss/spe": None if step == 10 else 0.5, "clusters/share_0": 1.0}
                file.write(json.dumps({"step": step, **values}) + "\n")
        return run

    return make
