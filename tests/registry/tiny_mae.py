"""An untrained MAE of the smallest size, and windows for it: what tests of the network and of its parts share."""

import torch

from registry.features.mae import MAE
from registry.mae.checkpoint import weights_hash, write_checkpoint
from registry.mae.network import MaskedAutoencoder, patchify

TINY = dict(
    patch=5,
    window=20,
    width=8,
    depth=2,
    heads=1,
    mlp_ratio=2,
    decoder_width=8,
    decoder_depth=1,
    decoder_heads=2,
    position_weight=0.08,
)
PART = dict(window=20, patch=5, width=8, depth=2, heads=1, stride=20)


def images(count=3, side=20, seed=0):
    return torch.randn(count, side, side, generator=torch.Generator().manual_seed(seed))


def noise(count=3, tokens=16, seed=1):
    return torch.rand(count, tokens, generator=torch.Generator().manual_seed(seed))


def made_up_mae() -> MaskedAutoencoder:
    """The same at every call."""
    torch.manual_seed(0)
    return MaskedAutoencoder(**TINY)


def save(path, encoder, **architecture) -> str:
    """The encoder's weights in half precision, as pre-training writes them."""
    weights = {name: value.half().numpy() for name, value in encoder.state_dict().items()}
    facts = {"architecture": {**TINY, **architecture}, "sha256": weights_hash(weights)}
    write_checkpoint(path, weights, facts)
    return str(path)


class MeanOfPatch(torch.nn.Module):
    """Stands in for an encoder: the feature of a patch is the mean of its pixels, so that places can be checked."""

    def forward(self, windows, layer=None):
        return patchify(windows, 5).mean(2, keepdim=True).expand(-1, -1, 8)

    def to(self, device):
        return self


def locating_part(**kwargs):
    part = MAE(**{**PART, **kwargs})
    part._encoder = MeanOfPatch()
    return part
