"""A variational autoencoder with metric learning on small patches, after Han et al. 2022; our own implementation.

Every patch is encoded by q_s semantic and q_t transformational dimensions. All are trained to reconstruct the patch
(evidence lower bound), and the semantic ones, by metric learning, to agree for a patch and its transformed copies and
to differ between places. So the other dimensions capture what a transformation changes, and the semantic means are the
features.

Symbols: n places in a batch, V views of each (the place itself and its transformed copies), B = V n patches, s pixels
along a patch's side, q_s and q_t dimensions of the two subspaces.

Sources: the paper's abstract, and the authors' published code for sizes, losses and transformations; none of it
is copied. The docstring of `VAE` says what is theirs and what differs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from registry.base import FeatureMap, Features, UserError
from registry.ranges import Batch, Count, NotNegative, Pixels, Rate, Seed, Width, Widths

TILE, TILES = 1024, 64  # side (px) and number of stored pieces of training images: at most some 300 MB
FLATTEST = 0.1  # smallest deviation, relative to the volume's, to divide a patch by: flat resin stays flat
SMALLEST = 1e-5  # variance
# of a training patch, as in the authors' code: contrast 2^U(-1, 1), brightness U(-.25, .25), noise of deviation .1,
# and sampling points moved by Gaussians of 1/16 of their distance
CONTRAST, BRIGHTNESS, NOISE, ELASTIC = 2.0, 0.25, 0.1, 1 / 16
PATCHES = 512  # coded at once
Stretch = Annotated[float, Field(gt=0, le=100)]  # of a training patch
Network = TypeVar("Network", "Encoder", "Decoder")


# ------------------------------------------------------------------------------------------------------------- model
class Encoder(nn.Module):
    """Patches (B, 1, s, s) -> means and variances of the code, (B, q_s + q_t) each."""

    def __init__(self, side: int, channels: list[int], hidden: int, code: int):
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip([1, *channels], channels):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.hidden = nn.Linear(channels[-1] * (side >> len(channels)) ** 2, hidden)
        self.mean = nn.Linear(hidden, code)
        self.variance = nn.Linear(hidden, code)

    def trunk(self, patches: Tensor) -> Tensor:
        """The common input of the linear layers for means and variances: (B, 1, s, s) -> (B, hidden)."""
        return F.relu(self.hidden(self.convolutions(patches).flatten(1)))

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        x = self.trunk(patches)
        return self.mean(x), F.softplus(self.variance(x)) + SMALLEST


class Decoder(nn.Module):
    """Codes (B, q_s + q_t) -> mean and deviation of every pixel, (B, 1, s, s) each; mirrors the encoder."""

    def __init__(self, side: int, channels: list[int], hidden: int, code: int):
        super().__init__()
        self.first = channels[-1], side >> len(channels)
        self.hidden = nn.Sequential(
            nn.Linear(code, hidden), nn.Linear(hidden, self.first[0] * self.first[1] ** 2), nn.ReLU()
        )
        layers: list[nn.Module] = []
        for before, after in zip(channels[::-1], [*channels[-2::-1], 2]):
            layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers[:-1])

    def forward(self, code: Tensor) -> tuple[Tensor, Tensor]:
        channels, side = self.first
        mean, deviation = self.convolutions(self.hidden(code).view(-1, channels, side, side)).split(1, dim=1)
        return mean, F.softplus(deviation) + SMALLEST


def metric_loss(codes: Tensor, margin: float) -> Tensor:
    """Views of a place within `margin` of each other, views of different places beyond it: (V, n, q_s) -> scalar.

    For each of the V n codes: log(1 + sum over its other views exp(d - margin)) plus log(1 + sum over views of other
    places exp(margin - d)), d the Euclidean distance; the mean over all codes.
    """
    V, n, _ = codes.shape
    flat = codes.flatten(0, 1)  # (V n, q_s)
    distance = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")  # small ones must not be rounded
    place = torch.arange(n, device=codes.device).repeat(V)
    same = place[:, None] == place[None, :]
    itself = torch.eye(V * n, dtype=torch.bool, device=codes.device)
    one = distance.new_zeros(V * n, 1)  # the logarithm of the 1 in both sums
    never = -torch.inf
    together = torch.cat([one, (distance - margin).masked_fill(~same | itself, never)], dim=1)
    apart = torch.cat([one, (margin - distance).masked_fill(same, never)], dim=1)
    return (together.logsumexp(1) + apart.logsumexp(1)).mean()


# ----------------------------------------------------------------------------------------------------------- patches
def standardised(patches: Tensor, standardize: str) -> Tensor:
    """(B, s, s) -> the same with mean 0 and deviation 1 in each patch, except flat ones; or unchanged."""
    if standardize == "none":
        return patches
    mean, deviation = patches.mean((1, 2), keepdim=True), patches.std((1, 2), keepdim=True, unbiased=False)
    return (patches - mean) / deviation.clamp(min=FLATTEST)


class Pieces:
    """Pixels of the training images from which patches are sampled: at most TILES pieces of at most TILE px.

    If there are more, they are sampled uniformly (reservoir sampling), in one pass over the images. Each is extended by
    reflection, by `border` px on every side.
    """

    def __init__(self, images: Iterable[np.ndarray], rng: np.random.Generator, border: int):
        kept: list[np.ndarray] = []
        for seen, piece in enumerate(self._cut(images)):
            place = seen if seen < TILES else int(rng.integers(seen + 1))
            if place < TILES:
                kept[place : place + 1] = [np.pad(np.asarray(piece, np.float32), border, mode="reflect")]
        self.border = border
        self.shapes = np.array([piece.shape for piece in kept], np.int64).reshape(-1, 2) - 2 * border
        self.starts = np.cumsum([0, *(piece.size for piece in kept)])[:-1]
        area = self.shapes.prod(1)
        self.share = area / max(area.sum(), 1)
        self.pixels = np.concatenate([piece.ravel() for piece in kept]) if kept else np.zeros(0, np.float32)

    @staticmethod
    def _cut(images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for image in images:
            rows, columns = (np.linspace(0, side, -(-side // TILE) + 1).astype(int) for side in image.shape)
            for y0, y1 in itertools.pairwise(rows):
                for x0, x1 in itertools.pairwise(columns):
                    yield image[y0:y1, x0:x1]

    def sample(self, which: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Bilinear values (B, s, s) of the pieces `which` (B,) at y, x (B, s, s), up to `border` px outside them."""
        y0, x0 = np.floor(y), np.floor(x)
        fy, fx = y - y0, x - x0
        width = (self.shapes[which, 1] + 2 * self.border)[:, None, None]
        at = (y0.astype(np.int64) + self.border) * width + x0.astype(np.int64) + self.border
        at += self.starts[which][:, None, None]
        upper = (1 - fx) * self.pixels[at] + fx * self.pixels[at + 1]
        lower = (1 - fx) * self.pixels[at + width] + fx * self.pixels[at + width + 1]
        return (1 - fy) * upper + fy * lower


