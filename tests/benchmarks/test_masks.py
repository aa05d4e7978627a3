"""The study of masks: its table, and that what it trains on is masked."""

import numpy as np

from benchmarks.studies import masks


def test_a_set_of_tissue_alone_has_no_mask():
    dataset, share = masks.training_images("phantom", True)
    assert share == 0 and all(volume.mask is None for volume in dataset.train)


def test_what_is_found_is_masked_and_its_share_is_told(monkeypatch):
    def tissue(image):
        found = np.ones(image.shape, np.uint8)
        found[:, :, image.shape[2] * 3 // 4 :] = 0
        return found

    monkeypatch.setattr(masks, "find_tissue", tissue)
    dataset, share = masks.training_images("phantom", True)
    assert share == 0.25 and all(volume.mask is not None for volume in dataset.train)
    assert masks.training_images("phantom", False)[1] == 0


def test_the_table_sets_both_ways_side_by_side():
    rows = [["hela", way, seed, "0.17", "nucleus", value]
            for way, seed, value in (("no", "0", "0.8"), ("no", "1", "0.9"), ("yes", "0", "0.9"))]  # fmt: skip
    assert masks.table(rows).splitlines()[2] == "| hela | nucleus | 0.850 ± 0.071 | 0.900 |"
