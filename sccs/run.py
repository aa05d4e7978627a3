"""`python -m sccs.run RECIPE.yaml`, the main job: train, segment, score, log, draw. The run folder:

runs/<recipe>/<time>-s<seed>/
    recipe.yaml resolved.yaml environment.json log.txt metrics.json metrics.jsonl tables.json graphs.json
    timing.json report.html classes.yaml history/ model/ checkpoints/ tensorboard/ figures/ segmentation/
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from registry.base import UserError
from sccs.arguments import Parser, add_run_arguments
from sccs.recipe import Recipe, load_recipe
from sccs.run_folder import check_folder, check_same_recipe, new_folder, prepare_folder
from sccs.system.apart import check_apart
from sccs.system.exits import guard
from sccs.system.lock import held
from sccs.system.log import say
from sccs.training.team import ALONE, Team, launched_team

if TYPE_CHECKING:  # import what needs torch late, so that mistakes in the recipe show at once
    from registry.spg.graphs import RegionGraph
    from sccs.data.volumes import FOV, Dataset
    from sccs.pipeline import Pipeline
    from sccs.system.log import RunLog
    from sccs.training.pretrainer import Pretraining


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m sccs.run`; argv: its arguments (default: this process's). Returns 0."""
    parser = Parser(prog="python -m sccs.run", description="train from a recipe, segment, score, report")
    add_run_arguments(parser)
    return command(parser.parse_args(argv))


def command(args: argparse.Namespace) -> int:
    """Execute the arguments of `sccs.arguments.add_run_arguments`; print the path of the result, and return 0."""
    out = Path(args.out) if args.out else None
    with launched_team() as team:
        recipe = team.together(lambda: load_recipe(args.recipe, args.set, args.seed, args.device))
        done = run(recipe, out, resume=args.resume, overwrite=args.overwrite, team=team)
        if team.rank == 0:
            say(str(done))
    return 0


def run(
    recipe: Recipe, out: Path | None = None, *, resume: bool = False, overwrite: bool = False, team: Team = ALONE
) -> Path:
    """Run a recipe into the folder `out` (None: a new one); returns the report, or the trained checkpoint.

    team: the processes that share the work; all call this, but only the first reads and writes the folder.

    Raises UserError, before anything is written or removed, if recipe, parts, data or folder are unsuitable, or if
    another command is writing the folder.
    """
    if out is None and resume:
        raise UserError("--resume needs --out: give the folder of the run to continue")
    if team.size > 1 and recipe.pretrain is None:
        raise UserError(
            f"{recipe.name}: only recipes with a `pretrain` block can use several processes; start it without torchrun"
        )
    with ExitStack() as until_done:

        def check() -> bool:
            """Returns whether there is something to resume."""
            if out is None:
                return False
            until_done.enter_context(held(out, "sccs run"))
            check_folder(out, resume, overwrite)
            check_apart(out, recipe.reads())
            there = resume and (out / "resolved.yaml").is_file()
            check_same_recipe(recipe, out, there)
            if resume and not there:
                say(f"--resume: {out} has no run yet, which begins now")
            return there

        def make_folder() -> Path:
            folder = out or new_folder(recipe)
            if out is None:
                until_done.enter_context(held(folder, "sccs run"))
            prepare_folder(recipe, folder, device, resume)
            return folder

        resume = team.on_first(check)
        device = team.together(lambda: team.device(recipe.device))
        work = prepare_training(recipe) if recipe.pretrain is None else prepare_pretraining(recipe, device, team)
        return work(team.on_first(make_folder), resume)


Work = Callable[[Path, bool], Path]  # (run folder, resume) -> what to look at afterwards


def prepare_training(recipe: Recipe) -> Work:
    """Check all that can be checked before the first graph is built. Raises UserError."""
    import torch

    from sccs.data import load_dataset
    from sccs.evaluation.tables import rest_position
    from sccs.model.fovs import check_labels
    from sccs.pipeline import Pipeline
    from sccs.training.fit import check_batch
    from sccs.training.trainer import check_length

    if recipe.data is None:
        raise UserError(f"{recipe.name}: the recipe has no `data` block; add one (see `sccs list datasets`)")
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    pipeline = Pipeline(recipe)
    check_length(pipeline.embedder, pipeline.clusterer, recipe.train.iterations)
    pipeline.features.fingerprint()  # reads the checkpoint, if any
    dataset = load_dataset(recipe.data, Path.cwd(), recipe.seed, pipeline.min_side)
    check_batch(recipe.train.batch, dataset)
    check_labels(pipeline, dataset)
    rest_position(list(dataset.classes.values()), recipe.evaluation.rest)
    return lambda out, resume: train_and_segment(pipeline, dataset, out, resume)


