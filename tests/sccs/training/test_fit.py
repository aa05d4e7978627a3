"""Parts that are fitted on labels: what they are given, and what is said."""

import numpy as np
import pytest

import registry
import sccs
from registry.base import FeatureMap, Features, UserError
from sccs.data.volumes import Dataset, LabelCodes, Volume
from sccs.model.fovs import TrainingLabels, node_labels
from sccs.pipeline import Pipeline
from sccs.system.log import quiet_log
from tests.sccs.three_greys import RECIPE, recipe, three_greys

CLASSES = {7: "middle", 2: "left", 5: "right"}  # positions go by this order, not by the codes


def labelled(labels: np.ndarray | None = None, unlabelled: bool = True) -> Dataset:
    """The thirds with codes 2, 7, 5, the upper rows ignored; then, if asked for, a volume without labels."""
    codes = LabelCodes(CLASSES, ignore=255)
    if labels is None:
        labels = np.broadcast_to(np.array([2, 7, 5])[np.minimum(np.arange(100) // 33, 2)], (2, 96, 100)).copy()
        labels[:, :10] = 255
    volumes = [Volume("a", three_greys(), labels=labels, codes=codes)]
    return Dataset("thirds", volumes + [Volume("b", three_greys(1))] * unlabelled, [], CLASSES, ignore=255)


def test_labels_are_positions_in_the_order_of_classes_and_minus_one_without_a_label():
    labels = TrainingLabels(labelled())
    for _ in range(2):  # a part may go through them more than once
        given = list(labels)
        assert [label.shape for label in given] == [(96, 100)] * 4
        assert all(label.dtype == np.int32 for label in given)
        assert given[0][50, [10, 50, 90]].tolist() == [1, 0, 2] and (given[0][:10] == -1).all()
        assert (given[2] == -1).all() and (given[3] == -1).all()


def test_labels_of_nodes_are_the_pixels_of_each_class():
    pipeline = Pipeline.from_recipe(recipe())
    dataset = labelled()
    graphs = [pipeline.pool(fov.image) for volume in dataset.train for fov in volume.fovs()]
    counts = node_labels(graphs, dataset)
    assert [count.shape for count in counts] == [(graph.n, 3) for graph in graphs]
    assert all(count.dtype == np.int64 for count in counts)
    assert counts[0].sum(0).tolist() == [86 * 33, 86 * 33, 86 * 34] and not counts[3].any()
    region = graphs[0].regions == graphs[0].regions[50, 10]
    assert counts[0][graphs[0].regions[50, 10]].tolist() == [0, region.sum(), 0]


class Heard(Features):
    """Grey values, and what `fit` was given."""

    def fit(self, images, *more):
        self.heard = len(list(images)), [list(each) for each in more]

    def extract(self, image):
        return FeatureMap(image[..., None], 1.0, 0.0, image.shape)


class Taught(Heard):
    supervised = True


@pytest.mark.parametrize("kind, expected", [(Heard, 0), (Taught, 1)])
def test_features_hear_of_labels_if_they_are_supervised_and_not_else(kind, expected):
    pipeline = Pipeline.from_recipe(recipe())
    pipeline.features = kind()
    pipeline.fit(labelled())
    images, more = pipeline.features.heard
    assert images == 4 and len(more) == expected
    if more:
        assert all(map(np.array_equal, more[0], TrainingLabels(labelled())))


def test_what_an_unsupervised_system_learns_does_not_depend_on_labels():
    rng = np.random.default_rng(0)
    states = []
    for labels in (None, rng.choice([2, 5, 7, 255], (2, 96, 100))):
        pipeline = Pipeline.from_recipe({**RECIPE, "train": {"iterations": 40}}).fit(labelled(labels))
        states.append([getattr(pipeline, role).get_state() for role in registry.ROLES])
    for one, other in zip(*states):
        assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "parts, name",
    [
        ({"clusterer": {"name": "linear_probe", "k": 3}}, "linear_probe"),
        ({"features": "segmenter", "graph": "pixel", "clusterer": {"name": "class_scores", "k": 3}}, "segmenter"),
    ],
)
def test_supervised_parts_on_data_without_labels_are_refused_before_anything_is_computed(parts, name, monkeypatch):
    pipeline = Pipeline.from_recipe(recipe(**parts))
    assert pipeline.supervised == [name]
    monkeypatch.setattr(pipeline.features, "fit", None)
    with pytest.raises(
        UserError, match=f"^data.train: {name} needs labels for training, but no training volume has any"
    ):
        pipeline.fit([three_greys()])


@pytest.mark.parametrize(
    "parts",
    [
        {"clusterer": {"name": "linear_probe", "k": 4}},
        {
            "features": {
                "name": "segmenter",
                "head": "linear",
                "checkpoint": None,
                "depth": 1,
                "steps": 40,
                "lr": 2e-3,
                "batch": 2,
            },
            "graph": "pixel",
            "clusterer": {"name": "class_scores", "k": 4},
        },
    ],
)
def test_a_supervised_system_finds_the_classes_by_their_positions_and_is_loaded_without_labels(parts, tmp_path):
    pipeline = Pipeline.from_recipe(recipe(**parts)).fit(labelled())
    found = pipeline.segment(three_greys(1))
    for (a, b), position in (((0, 30), 1), ((36, 63), 0), ((70, 100), 2)):
        assert (found[..., a:b] == position).mean() > 0.9
    pipeline.save(tmp_path / "model")
    assert np.array_equal(sccs.load(tmp_path).segment(three_greys(1)), found)


def test_a_run_says_that_labels_took_part():
    class Log:
        said: list[str] = []

        def __getattr__(self, name):
            return getattr(quiet_log(), name)

        def info(self, message):
            self.said.append(message)

    for parts in ({}, {"clusterer": {"name": "linear_probe", "k": 3}}):
        Log.said = []
        Pipeline.from_recipe(recipe(**parts)).fit(labelled(), log=Log())
        assert any("labels" in line and "linear_probe" in line for line in Log.said) == bool(parts)


@pytest.mark.parametrize(
    "options, supervised, said",
    [
        (
            {"embedder": {"name": "lgc", "u": 5000, "channels": [4]}},
            False,
            "embedder.u: 5000 coordinates, but the largest",
        ),
        ({"embedder": {"name": "eigsh", "u": 5000}}, False, "embedder.u: 5000 coordinates, but the largest"),
        ({"clusterer": {"name": "linear_probe", "k": 2}}, True, "clusterer.k: 2 is less than the data's 3 classes"),
        ({"clusterer": {"name": "class_scores", "k": 2}}, True, "clusterer.k: 2 is less than the data's 3 classes"),
    ],
)
def test_numbers_that_only_graphs_can_tell(monkeypatch, options, supervised, said):
    monkeypatch.setattr("sccs.training.fit.train_parts", lambda *args, **options: pytest.fail("training began"))
    with pytest.raises(UserError, match=said):
        Pipeline.from_recipe({**recipe(), **options}).fit(labelled() if supervised else three_greys())


def test_an_anchor_with_fewer_nodes_than_clusters(monkeypatch):
    monkeypatch.setattr("sccs.training.fit.train_parts", lambda *args, **options: pytest.fail("training began"))
    image = three_greys()
    volumes = [Volume("large", image), Volume("small", image[:1, :20, :24], min_side=16)]
    options = {"clusterer": {"name": "incremental_kmeans", "k": 30}}
    with pytest.raises(
        UserError, match=r"clusterer.k: 30 clusters, but the anchor graph small:0:0:0, .* has \d+ nodes"
    ):
        Pipeline.from_recipe({**recipe(), **options}).fit(Dataset("two", volumes, [], {}, anchor="small:0:0:0"))
