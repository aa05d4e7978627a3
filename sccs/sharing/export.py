"""`sccs export RUN OUT`: a trained model as one folder or zip that loads on any computer.

    OUT/
        README.md            model card: data, voxel size, clusters, scores, versions, licence, intended use
        recipe.yaml          the recipe with every default; paths are reduced to file names
        classes.yaml         names and colours of clusters, if there are any
        metrics.json environment.json        scores and versions, if the run has them
        model/               weights (safetensors) and model.json
        plugins/             Python files that the recipe lists under `plugins:`
        encoder.onnx         with --onnx (`sccs.sharing.encoder`)
        SHA256SUMS           of all of these

Nothing in it names a folder of the computer that trained the model.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import yaml

import sccs
from registry.base import UserError
from sccs.evaluation.naming import FILE as NAMES
from sccs.evaluation.naming import cluster_names, read_names
from sccs.system import archive
from sccs.system.files import atomic_path, write_json, write_text

CARD, RECIPE, METRICS, ENVIRONMENT = "README.md", "recipe.yaml", "metrics.json", "environment.json"
ENCODER = "encoder.onnx"
VERSIONS = ("sccs", "python", "device", "gpu", "packages")  # of environment.json; the rest tells of the machine
SCORES = ("dsc", "iou", "sensitivity", "accuracy")


def main(
    run: str,
    out: str,
    *,
    onnx: bool = False,
    bioimage: bool = False,
    licence: str | None = None,
    authors: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Export the run (or an earlier export) into the folder or zip `out`, and print what was written.

    onnx: with the MAE encoder as ONNX. bioimage: write, in place of all this, a BioImage Model Zoo package of the
    encoder. licence, authors: of the weights, for the model card. Raises UserError, and then leaves nothing behind.
    """
    path = Path(out)
    archive.check_output(path, overwrite)
    if bioimage:
        from sccs.sharing.bioimage import package

        print(package(run, path, licence, authors))
        return
    said = export(run, path, onnx=onnx, licence=licence, authors=authors)
    print("\n".join([f"{out}: {len(said)} files, loads with sccs.load and sccs segment", *filter(None, said.values())]))


def export(
    run: str | os.PathLike, out: Path, *, onnx: bool = False, licence: str | None = None, authors: Sequence[str] = ()
) -> dict[str, str]:
    """Write the export; returns its files, each with what there is to say of it. An existing `out` is replaced."""
    from sccs.pipeline import Pipeline

    with archive.opened(run) as source, atomic_path(out) as scratch:
        if (source / "model" / "mae.safetensors").is_file():
            raise UserError(
                f"{run}: a pre-training; its checkpoint model/mae.safetensors is one file: copy that, or "
                "train a run with it (features.checkpoint) and export this"
            )
        model = Pipeline.load(run, "cpu")  # what does not load is not passed on
        zipped = out.suffix.lower() == ".zip"
        with tempfile.TemporaryDirectory(prefix="sccs-") if zipped else nullcontext(scratch) as folder:
            said = _fill(Path(folder), source, model, onnx, licence, authors)
            archive.seal(Path(folder))
            if zipped:
                archive.pack(Path(folder), scratch)
    return said


def _fill(folder: Path, source: Path, model, onnx: bool, licence: str | None, authors: Sequence[str]) -> dict[str, str]:
    """Every file of the export but the hashes."""
    said = {}
    weights = source / "model" if (source / "model").is_dir() else source
    about = json.loads((weights / "model.json").read_text(encoding="utf-8"))
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
    write_text(folder / RECIPE, yaml.safe_dump(about["recipe"], sort_keys=False, allow_unicode=True))
    for name in (NAMES, METRICS):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    environment = _json(source / ENVIRONMENT)
    if environment:
        write_json(folder / ENVIRONMENT, {key: environment[key] for key in VERSIONS if key in environment})
    if onnx:
        from sccs.sharing.encoder import export_onnx

        said[ENCODER] = export_onnx(model.features, folder / ENCODER)
    write_text(folder / CARD, card(about, facts, read_names(folder), _json(folder / METRICS), environment, said))
    return {name: said.get(name, "") for name in archive.files(folder)}


def _carry(plugin: str, base: Path, folder: Path) -> str:
    """Copy a plug-in that is a file; returns what the export's recipe calls it. Modules stay names."""
    if not plugin.endswith(".py"):
        return plugin
    source, name = base / os.path.expanduser(os.path.expandvars(plugin)), f"plugins/{Path(plugin).name}"
    if not source.is_file():
        raise UserError(f"{source}: the run's plug-in is no longer there; put it back, since the model needs its code")
    if (folder / name).exists():
        raise UserError(f"{source}: a second plug-in of this name; rename one in the recipe, and train again")
    (folder / "plugins").mkdir(exist_ok=True)
    shutil.copyfile(source, folder / name)
    return name


