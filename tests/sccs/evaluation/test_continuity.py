"""Consistency along z: known answers, which slices are compared, and what a run says of itself."""

import json

import numpy as np
import pytest

from sccs.data.schema import Region
from sccs.data.volumes import Dataset, LabelCodes, Volume
from sccs.evaluation.continuity import NeighbourTables, continuity, joint, z_consistency
from sccs.evaluation.naming import rescore, write_metrics


def test_agreement_beyond_chance_is_cohens_kappa():
    found = continuity([[40, 10], [20, 30]])
    assert found["agreement"] == 0.7 and found["chance"] == pytest.approx(0.5 * 0.6 + 0.5 * 0.4)
    assert found["beyond_chance"] == pytest.approx((0.7 - 0.5) / 0.5)
    assert continuity([[5, 0], [0, 5]])["beyond_chance"] == 1
    assert continuity([[25, 25], [25, 25]])["beyond_chance"] == 0
    assert np.isnan(continuity([[9, 0], [0, 0]])["beyond_chance"]) and np.isnan(continuity([[0]])["agreement"])


def test_joint_counts():
    a, b = np.array([[0, 1, 1]], np.uint8), np.array([[2, 1, 2]], np.uint8)
    assert joint(a, b, 3).tolist() == [[0, 0, 1], [0, 1, 1], [0, 0, 0]]


def stack(region=Region(), max_slices=None, labelled=True):
    """A data set of one volume whose slice z is labelled z // 2 everywhere, but for a column that nobody labelled."""
    labels = np.repeat(np.arange(6, dtype=np.uint8) // 2, 16 * 20).reshape(6, 16, 20)
    labels[:, :, 0] = 9
    image = np.random.default_rng(0).integers(0, 255, labels.shape, dtype=np.uint8)
    codes = LabelCodes({0: "a", 1: "b", 2: "c"}, ignore=9)
    volume = Volume(
        "v", image, labels=labels if labelled else None, codes=codes, region=region, min_side=16, max_slices=max_slices
    )
    return volume, Dataset("d", [volume], [volume], codes.classes, 9)


@pytest.mark.parametrize(
    "region, max_slices, pairs, same",
    [
        (Region(), None, 5, 3),
        (Region(z=[1, 5]), None, 3, 1),
        (Region(z=[0, 6, 2]), None, 0, 0),  # every second slice: none is next to another
        (Region(), 2, 0, 0),
    ],
)
def test_only_neighbours_in_the_file_are_compared(region, max_slices, pairs, same):
    volume, dataset = stack(region, max_slices)
    tables = NeighbourTables(4, dataset)
    planes = [np.full((16, 20), 3 - z // 3, np.uint8) for z in range(6)]
    for given, passed in zip(planes, tables.watch(iter(planes), volume)):
        assert given is passed
    assert tables.pairs == pairs and tables.clusters.sum() == tables.labels.sum() == pairs * 16 * 19
    assert np.trace(tables.labels) == same * 16 * 19
    assert bool(z_consistency(tables.to_lists(), {}, None)) == bool(pairs)


def test_without_labels_the_clusters_are_compared_alone():
    volume, dataset = stack(labelled=False)
    tables = NeighbourTables(4, dataset)
    list(tables.watch([np.full((16, 20), z % 2, np.uint8) for z in range(6)], volume))
    found = z_consistency(tables.to_lists(), {}, None)
    assert found["clusters"]["agreement"] == 0 and "labels" not in found and tables.clusters.sum() == 5 * 320


def test_classes_are_compared_by_mapping_and_against_the_labels():
    tables = {"pairs": 1, "clusters": [[30, 10, 0], [10, 30, 0], [0, 0, 20]], "labels": [[75, 5], [5, 15]]}
    found = z_consistency(tables, {"train": np.array([0, 0, 1]), "half": np.array([0, -1, -1])}, None)
    assert found["classes"]["train"]["agreement"] == 1
    assert found["classes"]["train"]["relative"] == pytest.approx(1 / found["labels"]["beyond_chance"])
    assert found["classes"]["half"]["agreement"] == 0.8  # clusters without a class count as one of their own
    rest = z_consistency(tables, {"half": np.array([0, -1, 1])}, 0)
    assert rest["classes"]["half"]["agreement"] == 1


def test_metrics_hold_it_also_after_clusters_were_named(tmp_path):
    volume, dataset = stack()
    tables = NeighbourTables(3, dataset)
    list(tables.watch([np.full((16, 20), z // 2, np.uint8) for z in range(6)], volume))
    confusions = {"v:0:0:0": np.eye(3, dtype=np.int64) * 9}
    metrics = write_metrics(
        tmp_path,
        confusions,
        confusions,
        ["a", "b", "c"],
        k=3,
        neighbours={"train": NeighbourTables(3, dataset).to_lists(), "test": tables.to_lists()},
    )
    along = metrics["z_consistency"]
    assert set(along) == {"test"} and along["test"]["classes"]["train"]["relative"] == 1
    assert along["test"]["clusters"]["agreement"] == 0.6
    assert rescore(tmp_path) == metrics == json.loads((tmp_path / "metrics.json").read_text())
