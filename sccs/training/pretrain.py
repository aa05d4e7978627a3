"""Pre-training of the masked autoencoder on any volumes, without labels: the recipe's `pretrain` block.

    python -m sccs.run recipes/mae.yaml --out DIR
    torchrun --nproc_per_node=2 -m sccs.run recipes/mae.yaml --out DIR    the same steps, shared by two processes

Every random choice of a step (crops, scales, flips, masks) is a function of seed and step alone, so that a run that is
stopped and resumed ends, on the CPU and with the same number of threads, with the same bits as one that was not.
Several processes draw the crops and masks that one would, each its share, and average their gradients: the same
training, to rounding, on any number of processes that divides `batch`.

The run folder holds model/mae.safetensors (the encoder in half precision, what `features: {name: mae, checkpoint: ...}`
takes), model/mae.md (its model card), model/state.safetensors (everything that resuming needs), log.txt,
metrics.jsonl, metrics.json, tensorboard/.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from registry.base import UserError
from registry.mae.checkpoint import checkpoint_path, encoder_arguments, read_checkpoint, weights_hash, write_checkpoint
from registry.mae.network import MaskedAutoencoder, patchify, unpatchify
from sccs.data import load_dataset
from sccs.data.planes import ISOTROPIC
from sccs.system.files import atomic_path
from sccs.system.log import RunLog, quiet_log
from sccs.training.checkpoint import below, optimizer_values, read_tensors, restore_optimizer, write_tensors
from sccs.training.team import ALONE, Team
from sccs.training.trainer import deferred_interrupt

IN_MEMORY = 2**30  # bytes; larger volumes are read crop by crop
SCORED_CROPS = 64  # held-out crops of the loss that is logged

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Architecture(BaseModel):
    """Size of the autoencoder (default: the paper's)."""

    model_config = ConfigDict(extra="forbid", strict=True)
    patch: Positive = 5  # px
    window: Positive = 80  # px
    width: Positive = 192
    depth: Positive = 14
    heads: Positive = 1
    mlp_ratio: Annotated[float, Field(gt=0)] = 2
    decoder_width: Positive = 128
    decoder_depth: Positive = 7
    decoder_heads: Positive = 8
    position_weight: Annotated[float, Field(ge=0)] = 0.08

    @model_validator(mode="after")
    def _divisible(self) -> Architecture:
        if self.window % self.patch:
            raise ValueError(f"window {self.window} is not a multiple of patch {self.patch}; paper: 80 and 5")
        for name in ("", "decoder_"):
            width, heads = getattr(self, f"{name}width"), getattr(self, f"{name}heads")
            if width % 4 or width % heads:
                raise ValueError(f"{name}width {width} must be a multiple of 4 and of {name}heads ({heads})")
        return self


class Pretrain(BaseModel):
    """The `pretrain` block of a recipe."""

    model_config = ConfigDict(extra="forbid", strict=True)
    data: Annotated[list[dict[str, Any]], Field(min_length=1)]  # `data` blocks; each gets the same share of the crops
    architecture: Architecture = Architecture()
    checkpoint: str | None = None  # start from this encoder: "bundled" or a .safetensors file; null: from noise
    axes: Literal["all", "xy"] = "all"  # planes that crops are taken from; through z only where voxels are isotropic
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.7, 1.4)  # crop side / window
    jitter: Annotated[float, Field(ge=0)] = 0.1  # sd of random contrast and brightness
    held_out: Annotated[float, Field(ge=0, le=0.5)] = 0.1  # share of each volume, its last columns, that is only scored
    mask: Annotated[float, Field(gt=0, lt=1)] = 0.5
    steps: Positive = 20000
    max_minutes: Annotated[float, Field(gt=0)] | None = None  # the schedule ends at `steps` or here, what comes first
    batch: Positive = 8
    lr: Annotated[float, Field(gt=0)] = 1e-3
    warmup: Annotated[int, Field(ge=0)] = 100  # steps
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    betas: tuple[Share, Share] = (0.9, 0.95)
    clip: Annotated[float, Field(gt=0)] = 1.0  # norm of the gradient
    ema: Share = 0.999  # running mean of the weights, which is what is kept; 0: the last weights
    amp: bool = True  # bfloat16 where it is safe
    threads: Positive | None = None  # CPU threads; null: PyTorch's own choice
    log_every: Positive = 50  # steps
    checkpoint_every: Positive = 500  # steps
    card: dict[str, str] = {}  # title -> text, sections that the model card gets besides the run's facts

    @model_validator(mode="after")
    def _ordered(self) -> Pretrain:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale: {list(self.scale)} is not [smallest, largest]")
        return self


