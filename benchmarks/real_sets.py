"""SCCS against k-means and numerical spectral clustering, on real EM sets and on the synthetic phantom.

    python benchmarks/real_sets.py [--sets platelet hela cdeep3m vnc phantom] [--systems sccs kmeans ...]
                                   [--seeds 0 1 2] [--out benchmarks/results/real_sets] [--set a.b=c]

Real sets are found through SCCS_DATA. One configuration per system for all sets: a set's recipe gives the `data` block
and nothing else. Resumable: a finished (system, set, seed) is kept as one JSON file in OUT/runs and not run again, as
long as its configuration is the same: the resolved recipe with --set, the features' checkpoint, and the code of
registry/, sccs/pipeline.py and sccs/trainer.py. A hash of these is in the file's name and in the table, so that no
table mixes two configurations of a system.
Writes OUT/table.md and OUT/table.csv: mean DSC (mapping `train`, fitted on training labels), mean +- sd over seeds.
"""
from __future__ import annotations

import argparse
import csv
import json
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

import registry
import sccs.pipeline
import sccs.trainer
from sccs.cache import code_only, fingerprint
from sccs.data import load_dataset
from sccs.evaluation import MAPPINGS, evaluate, usage
from sccs.files import write_json, write_text
from sccs.log import quiet_log
from sccs.pipeline import Pipeline
from sccs.products import segment_volume
from sccs.recipe import load_recipe
from sccs.run import environment

SYSTEMS = ("sccs", "kmeans", "pixel_kmeans", "spectral", "intensity_kmeans", "raw_kmeans")
NESTED = ("classes", "used_per_test_volume", "recipe", "machine")  # of a result: not in the CSV
REAL = ("platelet", "hela", "cdeep3m", "vnc")
ELSEWHERE = ("data", "seed", "description", "device", "plugins")  # of a recipe: what is not the system


@dataclass
class Job:
    """One system on one set with one seed."""

    system: str
    data: str
    seed: int
    pipeline: Pipeline
    recipe: dict  # the system's, with a `data` block of the same text on every machine
    configuration: str  # the same for all sets and seeds of a system
    key: str  # configuration and data

    @property
    def file(self) -> str:
        return f"{self.data}-{self.system}-s{self.seed}-{self.key}.json"


def job(system: str, data: str, seed: int, overrides: list[str]) -> Job:
    """The system's recipe with the set's `data` block; overrides of `data` are for the set, all others for the system.
    """
    own = load_recipe(system, [o for o in overrides if not o.startswith("data.")], seed=seed).resolved()
    own["data"] = load_recipe("sccs" if data == "phantom" else data,
                              [o for o in overrides if o.startswith("data.")]).resolved()["data"]
    pipeline = Pipeline.from_recipe(own)
    parts = {key: value for key, value in pipeline.recipe.resolved().items() if key not in ELSEWHERE}
    configuration = fingerprint(parts, pipeline.features.fingerprint(), code())[:10]
    # where the images lie on this machine is no part of what they are
    block = json.loads(json.dumps(own["data"]).replace(os.environ.get("SCCS_DATA") or "${SCCS_DATA}", "${SCCS_DATA}"))
    return Job(system, data, seed, pipeline, {**parts, "data": block}, configuration,
               fingerprint(configuration, block)[:10])


@lru_cache
def code() -> str:
    """Hash of the code that results depend on; comments and docstrings do not count."""
    files = [*sorted(Path(registry.__file__).parent.rglob("*.py")), sccs.pipeline.__file__, sccs.trainer.__file__]
    return fingerprint(*(code_only(Path(file).read_text(encoding="utf-8")) for file in files))


