"""Does a narrower halo cost accuracy? DSC of training slices, stitched, by the halo of their fields of view.

    [SCCS_DATA=DIR] python -m benchmarks.studies.halos [--data hela phantom] [--systems sccs sccs_fast sccs_plus]
                                              [--halo 40 20 12] [--seeds 0 1 2] [--out benchmarks/results/segment]

Each system is trained once per set and seed (size `quick`), without labels, and applied to the slices that it was
trained on, whose labels name the clusters (mapping `train`) and score them. No test image is read. Writes OUT/halos.md
and halos.csv.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import SETS, expanded, job
from benchmarks.pages import Origin, markdown, mean_sd, named, publish, typed
from benchmarks.studies.seams import CHANGED
from sccs.data import load_dataset
from sccs.evaluation.mappings import fit_mapping
from sccs.evaluation.scores import scores
from sccs.evaluation.tables import confusion, rest_position
from sccs.inference.blocks import overlapping
from sccs.inference.labels import segment_slices
from sccs.system.exits import guard
from sccs.system.log import quiet_log

COMMAND = "python -m benchmarks.studies.halos"
HEADER = ["set", "system", "seed", "halo", "pixels", "dsc", "changed"]


def measure(data: str, system: str, seed: int, halos: Sequence[int]) -> list[list[str]]:
    """A row for each halo; `changed` is the share of pixels whose cluster differs from that of the first halo."""
    work = job(system, data, seed, "quick", CHANGED.get(data, ()))
    model = work.pipeline
    dataset = load_dataset(expanded(work.recipe["data"]), Path.cwd(), seed, model.min_side)
    model.fit(dataset, log=quiet_log())
    names, codes = list(dataset.classes.values()), list(dataset.classes)
    tables = np.zeros((len(halos), model.k, len(codes)), np.int64)
    seen, changed, pixels = np.zeros(len(halos)), np.zeros(len(halos)), 0
    for volume in dataset.train:
        fields = [overlapping(volume.shape[1:], model.fov, halo) for halo in halos]
        seen += [each.seen * len(volume.z_slices) for each in fields]
        for z, *planes in zip(volume.z_slices, *(segment_slices(model, volume, each) for each in fields)):
            labels = volume.read_labels(z)
            assert labels is not None
            pixels += labels.size
            tables += [confusion(plane, labels, model.k, codes, dataset.ignore) for plane in planes]
            changed += [(plane != planes[0]).sum() for plane in planes]
    position, rows = rest_position(names), []
    for halo, table, px, differ in zip(halos, tables, seen, changed):
        dsc = scores(table, fit_mapping("train", table, rest=position), names)["mean"]["dsc"]
        numbers = f"{px / pixels:.3f}", f"{dsc:.5f}", f"{differ / pixels:.5f}"
        rows.append([data, system, str(seed), str(halo), *numbers])
        print(*rows[-1], sep=", ", flush=True)
    return rows


def table(rows: Sequence[Sequence[str]]) -> str:
    """Mean DSC over seeds of each set and system, with a column for each halo."""
    halos, lines = list(dict.fromkeys(row[3] for row in rows)), []
    for data, system in dict.fromkeys((row[0], row[1]) for row in rows):
        here = [row for row in rows if (row[0], row[1]) == (data, system)]
        dsc, changed = (
            {halo: [float(row[column]) for row in here if row[3] == halo] for halo in halos} for column in (5, 6)
        )
        cells = [f"{mean_sd(dsc[halo])} ({100 * np.mean(changed[halo]):.1f} %)" for halo in halos[1:]]
        lines.append([named(data), f"`{system}`", mean_sd(dsc[halos[0]]), *cells])
    heads = [f"halo of {halo} px" for halo in halos]
    return markdown(["set", "system", heads[0], *(f"{head} (pixels changed)" for head in heads[1:])], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", choices=SETS, default=["hela", "phantom"])
    parser.add_argument("--systems", nargs="+", default=["sccs", "sccs_fast", "sccs_plus"])
    parser.add_argument("--halo", type=int, nargs="+", default=[40, 20, 12])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/segment"))
    args = parser.parse_args(argv)
    rows = []
    for data in args.data:
        for system in args.systems:
            for seed in args.seeds:
                rows += measure(data, system, seed, args.halo)
    text = f"Mean DSC of training slices over classes, mean ± standard deviation over seeds.\n\n{table(rows)}"
    origin = Origin.here(typed(COMMAND, argv), seeds=args.seeds)
    print(publish(args.out, "halos", "Halos and accuracy", origin, text, HEADER, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
