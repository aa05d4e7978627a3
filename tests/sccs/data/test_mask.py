"""Masks: what is read of them, and which fields of view and superpixels they leave to training."""

import numpy as np
import pytest

from registry.base import UserError
from registry.spg.graphs import Nodes, touching_pairs
from sccs.data.mask import Mask
from sccs.data.schema import Region
from sccs.data.volumes import LEAST_INSIDE, Volume
from tests.sccs.data.own_volumes import load, picture, refused


def test_a_coarser_mask_is_read_in_the_voxels_of_the_region():
    fine = np.random.default_rng(0).integers(0, 2, (3, 5, 4)).astype(np.uint8)
    whole = fine.repeat(2, 0).repeat(3, 1).repeat(4, 2)[:5, :14, :15] != 0  # the last cells are cut
    mask = Mask(fine, (5, 14, 15), (1, 2, 3), "m.tif")
    for z in range(4):
        assert (mask(z, slice(1, 11), slice(2, 12)) == whole[1 + z, 3:13, 5:15]).all()


@pytest.mark.parametrize("shape", [(5, 14, 30), (4, 14, 15), (5, 9, 15), (6, 14, 15)])
def test_a_mask_that_fits_no_factor_is_refused(shape):
    with pytest.raises(UserError, match=r"m.tif: has shape .*, but the image has \(5, 14, 15\)"):
        Mask(np.zeros(shape, np.uint8), (5, 14, 15), (0, 0, 0), "m.tif")


@pytest.mark.parametrize("plane", ["xy", "xz", "yz"])
def test_fovs_without_tissue_are_left_out_and_counted_so(plane):
    image = picture((200, 210, 190))
    tissue = np.zeros(image.shape, bool)
    tissue[:100, :, 90:] = True
    options = {"region": Region(z=[3, 190], y=[4, 200], x=[5, 180]), "fov": 80, "max_slices": 3, "plane": plane}
    volume = Volume("v", image, mask=tissue.astype(np.uint8), voxel_size=(8, 8, 8), **options)
    bare = Volume("v", image, voxel_size=(8, 8, 8), **options)
    kept, all_of_them = list(volume.fovs()), {fov.key: fov for fov in bare.fovs()}
    inside = {fov.key: _window(tissue, volume, fov) for fov in all_of_them.values()}
    assert [fov.key for fov in kept] == [key for key, seen in inside.items() if seen.mean() >= LEAST_INSIDE]
    assert 0 < len(kept) == volume.count_fovs() < len(all_of_them) == bare.count_fovs()
    for fov in kept:
        assert (fov.inside == inside[fov.key]).all() and (fov.image == all_of_them[fov.key].image).all()


def _window(tissue, volume, fov):
    order = {"xy": (0, 1, 2), "xz": (1, 0, 2), "yz": (2, 0, 1)}[volume.plane]
    _, top, left = volume.origin
    h, w = fov.image.shape
    return tissue.transpose(order)[fov.z, top + fov.y :, left + fov.x :][:h, :w]


def test_only_superpixels_with_half_of_their_pixels_inside_are_kept():
    rng = np.random.default_rng(1)
    regions = np.arange(16, dtype=np.int32).reshape(4, 4).repeat(5, 0).repeat(6, 1)
    area = np.full(16, 30, np.float32)
    nodes = Nodes(regions, rng.random((16, 3)), area, rng.random((16, 2)), touching_pairs(regions), rng.random(16))
    inside = np.zeros(regions.shape, bool)
    inside[:, 9:] = True  # half of the second column
    inside[0, 9] = False  # and a pixel less of its first row
    kept = nodes.within(inside)
    old = np.array([i for i in range(16) if inside[regions == i].mean() >= 0.5])
    assert list(old) == [2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15] and kept.n == len(old)
    for name in ("feature", "area", "centroid", "grey"):
        assert (getattr(kept, name) == getattr(nodes, name)[old]).all()
    assert (np.append(old, -1)[kept.regions] == np.where(np.isin(regions, old), regions, -1)).all()
    pairs = {tuple(pair) for pair in nodes.touching.T.tolist() if set(pair) <= set(old.tolist())}
    assert {tuple(old[pair].tolist()) for pair in kept.touching.T} == pairs and pairs


def test_the_mask_of_a_recipe_is_a_file_or_an_array(tmp_path):
    np.save(tmp_path / "m.npy", (np.arange(160) > 80).astype(np.uint8)[None, None].repeat(160, 1))
    entry = {"image": picture((1, 160, 160)), "mask": "m.npy"}
    assert load([entry], base=tmp_path).train[0].count_fovs() == 2
    refused("data.train.0.mask: .*shape", [{**entry, "mask": np.zeros(3, np.uint8)}])
    refused("mask: has shape", [{**entry, "mask": np.zeros((1, 160, 70), np.uint8)}])
    refused("nothing.npy", [{**entry, "mask": "nothing.npy"}])
