"""What `sccs list`, `sccs show` and `sccs info` print."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import registry
import sccs
from registry.mae.checkpoint import KINDS, read_checkpoint
from registry.requirements import faiss_install
from sccs.recipe import load_recipe, packaged_recipes
from sccs.recipe.located import read_yaml
from sccs.system.archive import TRUST

PACKAGES = (
    "numpy",
    "scipy",
    "torch",
    "dgl",
    "scikit-image",
    "scikit-learn",
    "faiss-cpu",
    "faiss-gpu-cu12",
    "zarr",
    "tensorstore",
    "h5py",
    "mrcfile",
    "tifffile",
    "imagecodecs",
    "pydantic",
)


def tables(what: str | None = None) -> str:
    """A table for each role, then recipes and data sets; or only the table `what`."""
    from sccs.data import DATASETS

    everything = {role: registry.available(role) for role in registry.ROLES}
    everything["recipes"] = {name: _description(path) for name, path in packaged_recipes().items()}
    everything["datasets"] = DATASETS
    chosen = everything if what is None else {what: everything[what]}
    wide = shutil.get_terminal_size((120, 24)).columns
    width = max(len(name) for table in chosen.values() for name in table)
    return "\n\n".join(
        "\n".join([title, *(f"  {name:<{width}}  {_cut(text, wide - width - 4)}" for name, text in table.items())])
        for title, table in chosen.items()
    )


def recipe(source: str, overrides: Sequence[str] = ()) -> str:
    """The resolved recipe as YAML; a comment after each key says where its value was written.

    Imports only plug-ins that the user trusts.
    """
    loaded = load_recipe(source, overrides, import_plugins=False)
    lines: list[str] = []
    if unread := [name for name in loaded.plugins if not registry.is_loaded(name)]:
        names = ", ".join(unread)
        lines.append(f"# not imported, so their parts are shown as written: {names} ({TRUST}=1 imports them)")
    for key, value in loaded.resolved().items():
        if isinstance(value, dict):
            lines.append(f"{key}:")
            for inner, item in value.items():
                lines += _commented(inner, item, loaded.where(key, inner), indent="  ")
        else:
            lines += _commented(key, value, loaded.where(key), indent="")
    return "\n".join(lines)


def information() -> str:
    """Versions, device, threads, FAISS, cache folder and the bundled MAE checkpoint."""
    import torch

    from sccs.system.cache import cache_folder
    from sccs.system.device import resolve_device

    device = resolve_device("auto")
    rows = {
        "sccs": f"{sccs.__version__} in {Path(sccs.__file__).parent}",
        "python": f"{platform.python_version()} on {platform.platform()}",
        **{name: found for name in PACKAGES if (found := _version(name))},
        "device": device + (f" ({torch.cuda.get_device_name(device)})" if device != "cpu" else ""),
        "threads": str(torch.get_num_threads()),
        "faiss": _faiss(),
        "cache": str(cache_folder() or "off"),
        "recipes": ", ".join(packaged_recipes()),
    }
    for kind in KINDS:
        path = kind.bundled
        found = f"sha256 {read_checkpoint(path, 'features', kind)[1]['sha256']}" if path.is_file() else "not installed"
        rows[path.name] = found  # checksum of the weights, as on the card
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())


def _commented(key: Any, value: Any, where: str, indent: str) -> list[str]:
    # None: the innermost lists and mappings stay on one line with the comment
    flow = None if isinstance(value, (dict, list)) and value else False
    text = yaml.safe_dump({key: value}, sort_keys=False, default_flow_style=flow, width=10**6, allow_unicode=True)
    lines = text.rstrip("\n").split("\n")
    if len(lines) == 1 or isinstance(value, (dict, list)):  # else a multi-line text, where # would be text
        lines[0] += f"  # {where}"
    return [indent + line for line in lines]


def _description(path: Path) -> str:
    """The recipe's description, or else its leading comment."""
    if (node := read_yaml(path).child("description")) is not None:
        return str(node.value)
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""


def _cut(text: str, width: int) -> str:
    return text if len(text) <= max(width, 20) else text[: max(width, 20) - 3] + "..."


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _faiss() -> str:
    try:
        import faiss
    except ImportError:
        return f"not installed; {faiss_install()}"
    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    return f"{faiss.__version__}, {f'{gpus} GPU' if gpus else 'CPU'}"
