"""What limits SCCS+: the contrastive net's views match, stages score what they say, the command writes what it saw."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from registry.spg.graphs import Nodes

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks" / "studies"


@pytest.fixture(scope="module")
def limits():
    sys.path.insert(0, str(BENCHMARKS))
    import limits

    yield limits
    sys.path.remove(str(BENCHMARKS))


def test_the_places_of_two_views_are_the_same_places(limits, monkeypatch):
    monkeypatch.setattr(limits, "SHIFT", 0.0)
    y, x = np.mgrid[:300, :280].astype(np.float32)
    image = torch.from_numpy(np.sin(x / 23) + np.cos(y / 31))[None].float()
    rng = np.random.default_rng(0)
    for _ in range(20):
        (first, p), (second, q) = limits.pair(image, rng)
        assert first.shape == second.shape == (1, limits.CROP, limits.CROP) and p.shape == (1, limits.POINTS, 2)
        assert float(max(p.abs().max(), q.abs().max())) < 1.2
        inside = ((p.abs() < 0.95) & (q.abs() < 0.95)).all(2)[0].numpy()
        one, other = (
            torch.nn.functional.grid_sample(view[None], at[None], align_corners=False).numpy().ravel()[inside]
            for view, at in ((first, p), (second, q))
        )
        assert inside.sum() > 10 and np.corrcoef(one, other)[0, 1] > 0.8  # contrast, brightness, noise differ


def test_the_net_learns_to_find_places_again(limits):
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(1, 200, 200))).float()
    image = torch.nn.functional.avg_pool2d(image, 5, 1, 2) * 5
    net = limits.contrastive([image], 25, 0)

    def found_again(net) -> float:
        rng, hits = np.random.default_rng(1), []
        with torch.no_grad():
            for _ in range(8):
                (a, p), (b, q) = limits.pair(image, rng)
                seen = torch.nn.functional.grid_sample(
                    net.head(net(torch.stack([a, b]))), torch.stack([p, q]), align_corners=False
                )[:, :, 0]
                first, second = torch.nn.functional.normalize(seen, dim=1)
                hits.append(((first.T @ second).argmax(1) == torch.arange(limits.POINTS)).float().mean().item())
        return float(np.mean(hits))

    torch.manual_seed(0)
    assert found_again(net) > 1.5 * found_again(limits.Net().eval())
    assert net(image[None]).shape == (1, 128, 50, 50)


def test_blocks_of_features_are_told_apart(limits):
    feature = np.arange(12, dtype=np.float32).reshape(2, 6)
    nodes = Nodes(
        np.array([[0, 1]], np.int32),
        feature,
        np.ones(2, np.float32),
        np.zeros((2, 2), np.float32),
        np.zeros((2, 0), np.int64),
        blocks=np.array([1, 2, 3]),
    )
    picked = limits.only(nodes, (2, 0))
    assert picked.feature.tolist() == [[3, 4, 5, 0], [9, 10, 11, 6]] and picked.blocks.tolist() == [3, 1]


def test_clusters_are_mapped_by_the_half_trained_on_and_scored_on_the_other(limits):
    from leads import View

    counts = [np.array([[9, 0], [0, 9]]), np.array([[5, 5], [0, 10]])]
    found = limits.Views(["a", "b"], [View(None, None, each) for each in counts], 1)
    clusters = [np.array([1, 0]), np.array([1, 0])]  # cluster 1 is a, 0 is b
    # of the other half: a 5 of 5 found with 5 of b among them; b 10 of 15, nothing else
    expected = (2 * 5 / (10 + 5) + 2 * 10 / (10 + 15)) / 2
    assert limits.scored(clusters, 2, found, True) == pytest.approx(expected)
    assert limits.scored(clusters, 2, found, False) == pytest.approx((0 + 2 * 5 / (10 + 15)) / 2)


def test_the_command_writes_every_stage(limits, tmp_path, monkeypatch):
    import leads

    monkeypatch.setattr(limits, "DIVISIONS", 1)
    monkeypatch.setattr(leads, "PHANTOM_SLICES", 1)
    monkeypatch.setattr(limits, "FEATURES", {"filters": (1,), "all three": (0, 1, 2)})
    assert (
        limits.main(
            [
                "--data",
                "phantom",
                "--steps",
                "2",
                "--seeds",
                "0",
                "1",
                "--out",
                str(tmp_path),
                "--set",
                "data.shapes=[[4,240,240],[4,240,240],[4,240,240]]",
                "data.train_slices=1",
                "data.test_slices=1",
            ]
        )
        == 0
    )
    with open(tmp_path / "limits.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(limits.FEATURES) * len(limits.STAGES) * 2
    assert {row["stage"] for row in rows} == set(limits.STAGES)
    assert all(0 < float(row["dsc"]) < 1 for row in rows)
    text = (tmp_path / "limits.md").read_text()
    assert "phantom (synthetic)" in text and "training places" in text