def carry_out(job: Job) -> dict:
    """Train without labels, segment train and test volumes, score."""
    pipeline = job.pipeline
    dataset = load_dataset(job.recipe["data"], Path.cwd(), job.seed, pipeline.min_side)
    pipeline.fit(dataset, log=quiet_log())
    tables = {"train": {}, "test": {}}
    pixels = {part: np.zeros(pipeline.k, np.int64) for part in tables}
    used = []
    for part in tables:
        for volume in getattr(dataset, part):
            here = np.zeros(pipeline.k, np.int64)
            for _ in segment_volume(pipeline, volume, dataset, list(dataset.classes), tables[part], here):
                pass
            pixels[part] += here
            if part == "test":
                used.append(usage(here)[1])
    machine = environment(pipeline.device)
    del machine["command"]
    metrics = evaluate(tables["train"], tables["test"], list(dataset.classes.values()), k=pipeline.k,
                       mappings=list(MAPPINGS), train_pixels=pixels["train"], test_pixels=pixels["test"])
    return {"system": job.system, "set": job.data, "seed": job.seed, "configuration": job.configuration,
            "recipe": job.recipe, "machine": machine,
            "training_seconds": pipeline.seconds["training"], "graph_seconds": pipeline.seconds["graphs"],
            "used_per_test_volume": used, "gap": metrics["consistency"]["gap"],
            **{f"dsc_{rule}": metrics["test"][rule]["mean"]["dsc"] for rule in MAPPINGS},
            "classes": {name: values["dsc"] for name, values in metrics["test"]["train"]["classes"].items()}}


def mean_sd(values: list[float]) -> str:
    sd = np.std(values, ddof=1) if len(values) > 1 else math.nan
    return f"{np.mean(values):.3f}" + (f" ± {sd:.3f}" if len(values) > 1 else "")


def table(results: list[dict], systems: list[str], sets: list[str]) -> str:
    """Markdown: systems by sets, mean +- sd over seeds; the mean over the real sets is taken per seed."""
    real = [s for s in sets if s != "phantom"]
    heads = ["system", *(f"{s} (synthetic)" if s == "phantom" else s for s in sets), "mean of real sets",
             "clusters in use, least", "gap", "training, s", "configuration"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
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
        seconds = np.mean([r["training_seconds"] for r in mine])
        configurations = "`, `".join(sorted({r["configuration"] for r in mine}))
        lines.append("| " + " | ".join([system, *cells, mean_sd(whole) if whole else "-", str(least), f"{gap:.3f}",
                                        f"{seconds:.1f}", f"`{configurations}`"]) + " |")
    return "\n".join(lines)


def describe(machine: dict) -> str:
    on = machine["gpu"] or f"{machine['threads']} of {machine['cores']} CPU cores ({machine['processor']})"
    return f"{on}, torch {machine['packages']['torch']}"


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
                wanted = job(system, data, seed, args.overrides)
                path = args.out / "runs" / wanted.file
                if not path.exists():
                    write_json(path, carry_out(wanted))
                results.append(json.loads(path.read_text()))
                print(f"{data:9} {system:17} seed {seed}: DSC {results[-1]['dsc_train']:.3f}, "
                      f"clusters in use {results[-1]['used_per_test_volume']}, "
                      f"training {results[-1]['training_seconds']:.1f} s, {wanted.configuration}", flush=True)
    text = table(results, args.systems, args.sets)
    machines = sorted({describe(result["machine"]) for result in results})
    about = (f"Mean DSC on test images, mapping `train`, seeds {args.seeds}, {'; '.join(machines)}. "
             "No label is used in training; the mapping is fitted on the training part's labels. The bundled MAE was "
             "pre-trained without labels on platelet, hela and phantom, their test parts included; cdeep3m and vnc it "
             "has never seen. "
             "Training, s: embedding and clustering alone, mean over sets and seeds, without features and graphs, "
             "which are cached. Configuration: hash of the system's recipe, checkpoint and code."
             + (f" Changed by --set {' '.join(args.overrides)}." if args.overrides else ""))
    write_text(args.out / "table.md", f"{about}\n\n{text}\n")
    with open(args.out / "table.csv", "w", newline="") as file:
        flat = [{k: v for k, v in r.items() if k not in NESTED} for r in results]
        writer = csv.DictWriter(file, fieldnames=list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)
    print(text)


if __name__ == "__main__":
    main()
