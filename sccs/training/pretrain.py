"""Pre-train a masked autoencoder, or a student if the block names a `teacher`, by the recipe's `pretrain` block, on
any volumes, without labels.

    python -m sccs.run recipes/mae.yaml --out DIR
    python -m sccs.run recipes/distil.yaml --out DIR
    torchrun --nproc_per_node=2 -m sccs.run recipes/mae.yaml --out DIR    the same steps, shared by two processes

Every random choice of a step (crops, scales, flips, masks) depends only on seed and step, so that on the CPU, with the
same number of threads, a resumed run gives the same bits as an uninterrupted one. Several processes share the crops
and masks of a single one and average their gradients, so training is the same, up to rounding, on any number of
processes that divides `batch`. A student is trained in a single process, as its batch normalisation would only see
shares.

The run folder contains model/mae.safetensors (the encoder in half precision, for `features: {name: mae, checkpoint:
...}`) or model/student.safetensors (for `features: {name: student, ...}`), its model card as .md,
model/state.safetensors (everything needed to resume; the previous state is state.before.safetensors), log.txt,
metrics.jsonl, metrics.json, tensorboard/.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from registry.base import UserError
from registry.mae.checkpoint import weights_hash, write_checkpoint
from sccs.data import load_dataset
from sccs.system.files import atomic_path
from sccs.system.log import RunLog, quiet_log
from sccs.training.checkpoint import newest_whole, said
from sccs.training.crops import Crops, Sampler
from sccs.training.distiller import Distiller, Teacher
from sccs.training.pretrain_settings import Distil, Pretrain, parse
from sccs.training.pretrainer import Pretrainer, Pretraining, before
from sccs.training.team import ALONE, Team
from sccs.training.trainer import deferred_interrupt


def pretrain(recipe: Mapping[str, Any], out: Path, device: str, seed: int, resume: bool, base: Path) -> dict[str, Any]:
    """Run the `pretrain` block of a recipe and write its run folder.

    Arguments
        recipe: the whole resolved recipe; `out`: run folder, created if missing.
        device: "cpu" or "cuda[:N]"; base: folder of relative paths in the recipe.
        resume: continue from model/state.safetensors if it exists.

    Returns the run's facts (also written as metrics.json). Raises UserError as `prepare` and `carry_out` do.
    """
    return carry_out(prepare(recipe["pretrain"], device, seed, base), out, resume)


def prepare(block: Mapping[str, Any], device: str, seed: int, base: Path) -> Pretraining:
    """Check a `pretrain` block before anything is written; arguments as for `pretrain`.

    Raises UserError for an invalid block or data, or an initial checkpoint that does not fit.
    """
    settings = parse(block)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if isinstance(settings, Pretrain):
        window, patch = settings.architecture.window, settings.architecture.patch
        sampler = _sampler(settings, base, seed, window, (window // patch) ** 2)
        return Pretrainer(settings, sampler, device=device, seed=seed, base=base)
    teacher = Teacher(settings.teacher, base, device)
    sampler = _sampler(settings, base, seed, teacher.window * settings.windows, 0, settings.noise, settings.blur)
    return Distiller(settings, sampler, teacher, device=device, seed=seed)


def _sampler(settings: Pretrain | Distil, base: Path, seed: int, side: int, tokens: int, *worse: float) -> Sampler:
    """Crops of `side` px from the block's data."""
    groups = []
    for data in settings.data:
        dataset = load_dataset(data, base, seed, side)
        groups.append(
            [
                Crops(volume, side, settings.scale, settings.axes, settings.held_out)
                for volume in (*dataset.train, *dataset.test)
            ]
        )
    return Sampler(groups, tokens, settings.batch, settings.jitter, seed, *worse)


def check_batch(settings: Pretrain | Distil, team: Team) -> None:
    """Raises UserError if the team cannot share the batch equally, or for a student in several processes."""
    if isinstance(settings, Distil) and team.size > 1:
        raise UserError("pretrain.teacher: a student is trained in a single process; start it without torchrun")
    if settings.batch % team.size:
        raise UserError(
            f"pretrain.batch: {settings.batch} crops cannot be shared equally by {team.size} processes; "
            f"use a multiple of {team.size}"
        )


def carry_out(trainer: Pretraining, out: Path, resume: bool, team: Team = ALONE) -> dict[str, Any]:
    """Train to the end and write the run folder `out`; returns the run's facts.

    team: the processes that share the work; all call this, but only the first writes.

    Raises UserError for a state of another architecture; on SIGINT, SIGTERM and SIGHUP to any of the processes, saves
    the state and raises KeyboardInterrupt.
    """
    trainer.join(team)
    try:
        return _carry_out(trainer, out, resume, team)
    finally:
        trainer.leave()


