"""A pre-training small enough for a test: a volume, crops of it, settings, a trainer."""

from types import SimpleNamespace

import numpy as np

from sccs.training.crops import Crops, Sampler
from sccs.training.pretrain_settings import parse
from sccs.training.pretrainer import Pretrainer

TINY = dict(
    patch=5, window=20, width=16, depth=2, heads=1, mlp_ratio=2, decoder_width=16, decoder_depth=1, decoder_heads=2
)


def volume(shape=(1, 60, 100), voxel_size=None, origin=(0, 0, 0), image=None, name="v"):
    if image is None:
        rng = np.random.default_rng(0)
        y, x = np.mgrid[: shape[1] + origin[1], : shape[2] + origin[2]]
        image = (
            np.stack(
                [
                    128 + 60 * np.sin(y / 4 + rng.uniform(0, 6)) * np.sin(x / 5) + rng.normal(0, 5, y.shape)
                    for _ in range(shape[0] + origin[0])
                ]
            )
            .clip(0, 255)
            .astype(np.uint8)
        )
    return SimpleNamespace(
        name=name, image=image, origin=origin, shape=shape, mean=128.0, std=32.0, voxel_size=voxel_size
    )


def crops_of(volume, scale=(1.0, 1.0), axes="all", held_out=0.0):
    return Crops(volume, 20, scale, axes, held_out)


def sampler(source=None, **kwargs):
    options = dict(tokens=16, batch=4, jitter=0.1, seed=0)
    return Sampler([[crops_of(source or volume(), held_out=0.1)]], **{**options, **kwargs})


def block(**kwargs):
    return parse(
        {
            "data": [{"name": "phantom"}],
            "architecture": TINY,
            "batch": 4,
            "steps": 12,
            "warmup": 2,
            "amp": False,
            "threads": 1,
            "log_every": 4,
            "checkpoint_every": 4,
            **kwargs,
        }
    )


def trainer(settings, tmp_path, **kwargs):
    return Pretrainer(settings, sampler(**kwargs), device="cpu", seed=0, base=tmp_path)
