"""The end of `make demo`: simulated clicks, the organelles that SCCS finds with them, and what to do next.

`python -m benchmarks.demo RUN` teaches a run on the bundled phantom, whose labels are known, with `CLICKS` pixels of
each class from its training images. The picture and the scores are of its test images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from sccs import steps
from sccs.data.volumes import Dataset
from sccs.pipeline import Pipeline
from sccs.system.log import say

CLICKS = 40  # pixels of each class


def clicks(dataset: Dataset, seed: int = 0) -> str:
    """A table of labelled pixels, as `sccs teach` reads it, spread over the training slices."""
    rng, rows = np.random.default_rng(seed), ["z,y,x,class,image"]
    slices = [(volume, z) for volume in dataset.train for z in volume.z_slices]
    for code, name in dataset.classes.items():
        for number in range(CLICKS):
            volume, z = slices[number % len(slices)]
            labels = volume.read_labels(z)
            places = np.argwhere(labels == code) if labels is not None else np.zeros((0, 2), np.int64)
            if len(places):
                y, x = places[rng.integers(len(places))] + volume.origin[1:]
                rows.append(f"{z},{y},{x},{name},{volume.name}")
    return "\n".join(rows) + "\n"


def main(run: Path) -> None:
    """Teach the run, then print where the picture is and what to do next."""
    dataset = steps.run_data(run, Pipeline.load(run))
    table = run / "clicks.csv"
    table.write_text(clicks(dataset))
    steps.teach(run, [str(table)])
    scores = json.loads((run / "metrics.json").read_text())["test"]["taught"]
    each = ", ".join(f"{name} {measures['dsc']:.2f}" for name, measures in scores["classes"].items())
    say(f"\nOrganelles in the test images, after {CLICKS} labelled pixels of each class: DSC {each}.")
    say(f"picture  {(run / 'figures' / 'figure3_comparison.png').absolute()}")
    say(f"report   {(run / 'report.html').absolute()}\n")
    say("Next: sccs auto YOUR_IMAGE        look at it, train on it, open its report")
    say("      sccs name latest 3=nucleus  name clusters; `sccs suggest latest --page` asks for labels")
    say("      sccs segment latest YOUR_IMAGE out.tif --classes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    main(parser.parse_args().run)
