"""The labels at the end of `make demo`."""

import numpy as np

from benchmarks.demo import CLICKS, clicks
from sccs.data.volumes import Dataset, LabelCodes, Volume


def test_labels_are_true_and_spread_over_slices():
    codes = np.random.default_rng(0).integers(0, 3, (4, 90, 100)).astype(np.uint8)
    names = {0: "rest", 1: "nucleus", 2: "granules"}
    volume = Volume("a", codes, labels=codes, codes=LabelCodes(names))
    rows = clicks(Dataset("x", [volume], [], names)).splitlines()
    assert rows[0] == "z,y,x,class,image" and len(rows) == 1 + 3 * CLICKS
    for row in rows[1:]:
        z, y, x, name, image = row.split(",")
        assert (names[codes[int(z), int(y), int(x)]], "a") == (name, image)
    assert {row.split(",")[0] for row in rows[1:]} == {"0", "1", "2", "3"}
