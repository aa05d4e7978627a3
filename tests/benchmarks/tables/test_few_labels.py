"""Draws of labels, names of clusters, and what the table says of them."""

from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from benchmarks.pages import Origin
from benchmarks.tables import few_labels as few
from benchmarks.tables import labelled
from registry.base import UserError
from sccs.data import betaseg

TRUTH = np.array([0] * 20 + [1] * 5 + [-1] * 3 + [2] * 12)


def test_draws_have_so_many_of_each_class_and_hold_the_smaller_ones():
    small, large = labelled.drawn(TRUTH, 3, seed=1), labelled.drawn(TRUTH, 10, seed=1)
    assert np.bincount(small[small >= 0]).tolist() == [3, 3, 3]
    assert np.bincount(large[large >= 0]).tolist() == [10, 5, 10]  # there are five of class 1
    known = small >= 0
    assert (large[known] == TRUTH[known]).all() and (small[known] == TRUTH[known]).all()
    assert (labelled.drawn(TRUTH, 3, seed=2) != small).any()


def test_labels_drawn_anywhere_are_as_many_as_asked_for():
    labels = few.anywhere(TRUTH, 9, seed=0)
    assert (labels >= 0).sum() == 9 and (labels[labels >= 0] == TRUTH[labels >= 0]).all()


@pytest.fixture
def clustered():
    """A set of one image: three clusters on a line, the last one between the others but nearer to the second."""
    clusters = np.repeat([0, 1, 2], 4)
    counts = np.zeros((12, 2), int)
    counts[:4, 0], counts[4:, 1] = 5, 5
    view = SimpleNamespace(clusters=clusters, Z=np.repeat([[0.0], [10.0], [7.0]], 4, 0), counts=counts)
    return labelled.Set([view], [view], ["rest", "nucleus"], 3, None)


def test_a_cluster_without_labels_takes_the_name_of_the_nearest_one(clustered):
    labels = np.full(12, -1)
    labels[[0, 1, 5]] = [0, 0, 1]
    assert labelled.from_labels(clustered, labels).tolist() == [0, 1, -1]
    assert labelled.by_names(clustered, np.array([0, 1, -1])) == 1
    assert labelled.by_names(clustered, np.array([0, 1, 0])) < 0.8


def test_galleries_name_a_cluster_by_what_most_of_its_typical_superpixels_are(clustered):
    assert labelled.from_galleries(clustered).tolist() == [0, 1, 1]


def test_means_are_of_draws_that_have_all_real_sets(tmp_path):
    found = {("head", "platelet", 0, 3): 0.2, ("head", "hela", 0, 3): 0.4, ("head", "platelet", 1, 3): 0.6}
    found["head", "phantom", 0, 3] = 1.0  # synthetic: no part of the mean
    assert few.over_real(found, "head", 3) == pytest.approx([0.3])
    assert "| head | 0.300 |" in few.by_budget(found)


def test_pixels_are_drawn_of_each_class_and_slice_and_label_their_superpixels():
    """Two slices, the first of two views: superpixels of 4 px each; what is outside has no class and is never drawn."""
    regions = np.repeat(np.arange(4), 4).reshape(4, 4)
    views = []
    for slice_, classes in (("a:0", [0, 1, 1, -1]), ("a:0", [0, 0, 0, -1]), ("a:1", [1, 1, 0, -1])):
        positions = np.repeat(classes, 4).reshape(4, 4)
        graph = SimpleNamespace(regions=regions)
        views.append(SimpleNamespace(graph=graph, positions=positions, counts=np.zeros((4, 2), int), slice=slice_))
    truth = np.array([0, 1, 1, -1, 0, 0, 0, -1, 1, 1, 0, -1])
    one = labelled.drawn_pixels(views, 1, seed=0)
    assert (one >= 0).sum() == 4  # one of each class in each slice
    assert (one == truth)[one >= 0].all() and (one[:8] >= 0).sum() == 2
    assert (labelled.drawn_pixels(views, 100, seed=0) == truth).all()
    assert (labelled.drawn_pixels(views, 1, seed=3) != one).any()


def test_a_superpixel_counts_as_what_most_of_its_labelled_pixels_are():
    positions = np.array([[0, 1, 1, 1]])
    view = SimpleNamespace(
        graph=SimpleNamespace(regions=np.zeros((1, 4), int)),
        positions=positions,
        counts=np.zeros((1, 2), int),
        slice="",
    )
    assert labelled.drawn_pixels([view], 100, seed=0).tolist() == [1]