# ------------------------------------------------------------------------------------------------------------ crops
class Crops:
    """Random square crops of one volume, from its training part or from the part that is held out.

    The last columns (x) are held out, at least one window wide; a volume narrower than four windows is all training.
    Arguments: see `Pretrain`; `volume` has image (Z, Y, X), origin, shape, mean, std, voxel_size (see sccs.data).
    """

    def __init__(self, volume, window: int, scale: tuple[float, float], axes: str, held_out: float):
        self.name, self.window = volume.name, window
        self.mean, self.std = np.float32(volume.mean), np.float32(volume.std)
        self._image, self._origin = volume.image, volume.origin
        Z, Y, X = volume.shape
        if Z * Y * X * np.dtype(volume.image.dtype).itemsize <= IN_MEMORY:
            (z, y, x), self._origin = volume.origin, (0, 0, 0)
            self._image = np.asarray(volume.image[z : z + Z, y : y + Y, x : x + X])
        strip = max(window, round(held_out * X)) if held_out and 4 * window <= X else 0
        self.train_box = (0, 0, 0), (Z, Y, X - strip)  # corner and size (z, y, x)
        self.held_box = ((0, 0, X - strip), (Z, Y, strip)) if strip else None
        size = self.train_box[1]
        size_nm = volume.voxel_size
        through_z = axes == "all" and (size_nm is None or max(size_nm) <= ISOTROPIC * min(size_nm))
        planes = [(1, 2), (0, 2), (0, 1)] if through_z else [(1, 2)]  # axes of a crop's rows and columns
        self.planes = [plane for plane in planes if min(size[axis] for axis in plane) >= window]
        largest = max(min(size[axis] for axis in plane) for plane in self.planes)
        self.sides = min(round(scale[0] * window), largest), min(round(scale[1] * window), largest)

    def draw(self, rng: np.random.Generator) -> Draw:
        """A crop of random plane, scale, place, orientation; no pixel is read yet."""
        rows, columns = self.planes[rng.integers(len(self.planes))]
        low, high = self.sides
        side = round(math.exp(rng.uniform(math.log(low), math.log(high))))
        side = min(side, self.train_box[1][rows], self.train_box[1][columns])
        place = self._place(rng, self.train_box, rows, columns, side)
        return Draw(place, side, int(rng.integers(4)), bool(rng.integers(2)))

    def train(self, draw: Draw) -> np.ndarray:
        """The crop that was drawn -> (window, window) float32, standardised."""
        crop = np.rot90(resize(self._cut(draw.place, draw.side), self.window), draw.turns)
        return np.ascontiguousarray(crop[:, ::-1] if draw.mirrored else crop)

    def held(self, rng: np.random.Generator) -> np.ndarray:
        """One held-out crop as it is in a slice -> (window, window) float32, standardised."""
        return self._cut(self._place(rng, self.held_box, 1, 2, self.window), self.window)

    def _place(self, rng, box, rows: int, columns: int, side: int) -> tuple[slice, slice, slice]:
        extent = [1, 1, 1]
        extent[rows] = extent[columns] = side
        place = []
        for axis in range(3):
            first = int(rng.integers(box[1][axis] - extent[axis] + 1)) + box[0][axis] + self._origin[axis]
            place.append(slice(first, first + extent[axis]))
        return tuple(place)

    def _cut(self, place: tuple[slice, slice, slice], side: int) -> np.ndarray:
        pixels = np.asarray(self._image[place]).reshape(side, side)
        return (pixels.astype(np.float32) - self.mean) / self.std


