"""What all features parts must keep to."""

import numpy as np
import pytest
import torch

from registry.base import FeatureMap, FeatureStack
from tests.registry.parts.small import SHAPES, every, grey


def maps_of(features: FeatureMap | FeatureStack) -> tuple[FeatureMap, ...]:
    return features.maps if isinstance(features, FeatureStack) else (features,)


def values_of(features: FeatureMap | FeatureStack) -> list[np.ndarray]:
    return [each.values for each in maps_of(features)]


def fit_features(part, images: list[np.ndarray]):
    """Fit features; a supervised part gets bright and dark as two classes, and a border without labels."""
    if not part.supervised:
        part.fit(images)
        return part
    labels = [(image > 0).astype(np.int32) for image in images]
    for label in labels:
        label[:, :3] = -1
    part.fit(images, labels)
    return part


@every("features")
@pytest.mark.parametrize("shape", SHAPES)
def test_features_are_finite_and_cover_the_image(name, shape, build):
    image = grey(shape)
    before = image.copy()
    part = fit_features(build("features", name), [grey((80, 80), seed=1)])
    whole = part.extract(image)
    assert whole.shape == shape and whole.q == sum(features.q for features in maps_of(whole))
    for features in maps_of(whole):
        h, w, q = features.values.shape
        assert features.values.dtype == np.float32 and np.isfinite(features.values).all()
        assert features.shape == shape and features.q == q >= 1
        for tokens, side in ((h, shape[0]), (w, shape[1])):
            assert features.offset + features.step * (tokens - 1) + features.step / 2 >= side - 1
            assert features.offset - features.step / 2 <= 0
    assert np.array_equal(image, before)


@every("features")
def test_features_repeat_themselves_and_survive_saving(name, build, again):
    image = grey((83, 121))
    parts = []
    for number in range(2):
        torch.manual_seed(number)
        np.random.seed(number)
        parts.append(fit_features(build("features", name), [grey((80, 80), seed=1)]))
    first, second = (values_of(part.extract(image)) for part in parts)
    restored = again("features", name, parts[0])
    for other in (second, values_of(parts[0].extract(image)), values_of(restored.extract(image))):
        assert all(map(np.array_equal, first, other))
    assert restored.fingerprint() == parts[0].fingerprint() == parts[1].fingerprint()
