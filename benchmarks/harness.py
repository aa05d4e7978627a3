"""Shared by all tables: run one system on one data set with one seed, keep the result, and never run it twice.

A `Job` is a recipe's system with the `data` block and the rest class of a set's recipe: one configuration per system
for all sets. A finished job is a JSON file in OUT/runs, under a name that holds a hash of the resolved recipe, the
features' checkpoint and the code that the system uses, so that no table mixes two configurations of a system.

Sizes: `full` uses every recipe unchanged. `quick` keeps methods, features, graphs and k, and shortens what `QUICK` and
`QUICK_DATA` list: fewer slices of thick volumes, shorter trainings, coarser grids for the systems that have one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

import registry
from benchmarks.noise import degraded
from benchmarks.pages import commit
from registry.base import UserError
from sccs.data import load_dataset
from sccs.data.volumes import Dataset, Volume
from sccs.evaluation.evaluate import evaluate, usage
from sccs.evaluation.mappings import MAPPINGS
from sccs.pipeline import Pipeline
from sccs.products import UNSEGMENTED, Counts, segment_volume
from sccs.recipe import load_recipe
from sccs.system.cache import code_of, fingerprint
from sccs.system.colours import to_grey
from sccs.system.files import atomic_path, write_json
from sccs.system.log import quiet_log
from sccs.system.machine import environment

T = TypeVar("T")
REAL = ("platelet", "hela", "cdeep3m", "vnc")
SETS = (*REAL, "phantom")
ELSEWHERE = ("data", "seed", "description", "device", "plugins")  # of a recipe: what is not the system
FRAME = (  # code outside the registry that results depend on
    "sccs.pipeline",
    "sccs.inference.blocks",
    "sccs.inference.labels",
    "sccs.inference.stitch",
    "sccs.model.fovs",
    "sccs.model.model",
    "sccs.model.parts",
    "sccs.training.fit",
    "sccs.training.trainer",
)

SHORT = ["train.iterations=2000", "clusterer.warmup=500"]
QUICK = {
    "sccs": SHORT,
    "sccs_fast": SHORT,
    "sccs_plus_own": ["features.of.2.steps=400"],
    "wo_smo": SHORT,
    "later_code": SHORT,
    "paper_letter": ["train.iterations=500"],  # a dense graph: an iteration costs n_s^2
    "wo_nc_hm": ["train.iterations=2000"],
    "wo_nc_inc": ["train.iterations=2000"],
    "dsm": ["graph.cell=8"],
    "deepcut_ncut": ["graph.cell=12"],
    "deepcut_cc": ["graph.cell=12"],
    "han": ["features.steps=400"],
    "maester": ["features.central=16"],
}
QUICK_DATA = {
    "cdeep3m": ["data.max_train_slices=1", "data.max_test_slices=1"],
    "vnc": ["data.max_train_slices=1", "data.max_test_slices=1"],
    "phantom": ["data.train_slices=1", "data.test_slices=2"],
    "betaseg": ["data.train_slices=4", "data.test_slices=8"],
}


@dataclass
class Job:
    """One system on one set with one seed; `noise`: degradations (kind, strength) of test images, which are scored as
    well; `rest`: the set's class that the second mean leaves out, None if its name is enough to tell
    (`sccs.evaluation.tables`)."""

    system: str
    data: str
    seed: int
    pipeline: Pipeline
    recipe: dict[str, Any]  # the system's, with a `data` block of the same text on every machine
    configuration: str  # the same for all sets and seeds of a system
    noise: Sequence[tuple[str, float]] = field(default=())
    rest: str | None = None

    @property
    def file(self) -> str:
        """The name of the job's file in OUT/runs."""
        key = fingerprint(self.configuration, self.recipe["data"], list(self.noise), self.rest)[:10]
        return f"{self.data}-{self.system}-s{self.seed}-{key}.json"


def shortened(rows: Sequence[tuple[str, Sequence[str]]], size: str) -> str:
    """A sentence on what a size changes in systems, given (system, its overrides); empty if it changes nothing."""
    shared: dict[str, list[str]] = {}
    for system, overrides in rows:
        given = {option.partition("=")[0] for option in overrides}
        changed = [o for o in QUICK.get(system, []) if size == "quick" and o.partition("=")[0] not in given]
        if changed and system not in (names := shared.setdefault(" ".join(changed), [])):
            names.append(system)
    listed = "; ".join(f"`{options}` for {', '.join(names)}" for options, names in shared.items())
    return f"Size `quick` uses {listed}." if listed else ""


