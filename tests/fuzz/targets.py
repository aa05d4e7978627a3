"""What is fuzzed: a few small sound inputs for each target, how they are harmed, and what is done with them.

Anything else than success or UserError is a finding.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import signal
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from registry.base import UserError
from tests.fuzz.mutate import harmed, harmed_values

RUN = Path(__file__).resolve().parents[1] / "fixtures" / "before_rooms" / "run"

LONGEST = 45  # s that an input may take


@dataclass(frozen=True)
class Target:
    """make(rng, folder) writes a harmed input into an empty folder; use(folder) reads it."""

    make: Callable[[random.Random, Path], Any]
    use: Callable[[Path], Any]


def attempt(target: Target, seed: int, folder: Path) -> BaseException | None:
    """What one input ends in, None for success and for what the user is told in one line."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    target.make(random.Random(seed), folder)
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LONGEST)
    try:
        target.use(folder)
    except UserError as error:
        return None if "\n" not in str(error).strip() and str(error).strip() else error
    except Exception as error:
        return error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return None


def _too_long(*_: object) -> None:
    raise TimeoutError(f"took more than {LONGEST} s")


# ------------------------------------------------------------------------------------------------------------ recipes
RECIPE = b"""\
extends: kmeans
description: "a small recipe"
seed: 3
data:
  name: volumes
  fov: full
  train: [{image: a.tif, labels: b.tif, voxel_size: [16, 8, 8], region: {z: [0, 4, 2]}}]
  classes: &c {0: rest, 1: nucleus}
  ignore: 255
  merge: {7: 1}
features: {name: concat, of: [intensity, {name: filters, sigmas: [1, 2.5]}]}
graph: {name: superpixel, kappa: median, alpha: 4.0, pixels_per_superpixel: 64}
embedder: {name: lgc, u: 2, channels: [4], mu: 1e-1}
clusterer: {name: kmeans, k: 3}
train: {iterations: 120, lr: 0.01, weights: {spe: 1.0}}
evaluation: {mappings: [train, oracle], rest: rest}
"""


def make_recipe(rng: random.Random, folder: Path) -> None:
    (folder / "r.yaml").write_bytes(harmed(RECIPE, rng))


def use_recipe(folder: Path) -> None:
    from sccs.model.parts import Parts
    from sccs.recipe import load_recipe
    from sccs.recipe.stored import to_yaml

    recipe = load_recipe(folder / "r.yaml", device="cpu")
    to_yaml(recipe.resolved())
    if recipe.features is not None:
        Parts(recipe)


# ----------------------------------------------------------------------------------------------------- files of a run
NAMED = b"""\
clusters:
  0: {name: dark, colour: '#f5c518'}
  2: {name: "mito chondria", colour: 27a35a}
"""
FILES = (
    "metrics.json", "tables.json", "timing.json", "graphs.json", "environment.json", "model/model.json",
    "resolved.yaml", "metrics.jsonl", "classes.yaml", "log.txt", "recipe.yaml",
    "figures/data/phantom_c1_z0002.npz", "model/clusterer.safetensors", "model/graph.safetensors",
)  # fmt: skip


def copy_run(folder: Path) -> Path:
    """A copy of a small finished run."""
    shutil.copytree(RUN, folder / "run", ignore=shutil.ignore_patterns("*.tif"))
    return folder / "run"