def test_the_sparse_protocol_of_a_tiny_betaseg_is_scored(tmp_path, monkeypatch):
    root = tmp_path / "data"
    for volume in betaseg.TRAIN + betaseg.TEST:
        (root / volume).mkdir(parents=True)
        image = np.random.default_rng(0).integers(0, 60, (2, 160, 164), np.uint8)
        masks = {name: np.zeros_like(image) for name in betaseg.PUBLISHED}
        masks[betaseg.CELL][:, 10:150, 10:150] = 1
        for (_, name), x in zip(betaseg.ORGANELLES, (20, 60, 110)):
            masks[name][:, 20:110, x : x + 30] = 1
            image[:, 20:110, x : x + 30] += np.uint8(x)
        for name, pixels in {"source": image, **masks}.items():
            tifffile.imwrite(root / volume / f"{volume}_{name}.tif", pixels, photometric="minisblack")
    monkeypatch.setenv("SCCS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BETASEG_ROOT", "")
    monkeypatch.setitem(few.PARTS, "pixels", set())
    command = ["--data", "betaseg", "--root", str(root), "--draws", "1", "--parts", "pixels", "--no-times"]
    assert few.main([*command, "--system", "intensity_kmeans", "--out", str(tmp_path)]) == 0
    found = few.read(tmp_path / "few_labels.csv")
    assert [key[3] for key in found] == list(few.BUDGETS)
    assert {key[:2] for key in found} == {("label_spreading, pixels of each class and slice", "betaseg")}
    assert min(found.values()) > 0.5  # grey values tell the organelles apart, but for their borders


def test_as_long_as_all_answers_are_alike_more_are_asked_for_and_nothing_is_asked_twice():
    """Six nodes of either class; the rule names the first ones that it is shown, which are of one class."""
    truth = np.array([-1] + [0] * 6 + [1] * 6)
    taught = few.Taught.__new__(few.Taught)
    taught.here = SimpleNamespace(train=[SimpleNamespace(clusters=np.zeros(13, int))])
    taught.C, taught.of_train = 1, np.arange(13.0)[:, None]
    taught.head = SimpleNamespace(coordinates_=None)
    taught.judged = lambda views: [np.full((13, 2), 0.5)]
    learned, asked = [], []
    taught.learn = lambda labels: learned.append(labels.copy())

    def first(coordinates, points, kinds, P, n, seed):
        asked.append((P is None, n))
        return np.arange(min(n, len(points)))

    found = {n: labels.copy() for n, labels in taught.suggested(truth, 0, first)}
    assert [(labels >= 0).sum() for labels in found.values()] == [3, 10, 12, 12]
    assert all((labels == truth)[labels >= 0].all() for labels in found.values())
    assert asked[:5] == [(True, 3), (True, 4), (True, 5), (True, 6), (True, 8)] and not any(
        none for none, _ in asked[5:]
    )
    assert [(labels >= 0).sum() for labels in learned] == sorted({int((labels >= 0).sum()) for labels in learned})


def test_an_update_takes_all_else_from_the_table(tmp_path, monkeypatch):
    rows = [["head", "platelet", 0, 3, 0.25], ["head", "vnc", 0, 3, 0.5], ["forest", "vnc", 0, 3, 0.125]]
    rows.append(["SCCS", "platelet", "", "seconds", 2.0])
    before = Origin("made before", ["a machine"], ["abc"], [0])
    few.publish(tmp_path, "few_labels", "", before, "", ["row", "set", "draw", "labels", "value"], rows)
    monkeypatch.setattr(few, "kept", lambda data, draw, args, out: ({("head", data, draw, 3): 0.75}, ["def"]))
    monkeypatch.setattr(few, "seconds", lambda *asked: {"SCCS": 9.0})
    asked = ["--data", "vnc", "--draws", "1", "--parts", "heads", "--update", "--out"]
    assert few.main([*asked, str(tmp_path)]) == 0
    assert few.read(tmp_path / "few_labels.csv") == {
        ("head", "platelet", 0, 3): 0.25,
        ("head", "vnc", 0, 3): 0.75,
        ("forest", "vnc", 0, 3): 0.125,
    }
    assert few.read_times(tmp_path / "few_labels.csv") == {"SCCS": 2.0}
    origin = Origin.read(tmp_path / "few_labels.csv")
    assert origin.commits == ["abc", "def"]
    assert origin.notes == "Runs of heads of vnc: commit def; all else: commit abc."
    scores = few.read(tmp_path / "few_labels.csv")
    monkeypatch.setattr(few, "commit", lambda: "ghi")
    assert few.main(["--parts", "times", "--update", "--out", str(tmp_path)]) == 0
    assert few.read(tmp_path / "few_labels.csv") == scores
    assert few.read_times(tmp_path / "few_labels.csv") == {"SCCS": 9.0}
    assert Origin.read(tmp_path / "few_labels.csv").notes == "Runs of times: commit ghi; all else: commit abc, def."
    with pytest.raises(UserError, match="--update: there is no "):
        few.main([*asked, str(tmp_path / "empty")])