def phantom(side: int, depth: int = 4, train_slices: int = 1, test_slices: int = 1) -> dict[str, Any]:
    """A `data` block of two synthetic volumes (depth, side, side), one to train on and one to test."""
    shapes = [[depth, side, side]] * 2
    return {"name": "phantom", "shapes": shapes, "train_slices": train_slices, "test_slices": test_slices}


def job(
    system: str,
    data: str,
    seed: int,
    size: str = "full",
    overrides: Sequence[str] = (),
    noise: Sequence[tuple[str, float]] = (),
) -> Job:
    """The job of a system on a set. `overrides` of `data` are for the set, all others for the system; they come after
    those of the size."""
    quick = size == "quick"
    given = [o for o in overrides if not o.startswith("data.")]
    block = [*(QUICK_DATA.get(data, []) if quick else []), *(o for o in overrides if o.startswith("data."))]
    own = load_recipe(system, [*(QUICK.get(system, []) if quick else []), *given], seed=seed).resolved()
    of_set = load_recipe("sccs" if data == "phantom" else data, block).resolved()
    own["data"] = of_set["data"]
    pipeline = Pipeline.from_recipe(own)
    parts = {key: value for key, value in pipeline.recipe.resolved().items() if key not in ELSEWHERE}
    configuration = fingerprint(parts, pipeline.features.fingerprint(), _code(pipeline))[:10]
    # the images' location on this machine does not identify them
    text = json.dumps(own["data"])
    for variable in ("SCCS_DATA", "BETASEG_ROOT"):
        if os.environ.get(variable):
            text = text.replace(os.environ[variable], f"${{{variable}}}")
    recipe, rest = {**parts, "data": json.loads(text)}, of_set["evaluation"]["rest"]
    return Job(system, data, seed, pipeline, recipe, configuration, noise, rest)


def rest_of(data: str) -> str | None:
    """The rest class of a set."""
    return load_recipe("sccs" if data == "phantom" else data).evaluation.rest


def _code(pipeline: Pipeline) -> str:
    """Hash of the code of the four parts and of the frame."""
    parts = [part for role in registry.ROLES for part in (getattr(pipeline, role), *getattr(pipeline, role).parts)]
    return code_of({type(part).__module__ for part in parts} | set(FRAME))


# ------------------------------------------------------------------------------------------------------------ running
def result_of(job: Job, store: Path) -> dict[str, Any]:
    """The job's result, from `store`/runs if it is there; else run the job, and keep its result and first test slice.

    If the system cannot run on the set (UserError), the result has the reason under `failed`, and is not kept.
    """
    path = store / "runs" / job.file
    if not path.exists():
        try:
            result, first = carry_out(job)
        except UserError as error:
            return {"system": job.system, "set": job.data, "seed": job.seed, "failed": str(error)}
        with atomic_path(path.with_suffix(".npz")) as scratch, open(scratch, "wb") as file:
            np.savez_compressed(file, **first)
        write_json(path, result)
    return {**json.loads(path.read_text()), "slice": str(path.with_suffix(".npz"))}


