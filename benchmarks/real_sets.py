"""SCCS against k-means and numerical spectral clustering, on real EM sets and on the synthetic phantom.

    python benchmarks/real_sets.py [--sets platelet hela cdeep3m vnc phantom] [--systems sccs kmeans ...]
                                   [--seeds 0 1 2] [--out benchmarks/results/real_sets] [--set a.b=c]

Real sets are found through SCCS_DATA. One configuration per system for all sets: a set's recipe gives the `data` block
and nothing else. Resumable: a finished (system, set, seed) is kept as one JSON file in OUT/runs and not run again.
Writes OUT/table.md and OUT/table.csv: mean DSC (mapping `train`, fitted on training labels), mean +- sd over seeds.
"""
from __future__ import annotations

import argparse
import csv
import json
import math
import time
from pathlib import Path

import numpy as np

from sccs.data import load_dataset
from sccs.evaluation import MAPPINGS, evaluate
from sccs.files import write_json, write_text
from sccs.log import quiet_log
from sccs.pipeline import Pipeline
from sccs.products import segment_volume
from sccs.recipe import load_recipe
from sccs.run import environment

SYSTEMS = ("sccs", "kmeans", "pixel_kmeans", "spectral", "intensity_kmeans")
REAL = ("platelet", "hela", "cdeep3m", "vnc")
IN_USE = 0.001


def one_run(system: str, data: str, seed: int, overrides: list[str]) -> dict:
    """Train without labels, segment train and test volumes, score. The system's recipe with the set's `data` block."""
    own = load_recipe(system, [o for o in overrides if not o.startswith("data.")], seed=seed).resolved()
    own["data"] = load_recipe("sccs" if data == "phantom" else data).data
    pipeline = Pipeline.from_recipe(own)
    dataset = load_dataset(own["data"], Path.cwd(), seed)
    start = time.perf_counter()
    pipeline.fit(dataset, log=quiet_log())
    trained = time.perf_counter() - start
    tables = {"train": {}, "test": {}}
    pixels = {part: np.zeros(pipeline.k, np.int64) for part in tables}
    used = []
    for part in tables:
        for volume in getattr(dataset, part):
            before = pixels[part].copy()
            for _ in segment_volume(pipeline, volume, dataset, list(dataset.classes), tables[part], pixels[part]):
                pass
            here = pixels[part] - before
            if part == "test":
                used.append(int((here / here.sum() >= IN_USE).sum()))
    metrics = evaluate(tables["train"], tables["test"], list(dataset.classes.values()), k=pipeline.k,
                       mappings=list(MAPPINGS), train_pixels=pixels["train"], test_pixels=pixels["test"])
    return {"system": system, "set": data, "seed": seed, "fit_seconds": trained, "used_per_test_volume": used,
            "gap": metrics["consistency"]["gap"],
            **{f"dsc_{rule}": metrics["test"][rule]["mean"]["dsc"] for rule in MAPPINGS},
            "classes": {name: values["dsc"] for name, values in metrics["test"]["train"]["classes"].items()}}


def mean_sd(values: list[float]) -> str:
    sd = np.std(values, ddof=1) if len(values) > 1 else math.nan
    return f"{np.mean(values):.3f}" + (f" ± {sd:.3f}" if len(values) > 1 else "")


def table(results: list[dict], systems: list[str], sets: list[str]) -> str:
    """Markdown: systems by sets, mean +- sd over seeds; the mean over the real sets is taken per seed."""
    real = [s for s in sets if s != "phantom"]
    lines = ["| system | " + " | ".join(f"{s} (synthetic)" if s == "phantom" else s for s in sets)
             + " | mean of real sets | clusters in use, least | gap |", "|---|" + "---|" * (len(sets) + 3)]
    for system in systems:
        mine = [r for r in results if r["system"] == system]
        cells = [mean_sd([r["dsc_train"] for r in mine if r["set"] == s]) if any(r["set"] == s for r in mine) else "-"
                 for s in sets]
        by_seed = {}
        for r in mine:
            if r["set"] in real:
                by_seed.setdefault(r["seed"], []).append(r["dsc_train"])
        whole = [np.mean(v) for v in by_seed.values() if len(v) == len(real)]
        least = min((u for r in mine for u in r["used_per_test_volume"]), default=0)
        gap = np.mean([r["gap"] for r in mine if r["set"] in real]) if any(r["set"] in real for r in mine) else math.nan
        lines.append(f"| {system} | " + " | ".join(cells) + f" | {mean_sd(whole) if whole else '-'} | {least} | {gap:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sets", nargs="+", default=[*REAL, "phantom"])
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/real_sets"))
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="a.b=c", dest="overrides")
    args = parser.parse_args()
    results = []
    for data in args.sets:
        for system in args.systems:
            for seed in args.seeds:
                path = args.out / "runs" / f"{data}-{system}-s{seed}.json"
                if not path.exists():
                    write_json(path, one_run(system, data, seed, args.overrides))
                results.append(json.loads(path.read_text()))
                print(f"{data:9} {system:17} seed {seed}: DSC {results[-1]['dsc_train']:.3f}, "
                      f"clusters in use {results[-1]['used_per_test_volume']}, {results[-1]['fit_seconds']:.1f} s", flush=True)
    text = table(results, args.systems, args.sets)
    machine = environment("cpu")
    about = (f"Mean DSC on test images, mapping `train`, seeds {args.seeds}, {machine['cores']} CPU cores "
             f"({machine['processor']}), torch {machine['packages']['torch']}. "
             "Test pixels and labels take no part in training; the mapping is fitted on the training part's labels.")
    write_text(args.out / "table.md", f"{about}\n\n{text}\n")
    with open(args.out / "table.csv", "w", newline="") as file:
        flat = [{k: v for k, v in r.items() if k not in ("classes", "used_per_test_volume")} for r in results]
        writer = csv.DictWriter(file, fieldnames=list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)
    print(text)


if __name__ == "__main__":
    main()
