"""A slice whose nodes are known: its answers are those of teaching and segmenting from the beginning."""

import numpy as np

from sccs.data.volumes import Volume
from sccs.evaluation.legend import taught_codes
from sccs.inference.live import LiveSlice
from sccs.pipeline import Pipeline


def test_labels_touch_the_nodes_and_the_pixels_are_those_of_predict():
    image = np.random.default_rng(0).normal(size=(1, 80, 150)).astype(np.float32)  # three fields of view in a row
    image[:, :, 75:] += 4
    recipe = {"extends": "kmeans", "features": "intensity", "clusterer": {"name": "kmeans", "k": 3}}
    model = Pipeline.from_recipe(recipe, device="cpu").fit(image)
    model.info["fov"] = 80
    labels = np.zeros(image.shape, np.uint8)
    labels[0, 10:60, 20], labels[0, 10:60, 130] = 1, 2
    model.teach(labels, image, classes={1: "dark", 2: "bright"})
    live = LiveSlice.of(model, Volume("image", image, fov=80), 0)
    assert len(live.graphs) > 1
    live.know(model.taught.teacher.head)
    y, x = np.nonzero(labels[0])
    found = live.labelled(y, x, labels[0, y, x].astype(np.int64) - 1, 2)
    learned = {(point.tobytes(), c) for point, c in zip(found.points, found.classes.tolist())}
    head = model.taught.teacher.head
    assert learned == {(point.tobytes(), c) for point, c in zip(head.points_, head.classes_.tolist())}
    shown = np.append(live.regions[y, x], -1)
    assert 0 < found.drawn.sum() == len(np.unique(shown[shown >= 0]))
    codes, _ = taught_codes(model.taught.names, model.taught.colours, {}, taught=model.taught.teacher.codes)
    classes = live.paint(codes[live.probabilities(model.taught).argmax(1)])
    assert np.array_equal(classes, model.predict(image)[0])