def carry_out(job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train (without labels, except for supervised systems), segment the training and test volumes, and score.

    Returns the result, and the first test slice as arrays (Y, X): `image` uint8, `labels` int32, `clusters` uint8.
    """
    pipeline = job.pipeline
    dataset = load_dataset(expanded(job.recipe["data"]), Path.cwd(), job.seed, pipeline.min_side)
    pipeline.fit(dataset, log=quiet_log())
    train = _segment_all(pipeline, dataset.train, dataset)
    test = _segment_all(pipeline, dataset.test, dataset)
    machine = environment(pipeline.device)
    del machine["command"]
    noisy = {}
    for kind, strength in job.noise:
        volumes = [degraded(volume, kind, strength) for volume in dataset.test]
        metrics = _scored(job, dataset, train, _segment_all(pipeline, volumes, dataset))
        noisy[f"{kind} {strength:g}"] = {rule: scores["mean"]["dsc"] for rule, scores in metrics["test"].items()}
    metrics = _scored(job, dataset, train, test)
    return {
        "system": job.system,
        "set": job.data,
        "seed": job.seed,
        "commit": commit(),
        "configuration": job.configuration,
        "recipe": job.recipe,
        "machine": machine,
        "training_seconds": pipeline.seconds["training"],
        "graph_seconds": pipeline.seconds["graphs"],
        "used_per_test_volume": test.used,
        "agreement": pipeline.info.get("agreement"),
        "nodes": [graph["nodes"] for graph in pipeline.diagnostics],
        "fragments": test.fragments,
        "mapping": metrics["mapping"]["train"],
        "test": metrics["test"],
        # for choices among systems, which must not use test labels
        "train_images": _scored(job, dataset, train, train)["test"]["train"]["mean"]["dsc"],
        "per_image": metrics["per_image"],
        "consistency": metrics["consistency"],
        "classes": metrics["classes"],
        "codes": list(dataset.classes),
        "rest": metrics["rest"],
        "noise": noisy,
    }, _first_slice(dataset, test)


def _first_slice(dataset: Dataset, test: Segmentation) -> dict[str, np.ndarray]:
    volume = dataset.test[0]
    z, (_, y, x) = volume.z_slices[0], volume.origin
    assert test.first is not None
    window = slice(y, y + volume.shape[1]), slice(x, x + volume.shape[2])
    labels = volume.read_labels(z)
    return {
        "image": to_grey(volume.read_slice(z)),
        "clusters": test.first[window],
        "labels": np.zeros(volume.shape[1:], np.int32) if labels is None else labels,
    }


def expanded(block: dict[str, Any]) -> dict[str, Any]:
    """Undo what `job` did to the folders of the sets."""
    text = json.dumps(block)
    for variable in ("SCCS_DATA", "BETASEG_ROOT"):
        if os.environ.get(variable):
            text = text.replace(f"${{{variable}}}", os.environ[variable])
    return json.loads(text)


@dataclass
class Segmentation:
    """The segmentation of several volumes: confusion tables by FOV, pixels per cluster (k,), clusters in use per
    volume, connected pieces of one cluster per megapixel, and the first slice (Y, X)."""

    tables: dict[str, np.ndarray]
    pixels: np.ndarray
    used: list[int]
    fragments: float
    first: np.ndarray | None


def _segment_all(pipeline: Pipeline, volumes: Sequence[Volume], dataset: Dataset) -> Segmentation:
    tables: dict[str, np.ndarray] = {}
    pixels, used, pieces, area, first = np.zeros(pipeline.k, np.int64), [], 0, 0, None
    for volume in volumes:
        here = Counts(pipeline.k, dataset)
        for plane in segment_volume(pipeline, volume, here):
            if (plane != UNSEGMENTED).any():
                pieces += _connected_pieces(plane)
                area += int((plane != UNSEGMENTED).sum())
                first = plane if first is None else first
        tables |= here.tables
        pixels += here.pixels
        used.append(usage(here.pixels)[1])
    return Segmentation(tables, pixels, used, pieces / max(area, 1) * 1e6, first)


def _connected_pieces(plane: np.ndarray) -> int:
    """Connected pieces (4-neighbourhood) of equal labels in a plane (Y, X) uint8, `UNSEGMENTED` left out."""
    from skimage.measure import label

    return int(label(plane, background=UNSEGMENTED, connectivity=1).max())


def _scored(job: Job, dataset: Dataset, train: Segmentation, test: Segmentation) -> dict[str, Any]:
    return evaluate(
        train.tables,
        test.tables,
        list(dataset.classes.values()),
        k=job.pipeline.k,
        rest=job.rest,
        mappings=list(MAPPINGS),
        train_pixels=train.pixels,
        test_pixels=test.pixels,
    )


def in_processes(jobs: int, do: Callable[..., T], *arguments: Iterable[Any]) -> Iterator[T]:
    """`map`, in this process, or for `jobs` above 1 in as many new processes that have one thread each."""
    if jobs == 1:
        yield from map(do, *arguments)
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # before a new process loads its libraries
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as workers:
        yield from workers.map(do, *arguments)
