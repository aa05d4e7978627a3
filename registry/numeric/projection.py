"""X W for a W of few columns: a product whose shape the kernels of matrix libraries are not made for."""

from __future__ import annotations

import torch

WIDTH = 16  # columns that a kernel on the CPU takes at once: twelve cost nearly twice as much time as sixteen


def project(X: torch.Tensor, W: torch.Tensor) -> torch.Tensor:
    """X W (n, u) of X (n, d) and W (d, u), contiguous; on the CPU columns of zeros fill the kernel."""
    missing = -W.shape[1] % WIDTH
    if X.device.type != "cpu" or missing == 0 or W.shape[1] > 4 * WIDTH:
        return X @ W
    return (X @ torch.nn.functional.pad(W, (0, missing)))[:, : W.shape[1]].contiguous()
