"""Features of a batch on a device are those of each image."""

import numpy as np
import pytest
import torch

from registry.base import FeatureStack
from registry.features.concat import Concat
from registry.features.intensity import Intensity
from registry.features.mae import MAE
from registry.features.student import StudentFeatures
from tests.registry.tiny_mae import PART, made_up_mae, save


def parts(folder):
    file = save(folder / "mae.safetensors", made_up_mae().encoder)
    yield MAE(checkpoint=file, **PART)
    yield MAE(checkpoint=file, **{**PART, "stride": 10}, normalize="token", batch=3)
    yield StudentFeatures()
    yield StudentFeatures(precision="bfloat16")
    yield StudentFeatures(precision="int8")
    yield Concat(of=["student", {"name": "filters", "sigmas": [1.0]}])
    yield Intensity()


@pytest.mark.parametrize("shape", [(40, 60), (37, 23)])
def test_features_of_a_batch_are_those_of_each_image(tmp_path, shape):
    images = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    for part in parts(tmp_path):
        found = part.extract_batch(torch.from_numpy(images))
        for b, image in enumerate(images):
            alone = part.extract(image)
            maps = alone.maps if isinstance(alone, FeatureStack) else (alone,)
            assert len(found) == len(maps)
            for mine, each in zip(found, maps):
                assert (mine.step, mine.offset) == (each.step, each.offset)
                assert mine.values.shape[1:] == each.values.shape
                assert np.allclose(mine.values[b].numpy(), each.values, atol=2e-5), part


def test_a_part_says_what_it_leaves_to_the_cpu():
    assert Intensity().on_cpu() == ["Intensity"] and StudentFeatures().on_cpu() == []
    assert Concat(of=["student", "filters"]).on_cpu() == ["Filters"]
