"""Supervised references: a vision transformer trained on labels, with a mask transformer (Segmenter, Strudel et al.
2021) or a linear head (ViT, Dosovitskiy et al. 2021) over its tokens; our own implementation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry.base import FeatureMap, Features, UserError
from registry.mae.checkpoint import checkpoint_path, read_checkpoint
from registry.mae.network import Block, Encoder
from registry.mae.windows import windowed
from registry.ranges import Batch, Count, Depth, Pixels, Rate, Seed

PAPER = {"width": 192, "heads": 1, "mlp_ratio": 2, "position_weight": 0.08}  # the MAE's encoder
WINDOWS = 8  # at once, when an image is segmented; more are slower on a CPU


class LinearHead(nn.Module):
    """Class scores of each token by one linear layer: (B, N, q) -> (B, N, C)."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.scores = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.scores(tokens)


class MaskTransformer(nn.Module):
    """Class embeddings join the tokens in two transformer blocks; a score is the product of a token's and a class's
    unit vector, normalised over classes (Strudel et al. 2021, section 3.2): (B, N, q) -> (B, N, C)."""

    def __init__(self, width: int, classes: int, depth: int = 2):
        super().__init__()
        heads = math.gcd(width, max(1, width // 64))  # 64 channels per head, as in Segmenter
        self.classes = nn.Parameter(0.02 * torch.randn(classes, width))
        self.blocks = nn.ModuleList(Block(width, heads, 4) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.token = nn.Linear(width, width, bias=False)
        self.mask = nn.Linear(width, width, bias=False)
        self.scale = nn.LayerNorm(classes)

    def forward(self, tokens: Tensor) -> Tensor:
        B, N, _ = tokens.shape
        x = torch.cat([tokens, self.classes.expand(B, -1, -1).to(tokens.dtype)], dim=1)  # (B, N + C, q)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        token = F.normalize(self.token(x[:, :N]), dim=2)  # (B, N, q)
        mask = F.normalize(self.mask(x[:, N:]), dim=2)  # (B, C, q)
        return self.scale(token @ mask.transpose(1, 2))


class Segmenter(Features):
    """image (H, W) -> FeatureMap of class scores (ceil(H/5), ceil(W/5), C), from an encoder and head trained on labels.

    The encoder is the MAE's (80 px windows of 5 px patches) and starts from its weights, as Segmenter starts from
    a pretrained ViT; scores are upsampled to pixels, and cross-entropy is computed over labelled ones. All weights are
    trained, by AdamW with warm-up and cosine decay, on random windows with flips, quarter turns, and changes of
    brightness and contrast. Half of the windows are drawn around a pixel of a class drawn uniformly, so that small
    structures are seen at all; the loss is unweighted, like Segmenter's. The published schedule, SGD at .001 for
    160,000 steps, would be far from converged after the few thousand steps that so few labels justify.

    head: `mask_transformer` or `linear`. checkpoint: "bundled", a file of MAE weights, or null for a random start.
    depth: number of encoder blocks to use, from the first. steps, batch (windows), lr: of the training.
    stride: px between windows in segmentation; scores are averaged where they overlap.
    precision: `bfloat16` trains and infers in mixed precision: faster on CPUs that support it, far slower on others.
    Fitted: `classes_` (number C of classes, up to the last one in the labels), `losses_` (steps,).
    """

    supervised = True
    window, patch = 80, 5

    def __init__(
        self,
        *,
        head: Literal["mask_transformer", "linear"] = "mask_transformer",
        checkpoint: str | None = "bundled",
        depth: Depth = 6,
        steps: Count = 1000,
        batch: Batch = 8,
        lr: Rate = 1e-3,
        stride: Pixels = 40,
        precision: Literal["float32", "bfloat16"] = "float32",
        seed: Seed | None = None,
    ):
        self.head = head
        self.checkpoint = checkpoint
        self.depth = depth
        self.steps = steps
        self.batch = batch
        self.lr = lr
        self.stride = stride
        self.precision = precision
        self.seed = seed
        self.device = "cpu"
        self._network: nn.Module | None = None
        for name, value in (("depth", depth), ("steps", steps), ("batch", batch)):
            if value < 1:
                raise UserError(f"features.{name}: {value} must be at least 1")
        if lr <= 0:
            raise UserError(f"features.lr: {lr} must be above 0")
        if not self.patch <= stride <= self.window or stride % self.patch:
            raise UserError(f"features.stride: {stride} must be a multiple of {self.patch} and at most {self.window}")

    # ---------------------------------------------------------------------------------------------------- training
    def fit(  # type: ignore[override]  # a supervised part also gets labels
        self, images: Iterable[np.ndarray], labels: Iterable[np.ndarray]
    ) -> None:
        """Train on images (H, W) float32 and labels (H, W) int32, positions of classes, -1 without a label.

        Raises UserError if no pixel has a label.
        """
        pairs = [(image, label) for image, label in zip(images, labels) if (label >= 0).any()]
        if not pairs:
            raise UserError("data.train: segmenter needs labels, but no training image has any; add labels")
        self.classes_ = max(int(label.max()) for _, label in pairs) + 1
        weights, self.architecture_ = self._start()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed or 0)
            network = self._build()
        if weights is not None:
            own = network[0].state_dict()
            network[0].load_state_dict({name: torch.from_numpy(weights[name]).float() for name in own})
        network.to(self.device).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=self.lr, weight_decay=0.05)
        warmup = max(1, self.steps // 20)
        draw = _Windows(pairs, self.window, np.random.default_rng(self.seed or 0))
        losses = []
        for step in range(self.steps):
            for group in optimizer.param_groups:
                group["lr"] = self.lr * min(1, (step + 1) / warmup) * (1 + math.cos(math.pi * step / self.steps)) / 2
            window, truth = (torch.from_numpy(part).to(self.device) for part in draw(self.batch))
            with self._autocast():
                scores = self._scores(network, window)  # (B, C, h, w)
            scores = F.interpolate(scores.float(), size=window.shape[1:], mode="bilinear", align_corners=False)
            loss = F.cross_entropy(scores, truth.long(), ignore_index=-1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        self.losses_ = np.array(losses, np.float32)
        self._network = network.eval()

    def _start(self) -> tuple[dict[str, np.ndarray] | None, dict[str, float]]:
        """Weights and sizes of the checkpoint's encoder; without a checkpoint, None and the paper's sizes."""
        if self.checkpoint is None:
            return None, dict(PAPER)
        weights, facts = read_checkpoint(checkpoint_path(self.checkpoint), "features", patch=self.patch)
        trained = facts["architecture"]
        if self.depth > trained["depth"]:
            raise UserError(
                f"features.depth: {self.depth}, but the checkpoint has {trained['depth']} blocks; lower it "
                "or give checkpoint: null"
            )
        return weights, {name: trained[name] for name in PAPER}

    def _build(self) -> nn.Sequential:
        sizes = self.architecture_
        width = int(sizes["width"])
        encoder = Encoder(
            patch=self.patch,
            window=self.window,
            width=width,
            depth=self.depth,
            heads=int(sizes["heads"]),
            mlp_ratio=sizes["mlp_ratio"],
            position_weight=sizes["position_weight"],
        )
        head = LinearHead if self.head == "linear" else MaskTransformer
        return nn.Sequential(encoder, head(width, self.classes_))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.partition(":")[0], torch.bfloat16, enabled=self.precision == "bfloat16")

    def _scores(self, network: nn.Module, windows: Tensor) -> Tensor:
        """(B, window, window) -> (B, C, h, w) on the token grid."""
        side = self.window // self.patch
        return network(windows).transpose(1, 2).unflatten(2, (side, side))

    # --------------------------------------------------------------------------------------------------- inference
    def extract(self, image: np.ndarray) -> FeatureMap:
        if self._network is None:
            raise ValueError("segmenter has not been fitted: fit(images, labels) comes before extract")
        network = self._network.to(self.device)

        def scores(windows: Tensor) -> Tensor:
            with self._autocast():
                return network(windows).float()

        values = windowed(
            image,
            scores,
            self.classes_,
            window=self.window,
            patch=self.patch,
            stride=self.stride,
            batch=WINDOWS,
            device=self.device,
        )
        return FeatureMap(values, float(self.patch), (self.patch - 1) / 2, image.shape)

    def get_state(self) -> dict[str, np.ndarray]:
        if self._network is None:
            return {}
        weights = {name: value.detach().cpu().numpy() for name, value in self._network.state_dict().items()}
        sizes = {f"encoder.{name}": np.array([value], np.float64) for name, value in self.architecture_.items()}
        return {
            **{f"network.{name}": value for name, value in weights.items()},
            **sizes,
            "classes": np.array([self.classes_]),
            "losses": self.losses_,
        }

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        if not state:
            return
        self.classes_, self.losses_ = int(state["classes"][0]), np.array(state["losses"])
        self.architecture_ = {name: float(state[f"encoder.{name}"][0]) for name in PAPER}  # no checkpoint is needed
        network = self._build()
        prefix = "network."
        network.load_state_dict(
            {
                name.removeprefix(prefix): torch.from_numpy(np.array(value))
                for name, value in state.items()
                if name.startswith(prefix)
            }
        )
        self._network = network.eval()


class _Windows:
    """Random windows and their labels from training images."""

    def __init__(self, pairs: list[tuple[np.ndarray, np.ndarray]], side: int, rng: np.random.Generator):
        self.pairs, self.side, self.rng = pairs, side, rng
        if (least := min(min(image.shape) for image, _ in pairs)) < side:
            raise UserError(f"features: segmenter needs FOVs of at least {side} px, got {least}; raise data.fov")
        self.places: dict[int, list[tuple[int, np.ndarray]]] = {}  # class -> images with it, and its pixels there
        for number, (_, label) in enumerate(pairs):
            for position in np.unique(label[label >= 0]).tolist():
                self.places.setdefault(position, []).append((number, np.flatnonzero(label == position)))

    def __call__(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(B, side, side) float32 and int32."""
        drawn = [self._one(around_a_class=i % 2 == 0) for i in range(count)]
        windows, labels = (np.ascontiguousarray(np.stack(part)) for part in zip(*drawn))
        return windows, labels

    def _one(self, around_a_class: bool) -> tuple[np.ndarray, np.ndarray]:
        rng, side = self.rng, self.side
        number, centre = int(rng.integers(len(self.pairs))), None
        if around_a_class:
            seen = self.places[sorted(self.places)[rng.integers(len(self.places))]]
            number, pixels = seen[rng.integers(len(seen))]
            centre = np.unravel_index(pixels[rng.integers(len(pixels))], self.pairs[number][1].shape)
        image, label = self.pairs[number]
        corner = []
        for axis, length in enumerate(image.shape):
            start = rng.integers(length - side + 1) if centre is None else centre[axis] - rng.integers(side)
            corner.append(int(np.clip(start, 0, length - side)))
        place = slice(corner[0], corner[0] + side), slice(corner[1], corner[1] + side)
        window, truth = image[place].astype(np.float32), label[place]
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        window, truth = (np.rot90(part[:, ::-1] if flip else part, turns) for part in (window, truth))
        contrast, brightness = np.exp(rng.normal(0, 0.1)), rng.normal(0, 0.1)
        return window * np.float32(contrast) + np.float32(brightness), truth
