"""The products of a finished training: segmentations, tables, timings, views for figures, the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from registry.base import UserError
from registry.numeric.kmeans import kmeans
from sccs.data.planes import restored
from sccs.data.pyramid import EMPTY
from sccs.data.volumes import Dataset, Volume, evenly
from sccs.data.writers import write_labels
from sccs.evaluation.class_files import CLASSES, CLUSTERS, FOLDER, write_class_files
from sccs.evaluation.continuity import NeighbourTables
from sccs.evaluation.legend import Legend, cluster_legend
from sccs.evaluation.naming import read_names, write_metrics
from sccs.evaluation.naming import write_taught as keep_taught
from sccs.evaluation.tables import confusion
from sccs.inference.blocks import Fields, overlapping, separate
from sccs.inference.labels import Classes, Slice, look_up, segment_slice
from sccs.inference.segment import taught_meaning
from sccs.model.fovs import training_fovs
from sccs.model.model import STAGES
from sccs.pipeline import Pipeline
from sccs.report.crops import thumbnails
from sccs.report.drawing import reduced
from sccs.report.overlays import basis_mosaic, cluster_overlay
from sccs.report.page import refresh
from sccs.report.views import SliceView
from sccs.system.cache import report_growth
from sccs.system.colours import to_grey
from sccs.system.files import write_json
from sccs.system.log import RunLog

TIMED_FOVS = 3  # number of FOVs timed by stage, without the cache
VIEWS = {"test": 6, "train": 2}  # slices kept for figures and report, spread over the volumes
PROJECTED = 500  # superpixels per view in TensorBoard's projector
LOGGED = 1200  # px of a picture in TensorBoard
MOST_NODES = 50_000  # of a FOV with its own k-means; a pixel graph has more
UNSEGMENTED = EMPTY  # in <volume>_clusters.tif: slices and margins that the recipe leaves out, constant FOVs


def make_products(pipeline: Pipeline, dataset: Dataset, out: Path, log: RunLog, training_seconds: float) -> dict:
    """Segment every train and test volume, score, time and draw; returns the metrics."""
    counts = _segment_all(pipeline, dataset, out, log)
    report_growth(log)
    metrics = _score(pipeline, dataset, out, log, counts)
    write_json(out / "graphs.json", pipeline.diagnostics)
    for name in ("nodes", "edges", "density", "isolated", "components"):
        log.histogram(f"graphs/{name}", np.array([graph[name] for graph in pipeline.diagnostics]), 0)
    write_json(out / "timing.json", {**time_stages(pipeline, dataset), "training_seconds": training_seconds})
    write_class_files(out, metrics)
    refresh(out)
    return metrics


def remake_products(pipeline: Pipeline, dataset: Dataset, out: Path, log: RunLog) -> dict:
    """Segment, score and draw again after the clusters changed; keeps what was measured in training."""
    metrics = _score(pipeline, dataset, out, log, _segment_all(pipeline, dataset, out, log))
    if pipeline.taught is not None:
        return write_taught(pipeline, dataset, out, log)
    write_class_files(out, metrics)
    refresh(out)
    return metrics


def write_taught(pipeline: Pipeline, dataset: Dataset, out: Path, log: RunLog) -> dict:
    """Write <volume>_classes.tif of every volume from the pipeline's teacher, scores, report; returns the metrics."""
    assert pipeline.taught is not None  # checked by the caller
    counts = {part: Counts(len(pipeline.taught.names), dataset) for part in VIEWS}
    with log.progress(_fovs(pipeline, dataset), "classes") as bar:
        for part, counted in counts.items():
            volumes = getattr(dataset, part)
            for volume, shown in zip(volumes, shares(volumes, VIEWS[part])):
                _write_taught_classes(pipeline, dataset, out, part, volume, shown, counted, bar.update)
    metrics = keep_taught(out, pipeline.taught.names, {part: each.tables for part, each in counts.items()})
    refresh(out)
    return metrics


def _write_taught_classes(
    pipeline: Pipeline,
    dataset: Dataset,
    out: Path,
    part: str,
    volume: Volume,
    drawn: Sequence[int],
    counted: Counts,
    done: Callable[[], None],
) -> None:
    codes, legend = taught_meaning(pipeline)
    positions = Classes(np.arange(len(codes.codes), dtype=np.uint8))  # positions are counted, codes are written

    def draw(z: int, found: Slice) -> None:
        view_of(pipeline, volume, z, part, dataset, found).save(out / "figures" / "data")

    planes = segment_volume(pipeline, volume, counted, drawn=drawn, draw=draw, done=done, shown=positions)
    _write_planes(out, volume, CLASSES, map(look_up(codes.codes).__getitem__, planes), legend)


