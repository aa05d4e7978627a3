"""How many pixels another kind of processor labels differently: one model, the same images, other arithmetic.

    SCCS_DATA=DIR python -m benchmarks.studies.processors [--data platelet hela cdeep3m vnc] [--seeds 0 1 2]
                                                          [--systems sccs sccs_fast sccs_plus]
                                                          [--out benchmarks/results/processors]

A system is trained in float32 on a set's training images, with the iterations of size `quick`. Processes that differ in
one respect (KINDS) then segment these images with the saved model. Older processors are emulated on this one: PyTorch,
oneDNN, OpenBLAS, NumPy, FAISS and Numba are told not to use the instructions that those lack. No test image is used.
Writes OUT/processors.md and OUT/processors.csv.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import REAL, expanded, job
from benchmarks.pages import ROOT, Origin, markdown, mean_sd, publish, typed
from registry.features.student import StudentFeatures
from sccs.data import load_dataset
from sccs.pipeline import Pipeline
from sccs.system.exits import guard
from sccs.system.log import quiet_log

COMMAND = "python -m benchmarks.studies.processors"
SYSTEMS = ("sccs", "sccs_fast", "sccs_plus")
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "FAISS_OPT_LEVEL": "avx2",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
    "NUMBA_CPU_NAME": "haswell",
}
KINDS: dict[str, tuple[str, dict[str, str]]] = {  # precision of the features, environment
    "as it was trained": ("float32", {}),
    "the same once more": ("float32", {}),
    "without AVX-512": ("float32", AVX2),
    "in bfloat16": ("bfloat16", {}),
    "in eight bits": ("int8", {}),
}
CHILD = """
import sys, numpy as np
from benchmarks.studies.processors import segmented
np.savez(sys.argv[1], *segmented(*sys.argv[2:]))
"""


def set_precision(pipeline: Pipeline, precision: str) -> None:
    """Set the precision of the parts that compute features; eight bits only of a student, the MAE has none."""
    for part in (pipeline.features, *pipeline.features.parts):
        if isinstance(part, StudentFeatures) or (hasattr(part, "precision") and precision != "int8"):
            part.precision = precision


def segmented(model: str, data: str, precision: str) -> list[np.ndarray]:
    """Clusters (Y, X) of a set's training slices, by a saved model."""
    pipeline = Pipeline.load(model)
    set_precision(pipeline, precision)
    dataset = load_dataset(expanded(job("sccs", data, 0, "quick").recipe["data"]), Path.cwd(), 0, pipeline.min_side)
    return [plane for volume in dataset.train for plane in pipeline.segment_slices(volume)]


def planes_of(model: Path, data: str, kind: str) -> list[np.ndarray]:
    """The same in a process of the given kind, with an empty cache."""
    precision, changed = KINDS[kind]
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "planes.npz"
        environment = {**os.environ, **changed, "SCCS_CACHE": str(Path(scratch) / "cache"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", CHILD, str(out), str(model), data, precision]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        with np.load(out) as found:
            return list(found.values())


def changed_share(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """Share of the pixels of all planes whose clusters differ."""
    return float(np.mean(np.concatenate([(a != b).ravel() for a, b in zip(one, other, strict=True)])))


def differing(system: str, data: str, seed: int) -> dict[str, float]:
    """By kind of process: share of the pixels that it labels differently from the first."""
    wanted = job(system, data, seed, "quick")
    pipeline = wanted.pipeline
    set_precision(pipeline, "float32")
    pipeline.fit(load_dataset(expanded(wanted.recipe["data"]), Path.cwd(), seed, pipeline.min_side), log=quiet_log())
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        pipeline.save(model)
        first, *others = (planes_of(model, data, kind) for kind in KINDS)
    return {kind: changed_share(first, each) for kind, each in zip(list(KINDS)[1:], others)}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=list(REAL), choices=REAL, metavar="SET")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/processors"))
    args = parser.parse_args(argv)
    values, rows = [], []
    for system in args.systems:
        found = {(data, seed): differing(system, data, seed) for data in args.data for seed in args.seeds}
        for kind in list(KINDS)[1:]:
            shares = {data: [100 * found[data, seed][kind] for seed in args.seeds] for data in args.data}
            values += [[system, kind, data, seed, f"{found[data, seed][kind]:.6g}"] for data, seed in found]
            mean = np.mean(list(shares.values()), 0)
            rows.append([system, kind, *(mean_sd(each) for each in shares.values()), mean_sd(mean)])
            print(*rows[-1], flush=True)
    text = (
        "Percentage of the pixels of the training images whose cluster differs from that in the process in which the "
        "model was trained, ± standard deviation over seeds.\n\n"
    ) + markdown(["system", "process", *args.data, "mean"], rows)
    origin = Origin.here(typed(COMMAND, argv), seeds=args.seeds)
    heads = ["system", "process", "set", "seed", "share"]
    print(publish(args.out, "processors", "The same model on other processors", origin, text, heads, values))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
