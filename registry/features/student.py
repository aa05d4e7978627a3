"""Features of a small convolutional net distilled from a masked autoencoder (recipes/distil.yaml)."""

from __future__ import annotations

import numpy as np
import torch

from registry.base import FeatureMap, Features, TensorMap
from registry.mae import eight_bits
from registry.mae.checkpoint import STUDENT, checkpoint_path, read_checkpoint, weights_hash
from registry.mae.eight_bits import EightBits
from registry.mae.precision import WithBytes, uses_bfloat16
from registry.mae.student import STEP, Student, features, fused
from registry.ranges import Width


class StudentFeatures(Features):
    """MAE tokens predicted by a convolutional student: image (H, W) -> FeatureMap (ceil(H/4), ceil(W/4), q).

    There are no windows: up to rounding, a pixel has the same feature in any field of view, unless the border is nearer
    than `registry.mae.student.MARGIN` px. Feature (i, j) is centred on pixel (4i + 1.5, 4j + 1.5).

    checkpoint: "bundled" (see registry/mae/weights/student_vem.md) or a file written by distillation.
    width, q: must be those of the checkpoint. `device`: of the net.
    precision: `bfloat16` takes about half the time on CPUs with native support (AMX, AVX512_BF16) and on GPUs, and is
    far slower on those that must emulate it. Features differ by about a fortieth of their deviation. `auto`
    (default): bfloat16 if `registry.mae.precision.multiplies_bfloat16`, else float32. `int8`: on CPUs with VNNI,
    convolutions of eight bits (`registry.mae.eight_bits`), in less time; all else, and other devices, as with `auto`.
    """

    def __init__(
        self, *, checkpoint: str = "bundled", width: Width = 32, q: Width = 192, precision: WithBytes = "auto"
    ):
        self.checkpoint = checkpoint
        self.width = width
        self.q = q
        self.precision = precision
        self.device = "cpu"
        self._weights: dict[str, np.ndarray] | None = None
        self._student: Student | None = None
        self._eight: EightBits | None = None
        self._hash: str | None = None

    def extract(self, image: np.ndarray) -> FeatureMap:
        pixels = torch.from_numpy(np.ascontiguousarray(image, np.float32)).to(self.device)
        values = self._values(pixels).cpu().numpy()
        return FeatureMap(values=values, step=float(STEP), offset=(STEP - 1) / 2, shape=image.shape)

    def extract_batch(self, images: torch.Tensor) -> list[TensorMap]:
        return [TensorMap(self._values(images), float(STEP), (STEP - 1) / 2)]

    def _values(self, images: torch.Tensor) -> torch.Tensor:
        """(..., H, W) -> (..., ceil(H/4), ceil(W/4), q) float32."""
        if self._in_bytes:
            return features(self._load_bytes(), images.float()).float().contiguous()
        return features(self._load(), images.to(self._kind)).float().contiguous()

    def fingerprint(self) -> str:
        """Hash of the weights; with `auto` and `int8` also what was chosen, as several machines may share a cache."""
        if self._hash is None:
            self._hash = weights_hash(self.get_state())
        chosen = ["int8"] * self._in_bytes
        chosen += ["bfloat16"] * (self.precision in ("auto", "int8") and self._kind == torch.bfloat16)
        return " ".join([self._hash, *chosen])

    def get_state(self) -> dict[str, np.ndarray]:
        """The stored weights (half precision stays half), so that a saved run needs no checkpoint file."""
        if self._weights is None:
            path = checkpoint_path(self.checkpoint, kind=STUDENT)
            self._weights, _ = read_checkpoint(path, "features", kind=STUDENT, width=self.width, out=self.q)
        return dict(self._weights)

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self._weights, self._student, self._eight, self._hash = dict(state), None, None, None

    def _made(self) -> Student:
        """In float32."""
        student = fused(Student(width=self.width, out=self.q))
        student.load_state_dict({name: torch.from_numpy(value).float() for name, value in self.get_state().items()})
        return student

    def _load(self) -> Student:
        if self._student is None or self._student.last.weight.dtype != self._kind:
            self._student = self._made().to(dtype=self._kind)
        return self._student.to(self.device)

    def _load_bytes(self) -> EightBits:
        if self._eight is None or self._eight.kind != self._kind:
            self._eight = EightBits(self._made(), self._kind)
        return self._eight

    @property
    def _in_bytes(self) -> bool:
        return self.precision == "int8" and eight_bits.available(self.device)

    @property
    def _kind(self) -> torch.dtype:
        return torch.bfloat16 if uses_bfloat16(self.precision, self.device) else torch.float32
