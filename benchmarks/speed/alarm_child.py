"""One turn of `benchmarks.speed.alarm`, in its own process and checkout: prints a line of JSON with CPU seconds.

    python alarm_child.py sccs_plus ...

The checkout must be the working folder and on Python's path.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPEATS = 3
SHORT = {"sccs_plus": ["clusterer.iterations=20"], "sccs_plus_fine": ["clusterer.iterations=20"]}
BRIEF = ["train.iterations=20", "clusterer.warmup=10"]


def main() -> None:
    """Train each system on a small image, and time the stages of a field of view; the smallest of several times."""
    import numpy as np
    import torch
    from scipy.ndimage import gaussian_filter

    import sccs
    from sccs.pipeline import Pipeline

    assert Path(sccs.__file__).is_relative_to(Path.cwd()), f"{sccs.__file__} is not below {Path.cwd()}"
    torch.set_num_threads(1)
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(560, 560)), 2)
    image = (noise / noise.std()).astype(np.float32)
    seconds: dict[str, float] = {}

    def timed(what: str, work: Callable[[], Any]) -> Any:
        taken = []
        for _ in range(REPEATS + 1):  # the first compiles and warms up
            start = time.process_time()
            result = work()
            taken.append(time.process_time() - start)
        seconds[what] = min(taken[1:])
        return result

    for system in sys.argv[1:]:
        pipeline = Pipeline.from_recipe(system, SHORT.get(system, BRIEF), device="cpu")
        pipeline.fit(image[None, :240, :240])
        with torch.no_grad():
            features = timed(f"{system} features", lambda: pipeline.features.extract(image))
            graph = timed(f"{system} graph", lambda: pipeline.graph.build(image, features))
            timed(
                f"{system} embedding and clustering",
                lambda: pipeline.clusterer.predict(graph, pipeline.embedder.embed(graph)),
            )
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