def _fovs(pipeline: Pipeline, dataset: Dataset) -> int:
    return sum(len(v.z_slices) * len(fields_of(pipeline, v)) for v in dataset.train + dataset.test)


def _segment_all(pipeline: Pipeline, dataset: Dataset, out: Path, log: RunLog) -> dict[str, Counts]:
    """Write <volume>_clusters.tif of every volume and views of some slices; returns the counts."""
    counts = {part: Counts(pipeline.k, dataset) for part in ("train", "test")}
    (out / "figures" / "data").mkdir(parents=True, exist_ok=True)
    with log.progress(_fovs(pipeline, dataset), "segmenting") as bar:
        for part, counted in counts.items():
            volumes = getattr(dataset, part)
            for volume, shown in zip(volumes, shares(volumes, VIEWS[part])):
                _write_clusters(pipeline, dataset, out, log, part, volume, shown, counted, bar.update)
    for part, counted in counts.items():
        if counted.unscored:
            log.warning(
                f"{part}: {counted.unscored} labelled pixels are not scored: their fields of view have a single "
                "grey value and are not segmented"
            )
    return counts


def _score(pipeline: Pipeline, dataset: Dataset, out: Path, log: RunLog, counts: dict[str, Counts]) -> dict:
    wished = pipeline.recipe.evaluation
    metrics = write_metrics(
        out,
        counts["train"].tables,
        counts["test"].tables,
        list(dataset.classes.values()),
        k=pipeline.k,
        rest=wished.rest,
        mappings=wished.mappings,
        headline=wished.headline,
        train_pixels=counts["train"].pixels,
        test_pixels=counts["test"].pixels,
        supervised=pipeline.supervised,
        neighbours={part: each.neighbours.to_lists() for part, each in counts.items()},
        agreement=pipeline.info.get("agreement"),
    )
    for note in metrics["notes"]:
        log.info(note)  # the report shows these apart from warnings
    return metrics


class Counts:
    """Counts made during segmentation: confusion tables by tile, pixels per cluster, neighbours in z.

    unscored: labelled pixels that are not segmented.
    """

    def __init__(self, k: int, dataset: Dataset):
        self.k, self.dataset = k, dataset
        self.tables: dict[str, np.ndarray] = {}
        self.pixels = np.zeros(k, np.int64)
        self.neighbours = NeighbourTables(k, dataset)
        self.unscored = 0

    def add(self, volume: Volume, z: int, clusters: np.ndarray) -> None:
        """Count slice z of the file, clusters (Y, X) uint8 of the region."""
        seen = clusters != UNSEGMENTED
        self.pixels += np.bincount(clusters[seen], minlength=self.k)
        labels = volume.read_labels(z)
        if labels is None:
            return
        codes, ignore = list(self.dataset.classes), self.dataset.ignore
        self.unscored += int((np.isin(labels[~seen], codes) & (labels[~seen] != ignore)).sum())
        for tile in volume.tiles:
            scored = seen[tile.window]
            self.tables[f"{volume.name}:{z}:{tile.y0}:{tile.x0}"] = confusion(
                clusters[tile.window][scored], labels[tile.window][scored], self.k, codes, ignore
            )


def _write_clusters(
    pipeline: Pipeline,
    dataset: Dataset,
    out: Path,
    log: RunLog,
    part: str,
    volume: Volume,
    shown: Sequence[int],
    counted: Counts,
    done: Callable[[], None],
) -> None:
    """Write <volume>_clusters.tif, and the views of the slices to show."""

    def draw(z: int, found: Slice) -> None:
        view = view_of(pipeline, volume, z, part, dataset, found)
        view.save(out / "figures" / "data")
        projected(view, log)
        clusters = np.asarray(reduced(cluster_overlay(view, pipeline.k), LOGGED))
        log.image(f"{part}/{view.key}/clusters", clusters, 0)
        log.image(f"{part}/{view.key}/bases", basis_mosaic(view.bases, view.regions), 0)

    planes = segment_volume(pipeline, volume, counted, drawn=shown, draw=draw, done=done)
    legend = cluster_legend(read_names(out), pipeline.k, pipeline.gone)
    _write_planes(out, volume, CLUSTERS, counted.neighbours.watch(planes, volume), legend)


def _write_planes(out: Path, volume: Volume, suffix: str, planes: Iterable[np.ndarray], legend: Legend) -> None:
    """Write labels (Y, X) uint8 of every slice, aligned with the volume's file."""
    write_labels(
        out / FOLDER / f"{volume.name}{suffix}",
        restored(planes, volume.file_shape, volume.plane),
        overwrite=True,
        shape=volume.file_shape,
        voxel_size=volume.file_voxel_size,
        colours=legend.colours,
        names={**legend.names, UNSEGMENTED: "not segmented"},
    )