def _training_fovs(run: Path) -> dict[str, int]:
    """Training volume -> fields of view, of a run that kept its graphs' statistics."""
    return dict(Counter(graph["key"].rsplit(":", 3)[0] for graph in _json(run / "graphs.json") or []))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def portable(value: Any) -> Any:
    """`value` with every absolute path in it, however deep, cut down to the file's name.

    A pattern keeps its folder's name, and what follows the name of a container, `a.h5:/em/raw`, stays.
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


# --------------------------------------------------------------------------------------------------------- model card
def card(
    about: Mapping,
    facts: Mapping,
    names: Mapping[int, Mapping[str, str]],
    metrics: Mapping | None,
    environment: Mapping | None,
    said: Mapping[str, str],
) -> str:
    """The model card, Markdown with the header that model hubs read. about: content of model.json."""
    recipe, k = about["recipe"], about["k"]
    data = data_name(about)
    voxel = about.get("voxel_size")
    kind = "supervised" if facts["supervised"] else "unsupervised"
    rows = {
        "task": f"{kind} semantic segmentation of volume EM, 2-D slice by slice, {k} clusters",
        "input": "grey images (Z, Y, X), standardised per volume; slices are cut into fields of view of at most "
        f"{about['fov']} px",
        "pixel size": "not stated by the training data"
        if voxel is None
        else f"{' x '.join(f'{size:g}' for size in voxel)} nm (z, y, x) in training; "
        "images to segment should have a similar one in y and x",
        "trained on": data
        + (": " if facts["trained_on"] else "")
        + ", ".join(f"{name} ({count} fields of view)" for name, count in facts["trained_on"].items()),
        **{role: f"`{recipe[role]['name']}`" for role in ("features", "graph", "embedder", "clusterer")},
        "labels": f"**used in training**, by {' and '.join(facts['supervised'])}"
        if facts["supervised"]
        else "not used in training",
    }
    if said.get(ENCODER):
        rows["encoder.onnx"] = said[ENCODER]
    versions = {"sccs": facts["sccs"], **(environment or {}).get("packages", {})}
    licence, authors = facts["licence"], facts["authors"]
    bundled = '"bundled"' in json.dumps(recipe["features"])
    header = {
        **({"license": licence.lower()} if licence else {}),
        "library_name": "sccs",
        "tags": ["electron-microscopy", "image-segmentation", kind],
    }
    return "\n".join(
        [
            "---",
            yaml.safe_dump(header, sort_keys=False) + "---",
            f"# {_title(about)}",
            "",
            *_table("fact", "value", rows),
            "",
            "## Use",
            "",
            "```",
            "pip install '.[cpu,all]'   # in a checkout of SCCS",
            "sccs segment THIS_FOLDER_OR_ZIP image.tif clusters.tif",
            "```",
            "",
            "```python",
            "import sccs",
            'model = sccs.load("THIS_FOLDER_OR_ZIP")',
            "labels = model.segment(volume, voxel_size=(16, 16, 16))  # (Z, Y, X) -> uint8 clusters (Z, Y, X)",
            "```",
            "",
            "`sccs.load` compares every file with `SHA256SUMS`, and so does `sha256sum -c SHA256SUMS`. Weights are "
            "safetensors; no pickle is read." + _plugins(recipe["plugins"]),
            "",
            "## Clusters",
            "",
            *_table(
                "cluster", "name", {c: name if c in names else "-" for c, name in enumerate(cluster_names(names, k))}
            ),
            "",
            "## Scores",
            "",
            *_scores(metrics, data),
            "",
            "## Versions",
            "",
            ", ".join(f"{name} {version}" for name, version in versions.items()),
            "",
            "## Intended use",
            "",
            "Segmenting electron microscopy images of the same kind of tissue, preparation, contrast and pixel size as the "
            "training data, by a person who looks at the result. Clusters are what looks alike, not organelles: names are "
            "a person's reading of them. Not for diagnosis. Structures smaller than a superpixel are not separated, and "
            "touching ones not told apart.",
            "",
            "## Licence",
            "",
            f"Weights: {licence}." if licence else "Weights: not stated; ask whoever gave you this model.",
            f"SCCS itself{', with the MAE encoder that comes with it' if bundled else ''}: BSD-3-Clause.",
            *([f"Authors: {', '.join(authors)}."] if authors else []),
            "",
        ]
    )


def data_name(about: Mapping) -> str:
    """The training data in words: what is synthetic is called so."""
    return {"phantom": "phantom (synthetic images)"}.get(about["data"], str(about["data"]))


def _title(about: Mapping) -> str:
    return about["recipe"].get("description") or f"SCCS model with {about['k']} clusters"


def _table(left: str, right: str, rows: Mapping) -> list[str]:
    return [f"| {left} | {right} |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in rows.items())]


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


def _plugins(plugins: Sequence[str]) -> str:
    carried = [name for name in plugins if name.endswith(".py")]
    needed = [name for name in plugins if name not in carried]
    text = f" It runs the Python code in {', '.join(carried)} only if `{archive.TRUST}=1` is set." if carried else ""
    return text + (f" It needs the installed plug-ins {', '.join(needed)}." if needed else "")


def _scores(metrics: Mapping | None, data: str) -> list[str]:
    """The headline mapping's scores on test volumes, class by class."""
    scores = (metrics or {}).get("test", {}).get((metrics or {}).get("headline"))
    if not scores:
        return ["None: the run had no labelled test volumes."]
    rows = {**scores["classes"], "**mean**": scores["mean"]}
    bound = ", fitted on the test labels: an upper bound, not a result" if metrics["headline"] == "oracle" else ""
    lines = [
        f"Test volumes of {data}; clusters became classes by the mapping `{metrics['headline']}`{bound}.",
        "",
        f"| class | {' | '.join(SCORES)} |",
        f"|---|{'---|' * len(SCORES)}",
    ]
    for name, row in rows.items():
        cells = ("-" if row.get(score) is None else f"{row[score]:.3f}" for score in SCORES)
        lines.append(f"| {_cell(name)} | {' | '.join(cells)} |")
    return lines
