"""Training of a student: a convolutional net that learns to predict the tokens of a masked autoencoder, without labels.

The teacher computes the tokens of a few hundred crops at a time, which the student then sees several times, each time
in another order. The crops and their order depend only on seed and step.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry.features.mae import MAE
from registry.mae.checkpoint import STUDENT, checkpoint_path, read_checkpoint
from registry.mae.student import Student, fused
from sccs.training.crops import Sampler
from sccs.training.pretrain_card import student_card
from sccs.training.pretrain_settings import Distil
from sccs.training.pretrainer import Pretraining

FIRST = 64  # crops by which the teacher's channels are standardised
TINY = 1e-6


class Teacher:
    """Tokens of a masked autoencoder's encoder. Raises UserError for a checkpoint that is not one."""

    def __init__(self, checkpoint: str, base: Path, device: str):
        path = checkpoint_path(checkpoint, base)
        facts = read_checkpoint(path, "pretrain.teacher")[1]
        self.sha256, size = facts["sha256"], facts["architecture"]
        self.window, self.patch, self.width = size["window"], size["patch"], size["width"]
        named = {name: size[name] for name in ("window", "patch", "width", "depth", "heads")}
        self.part = MAE(checkpoint=str(path), stride=self.window, **named)
        self.part.device = device

    def __call__(self, images: Tensor) -> Tensor:
        """Crops (B, s, s), s a multiple of the window -> tokens (B, q, s/p, s/p) float16, on the CPU."""
        B, side = images.shape[:2]
        n, inside = side // self.window, self.window // self.patch
        windows = images.reshape(B, n, self.window, n, self.window).transpose(2, 3).flatten(0, 2)
        with torch.inference_mode():
            tokens = torch.cat([self.part.encode(each.to(self.part.device)).cpu() for each in windows.split(8)])
        tokens = tokens.view(B, n, n, inside, inside, self.width).permute(0, 5, 1, 3, 2, 4)
        return tokens.reshape(B, self.width, n * inside, n * inside).half()


class Lesson(nn.Module):
    """Crops (B, s, s) and the teacher's tokens for them (B, q, h, w) -> the student's mean squared error."""

    def __init__(self, student: Student, mean: Tensor, deviation: Tensor):
        super().__init__()
        self.student = student
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", mean)  # of the teacher's channels
        self.register_buffer("deviation", deviation)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        return F.mse_loss(self.answer(images, tokens.shape[2]), self.wanted(tokens))

    def answer(self, images: Tensor, side: int) -> Tensor:
        """The student's features at the tokens' positions."""
        return F.interpolate(self.student(images).float(), size=(side, side), mode="bilinear")

    def wanted(self, tokens: Tensor) -> Tensor:
        """Tokens, standardised."""
        return (tokens.float() - self.mean[:, None, None]) / self.deviation[:, None, None]


class Distiller(Pretraining):
    """Training of a student."""

    stem, kind, pictured = "student", STUDENT, "crop, teacher, student"
    settings: Distil

    def __init__(self, settings: Distil, sampler: Sampler, teacher: Teacher, *, device: str, seed: int):
        self.teacher = teacher
        self.architecture = {**settings.architecture.model_dump(), "out": teacher.width}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            student = Student(**self.architecture)
        first = torch.cat([sampler.step(i)[0] for i in range(-(-FIRST // settings.batch))])
        tokens = teacher(first).float()
        deviation, mean = torch.std_mean(tokens, (0, 2, 3))
        model = Lesson(student.to(memory_format=torch.channels_last), mean, deviation.clamp(min=TINY))  # type: ignore[call-overload]
        self._chunk, self._crops = -1, (torch.empty(0), torch.empty(0))
        self._held: Tensor | None = None  # the teacher's tokens of the held-out crops
        super().__init__(settings, sampler, model, device)

    def batch(self) -> tuple[Tensor, ...]:
        batches = self.settings.crops // self.settings.batch
        turn, place = divmod(self.done, batches)
        chunk = turn // self.settings.passes
        if chunk != self._chunk:
            images = [self.sampler.step(chunk * batches + i)[0] for i in range(batches)]
            self._crops = torch.cat(images), torch.cat([self.teacher(each) for each in images])
            self._chunk = chunk
        order = np.random.default_rng([self.sampler.seed, turn]).permutation(self.settings.crops)
        chosen = order[place * self.settings.batch : (place + 1) * self.settings.batch]
        return self._crops[0][chosen], self._crops[1][chosen]

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        return self.network(*batch)

    @torch.inference_mode()
    def score(self, images: Tensor, noise: Tensor) -> tuple[float, np.ndarray]:
        """Picture: rows of crop, teacher's and student's tokens along the three directions of highest variance."""
        lesson = self._averaged()
        if self._held is None:
            self._held = self.teacher(images)
        wanted = lesson.wanted(self._held)
        lesson.to(self.device)
        answer = torch.cat(
            [lesson.answer(crops.to(self.device), wanted.shape[2]).cpu() for crops in images.split(self.settings.batch)]
        )
        return F.mse_loss(answer, wanted).item(), _picture(images, wanted, answer)

    def weights(self) -> dict[str, np.ndarray]:
        """The last convolution absorbs the standardisation of the teacher's channels, so that features match tokens."""
        lesson = self._averaged()
        student = fused(lesson.student)
        with torch.no_grad():
            student.last.weight *= lesson.deviation[:, None, None, None]
            student.last.bias.mul_(lesson.deviation).add_(lesson.mean)  # type: ignore[union-attr]  # it has one
        return {name: value.half().contiguous().numpy() for name, value in student.state_dict().items()}

    def card(self, facts: Mapping[str, Any]) -> str:
        return student_card(facts, self.settings, self.teacher.sha256)

    def _averaged(self) -> Lesson:
        """A copy with the averaged weights, on the CPU, for evaluation."""
        lesson = Lesson(Student(**self.architecture), torch.empty(self.teacher.width), torch.empty(self.teacher.width))
        lesson.load_state_dict({name: value.cpu() for name, value in self.average.items()})
        return lesson.eval()


def _picture(images: Tensor, wanted: Tensor, answer: Tensor, rows: int = 8) -> np.ndarray:
    """(rows * s, 3 s, 3) uint8."""
    images, wanted, answer = images[:rows], wanted[:rows], answer[:rows]
    along = torch.linalg.svd(wanted.movedim(1, 3).flatten(0, 2), full_matrices=False)[2][:3]  # (3, q)
    grey = images[:, None].expand(-1, 3, -1, -1) / 2.5
    spread = 2.5 * torch.einsum("cq,bqhw->bchw", along, wanted).std((0, 2, 3))[:, None, None]
    panels = [grey] + [
        F.interpolate(torch.einsum("cq,bqhw->bchw", along, each) / spread, size=images.shape[1:])
        for each in (wanted, answer)
    ]
    picture = torch.cat(panels, 3).movedim(1, 3).flatten(0, 1)
    return (picture.clamp(-1, 1) * 127.5 + 127.5).byte().numpy()
