"""One turn of `benchmarks.speed.engine`, in its own process and checkout: prints a line of JSON with its seconds.

    python engine_child.py '{"iterations": 6000, "fovs": 7, "side": 560, "graphs": 4}'

The checkout must be the working folder and on Python's path. Uses only what checkouts have that predate DGLGraphs:
`Pipeline.from_recipe`, `fit`, `seconds`, `segment_fov`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Train twice, so that the second training imports nothing, and segment a field of view several times."""
    wanted, start = json.loads(sys.argv[1]), time.perf_counter()
    import sccs
    from sccs.data import load_dataset
    from sccs.pipeline import Pipeline

    imports = time.perf_counter() - start
    assert Path(sccs.__file__).is_relative_to(Path.cwd()), f"{sccs.__file__} is not below {Path.cwd()}"
    iterations, side = wanted["iterations"], wanted["side"]
    options = [f"train.iterations={iterations}", f"clusterer.warmup={iterations * 3 // 4}"]
    block = {
        "name": "phantom",
        "shapes": [[max(4, wanted["graphs"]), side, side]] * 2,
        "train_slices": wanted["graphs"],
        "test_slices": 1,
    }
    training = []
    for _ in range(2):
        pipeline = Pipeline.from_recipe("sccs", options)
        dataset = load_dataset(block, Path.cwd(), 0, pipeline.min_side)
        pipeline.fit(dataset)
        training.append(pipeline.seconds["training"])
    image = next(iter(dataset.test[0].fovs())).image
    pipeline.segment_fov(image)
    stages = [pipeline.segment_fov(image).seconds for _ in range(wanted["fovs"])]
    totals = sorted(sum(each.values()) for each in stages)
    print(
        json.dumps(
            {
                "a field of view": totals[len(totals) // 2],
                "training": training[1],
                "training, with imports": imports + training[0],
            }
        )
    )


if __name__ == "__main__":
    main()