def projected(view: SliceView, log: RunLog) -> None:
    """Log some superpixels of a slice to TensorBoard's projector, with their clusters and thumbnails."""
    rng = np.random.default_rng(0)
    nodes = np.sort(rng.permutation(len(view.clusters))[:PROJECTED])
    names = [f"cluster {cluster}" for cluster in view.clusters[nodes]]
    log.embedding(f"{view.split}/{view.key}", view.bases[nodes], names, thumbnails(view, nodes.tolist()))


def shares(volumes: list[Volume], count: int) -> list[list[int]]:
    """The slices of each volume to keep as views: about `count` in all, evenly spread."""
    each = max(1, count // max(len(volumes), 1))
    return [evenly(volume.z_slices, each) for volume in volumes]


def fields_of(pipeline: Pipeline, volume: Volume) -> Fields:
    """The fields of view of a run's own segmentations, as set by the recipe's `evaluation.fovs`."""
    cut = {"overlapping": overlapping, "separate": separate}[pipeline.recipe.evaluation.fovs]
    return cut(volume.shape[1:], volume.fov)


def segment_volume(
    pipeline: Pipeline,
    volume: Volume,
    counted: Counts,
    *,
    drawn: Sequence[int] = (),
    draw: Callable[[int, Slice], None] = lambda z, found: None,
    done: Callable[[], None] = lambda: None,
    shown: Classes | None = None,
) -> Iterator[np.ndarray]:
    """Yields planes (Y, X) uint8 of the whole file, `UNSEGMENTED` outside the recipe's region.

    Adds to `counted`, and calls done() after each FOV. Calls draw(z, slice) for the slices in `drawn`, unless the slice
    has a single grey value; of other slices only the plane is kept in memory. shown: what to show instead of clusters.
    """
    fields = fields_of(pipeline, volume)
    _, y0, x0 = volume.origin
    used = set(volume.z_slices)
    for z in range(volume.image.shape[0]):
        plane = np.full(volume.image.shape[1:], UNSEGMENTED, np.uint8)
        if z in used:
            found = segment_slice(pipeline, volume, z, fields, keep=True, results=z in drawn, done=done, shown=shown)
            clusters = found.plane() if shown is None else found.plane()[..., 0]
            plane[y0 : y0 + volume.shape[1], x0 : x0 + volume.shape[2]] = clusters
            counted.add(volume, z, clusters)
            if found.results and (clusters != UNSEGMENTED).any():
                draw(z, found)
        yield plane


def view_of(pipeline: Pipeline, volume: Volume, z: int, part: str, dataset: Dataset, found: Slice) -> SliceView:
    """One slice with the results of its FOVs, and per-FOV k-means of Z beside them (Figure 4c).

    Each pixel takes its superpixel from the FOV that stitching assigns it to, so the view's clusters match the file's.
    """
    bases, clusters, alone, judged = [], [], [], []
    for result in found.results.values():
        bases.append(result.Z)
        clusters.append(result.assignment)
        if pipeline.taught is not None:
            judged.append(pipeline.judge(result))
        try:
            few = result.graph.n <= MOST_NODES
            alone.append(kmeans(result.Z, pipeline.k, pipeline.recipe.seed, n_init=1)[1] if few else result.assignment)
        except UserError:  # fewer distinct nodes than clusters
            alone.append(result.assignment)
    regions = found.regions()
    inside = regions >= 0
    shown, regions[inside] = np.unique(regions[inside], return_inverse=True)  # the others lie beyond the borders
    return SliceView(
        volume.name,
        z,
        part,
        to_grey(volume.read_slice(z)),
        volume.read_labels(z),
        regions,
        np.concatenate(bases)[shown],
        np.concatenate(clusters)[shown],
        np.concatenate(alone)[shown],
        dataset.ignore,
        [(y.start, x.start, y.stop - y.start, x.stop - x.start) for _, y, x in found.fields],
        voxel_size=volume.voxel_size,
        judged=np.concatenate(judged)[shown] if judged else None,
        teacher="" if pipeline.taught is None else pipeline.taught.teacher.digest,
    )


@torch.no_grad()
def time_stages(pipeline: Pipeline, dataset: Dataset) -> dict:
    """Seconds per FOV by stage: medians over a few FOVs, those of test volumes first, without the cache."""
    fovs = training_fovs([*dataset.test, *dataset.train])
    images = [fov.image for fov in islice(fovs, TIMED_FOVS)]
    seconds = [pipeline.segment_fov(image).seconds for image in [images[0], *images]][1:]  # the first is a warm-up
    stages = {stage: float(np.median([each[stage] for each in seconds])) for stage in STAGES}
    return {
        **stages,
        "total": sum(stages.values()),
        "fovs": len(seconds),
        "pixels_per_fov": float(np.median([image.size for image in images])),
    }