def put(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def make_names(rng: random.Random, folder: Path) -> None:
    put(copy_run(folder) / "classes.yaml", harmed(NAMED, rng))


def use_names(folder: Path) -> None:
    from sccs.evaluation.legend import cluster_legend
    from sccs.evaluation.naming import name_clusters, read_names

    cluster_legend(read_names(folder / "run"), 6)
    name_clusters(folder / "run", {1: "a $\\frac{$ b"})


def make_run(rng: random.Random, folder: Path) -> None:
    run = copy_run(folder)
    for name in rng.sample(FILES, rng.choice((1, 1, 2))):
        before = (run / name).read_bytes()
        if name.endswith(".json") and rng.random() < 0.8:
            put(run / name, json.dumps(harmed_values(json.loads(before), rng)).encode())
        elif name.endswith(".jsonl") and rng.random() < 0.8:
            lines = before.splitlines()
            at = rng.randrange(len(lines))
            lines[at] = json.dumps(harmed_values(json.loads(lines[at]), rng)).encode()
            put(run / name, b"\n".join(lines))
        elif name.endswith(".npz") and rng.random() < 0.8:
            put(run / name, harmed_arrays(before, rng))
        elif name.endswith(".safetensors") and rng.random() < 0.8:
            put(run / name, harmed_weights(before, rng))
        elif rng.random() < 0.1:
            (run / name).unlink()
        else:
            put(run / name, harmed(before, rng))


def odd_array(array: np.ndarray, rng: random.Random) -> np.ndarray:
    """Another shape, kind or number."""
    kind = rng.randrange(6)
    if kind == 0:
        return array[:-1] if array.ndim else array[None]
    if kind == 1:
        return array[None]
    if kind == 2 and array.dtype.kind in "iuf":
        return array.astype(rng.choice([np.float64, np.float32, np.int64, np.int8, np.uint8]))
    if kind == 3 and array.size and array.dtype.kind in "iuf":
        out = array.copy()
        odd = [0, -1, 100, 127] + ([float("nan"), float("inf"), -1e30] if array.dtype.kind == "f" else [])
        out.flat[rng.randrange(array.size)] = np.asarray(rng.choice(odd)).astype(array.dtype)
        return out
    if kind == 4:
        return np.concatenate([array, array]) if array.ndim else array
    return array[:0] if array.ndim else array


def harmed_arrays(data: bytes, rng: random.Random) -> bytes:
    """An .npz file with another array in it, or another text."""
    with np.load(io.BytesIO(data)) as stored:
        arrays = {name: stored[name] for name in stored.files}
    name = rng.choice(sorted(arrays))
    if name == "about":
        arrays[name] = np.array(json.dumps(harmed_values(json.loads(str(arrays[name])), rng)))
    elif rng.random() < 0.1:
        del arrays[name]
    else:
        arrays[name] = odd_array(arrays[name], rng)
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def harmed_weights(data: bytes, rng: random.Random) -> bytes:
    from safetensors.numpy import load, save

    arrays = load(data)
    if not arrays:
        return harmed(data, rng)
    name = rng.choice(sorted(arrays))
    if rng.random() < 0.1:
        arrays[name + "x"] = arrays.pop(name)
    else:
        arrays[name] = np.ascontiguousarray(odd_array(arrays[name], rng))
    return save(arrays)


def use_run(folder: Path) -> None:
    from sccs.evaluation.compare import _as_csv, _as_markdown, columns, read_run
    from sccs.evaluation.naming import rescore
    from sccs.model.model import Model
    from sccs.report.page import read_everything

    run = folder / "run"
    every(
        lambda: read_everything(run),
        lambda: [(_as_markdown([row, row], columns([row])), _as_csv([row], columns([row]))) for row in [read_run(run)]],
        lambda: rescore(run),
        lambda: Model.load(run, "cpu"),
    )


def use_report(folder: Path) -> None:
    from sccs.report.page import write_report
    from sccs.sharing.export import export

    every(lambda: write_report(folder / "run"), lambda: export(folder / "run", folder / "out.zip"))


def every(*steps: Callable[[], Any]) -> None:
    """Do all of the steps; raises the UserError of the last that had one."""
    failed = None
    for step in steps:
        try:
            step()
        except UserError as error:
            failed = error
    if failed is not None:
        raise failed


# ------------------------------------------------------------------------------------------------------------ archive
@lru_cache
def exported() -> bytes:
    """A small zip as `sccs export` writes it."""
    import tempfile

    from sccs.system.archive import pack, seal

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "out")
        shutil.copytree(RUN / "model", folder / "model")
        (folder / "recipe.yaml").write_text("seed: 0\n")
        seal(folder)
        pack(folder, Path(scratch, "out.zip"))
        return Path(scratch, "out.zip").read_bytes()


def make_archive(rng: random.Random, folder: Path) -> None:
    data = exported()
    if rng.random() < 0.5:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        name = rng.choice([*files, "SHA256SUMS", "SHA256SUMS"])
        files[name] = harmed(files[name], rng)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for each, content in files.items():
                archive.writestr(each, content)
        data = out.getvalue()
    else:
        data = harmed(data, rng)
    (folder / "out.zip").write_bytes(data)


def use_archive(folder: Path) -> None:
    from sccs.system.archive import is_export, opened, read_text

    is_export(folder / "out.zip")
    with opened(folder / "out.zip") as place:
        list(place.rglob("*"))
    read_text(folder / "out.zip", "classes.yaml")


