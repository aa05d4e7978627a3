"""`sccs export RUN OUT`: a trained model as one folder or zip that loads on any computer.

    OUT/
        README.md            model card: data, voxel size, clusters, scores, versions, licence, intended use
        recipe.yaml          the recipe with every default; paths are reduced to file names
        classes.yaml         names and colours of clusters, if any
        edits.* teacher.*    splits and merges of clusters, and the teacher, if any
        metrics.json environment.json        scores and versions, if the run has them
        model/               weights (safetensors) and model.json
        plugins/             Python files listed under `plugins:` in the recipe
        encoder.onnx         with --onnx (`sccs.sharing.encoder`)
        SHA256SUMS           of all of these

It contains no paths of the computer that trained the model.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import sccs
from registry.base import UserError
from sccs.evaluation.files import Metrics, read_environment, read_file, read_graphs
from sccs.evaluation.naming import FILE as NAMES
from sccs.evaluation.naming import read_names
from sccs.evaluation.scores import json_safe
from sccs.model.folder import read_about
from sccs.model.model import Model
from sccs.recipe.stored import to_yaml
from sccs.sharing.card import ENCODER, card
from sccs.sharing.encoder import export_onnx
from sccs.system import archive
from sccs.system.apart import check_apart
from sccs.system.files import atomic_path, temporary_folder, write_json, write_text
from sccs.system.lock import held
from sccs.system.log import say
from sccs.system.text import BREAKS, printable

CARD, RECIPE, METRICS, ENVIRONMENT = "README.md", "recipe.yaml", "metrics.json", "environment.json"
VERSIONS = ("sccs", "python", "device", "gpu", "packages")  # keys of environment.json; the rest describes the machine


def main(
    run: str,
    out: str,
    *,
    onnx: bool = False,
    licence: str | None = None,
    authors: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Export the run (or an earlier export) into the folder or zip `out`, and print what was written.

    onnx: add the MAE encoder as ONNX. licence, authors: of the weights, for the model card. If it raises UserError,
    nothing is left behind.
    """
    path = Path(out)
    with held(path, "sccs export"):
        archive.check_output(path, overwrite)
        check_apart(path, {"RUN": [run]}, within=archive.is_export(run))
        said = export(run, path, onnx=onnx, licence=licence, authors=authors)
    say("\n".join([f"{out}: {len(said)} files; load it with sccs.load or sccs segment", *filter(None, said.values())]))


def export(
    run: str | os.PathLike[str],
    out: Path,
    *,
    onnx: bool = False,
    licence: str | None = None,
    authors: Sequence[str] = (),
) -> dict[str, str]:
    """Write the export; returns its files, each with a remark or "". An existing `out` is replaced."""
    with archive.opened(run) as source, atomic_path(out) as scratch:
        if (source / "model" / "mae.safetensors").is_file():
            raise UserError(
                f"{run}: is a pre-training run; its checkpoint is the single file model/mae.safetensors: copy that, or "
                "train a run with it (features.checkpoint) and export the run"
            )
        model = Model.load(run, "cpu")  # never export a model that does not load
        zipped = out.suffix.lower() == ".zip"
        with temporary_folder() if zipped else nullcontext(scratch) as folder:
            said = _fill(folder, source, run, model, onnx, licence, authors)
            archive.seal(folder)
            if zipped:
                archive.pack(folder, scratch)
    return said


def _fill(
    folder: Path,
    source: Path,
    run: str | os.PathLike[str],
    model: Model,
    onnx: bool,
    licence: str | None,
    authors: Sequence[str],
) -> dict[str, str]:
    """Write every file of the export except the hashes."""
    said = {}
    weights = source / "model" if (source / "model").is_dir() else source
    about = json_safe({"k": model.k, "fov": model.fov, "data": "", **read_about(weights, run)})
    earlier = about.get("export", {})
    facts = {
        "sccs": sccs.__version__,
        "licence": licence or earlier.get("licence"),
        "authors": list(authors) or earlier.get("authors", []),
        "trained_on": earlier.get("trained_on") or _training_fovs(source),
        "supervised": model.supervised,
    }
    plugins = [_carry(plugin, weights.parent, folder) for plugin in about["recipe"].get("plugins", [])]
    about["recipe"] = portable({**about["recipe"], "plugins": plugins})
    (folder / "model").mkdir(parents=True)
    write_json(folder / archive.MODEL, {**about, "export": facts})
    for path in sorted(weights.glob("*.safetensors")):
        shutil.copyfile(path, folder / "model" / path.name)
    write_text(folder / RECIPE, to_yaml(about["recipe"]))
    for name in (NAMES, METRICS):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if model.edits is not None or model.taught is not None:
        model.keep_made(folder)
    metrics, environment = _scores(source), read_environment(source)
    if environment:
        write_json(folder / ENVIRONMENT, {key: environment[key] for key in VERSIONS if key in environment})
    if onnx:
        said[ENCODER] = export_onnx(model.features, folder / ENCODER)
    text = card(about, facts, read_names(folder), metrics, environment, said)
    write_text(folder / CARD, printable(text, BREAKS))
    return {name: said.get(name, "") for name in archive.files(folder)}


def _carry(plugin: str, base: Path, folder: Path) -> str:
    """Copy a plug-in file; returns its name in the export's recipe. Modules stay names."""
    if not plugin.endswith(".py"):
        return plugin
    source, name = base / os.path.expanduser(os.path.expandvars(plugin)), f"plugins/{Path(plugin).name}"
    if not source.is_file():
        raise UserError(f"{source}: the run's plug-in no longer exists; restore it, as the model needs its code")
    if (folder / name).exists():
        raise UserError(f"{source}: a second plug-in with this name; rename one in the recipe, and train again")
    (folder / "plugins").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / name)
    return name


def _training_fovs(run: Path) -> dict[str, int]:
    """Training volume -> number of fields of view, if the run has its graphs' statistics."""
    return dict(Counter(graph["key"].rsplit(":", 3)[0] for graph in read_graphs(run)))


def _scores(source: Path) -> dict[str, Any] | None:
    metrics = read_file(source, METRICS, Metrics)
    return None if metrics is None else metrics.model_dump(exclude_unset=True)


def portable(value: Any) -> Any:
    """`value` with every nested absolute path reduced to the file's name.

    A pattern keeps its folder's name, and a path inside a container, `a.h5:/em/raw`, stays.
    """
    if isinstance(value, Mapping):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    if not isinstance(value, str) or not (os.path.isabs(value) or value.startswith("file:")):
        return value
    container = re.match(r".*?\.(?:h5|hdf5|zarr|n5)(?=[:/]|$)", value)
    outer = container[0] if container else value
    parts = [part for part in outer.split("/") if part]
    wild = sum(any(sign in part for sign in "*?[") for part in parts)
    return "/".join(parts[-1 - wild :]) + value[len(outer) :]