# -------------------------------------------------------------------------------------------------------------- part
class VAE(Features):
    """image (H, W) -> FeatureMap of the means of the semantic code, values (ceil(H/stride), ceil(W/stride), q_s).

    As in the authors' code: patches standardised individually; 64 dimensions, 8 of them semantic; convolutions that
    halve the side, a hidden layer of 256, a mirrored decoder that gives a mean and a deviation for each pixel; the
    bound with weight .001 on the divergence; `metric_loss` with weight 1,000 and margin 1; four copies of each place,
    shifted a little, rotated by any angle, scaled by .5 to 1.5, flipped, changed in contrast and brightness, with noise
    and a slight elastic distortion; Adam with AMSGrad; none of these transformations at inference.

    Differences: 2-D patches of 32 px (theirs: cubes of 9 voxels, resampled to 16: 729 voxels in view, here 1,024
    pixels), so four halvings instead of three; 16 to 128 channels instead of 128 to 512, and convolutions with stride
    2, an alternative in their code, instead of pooling; codes every `stride` px instead of at each voxel; ten times the
    learning rate, with cosine decay, for 800 steps of 32 places (theirs: 47,000 of 128), some 140 s on two CPU cores.

    patch: s, px along a side, a multiple of 2^len(channels). stride: px between patches of an image, even: every
    token lies at the centre of a cell of `stride` px.
    semantic, transform: q_s and q_t. channels: of the convolutions. hidden: width between them and the code.
    standardize: `patch`, each patch to mean 0 and deviation 1; `none`, only the volume.
    steps, batch (places), copies (transformed ones of each place), lr: of the training.
    jitter: px, maximal shift of copies from their place. scale: smallest and largest side of a training patch, in
    patches, before resampling to s.
    beta: weight of the divergence, summed over the code, against the mean log-likelihood of a pixel.
    metric, margin: weight of `metric_loss` against the bounds summed over views; its margin.
    Fitted: `losses_` (steps, 3): negative log-likelihood of a pixel, divergence, `metric_loss`.

    Images are extended by reflection. `device`: of training and inference.
    """

    def __init__(
        self,
        *,
        patch: Pixels = 32,
        stride: Pixels = 4,
        semantic: Width = 8,
        transform: Annotated[int, Field(ge=0, le=8192)] = 56,
        channels: Annotated[Widths, Field(min_length=1)] = [16, 32, 64, 128],
        hidden: Width = 256,
        standardize: Literal["patch", "none"] = "patch",
        steps: Count = 800,
        batch: Annotated[int, Field(ge=2, le=100_000)] = 32,
        copies: Batch = 4,
        lr: Rate = 1e-3,
        jitter: Annotated[float, Field(ge=0, le=1e4)] = 4.0,
        scale: Annotated[list[Stretch], Field(min_length=2, max_length=2)] = [0.5, 1.5],
        beta: NotNegative = 1e-3,
        metric: NotNegative = 1e3,
        margin: NotNegative = 1.0,
        seed: Seed | None = None,
    ):
        self.patch = patch
        self.stride = stride
        self.semantic = semantic
        self.transform = transform
        self.channels = channels
        self.hidden = hidden
        self.standardize = standardize
        self.steps = steps
        self.batch = batch
        self.copies = copies
        self.lr = lr
        self.jitter = jitter
        self.scale = scale
        self.beta = beta
        self.metric = metric
        self.margin = margin
        self.seed = seed
        self.device = "cpu"
        self._encoder: Encoder | None = None
        self._check()

    def _check(self) -> None:
        for name, least in (
            ("semantic", 1),
            ("transform", 0),
            ("hidden", 1),
            ("steps", 1),
            ("batch", 2),
            ("copies", 1),
            ("jitter", 0),
            ("beta", 0),
            ("metric", 0),
            ("margin", 0),
        ):
            if getattr(self, name) < least:
                raise UserError(f"features.{name}: {getattr(self, name)} must be at least {least}")
        if not self.channels or min(self.channels) < 1:
            raise UserError(f"features.channels: {self.channels} must be one number or more, each at least 1")
        if self.lr <= 0:
            raise UserError(f"features.lr: {self.lr} must be above 0")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise UserError(f"features.scale: {self.scale} must be two positive numbers, the smaller one first")
        halvings = 2 ** len(self.channels)
        if self.patch < 1 or self.patch % halvings:
            raise UserError(
                f"features.patch: {self.patch} must be a multiple of {halvings}, since each of the "
                f"{len(self.channels)} entries of features.channels halves the side"
            )
        if not 2 <= self.stride <= self.patch or self.stride % 2:  # an even patch cannot be centred on an odd cell
            raise UserError(f"features.stride: {self.stride} must be even, from 2 to features.patch ({self.patch})")

    # ---------------------------------------------------------------------------------------------------- training
    def fit(self, images: Iterable[np.ndarray]) -> None:
        rng = np.random.default_rng(self.seed or 0)
        pieces = Pieces(images, rng, self._border())
        if not len(pieces.pixels):
            raise UserError("data.train: no training images to fit the VAE to; give at least one")
        encoder, decoder = self._build(Encoder).to(self.device), self._build(Decoder).to(self.device)
        weights = [*encoder.parameters(), *decoder.parameters()]
        optimizer = torch.optim.Adam(weights, lr=self.lr, amsgrad=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        noise = torch.Generator().manual_seed(self.seed or 0)
        losses = []
        for _ in range(self.steps):
            views = torch.from_numpy(self._views(pieces, rng)).to(self.device)  # (V, n, s, s)
            terms = self._terms(encoder, decoder, views, noise)
            likelihood, divergence, metric = terms
            loss = len(views) * (likelihood + self.beta * divergence) + self.metric * metric
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(torch.stack(terms).detach())
        self._keep(encoder.state_dict(), torch.stack(losses).cpu().numpy())

    def _build(self, kind: type[Network]) -> Network:
        """An untrained `Encoder` or `Decoder`, determined by the seed, in the fastest memory layout for CPUs."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed or 0)
            network = kind(self.patch, self.channels, self.hidden, self.semantic + self.transform)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it

    def _terms(self, encoder: Encoder, decoder: Decoder, views: Tensor, noise: torch.Generator) -> list[Tensor]:
        """Negative log-likelihood of a pixel, divergence of the code, metric loss: scalars, means over the batch."""
        V, n, s, _ = views.shape
        x = views.view(V * n, 1, s, s)
        mean, variance = encoder(x)  # (B, q_s + q_t)
        draw = torch.randn(mean.shape, generator=noise).to(mean.device)
        painted, deviation = decoder(mean + variance.sqrt() * draw)
        likelihood = F.gaussian_nll_loss(painted, x, deviation.square(), full=True)
        divergence = 0.5 * (variance + mean.square() - 1 - variance.log()).sum(1).mean()
        return [likelihood, divergence, metric_loss(mean[:, : self.semantic].reshape(V, n, -1), self.margin)]

    def _border(self) -> int:
        """How far a training patch may extend beyond an image, px: half a diagonal, the jitter, and some more."""
        return int(self.patch * self.scale[1] * 0.75 + self.jitter) + 4

    def _views(self, pieces: Pieces, rng: np.random.Generator) -> np.ndarray:
        """Random places, each in V = copies + 1 views: (V, n, s, s) float32. The first is only rotated by quarter
        turns, at the place itself."""
        V, n, s = self.copies + 1, self.batch, self.patch
        which = rng.choice(len(pieces.shapes), n, p=pieces.share)
        place = np.floor(rng.random((n, 2)) * pieces.shapes[which])  # (n, 2)
        angle = np.concatenate([rng.integers(4, size=(1, n)) * (np.pi / 2), rng.random((V - 1, n)) * 2 * np.pi])
        smallest, largest = self.scale
        size, flip = rng.uniform(smallest, largest, (V, n)), rng.choice([-1, 1], (V, n))
        distance, direction = self.jitter * np.sqrt(rng.random((V, n))), rng.random((V, n)) * 2 * np.pi
        distance[0] = 0
        y0 = place[:, 0] + np.round(distance * np.sin(direction))
        x0 = place[:, 1] + np.round(distance * np.cos(direction))

        def per_patch(values: np.ndarray) -> np.ndarray:
            return values.astype(np.float32).reshape(V * n, 1, 1)

        points = np.arange(s, dtype=np.float32) - (s - 1) / 2
        move = ELASTIC * rng.standard_normal((2, V * n, s, s), np.float32)
        move[:, :, [0, -1]] = move[:, :, :, [0, -1]] = 0  # the outline is fixed
        v, u = per_patch(flip) * (points[:, None] + move[0]), points + move[1]  # (B, s, s)
        sine, cosine = per_patch(size * np.sin(angle)), per_patch(size * np.cos(angle))
        y, x = per_patch(y0) + cosine * v - sine * u, per_patch(x0) + sine * v + cosine * u
        patches = standardised(torch.from_numpy(pieces.sample(np.tile(which, V), y, x)), self.standardize).numpy()
        patches = patches * per_patch(CONTRAST ** rng.uniform(-1, 1, (V, n)))
        patches += per_patch(BRIGHTNESS * rng.uniform(-1, 1, (V, n)))
        patches += NOISE * rng.standard_normal(patches.shape, np.float32)
        return patches.reshape(V, n, s, s)

    # --------------------------------------------------------------------------------------------------- inference
    def extract(self, image: np.ndarray) -> FeatureMap:
        H, W = image.shape
        h, w = -(-H // self.stride), -(-W // self.stride)
        margin = (self.patch - self.stride) // 2  # between the borders of a patch and of its cell
        padding = [(margin, tokens * self.stride + margin - side) for tokens, side in ((h, H), (w, W))]
        padded = torch.from_numpy(np.pad(np.asarray(image, np.float32), padding, mode="reflect")).to(self.device)
        patches = padded.unfold(0, self.patch, self.stride).unfold(1, self.patch, self.stride)  # (h, w, s, s)
        rows = max(1, PATCHES // w)
        codes = [self.code(patches[i : i + rows].flatten(0, 1)) for i in range(0, h, rows)]
        values = torch.cat(codes).view(h, w, self.semantic).cpu().numpy()
        return FeatureMap(values=values, step=float(self.stride), offset=(self.stride - 1) / 2, shape=(H, W))

    @torch.inference_mode()
    def code(self, patches: Tensor) -> Tensor:
        """Semantic means of patches, each independently: (B, s, s) -> (B, q_s)."""
        encoder = self._trained().to(self.device)
        x = standardised(patches, self.standardize)[:, None].contiguous(memory_format=torch.channels_last)
        return F.linear(encoder.trunk(x), encoder.mean.weight[: self.semantic], encoder.mean.bias[: self.semantic])

    def _trained(self) -> Encoder:
        if self._encoder is None:
            raise RuntimeError("VAE: nothing learned yet; call `fit` or `set_state` first")
        return self._encoder

    # ------------------------------------------------------------------------------------------------------- state
    def get_state(self) -> dict[str, np.ndarray]:
        """The encoder, which is all that features need, and the losses of its training."""
        if self._encoder is None:
            return {}
        weights = {name: value.detach().cpu().numpy() for name, value in self._encoder.state_dict().items()}
        return {**weights, "losses": self.losses_}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        if state:
            weights = {name: torch.from_numpy(np.array(value)) for name, value in state.items() if name != "losses"}
            self._keep(weights, state["losses"])

    def _keep(self, weights: dict[str, Tensor], losses: np.ndarray) -> None:
        """Build the same network in the same memory layout after training and loading, as strides affect rounding."""
        encoder = self._build(Encoder).eval()
        encoder.load_state_dict(weights)
        self._encoder = encoder
        self.losses_ = np.array(losses, np.float32)
