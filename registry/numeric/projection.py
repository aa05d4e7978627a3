"""X W for a W with few columns, a shape for which matrix libraries are not optimised."""

from __future__ import annotations

import torch

WIDTH = 16  # columns that a CPU kernel processes at once: twelve take nearly twice as long as sixteen


def project(X: torch.Tensor, W: torch.Tensor) -> torch.Tensor:
    """X W (n, u) of X (n, d) and W (d, u), contiguous; on the CPU zero columns fill up the kernel."""
    missing = -W.shape[1] % WIDTH
    if X.device.type != "cpu" or missing == 0 or W.shape[1] > 4 * WIDTH:
        return X @ W
    return (X @ torch.nn.functional.pad(W, (0, missing)))[:, : W.shape[1]].contiguous()
