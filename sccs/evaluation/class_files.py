"""<volume>_classes.tif of a run: its clusters looked up as their current classes, without any image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.readers import ImageSource, open_image
from sccs.data.writers import write_labels
from sccs.evaluation.files import read_file
from sccs.evaluation.legend import UNNAMED, Legend, class_codes, class_legend
from sccs.recipe.named import read_names
from sccs.recipe.stored import About
from sccs.system.files import remove

FOLDER = "segmentation"
CLUSTERS, CLASSES = "_clusters.tif", "_classes.tif"  # <volume>_clusters.tif, <volume>_classes.tif


def write_class_files(run: Path, metrics: Mapping[str, Any]) -> list[Path]:
    """Write <volume>_classes.tif for each <volume>_clusters.tif of a run without a teacher; returns their paths.

    Classes follow the clusters' names, as in `sccs segment --classes`, or without names the headline mapping. 255: no
    class, or not segmented. With neither names nor mapping, no files are written, and old ones are removed.
    """
    meaning = _meaning(run, metrics)
    written = []
    for clusters, source in cluster_files(run).items():
        path = clusters.with_name(clusters.name.removesuffix(CLUSTERS) + CLASSES)
        if meaning is None:
            remove(path)
            continue
        table, legend = meaning
        write_labels(
            path,
            (table[np.asarray(source.array[z])] for z in range(source.shape[0])),
            source.shape,
            source.voxel_size,
            colours=legend.colours,
            names=legend.names,
            overwrite=True,
        )
        written.append(path)
    return written


def cluster_files(run: Path) -> dict[Path, ImageSource]:
    """The <volume>_clusters.tif of a run, opened. Raises UserError for a damaged one."""
    found = {}
    for path in sorted((run / FOLDER).glob(f"*{CLUSTERS}")):
        found[path] = open_image(path, codes=True)
        if found[path].dtype != np.uint8:
            raise UserError(
                f"{path}: has dtype {found[path].dtype}, but clusters are uint8: copy it again, or remove it"
            )
    return found


def _meaning(run: Path, metrics: Mapping[str, Any]) -> tuple[np.ndarray, Legend] | None:
    """Table (256,) uint8 from clusters to class codes, and the codes' meaning."""
    about = read_file(run, "model/model.json", About)
    classes = {int(code): name for code, name in about.classes.items()} if about else {}
    table = np.full(256, UNNAMED, np.uint8)
    k, rest, mapping = metrics["k"], metrics.get("rest"), metrics.get("mapping", {}).get(metrics.get("headline"))
    entries = {cluster: entry for cluster, entry in read_names(run).items() if cluster < k}
    if entries:
        table[:k], legend = class_codes(entries, k, classes, about.ignore if about else None, rest)
        legend.names.setdefault(UNNAMED, "not segmented")
        return table, legend
    code_of = {name: code for code, name in classes.items()}
    if mapping is None or not {*mapping, rest} - {None} <= code_of.keys():
        return None
    table[:k] = [code_of.get(rest if name is None else name, UNNAMED) for name in mapping]
    legend = class_legend(classes)
    return table, Legend({**legend.names, UNNAMED: "no class"}, legend.colours)