def _carry_out(trainer: Pretraining, out: Path, resume: bool, team: Team) -> dict[str, Any]:
    state = out / "model" / "state.safetensors"
    found, damaged = team.on_first(lambda: _newest(state) if resume else (False, []))
    if found:
        trainer.load(state)
    with RunLog(out, resume_step=trainer.done if resume else None) if team.rank == 0 else quiet_log() as run_log:
        names = [[crops.name for crops in group] for group in trainer.sampler.groups]
        parameters = sum(p.numel() for p in trainer.model.parameters())
        several = f" of each of {team.size} processes" if team.size > 1 else ""
        run_log.info(
            f"pre-training on {names}, {parameters / 1e6:.2f} M parameters, device {trainer.device}{several}, "
            f"from step {trainer.done}"
        )
        if damaged:
            run_log.warning(f"the last saved state is damaged{said(damaged)}: continuing from step {trainer.done}")
        score = _train(trainer, state, run_log)
        return team.on_first(lambda: _write(trainer, score, out, run_log))


def _newest(state: Path) -> tuple[bool, list[str]]:
    """Whether there is an intact state, which then is `state`, and the names of damaged ones."""
    found, damaged = newest_whole((state, before(state)), {"done": int, "seconds": float})
    if found is not None and found.path != state:
        os.replace(found.path, state)
    return found is not None, damaged


def _train(trainer: Pretraining, state: Path, run_log: RunLog) -> float | None:
    """Train to the end of the schedule; returns the loss on the held-out crops, None without any."""
    settings, team = trainer.settings, trainer.team
    held_out = team.together(trainer.sampler.held_out)
    if held_out is None and settings.held_out and team.rank == 0:
        run_log.warning("no held-out loss: every volume is narrower than four windows")
    losses: list[float] = []
    score = None
    thousandths = round(1000 * trainer.progress)

    def keep(interrupted: bool) -> float | None:
        trainer.save(state)
        if interrupted or held_out is None:
            return None
        score, picture = trainer.score(*held_out)
        run_log.scalar("loss/held_out", score, trainer.done)
        run_log.image(f"held out: {trainer.pictured}", picture, trainer.done)
        return score

    with deferred_interrupt() as signalled, run_log.progress(1000, "pre-training (per mille)", thousandths) as bar:
        while trainer.progress < 1:
            rate = trainer.learning_rate()
            losses.append(trainer.step())
            last = trainer.progress >= 1
            if trainer.done % settings.log_every == 0 or last:
                loss = sum(losses) / len(losses)
                crops = trainer.done * settings.batch / trainer.seconds
                run_log.scalars({"loss/train": loss, "lr": rate, "crops_per_second": crops}, trainer.done)
                bar.update(round(1000 * trainer.progress) - bar.done, loss=loss)
                losses.clear()
            interrupted = team.any(signalled())
            if trainer.done % settings.checkpoint_every == 0 or last or interrupted:
                score = team.on_first(lambda: keep(interrupted))
            if interrupted:
                raise KeyboardInterrupt
        if team.any(signalled()):  # during the last scoring
            raise KeyboardInterrupt
    if score is None and held_out is not None:  # resumed at the end
        score = team.on_first(lambda: trainer.score(*held_out)[0])
    return score


def _write(trainer: Pretraining, score: float | None, out: Path, run_log: RunLog) -> dict[str, Any]:
    """Write the weights, their card, and the facts, which are returned."""
    settings = trainer.settings
    facts = {
        "architecture": trainer.architecture,
        "data": [crops.name for group in trainer.sampler.groups for crops in group],
        "steps": trainer.done,
        "crops": trainer.done * settings.batch,
        "minutes": round(trainer.seconds / 60, 1),
        "held_out_loss": score,
        "seed": trainer.sampler.seed,
    }
    weights = trainer.weights()
    facts["sha256"] = weights_hash(weights)
    path = out / "model" / f"{trainer.stem}.safetensors"
    with atomic_path(path) as scratch:
        write_checkpoint(scratch, weights, facts, trainer.kind)
    with atomic_path(path.with_suffix(".md")) as scratch:
        scratch.write_text(trainer.card(facts), encoding="utf-8")
    with atomic_path(out / "metrics.json") as scratch:
        scratch.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    run_log.info(f"weights: {path}, sha256 {facts['sha256']}")
    return facts
