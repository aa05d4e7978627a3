import hashlib

import numpy as np
import pytest
import tifffile

from registry.base import UserError
from sccs.data import betaseg, describe, load_dataset

SHAPE = (6, 96, 100)


def box(y0, y1, x0, x1):
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, y0:y1, x0:x1] = 255
    return mask


# Overlaps on purpose: granule 5 reaches into the nucleus, granule 9 into the mitochondrion, the mitochondrion into the
# nucleus, and the nucleus out of the cell.
MASKS = {
    "membrane_full_mask": box(10, 90, 10, 90),
    "nucleus_mask": box(5, 40, 20, 60),
    "mitochondria_mask": box(38, 60, 50, 80),
    "granules": (np.where(box(36, 44, 10, 30) > 0, 5, 0) + np.where(box(55, 65, 75, 85) > 0, 9, 0)).astype(np.uint16),
    "centrioles": box(0, 0, 0, 0),
    "golgi_corrected": box(70, 80, 20, 40),
    "microtubules": box(80, 85, 20, 40),
}


def write_tree(top):
    rng = np.random.default_rng(0)
    for volume in betaseg.TRAIN + betaseg.TEST:
        folder = top / volume
        folder.mkdir(parents=True)
        image = rng.integers(0, 256, SHAPE, dtype=np.uint8)
        tifffile.imwrite(folder / f"{volume}_source.tif", image, photometric="minisblack")
        for mask, pixels in MASKS.items():
            tifffile.imwrite(folder / f"{volume}_{mask}.tif", pixels, photometric="minisblack")
    return top


@pytest.fixture()
def tree(tmp_path, monkeypatch):
    monkeypatch.setenv("SCCS_CACHE", str(tmp_path / "cache"))
    return write_tree(tmp_path / "data")


def load(root, **more):
    return load_dataset({"name": "betaseg", "root": str(root), "train_slices": 2, "test_slices": 3, **more}, root)


def test_split_slices_and_voxel_size(tree):
    data = load(tree)
    assert [volume.name for volume in data.train] == [f"high_c{i}_source" for i in (1, 2, 3)]
    assert [volume.name for volume in data.test] == ["high_c4_source"]
    assert [volume.z_slices for volume in data.train] == [[1, 4]] * 3 and data.test[0].z_slices == [1, 3, 5]
    assert data.test[0].voxel_size == (16, 16, 16)
    assert "high_c4_source" in describe(data)


def test_masks_merge_with_the_stated_priority(tree):
    labels = load(tree).test[0].read_labels(3)
    expected = np.zeros(SHAPE[1:], int)
    for code, name in ((2, "granules"), (3, "mitochondria_mask"), (1, "nucleus_mask")):
        expected[MASKS[name][0] > 0] = code
    expected[MASKS["membrane_full_mask"][0] == 0] = 255
    assert np.array_equal(labels, expected)
    assert labels[39, 25] == 1 and labels[39, 55] == 1  # nucleus over granule, nucleus over mitochondrion
    assert labels[57, 77] == 3 and labels[42, 25] == 2  # mitochondrion over granule, granule alone
    assert labels[75, 30] == 0 and labels[7, 30] == 255  # Golgi is unrecognized, nucleus outside the cell is ignored


def test_masks_are_read_lazily_by_slice(tree):
    class Counting:
        shape = SHAPE

        def __init__(self):
            self.asked = []

        def __getitem__(self, index):
            self.asked.append(index)
            return np.ones(SHAPE, bool)[index]

    cell, nucleus = Counting(), Counting()
    merged = betaseg.MergedMasks(cell, [(1, nucleus)])
    assert merged.shape == SHAPE and not cell.asked
    assert (merged[2, 3:5, 4:8] == np.ones((2, 4))).all()
    assert cell.asked == nucleus.asked == [(2, slice(3, 5), slice(4, 8))]


def test_the_top_folder_of_the_zip_is_accepted(tmp_path):
    write_tree(tmp_path / "download")
    assert len(load(tmp_path).train) == 3


def test_a_missing_root_says_how_to_get_the_data(tmp_path):
    with pytest.raises(UserError, match=r"no folder .*https://cloud\.mpi-cbg\.de.*download\.zip.*unzip") as error:
        load(tmp_path / "nowhere")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no BetaSeg volume in .*https://"):
        load(tmp_path)


def test_an_unset_variable_says_how_to_get_the_data(tmp_path, monkeypatch):
    monkeypatch.delenv("BETASEG_ROOT", raising=False)
    with pytest.raises(UserError, match="BETASEG_ROOT .*is not set.*https://"):
        load_dataset({"name": "betaseg", "root": "${BETASEG_ROOT}"}, tmp_path)


def test_every_missing_file_is_listed_at_once(tree):
    (tree / "high_c1" / "high_c1_granules.tif").unlink()
    (tree / "high_c4" / "high_c4_source.tif").unlink()
    with pytest.raises(UserError, match=r"2 .*high_c1/high_c1_granules\.tif, high_c4/high_c4_source\.tif") as error:
        load(tree)
    assert "\n" not in str(error.value)


def test_a_mask_of_another_shape_is_refused(tree):
    tifffile.imwrite(
        tree / "high_c2" / "high_c2_granules.tif", np.zeros((6, 96, 99), np.uint8), photometric="minisblack"
    )
    with pytest.raises(UserError, match=r"high_c2_granules\.tif.*\(6, 96, 99\).*\(6, 96, 100\)"):
        load(tree)


def test_a_damaged_zip_is_refused_and_can_be_let_through(tree):
    (tree / "download.zip").write_bytes(b"half a download")
    with pytest.raises(UserError, match="download.zip has sha256 .*download it again"):
        load(tree)
    load(tree, checksum=False)


def test_a_good_zip_is_hashed_once(tree, monkeypatch):
    content = b"the whole download"
    (tree / "download.zip").write_bytes(content)
    monkeypatch.setattr(betaseg, "SHA256", hashlib.sha256(content).hexdigest())
    load(tree)
    monkeypatch.setattr(betaseg, "_digest", lambda file: pytest.fail("hashed again"))
    load(tree)