# --------------------------------------------------------------------------------------------------------- checkpoint
@lru_cache
def checkpoint() -> bytes:
    """Of a training of three steps."""
    import tempfile

    from sccs.training.checkpoint import write_tensors

    with tempfile.TemporaryDirectory() as scratch:
        arrays = {f"embedder.{i}": np.arange(i + 3, dtype=np.float32) for i in range(3)}
        arrays |= {"optimizer.0.step": np.float32(3), "random": np.zeros(16, np.uint8)}
        write_tensors(Path(scratch, "a"), arrays, {"step": "3", "options": "{}"})
        return Path(scratch, "a").read_bytes()


def make_checkpoint(rng: random.Random, folder: Path) -> None:
    (folder / "step_00000003.safetensors").write_bytes(harmed(checkpoint(), rng))


def use_checkpoint(folder: Path) -> None:
    from sccs.training.checkpoint import newest_step

    newest_step(folder)


# ------------------------------------------------------------------------------------------------------------ readers
SHAPE = (3, 20, 24)


@lru_cache
def images() -> dict[str, bytes | dict[str, bytes]]:
    """A small file of each format that the packages at hand write; a folder is its files by their names."""
    import tempfile

    volume = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        _write_images(base, volume)
        return {
            path.name: {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}
            if path.is_dir()
            else path.read_bytes()
            for path in sorted(base.iterdir())
        }


def _write_images(base: Path, volume: np.ndarray) -> None:
    import tifffile
    from PIL import Image

    tifffile.imwrite(base / "plain.tif", volume)
    tifffile.imwrite(
        base / "imagej.tif", volume, imagej=True, resolution=(0.1, 0.1), metadata={"spacing": 10, "unit": "nm"}
    )
    tifffile.imwrite(
        base / "ome.ome.tif", volume, metadata={"axes": "ZYX", "PhysicalSizeX": 8, "PhysicalSizeXUnit": "nm"}
    )
    Image.fromarray(volume[0]).save(base / "flat.png")
    try:
        import mrcfile

        with mrcfile.new(base / "a.mrc") as file:
            file.set_data(volume.astype(np.int16))
    except ImportError:
        pass
    try:
        import h5py

        with h5py.File(base / "a.h5", "w") as file:
            file.create_dataset("raw", data=volume).attrs["element_size_um"] = [0.04, 0.008, 0.008]
    except ImportError:
        pass
    try:
        import zarr
    except ImportError:
        return
    for version in (2, 3):
        group = zarr.create_group(base / f"v{version}.zarr", zarr_format=version)
        group.create_array("0", shape=SHAPE, chunks=SHAPE, dtype="uint8")[:] = volume
        axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
        sets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [40, 8, 8]}]}]
        content = {"multiscales": [{"version": "0.4", "axes": axes, "datasets": sets}]}
        group.attrs.update(content if version == 2 else {"ome": {"version": "0.5", **content}})
    n5 = base / "a.n5"
    (n5 / "0" / "0").mkdir(parents=True)
    about = {"dataType": "uint8", "dimensions": SHAPE[::-1], "blockSize": SHAPE[::-1], "compression": {"type": "raw"}}
    (n5 / "attributes.json").write_text(json.dumps({"n5": "2.0.0", **about, "resolution": [8, 8, 40]}))
    header = b"\0\0\0\3" + b"".join(side.to_bytes(4, "big") for side in SHAPE[::-1])
    (n5 / "0" / "0" / "0").write_bytes(header + volume.tobytes())


def make_image(rng: random.Random, folder: Path) -> None:
    name = rng.choice(sorted(images()))
    content = images()[name]
    if isinstance(content, bytes):
        head = rng.choice((64, 600, len(content)))
        (folder / name).write_bytes(harmed(content[:head], rng) + content[head:])
        return
    hurt = rng.choice(sorted(content))
    for each, data in content.items():
        path = folder / name / each
        path.parent.mkdir(parents=True, exist_ok=True)
        if each == hurt and each.endswith((".json", ".zarray", ".zattrs", ".zgroup")) and rng.random() < 0.7:
            data = json.dumps(harmed_values(json.loads(data), rng)).encode()
        elif each == hurt:
            data = harmed(data, rng)
        path.write_bytes(data)


def use_image(folder: Path) -> None:
    from sccs.data.readers import open_image

    (path,) = folder.iterdir()
    source = open_image(path)
    assert len(source.shape) == 3
    _ = source.array[0, :8, :8], source.voxel_size


TARGETS = {
    "recipe": Target(make_recipe, use_recipe),
    "names": Target(make_names, use_names),
    "run": Target(make_run, use_run),
    "report": Target(make_run, use_report),
    "archive": Target(make_archive, use_archive),
    "checkpoint": Target(make_checkpoint, use_checkpoint),
    "reader": Target(make_image, use_image),
}
