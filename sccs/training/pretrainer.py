"""Pre-training: steps, score on held-out crops, state; and the masked autoencoder's."""

from __future__ import annotations

import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from registry.base import UserError
from registry.mae.checkpoint import ENCODER, Kind, checkpoint_path, encoder_arguments, read_checkpoint
from registry.mae.network import MaskedAutoencoder, patchify, unpatchify
from sccs.training.checkpoint import below, optimizer_values, read_tensors, restore_optimizer, write_tensors
from sccs.training.crops import Sampler
from sccs.training.pretrain_card import encoder_card
from sccs.training.pretrain_settings import Distil, Pretrain
from sccs.training.team import ALONE, Team


class Pretraining(ABC):
    """AdamW with linear warm-up, cosine decay, gradient clipping and a running mean of the weights.

    Subclasses define what is trained: `model` maps a batch to its loss.
    """

    team = ALONE
    stem: str  # file name of weights and card
    kind: Kind
    pictured: str  # columns of `score`'s picture
    architecture: dict[str, Any]  # arguments of the network
    settings: Pretrain | Distil

    def __init__(self, settings: Pretrain | Distil, sampler: Sampler, model: torch.nn.Module, device: str):
        self.settings, self.sampler, self.device = settings, sampler, torch.device(device)
        self.model = model.to(self.device)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        # No weight decay for biases, normalisations and the mask token.
        groups = [
            {"params": [p for p in self.model.parameters() if p.ndim >= 2], "weight_decay": settings.weight_decay},
            {"params": [p for p in self.model.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=True)
        self.network: torch.nn.Module = self.model  # called in a step
        self.share = slice(None)  # of each batch
        self.done = 0  # steps
        self.seconds = 0.0  # of training, including those before a resume

    @abstractmethod
    def batch(self) -> tuple[Tensor, ...]:
        """This process's share of the next step's batch, as input of the loss."""

    @abstractmethod
    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Loss of `network` on a batch on the device."""

    @abstractmethod
    def score(self, images: Tensor, noise: Tensor) -> tuple[float, np.ndarray]:
        """Loss of the averaged weights on the crops of `Sampler.held_out`, and a picture of some of them."""

    @abstractmethod
    def weights(self) -> dict[str, np.ndarray]:
        """The weights to save, in half precision."""

    @abstractmethod
    def card(self, facts: Mapping[str, Any]) -> str:
        """The model card."""

    def join(self, team: Team) -> None:
        """Train together with the team's other processes, which share every batch; all must call this."""
        self.team, each = team, self.settings.batch // team.size
        self.share = slice(team.rank * each, (team.rank + 1) * each)
        self.network = team.parallel(self.model, self.device)

    def leave(self) -> None:
        """Train alone from now on, and release the team's connections."""
        self.team, self.share, self.network = ALONE, slice(None), self.model

    @property
    def progress(self) -> float:
        """Finished share of the schedule, 0..1."""
        share = self.done / self.settings.steps
        if self.settings.max_minutes is not None:
            share = max(share, self.seconds / 60 / self.settings.max_minutes)
        return min(share, 1.0)

    def learning_rate(self) -> float:
        """Learning rate of the next step: linear warm-up, then cosine decay."""
        warm = min(1.0, (self.done + 1) / max(self.settings.warmup, 1))
        return self.settings.lr * warm * (1 + math.cos(math.pi * self.progress)) / 2

    def step(self) -> float:
        """Make one update; returns its loss over the whole batch."""
        start = time.monotonic()
        batch = tuple(x.to(self.device, non_blocking=True) for x in self.team.together(self.batch))
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        with self._autocast():
            loss = self.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.done += 1
        self._update_average()
        # the schedule may end by time, so all processes use the same clock
        value, seconds = self.team.mean([loss.item(), time.monotonic() - start])
        if not math.isfinite(value):
            raise UserError(
                f"pretrain: the loss is {value} at step {self.done}; lower pretrain.lr ({self.settings.lr})"
            )
        self.seconds += seconds
        return value

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.settings.amp)

    @torch.no_grad()
    def _update_average(self) -> None:
        # At first, the mean is over all steps so far.
        decay = min(self.settings.ema, self.done / (self.done + 10)) if self.settings.ema else 0.0
        current = self.model.state_dict()
        names = [name for name, value in current.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[name] for name in names], [current[name] for name in names], 1 - decay)

    def save(self, path: Path) -> None:
        """Save everything needed to resume as a safetensors file; keep the previous one as `before(path)`."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        tensors |= optimizer_values(self.optimizer)
        if path.exists():
            os.replace(path, before(path))
        write_tensors(path, tensors, {"done": str(self.done), "seconds": repr(self.seconds)})

    def load(self, path: Path) -> None:
        """Continue from what `save` wrote. Raises UserError for a state of another architecture."""
        arrays, facts = self.team.on_first(lambda: read_tensors(path))
        saved, average = (
            {name: torch.from_numpy(value) for name, value in below(prefix, arrays).items()}
            for prefix in ("model.", "average.")
        )
        if {n: v.shape for n, v in saved.items()} != {n: v.shape for n, v in self.model.state_dict().items()}:
            raise UserError(
                f"{path}: the interrupted run has another pretrain.architecture; resume it with the original recipe"
            )
        self.done, self.seconds = int(facts["done"]), float(facts["seconds"])
        self.model.load_state_dict(saved)
        for name, value in average.items():
            self.average[name].copy_(value)
        restore_optimizer(self.optimizer, arrays)


class Pretrainer(Pretraining):
    """Pre-training of the masked autoencoder."""

    stem, kind, pictured = "mae", ENCODER, "crop, seen, painted"
    settings: Pretrain

    def __init__(self, settings: Pretrain, sampler: Sampler, *, device: str, seed: int, base: Path):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = MaskedAutoencoder(**settings.architecture.model_dump())
        if settings.checkpoint is not None:
            path = checkpoint_path(settings.checkpoint, base)
            wanted = encoder_arguments(settings.architecture.model_dump())
            weights, _ = read_checkpoint(path, "pretrain.architecture", **wanted)
            model.encoder.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        self.patch, self.architecture = model.patch, settings.architecture.model_dump()
        super().__init__(settings, sampler, model, device)

    def batch(self) -> tuple[Tensor, ...]:
        return self.sampler.step(self.done, self.share)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        return self.network(*batch, self.settings.mask)[0]

    @torch.inference_mode()
    def score(self, images: Tensor, noise: Tensor) -> tuple[float, np.ndarray]:
        """Picture: rows of crop, masked crop, reconstructed crop."""
        total, picture = 0.0, None
        for start in range(0, len(images), self.settings.batch):
            x, n = (t[start : start + self.settings.batch].to(self.device) for t in (images, noise))
            with self._autocast():
                arguments = (x, n, self.settings.mask)
                loss, painted, mask = torch.func.functional_call(self.model, self.average, arguments)
            total += loss.item() * len(x)
            if picture is None:
                picture = _reconstruction(x, painted, mask, self.patch)
        assert picture is not None  # there are images
        return total / len(images), picture

    def weights(self) -> dict[str, np.ndarray]:
        return {
            name.removeprefix("encoder."): value.to(torch.float16).cpu().numpy()
            for name, value in self.average.items()
            if name.startswith("encoder.")
        }

    def card(self, facts: Mapping[str, Any]) -> str:
        return encoder_card(facts, self.settings)


def before(path: Path) -> Path:
    """Path of the previous state, kept in case the last one is damaged."""
    return path.with_name(f"{path.stem}.before{path.suffix}")


def _reconstruction(images: Tensor, painted: Tensor, mask: Tensor, patch: int) -> np.ndarray:
    """A picture of crop, encoder input and decoder output side by side, (rows, columns, 3) uint8.

    Shapes: images (B, s, s) standardised, painted (B, N, p*p), mask (B, N), 1 is hidden.
    """
    hidden = mask[:, :, None].float()
    pixels = patchify(images, patch)
    seen = unpatchify(pixels * (1 - hidden), patch)
    filled = unpatchify(pixels * (1 - hidden) + painted.float() * hidden, patch)
    rows = torch.cat([torch.cat([images, seen, filled], dim=2)[i] for i in range(len(images))])  # (B*s, 3s)
    grey = ((rows.float().cpu() + 2.5) / 5 * 255).clamp(0, 255).byte().numpy()
    return np.repeat(grey[:, :, None], 3, axis=2)
