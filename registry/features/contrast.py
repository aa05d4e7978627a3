"""Features that a small convolutional net learns from a set's own images: a place is to look alike in any view."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from registry.base import UserError
from registry.features.student import StudentFeatures
from registry.mae.precision import WithBytes
from registry.mae.student import Convolution, Student, fused
from registry.ranges import NotNegative, Positive, Rate, Seed, Width

COMPARED = 64  # channels of the vectors that are compared
MOST = 256  # images to learn from, evenly spaced if there are more
WARMUP = 50  # steps over which the learning rate rises
DECAY = 1e-4  # of weights
STRETCH, BRIGHTNESS, CONTRAST = 0.25, 0.15, 0.15  # standard deviations, or the largest logarithm of the scale
NOISE, BLURRED = 0.3, 0.3  # largest standard deviation; share of the views
REACH = 0.42  # of the side of a view: how far from its centre places may lie
REPORT = 100  # steps between lines in the log

log = logging.getLogger(__name__)


class Contrast(StudentFeatures):
    """image (H, W) -> FeatureMap (ceil(H/4), ceil(W/4), q) of a net that `fit` trains on the training images alone.

    Each step draws `batch` crops in two views, rotated, mirrored, scaled, brightened, blurred and noisier, and the same
    `places` in both. The vector of a place must be more similar to that of the same place in the other view than to
    those of all other places of the batch (InfoNCE, van den Oord et al. 2018), by cosine over `temperature`. The
    vectors come from two layers on top of the features, which are dropped afterwards. The net is that of the student
    (`registry.mae.student`), so features need as little time and lie on the same grid.

    These features separate small structures better than those of the MAE, if labels or many clusters say which of
    them matter; eight clusters alone do not benefit (docs/study_plus.md).

    width: of the net. q: features. steps, batch, lr: of the training. crop: px, side of a view. shift: px, standard
    deviation by which a place moves between the views. precision: as for `student`; with bfloat16, training takes
    half the time, too. `device`: of training and inference.
    Fitted: `curve_`, steps and losses of the training.
    """

    def __init__(
        self,
        *,
        width: Width = 24,
        q: Width = 128,
        steps: Annotated[int, Field(ge=1, le=10**6)] = 800,
        batch: Annotated[int, Field(ge=1, le=4096)] = 12,
        places: Annotated[int, Field(ge=2, le=4096)] = 48,
        crop: Annotated[int, Field(ge=16, le=4096)] = 128,
        shift: NotNegative = 4.0,
        temperature: Positive = 0.2,
        lr: Rate = 2e-3,
        precision: WithBytes = "auto",
        seed: Seed | None = None,
    ):
        super().__init__(width=width, q=q, precision=precision)
        self.steps = steps
        self.batch = batch
        self.places = places
        self.crop = crop
        self.shift = shift
        self.temperature = temperature
        self.lr = lr
        self.seed = seed
        if crop < 16 or crop % 8:
            raise UserError(f"features.crop: {crop} must be a multiple of 8, at least 16 px")
        if batch * places < 2:
            raise UserError(f"features.places: {batch} x {places} must be at least two places to tell apart")

    # ---------------------------------------------------------------------------------------------------- training
    def fit(self, images: Iterable[np.ndarray]) -> None:
        known = evenly_spaced(images, MOST)
        if not known:
            raise UserError("data.train: no training images to learn features from; give at least one")
        rng = np.random.default_rng(self.seed or 0)
        net, head = self._untrained()
        optimizer = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=self.lr, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda i: min(1, (i + 1) / WARMUP) * (1 + np.cos(np.pi * i / self.steps)) / 2
        )
        self.curve_ = []
        for step in range(1, self.steps + 1):
            views, places = self.views(known, rng)
            with torch.autocast(torch.device(self.device).type, torch.bfloat16, self._kind == torch.bfloat16):
                loss = self.loss(net, head, views.to(self.device), places.to(self.device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            if step in (1, self.steps) or step % REPORT == 0:
                if not loss.isfinite():
                    raise UserError(f"features.lr: with {self.lr:g}, the net diverged at step {step}; lower it")
                self.curve_.append((step, {"loss/features": loss.item()}))
                log.info("learning features from the images: step %d of %d, loss %.2f", step, self.steps, loss.item())
        weights = fused(net).cpu().state_dict()
        self.set_state({name: value.contiguous().numpy() for name, value in weights.items()})

    def _untrained(self) -> tuple[Student, nn.Module]:
        """Net and head, determined by the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed or 0)
            net = Student(width=self.width, out=self.q)
            head = nn.Sequential(Convolution(self.q, self.q, 1), nn.Conv2d(self.q, COMPARED, 1))
        for each in (net, head):
            each.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        return net, head

    def loss(self, net: nn.Module, head: nn.Module, views: Tensor, places: Tensor) -> Tensor:
        """InfoNCE of views (2, batch, crop, crop) and places (2, batch, places, 2), as (x, y) from -1 to 1."""
        vectors = head(net(views.flatten(0, 1)))  # (2 batch, COMPARED, crop / 4, crop / 4)
        found = F.grid_sample(vectors, places.flatten(0, 1)[:, None], align_corners=False)
        one, other = F.normalize(found[:, :, 0].transpose(1, 2).flatten(0, 1), dim=1).chunk(2)
        likeness = one @ other.T / self.temperature
        same = torch.arange(len(one), device=one.device)
        return (F.cross_entropy(likeness, same) + F.cross_entropy(likeness.T, same)) / 2

    def views(self, images: Sequence[np.ndarray], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Views (2, batch, crop, crop) of random crops, and their places (2, batch, places, 2), (x, y) from -1 to 1."""
        sizes = np.array([image.size for image in images], float)
        chosen = rng.choice(len(images), self.batch, p=sizes / sizes.sum())
        pairs = [self._pair(torch.from_numpy(images[i]), rng) for i in chosen]
        views, places = (torch.stack([torch.stack(each) for each in side], 1) for side in zip(*pairs))
        return views, places

    def _pair(self, image: Tensor, rng: np.random.Generator) -> tuple[list[Tensor], list[Tensor]]:
        """Two views (crop, crop) of a place of an image (H, W), and in each the same places (places, 2)."""
        H, W = image.shape
        centre = np.array([rng.uniform(min(0.6 * self.crop, n / 2), max(n - 0.6 * self.crop, n / 2)) for n in (H, W)])
        angle, radius = rng.uniform(0, 2 * np.pi, self.places), rng.uniform(0, REACH * self.crop, self.places)
        points = radius[:, None] * np.stack([np.sin(angle), np.cos(angle)], 1)  # (y, x) from the centre, px
        along = np.arange(self.crop) + 0.5 - self.crop / 2
        square = np.stack(np.meshgrid(along, along, indexing="ij"), -1)
        views, places = [], []
        for shift in (0.0, self.shift):
            turn, mirror = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1])
            M = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag([mirror, 1])
            M *= np.exp(rng.uniform(-STRETCH, STRETCH))
            y, x = (square @ M.T + centre).transpose(2, 0, 1)
            grid = torch.from_numpy(np.stack([2 * x / W - 1, 2 * y / H - 1], -1).astype(np.float32))
            view = F.grid_sample(image[None, None], grid[None], padding_mode="reflection", align_corners=False)[0]
            view = view * float(np.exp(rng.normal(0, CONTRAST))) + float(rng.normal(0, BRIGHTNESS))
            if rng.random() < 0.5:
                view = view + torch.from_numpy(rng.standard_normal(view.shape, np.float32) * rng.uniform(0, NOISE))
            if rng.random() < BLURRED:
                view = F.avg_pool2d(view, 3, 1, 1)
            moved = (points + rng.normal(0, shift, points.shape)) @ np.linalg.inv(M).T * 2 / self.crop
            views.append(view[0].float())
            places.append(torch.from_numpy(moved[:, ::-1].astype(np.float32)))
        return views, places

    # ------------------------------------------------------------------------------------------------------- state
    def get_state(self) -> dict[str, np.ndarray]:
        """The net, which is all that features need; nothing before `fit`."""
        if self._weights is None:
            return {}
        return super().get_state()

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        if state:
            super().set_state(state)

    def _made(self) -> Student:
        if self._weights is None:
            raise RuntimeError("contrast: nothing learned yet; call `fit` or `set_state` first")
        return super()._made()


def evenly_spaced(images: Iterable[np.ndarray], most: int) -> list[np.ndarray]:
    """At most `most` of the images (H, W), as float32; at no time are more than twice as many in memory."""
    kept: list[np.ndarray] = []
    every = 1
    for i, image in enumerate(images):
        if i % every == 0:
            kept.append(np.asarray(image, np.float32))
        if len(kept) == 2 * most:
            kept, every = kept[::2], 2 * every
    return [kept[i] for i in np.linspace(0, len(kept) - 1, min(len(kept), most)).astype(int)]
