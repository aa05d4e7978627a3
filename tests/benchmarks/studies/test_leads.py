"""The leads for SCCS+: each changes what it says, and the command scores training images only."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from registry.spg.graphs import Nodes, RegionGraph, touching_pairs

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks" / "studies"
SMALL = ["data.shapes=[[4,240,240],[4,240,240]]", "data.train_slices=1", "data.test_slices=1", "features=filters"]


@pytest.fixture(scope="module")
def leads():
    sys.path.insert(0, str(BENCHMARKS))
    import leads

    yield leads
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def blobs():
    """Eight groups of points (400, 12) in two FOVs, well apart."""
    rng = np.random.default_rng(0)
    centres = 10 * np.eye(12)[:8]
    groups = np.arange(800) % 8
    points = (centres[groups] + rng.normal(0, 0.5, (800, 12))).astype(np.float32)
    return [points[:400], points[400:]], groups


@pytest.mark.parametrize(
    "name",
    [
        "teacher: spherical Gaussians of equal shares",
        "teacher: Gaussians of equal shares",
        "teacher: normalised cut of all training nodes",
        "coordinates of length 1",
    ],
)
def test_a_teacher_finds_groups_that_lie_apart_also_where_it_was_not_taught(leads, blobs, name):
    Z, groups = blobs
    found = np.concatenate(leads.LEADS[name].teach(Z, 1, 0))
    assert len({(a, b) for a, b in zip(found.tolist(), groups.tolist())}) == 8 == len(set(found.tolist()))


def test_a_consensus_of_coordinates_finds_them_as_well(leads, blobs):
    Z, groups = blobs
    found = np.concatenate(leads.consensus([Z, [2 * z for z in Z]], 1, 0))
    assert len({(a, b) for a, b in zip(found.tolist(), groups.tolist())}) == 8


def test_discriminant_directions_leave_out_what_varies_within_clusters(leads, blobs):
    Z, groups = blobs
    rng = np.random.default_rng(1)
    X = [torch.from_numpy(np.concatenate([z, rng.normal(0, 3, (400, 1)).astype(np.float32)], 1)) for z in Z]
    found = np.concatenate(leads.discriminant(X, 1))
    means = np.stack([found[groups == c].mean(0) for c in range(8)])
    within = np.square(found - means[groups]).sum(1).mean()
    assert found.shape == (800, 7) and within < 0.2 * np.square(means - means.mean(0)).sum(1).mean()


def strip() -> tuple[RegionGraph, Nodes, np.ndarray]:
    """Four regions in a row, a step in grey between the second and the third."""
    regions = np.repeat(np.arange(4), 8)[None].repeat(8, 0).astype(np.int32)
    image = np.where(np.arange(32) < 16, 0, 1)[None].repeat(8, 0).astype(np.float32)
    feature = np.array([[0.0], [1.0], [3.0], [3.5]], np.float32)
    touching = touching_pairs(regions)
    i, j = np.concatenate([touching, touching[::-1], np.stack([np.arange(4)] * 2)], axis=1)
    area, centroid = np.full(4, 64, np.float32), np.zeros((4, 2), np.float32)
    graph = RegionGraph.from_edges(regions, feature, area, centroid, i, j, np.ones(len(i), np.float32))
    return graph, Nodes(regions, feature, area, centroid, touching), image


def test_borders_weaken_the_edges_that_cross_them_and_nothing_else(leads):
    graph, nodes, image = strip()
    weight = leads.by_borders(1.0)(graph, leads.View(nodes, image, np.zeros((4, 2), np.int64)))
    across = {(int(a), int(b)): float(w) for a, b, w in zip(graph.src, graph.dst, weight)}
    assert across[1, 2] == across[2, 1] < min(across[0, 1], across[2, 3])
    assert all(across[i, i] == 1 for i in range(4))


def test_a_self_tuned_kernel_measures_each_edge_by_the_edges_at_its_ends(leads):
    graph, nodes, image = strip()
    weight = leads.self_tuned(graph, None)
    across = {(int(a), int(b)): float(w) for a, b, w in zip(graph.src, graph.dst, weight)}
    # squared lengths 1, 4, .25; medians (the lower of two): 1, 1, .25, .25
    for pair, expected in {(0, 1): 1 / 1, (1, 2): 4 / 0.5, (2, 3): 0.25 / 0.25, (3, 3): 0}.items():
        assert across[pair] == pytest.approx(np.exp(-expected), rel=1e-5)


def test_the_command_scores_training_images_and_writes_what_it_saw(leads, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(leads, "PHANTOM_SLICES", 2)
    names = list(leads.LEADS)
    wanted = [0, names.index("edges weighed by borders"), names.index("kernel half as wide")]
    code = leads.main(
        [
            "--data",
            "phantom",
            "--leads",
            *map(str, wanted),
            "--seeds",
            "0",
            "1",
            "--out",
            str(tmp_path),
            "--set",
            *SMALL,
        ]
    )
    assert code == 0
    with open(tmp_path / "leads.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["lead"] for row in rows} == {names[i] for i in wanted}
    assert {row["measure"] for row in rows} == {"training", "further", "gap"}
    values = [float(row["value"]) for row in rows if row["measure"] != "gap"]
    assert 0 < min(values) <= max(values) <= 1
    text = (tmp_path / "leads.md").read_text()
    assert "phantom (synthetic)" in text and "± " in text


def test_a_number_that_is_no_lead_is_refused(leads, capsys):
    assert leads.guard(leads.main)(["--leads", "99"]) == 2
    assert "--leads: numbers from 0 to" in capsys.readouterr().err


def test_halves_divide_places_and_not_slices_of_one_place(leads):
    def view(volume, z, x):
        return leads.View(None, None, np.array([[z]]), (volume, 0, x))

    found = leads.Views(["a"], [view(v, z, x) for v in "uv" for z in range(3) for x in (0, 480)], 2)
    parts = leads.halves(found)
    assert len(parts) == 6  # of four places, two at a time
    for part in parts:
        first, second = ({view.place for view in views} for views in (part.views[: part.seen], part.views[part.seen :]))
        assert len(first) == len(second) == 2 and not first & second and part.seen == 6 and len(part.views) == 12
    assert len({tuple(view.place for view in part.views) for part in parts}) == 6
    with pytest.raises(leads.UserError, match="--halves: .* cannot be divided"):
        leads.halves(leads.Views(["a"], [view("u", 0, 0), view("u", 1, 0)], 1))


def test_the_other_half_can_be_scored(leads, tmp_path):
    assert (
        leads.main(
            [
                "--data",
                "phantom",
                "--leads",
                "0",
                "--halves",
                "--seeds",
                "0",
                "--out",
                str(tmp_path),
                "--set",
                *SMALL,
                "data.shapes=[[4,240,240],[4,240,240],[4,240,240]]",
            ]
        )
        == 0
    )
    with open(tmp_path / "halves.csv", newline="") as file:
        rows = {row["measure"]: float(row["value"]) for row in csv.DictReader(file)}
    assert 0 < rows["further"] < 1 and 0 < rows["training"] < 1
    assert "the other half" in (tmp_path / "halves.md").read_text()
