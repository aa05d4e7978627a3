"""Depth: which slices are neighbours, that a slice depends on these alone, that z-consistency rises, bad input."""

import gc
import weakref

import numpy as np
import pytest
import tifffile

from registry.base import UserError
from sccs.cli import main
from sccs.data.schema import Region
from sccs.data.volumes import Volume
from sccs.inference.blocks import overlapping
from sccs.inference.depth import neighbourhood, segment_slices
from sccs.pipeline import Pipeline

PARTS = {
    "features": "intensity",
    "graph": {"name": "superpixel", "pixels_per_superpixel": 36, "kappa": 2.0},
    "embedder": {"name": "lgc_principal", "u": 2, "hops": 2},
    "clusterer": {"name": "kmeans", "k": 2},
    "device": "cpu",
}


@pytest.fixture(scope="module")
def noisy():
    """Image (6, 80, 84) of two greys under noise that differs from slice to slice, and the truth."""
    y, x = np.mgrid[:80, :84]
    truth = np.broadcast_to((x // 21 + y // 20) % 2, (6, 80, 84))
    rng = np.random.default_rng(0)
    patches = rng.normal(0, 25, (6, 20, 21)).repeat(4, 1).repeat(4, 2)  # no slice alone can know better
    return (120 + 60 * truth + patches).clip(0, 255).astype(np.uint8), truth


@pytest.fixture(scope="module")
def model(noisy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    Pipeline.from_recipe(PARTS).fit(noisy[0]).save(folder / "model")
    return Pipeline.load(folder)


@pytest.mark.parametrize(
    "z_slices, position, reach, near",
    [
        ([0, 1, 2, 3, 4], 2, 1, [1, 2, 3]),
        ([0, 1, 2, 3, 4], 0, 2, [0, 1, 2]),
        ([3, 4, 5, 9, 10], 2, 2, [0, 1, 2]),  # a gap ends it
        ([0, 2, 4], 1, 2, [1]),
        ([7], 0, 3, [0]),
    ],
)
def test_neighbours_are_next_to_one_another_in_the_file(z_slices, position, reach, near):
    assert list(neighbourhood(z_slices, position, reach)) == near


def test_labels_follow_the_tissue_better_through_noise(model, noisy):
    image, truth = noisy
    volume = Volume("v", image, fov=80)  # several FOVs, too
    alone, deep = np.stack(list(model.segment_slices(volume))), np.stack(list(segment_slices(model, volume, 16.0)))
    right = [max((found == truth).mean(), (found != truth).mean()) for found in (alone, deep)]
    changes = [(found[1:] != found[:-1]).mean() for found in (alone, deep)]
    assert right[1] > right[0] + 0.01 and changes[1] < 0.85 * changes[0]


def test_a_slice_depends_on_its_neighbours_alone(model, noisy):
    image, _ = noisy
    other = image.copy()
    other[5] = other[5, ::-1]
    whole = Volume("v", image)
    changed = Volume("w", other)
    changed.mean, changed.std = whole.mean, whole.std
    one, two = (np.stack(list(segment_slices(model, volume, 16.0, reach=1))) for volume in (whole, changed))
    np.testing.assert_array_equal(one[:4], two[:4])
    assert (one[4] != two[4]).any()


def test_lone_slices_are_segmented_as_without_depth(model, noisy):
    volume = Volume("v", noisy[0], region=Region(z=[0, 6, 2]))
    np.testing.assert_array_equal(list(segment_slices(model, volume, 16.0)), list(model.segment_slices(volume)))


def test_the_command_takes_a_weight(model, noisy, tmp_path, capsys):
    model.save(tmp_path / "run" / "model")
    tifffile.imwrite(tmp_path / "a.tif", noisy[0])
    arguments = ["segment", str(tmp_path / "run"), str(tmp_path / "a.tif"), str(tmp_path / "out.tif"), "--depth"]
    assert main([*arguments, "-1"]) == 2 and not (tmp_path / "out.tif").exists()
    assert "weight of edges between slices must be above 0" in capsys.readouterr().err
    assert main([*arguments, "1e308"]) == 2
    assert "at most 1e+06, not 1e+308" in capsys.readouterr().err
    assert main([*arguments, "16"]) == 0
    expected = np.stack(list(segment_slices(model, Volume("v", noisy[0]), 16.0)))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), expected)


def test_only_what_is_inside_and_its_neighbours_is_looked_at(model, noisy, monkeypatch):
    image = np.concatenate([noisy[0]] * 3)  # 18 slices
    volume = Volume("v", image, fov=48)
    fields = overlapping(image.shape[1:], 48)
    y, x = fields.y[0], fields.x[0]
    image[9, : y.stop, : x.stop] = 100  # one grey value
    inside = np.zeros(image.shape, bool)
    inside[8:10, 3:6, 3:6] = True  # in the first FOV
    expected = list(segment_slices(model, volume, 16.0))
    built, real = [], model.build
    monkeypatch.setattr(model, "build", lambda *args, **options: built.append(1) or real(*args, **options))
    found = list(segment_slices(model, volume, 16.0, mask=lambda z, rows, columns: inside[z, rows, columns]))
    assert len(built) == 5 and len(fields) == 4  # slices 6 to 10, of one FOV
    assert (expected[9][:20, :20] == 255).all() and (expected[8] < 255).all()
    np.testing.assert_array_equal(found, np.where(inside, expected, 255))
    assert (found[8] != 255).sum() == 9


def test_graphs_of_a_few_slices_are_kept(model, noisy, monkeypatch):
    alive, most, real = weakref.WeakSet(), [], model.build

    def build(*args, **options):
        graph = real(*args, **options)
        alive.add(graph)
        most.append(len(alive))
        return graph

    monkeypatch.setattr(model, "build", build)
    for _ in segment_slices(model, Volume("v", np.concatenate([noisy[0]] * 3)), 16.0):
        gc.collect()
    assert len(most) == 18 and max(most) <= 5


def test_models_that_edges_cannot_change_are_refused(noisy):
    model = Pipeline.from_recipe({**PARTS, "embedder": "identity"}).fit(noisy[0])
    with pytest.raises(UserError, match="embedder 'identity' ignores edges"):
        next(segment_slices(model, Volume("v", noisy[0]), 16.0))