def train_and_segment(pipeline: Pipeline, dataset: Dataset, out: Path, resume: bool) -> Path:
    """Train, save the model, segment, score, draw; returns the report."""
    from sccs.products import make_products
    from sccs.system.log import RunLog
    from sccs.training.checkpoint import newest_step

    recipe = pipeline.recipe
    start = time.perf_counter()
    found, _ = newest_step(out / "checkpoints") if resume else (None, [])
    step = None if not resume else 0 if found is None else int(found.facts["step"])
    with RunLog(out, resume=resume, resume_step=step) as log:
        log.info(
            f"recipe {recipe.name}, data {dataset.name}, seed {recipe.seed}, device {pipeline.device}, run folder {out}"
        )
        pipeline.fit(dataset, log=log, checkpoints=out / "checkpoints", resume=resume, preview=Preview(log))
        pipeline.save(out / "model")
        metrics = make_products(pipeline, dataset, out, log, training_seconds=time.perf_counter() - start)
        log.hparams(recipe.resolved(), {**headline_numbers(metrics), **class_numbers(metrics)})
        log.info(summary(metrics, out))
    return out / "report.html"


def prepare_pretraining(recipe: Recipe, device: str, team: Team = ALONE) -> Work:
    """As `prepare_training`, for a recipe with a `pretrain` block."""
    from sccs.training.pretrain import carry_out, check_batch, prepare
    from sccs.training.pretrain_settings import settings_of

    def prepared() -> Pretraining:
        check_batch(recipe.validate("pretrain", settings_of(recipe.pretrain or {})), team)
        return prepare(recipe.resolved()["pretrain"], device, recipe.seed, Path.cwd())

    trainer = team.together(prepared, first_ahead=True)

    def work(out: Path, resume: bool) -> Path:
        carry_out(trainer, out, resume, team)
        return out / "model" / f"{trainer.stem}.safetensors"

    return work


class Preview:
    """Draws the anchor's spectral bases and segmentation into TensorBoard at each checkpoint."""

    def __init__(self, log: RunLog):
        self.log = log

    def __call__(self, step: int, pipeline: Pipeline, graph: RegionGraph, fov: FOV) -> None:
        import numpy as np
        import torch

        from sccs.report.overlays import basis_mosaic
        from sccs.system.colours import cluster_colours, colourise

        with torch.no_grad():
            Z = pipeline.embedder.embed(graph)
            self.log.image("anchor/bases", basis_mosaic(Z.cpu().numpy(), graph.regions), step)
            clusterer = pipeline.clusterer
            if clusterer.trainable and clusterer.begun:
                clusters = np.append(clusterer.predict(graph, Z).argmax(1).cpu().numpy(), -1)[graph.regions]
                picture = colourise(clusters, cluster_colours(pipeline.k), fov.image, 0.6)
                self.log.image("anchor/clusters", picture, step)


def headline_numbers(metrics: dict) -> dict[str, float]:
    """Clusters in use, and the mean DSC by the headline mapping where there are labels."""
    headline = metrics.get("headline")
    tested = sum(metrics.get("cluster_share", {}).get("test", [1])) > 0  # else there was no test volume
    numbers = {"clusters_used": metrics["clusters_used"]["test" if tested else "train"]}
    if headline and metrics["test"]:
        numbers["mean_dsc"] = metrics["test"][headline]["mean"]["dsc"]
    return {name: value for name, value in numbers.items() if value is not None}


def class_numbers(metrics: dict) -> dict[str, float]:
    """Mean DSC of every mapping, and DSC of every class by the headline mapping, on the test volumes."""
    numbers = {f"mean_dsc/{rule}": scores["mean"]["dsc"] for rule, scores in metrics["test"].items()}
    classes = metrics["test"].get(metrics.get("headline"), {"classes": {}})["classes"]
    numbers |= {f"dsc/{name}": scores["dsc"] for name, scores in classes.items()}
    return {name: value for name, value in numbers.items() if value is not None}


def summary(metrics: dict, out: Path) -> str:
    """The last line of the log."""
    numbers = headline_numbers(metrics)
    scored = f"mean DSC {numbers['mean_dsc']:.3f} (mapping {metrics['headline']}), " if "mean_dsc" in numbers else ""
    return f"done: {scored}{numbers['clusters_used']} of {metrics['k']} clusters in use; report: {out / 'report.html'}"


if __name__ == "__main__":
    sys.exit(guard(main)())