@dataclass(frozen=True)
class Draw:
    """Where a crop lies in the file (z, y, x), its side (px) before it is resized, quarter turns, mirrored after."""

    place: tuple[slice, slice, slice]
    side: int
    turns: int
    mirrored: bool


def resize(crop: np.ndarray, side: int) -> np.ndarray:
    """Bilinear, anti-aliased: (s, s) float32 -> (side, side)."""
    if crop.shape[0] == side:
        return crop
    image = torch.from_numpy(crop)[None, None]  # (1, 1, s, s)
    return F.interpolate(image, size=(side, side), mode="bilinear", antialias=True, align_corners=False)[0, 0].numpy()


@dataclass
class Sampler:
    """Batches of crops; `groups` holds the volumes of each data block, blocks share the crops equally."""

    groups: Sequence[Sequence[Crops]]
    tokens: int  # N of a window
    batch: int
    jitter: float
    seed: int

    def step(self, step: int, share: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """-> images (B, window, window), noise (B, N) that decides which patches are hidden; by `step` alone.

        Of a `share` of the batch only the pixels of those crops are read; they are the same as in the whole.
        """
        rng = np.random.default_rng([self.seed, step])
        drawn = []
        for _ in range(self.batch):
            group = self.groups[rng.integers(len(self.groups))]
            volume = group[rng.integers(len(group))]
            drawn.append((volume, volume.draw(rng), math.exp(rng.normal(0, self.jitter)), rng.normal(0, self.jitter)))
        noise = self._noise(rng, self.batch)[share]
        crops = [
            volume.train(draw) * np.float32(contrast) + np.float32(brightness)
            for volume, draw, contrast, brightness in drawn[share]
        ]
        return torch.from_numpy(np.stack(crops)), noise

    def held_out(self) -> tuple[Tensor, Tensor] | None:
        """The crops that are scored, an equal number of each data block, the same in every run on the same data."""
        groups = [[crops for crops in group if crops.held_box] for group in self.groups]
        groups = [group for group in groups if group]
        if not groups:
            return None
        rng = np.random.default_rng(0)
        crops = []
        for i in range(SCORED_CROPS):
            group = groups[i % len(groups)]
            crops.append(group[i // len(groups) % len(group)].held(rng))
        return torch.from_numpy(np.stack(crops)), self._noise(rng, SCORED_CROPS)

    def _noise(self, rng: np.random.Generator, count: int) -> Tensor:
        return torch.from_numpy(rng.random((count, self.tokens), dtype=np.float32))


# --------------------------------------------------------------------------------------------------------- training
class Pretrainer:
    """AdamW with linear warm-up, cosine decay, gradient clipping and a running mean of the weights."""

    team = ALONE

    def __init__(self, settings: Pretrain, sampler: Sampler, *, device: str, seed: int, base: Path):
        self.settings, self.sampler, self.device = settings, sampler, torch.device(device)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model = MaskedAutoencoder(**settings.architecture.model_dump())
        if settings.checkpoint is not None:
            path = checkpoint_path(settings.checkpoint, base)
            wanted = encoder_arguments(settings.architecture.model_dump())
            weights, _ = read_checkpoint(path, "pretrain.architecture", **wanted)
            self.model.encoder.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        self.model.to(self.device)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        # Biases, LayerNorms and the mask token are not decayed.
        groups = [
            {"params": [p for p in self.model.parameters() if p.ndim >= 2], "weight_decay": settings.weight_decay},
            {"params": [p for p in self.model.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=True)
        self.network: torch.nn.Module = self.model  # what a step calls
        self.share = slice(None)  # of each batch
        self.done = 0  # steps
        self.seconds = 0.0  # of training, those before a resume included

    def join(self, team: Team) -> None:
        """Train with the team's other processes, each with its share of every batch; all must call it."""
        self.team, each = team, self.settings.batch // team.size
        self.share = slice(team.rank * each, (team.rank + 1) * each)
        self.network = team.parallel(self.model, self.device)

    @property
    def progress(self) -> float:
        """Share of the schedule that is over, 0..1."""
        share = self.done / self.settings.steps
        if self.settings.max_minutes is not None:
            share = max(share, self.seconds / 60 / self.settings.max_minutes)
        return min(share, 1.0)

    def learning_rate(self) -> float:
        warm = min(1.0, (self.done + 1) / max(self.settings.warmup, 1))
        return self.settings.lr * warm * (1 + math.cos(math.pi * self.progress)) / 2

    def step(self) -> float:
        """One update -> its loss over the whole batch."""
        start = time.monotonic()
        batch = self.team.together(lambda: self.sampler.step(self.done, self.share))
        images, noise = (x.to(self.device, non_blocking=True) for x in batch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        with self._autocast():
            loss, _, _ = self.network(images, noise, self.settings.mask)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.done += 1
        self._update_average()
        # the schedule may end by time, so all processes go by the same clock
        value, seconds = self.team.mean([loss.item(), time.monotonic() - start])
        if not math.isfinite(value):
            raise UserError(
                f"pretrain: the loss is {value} at step {self.done}; lower pretrain.lr ({self.settings.lr})"
            )
        self.seconds += seconds
        return value

    def _autocast(self):
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.settings.amp)

    @torch.no_grad()
    def _update_average(self) -> None:
        # While there are few steps to average over, the mean is over all of them.
        decay = min(self.settings.ema, self.done / (self.done + 10)) if self.settings.ema else 0.0
        current = self.model.state_dict()
        torch._foreach_lerp_(list(self.average.values()), [current[name] for name in self.average], 1 - decay)

    @torch.inference_mode()
    def score(self, images: Tensor, noise: Tensor) -> tuple[float, np.ndarray]:
        """Loss of the averaged weights on given crops, and a picture: rows of crop, masked crop, painted crop."""
        total, picture = 0.0, None
        for start in range(0, len(images), self.settings.batch):
            x, n = (t[start : start + self.settings.batch].to(self.device) for t in (images, noise))
            with self._autocast():
                arguments = (x, n, self.settings.mask)
                loss, painted, mask = torch.func.functional_call(self.model, self.average, arguments)
            total += loss.item() * len(x)
            if picture is None:
                picture = reconstruction(x, painted, mask, self.model.patch)
        return total / len(images), picture

    # --------------------------------------------------------------------------------------------------- state
    def save(self, path: Path) -> None:
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        tensors |= optimizer_values(self.optimizer)
        write_tensors(path, tensors, {"done": str(self.done), "seconds": repr(self.seconds)})

    def load(self, path: Path) -> None:
        arrays, facts = self.team.on_first(lambda: read_tensors(path))
        saved, average = (
            {name: torch.from_numpy(value) for name, value in below(prefix, arrays).items()}
            for prefix in ("model.", "average.")
        )
        if {n: v.shape for n, v in saved.items()} != {n: v.shape for n, v in self.model.state_dict().items()}:
            raise UserError(
                f"{path}: the interrupted run has another pretrain.architecture; resume with its own recipe"
            )
        self.done, self.seconds = int(facts["done"]), float(facts["seconds"])
        self.model.load_state_dict(saved)
        for name, value in average.items():
            self.average[name].copy_(value)
        restore_optimizer(self.optimizer, arrays)


def reconstruction(images: Tensor, painted: Tensor, mask: Tensor, patch: int) -> np.ndarray:
    """For people: crop, what the encoder saw, what the decoder painted, side by side -> (rows, columns, 3) uint8.

    Shapes: images (B, s, s) standardised, painted (B, N, p*p), mask (B, N), 1 is hidden.
    """
    hidden = mask[:, :, None].float()
    pixels = patchify(images, patch)
    seen = unpatchify(pixels * (1 - hidden), patch)
    filled = unpatchify(pixels * (1 - hidden) + painted.float() * hidden, patch)
    rows = torch.cat([torch.cat([images, seen, filled], dim=2)[i] for i in range(len(images))])  # (B*s, 3s)
    grey = ((rows.float().cpu() + 2.5) / 5 * 255).clamp(0, 255).byte().numpy()
    return np.repeat(grey[:, :, None], 3, axis=2)


def parse(block: Mapping[str, Any]) -> Pretrain:
    """Check a `pretrain` block; raises UserError with the dotted path of the first mistake."""
    try:
        return Pretrain.model_validate_json(json.dumps(block))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{'.'.join(map(str, ('pretrain', *first['loc'])))}: {first['msg']}") from None


def pretrain(recipe: Mapping[str, Any], out: Path, device: str, seed: int, resume: bool, base: Path) -> dict[str, Any]:
    """Run the `pretrain` block of a recipe and write its run folder.

    Arguments
        recipe: the whole resolved recipe; `out`: run folder, which exists or is made.
        device: "cpu" or "cuda[:N]"; base: folder that relative paths in the recipe start from.
        resume: go on from model/state.safetensors if it is there.

    Returns the run's facts (also written as metrics.json). Raises UserError as `prepare` and `carry_out` do.
    """
    return carry_out(prepare(recipe["pretrain"], device, seed, base), out, resume)


def prepare(block: Mapping[str, Any], device: str, seed: int, base: Path) -> Pretrainer:
    """All of a `pretrain` block that can be wrong, before anything is written: arguments as for `pretrain`.

    Raises UserError for a bad block, bad data, and a checkpoint to start from that does not fit.
    """
    settings = parse(block)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    architecture = settings.architecture
    window = architecture.window
    groups = []
    for data in settings.data:
        dataset = load_dataset(data, base, seed, window)
        groups.append(
            [
                Crops(volume, window, settings.scale, settings.axes, settings.held_out)
                for volume in (*dataset.train, *dataset.test)
            ]
        )
    sampler = Sampler(groups, (window // architecture.patch) ** 2, settings.batch, settings.jitter, seed)
    return Pretrainer(settings, sampler, device=device, seed=seed, base=base)


def check_batch(settings: Pretrain, team: Team) -> None:
    if settings.batch % team.size:
        raise UserError(
            f"pretrain.batch: {settings.batch} crops cannot be shared equally by {team.size} processes; "
            f"take a multiple of {team.size}"
        )


def carry_out(trainer: Pretrainer, out: Path, resume: bool, team: Team = ALONE) -> dict[str, Any]:
    """Train to the end and write the run folder `out`; returns the run's facts.

    team: the processes that do it together; all call this, and only the first writes.

    Raises UserError for a state of another architecture; KeyboardInterrupt, with the state saved, on SIGINT and
    SIGTERM to any of the processes.
    """
    state = out / "model" / "state.safetensors"
    trainer.join(team)
    if team.on_first(lambda: resume and state.exists()):
        trainer.load(state)
    with RunLog(out, resume_step=trainer.done if resume else None) if team.rank == 0 else quiet_log() as run_log:
        names = [[crops.name for crops in group] for group in trainer.sampler.groups]
        parameters = sum(p.numel() for p in trainer.model.parameters())
        several = f" of each of {team.size} processes" if team.size > 1 else ""
        run_log.info(
            f"pre-training on {names}, {parameters / 1e6:.2f} M parameters, device {trainer.device}{several}, "
            f"from step {trainer.done}"
        )
        score = _train(trainer, state, run_log)
        return team.on_first(lambda: _write(trainer, score, out, run_log))


def _write(trainer: Pretrainer, score: float | None, out: Path, run_log: RunLog) -> dict[str, Any]:
    """The encoder, its card, and the facts, which are returned."""
    settings = trainer.settings
    facts = {
        "architecture": settings.architecture.model_dump(),
        "data": [crops.name for group in trainer.sampler.groups for crops in group],
        "steps": trainer.done,
        "crops": trainer.done * settings.batch,
        "minutes": round(trainer.seconds / 60, 1),
        "held_out_loss": score,
        "seed": trainer.sampler.seed,
    }
    weights = {
        name.removeprefix("encoder."): value.to(torch.float16).cpu().numpy()
        for name, value in trainer.average.items()
        if name.startswith("encoder.")
    }
    facts["sha256"] = weights_hash(weights)
    with atomic_path(out / "model" / "mae.safetensors") as scratch:
        write_checkpoint(scratch, weights, facts)
    with atomic_path(out / "model" / "mae.md") as scratch:
        scratch.write_text(model_card(facts, settings), encoding="utf-8")
    with atomic_path(out / "metrics.json") as scratch:
        scratch.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    run_log.info(f"encoder: {out / 'model' / 'mae.safetensors'}, sha256 {facts['sha256']}")
    return facts


def _train(trainer: Pretrainer, state: Path, run_log: RunLog) -> float | None:
    """Steps to the end of the schedule -> loss on the held-out crops, None without any."""
    settings, team = trainer.settings, trainer.team
    held_out = team.together(trainer.sampler.held_out)
    if held_out is None and team.rank == 0:
        run_log.warning("no held-out loss: every volume is narrower than four windows, or pretrain.held_out is 0")
    losses: list[float] = []
    score = None
    thousandths = round(1000 * trainer.progress)

    def keep(interrupted: bool) -> float | None:
        trainer.save(state)
        if interrupted or held_out is None:
            return None
        score, picture = trainer.score(*held_out)
        run_log.scalar("loss/held_out", score, trainer.done)
        run_log.image("held out: crop, seen, painted", picture, trainer.done)
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
        if team.any(signalled()):  # while the last loss was scored
            raise KeyboardInterrupt
    if score is None and held_out is not None:  # resumed at the end
        score = team.on_first(lambda: trainer.score(*held_out)[0])
    return score


def model_card(facts: Mapping[str, Any], settings: Pretrain) -> str:
    """Markdown: what the checkpoint is, what it was trained on and how, how well, its hash."""
    loss = "none" if facts["held_out_loss"] is None else f"{facts['held_out_loss']:.4f}"
    size = facts["architecture"]
    lines = [
        "# Masked autoencoder for volume EM",
        "",
        "Encoder of a masked autoencoder, trained without labels; weights in half precision, safetensors.",
        "The decoder is left out: features need the encoder only, and both together would pass 10 MB.",
        "",
        "| fact | value |",
        "|---|---|",
        f"| architecture | {', '.join(f'{name} {value}' for name, value in size.items())} |",
        f"| trained on (no labels) | {', '.join(facts['data'])} |",
        "| input | grey images, standardised per volume: (x - mean) / sd |",
        f"| training | {facts['steps']} steps of {settings.batch} crops ({facts['crops']:,} crops), "
        f"{facts['minutes']} min, seed {facts['seed']} |",
        f"| crops | side {settings.scale[0]} to {settings.scale[1]} windows resized to {size['window']} px, flips, "
        f"rotations by 90 degrees, jitter {settings.jitter}; planes: {settings.axes}, mask ratio {settings.mask} |",
        f"| optimiser | AdamW, lr {settings.lr}, warm-up {settings.warmup} steps, cosine decay, weight decay "
        f"{settings.weight_decay}, clip {settings.clip}, mean of weights {settings.ema}, "
        f"{'bfloat16 autocast' if settings.amp else 'float32'} |",
        f"| loss on held-out crops | {loss} (mean squared error of hidden pixels; 1 is the error of the mean grey) |",
        f"| sha256 of the weights | `{facts['sha256']}` |",
        "",
    ]
    for title, text in settings.card.items():
        lines += [f"## {title}", "", text.strip(), ""]
    return "\n".join(lines)
