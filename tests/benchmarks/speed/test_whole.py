"""Made-up images hold as many textured fields of view as they say; speeds are of all pixels."""

import numpy as np
import pytest

from benchmarks.speed.whole import main, make_image, table


@pytest.mark.parametrize("shape", [(1, 600, 1300), (3, 600, 600)])
def test_textured_fields_of_view_and_flat_ones(shape, tmp_path):
    zarr = pytest.importorskip("zarr")
    fovs = make_image(tmp_path / "all.ome.zarr", shape, 0)
    assert make_image(tmp_path / "some.ome.zarr", shape, 1) == 1 < fovs
    whole, some = (zarr.open_array(tmp_path / f"{name}.ome.zarr" / "0", mode="r") for name in ("all", "some"))
    assert whole.shape == some.shape == shape and whole.dtype == np.uint8
    assert len(np.unique(whole[0, :32, :32])) > 20 < len(np.unique(some[0, :32, :32]))
    assert len(np.unique(some[0, -32:, -32:])) == 1 < len(np.unique(whole[0, -32:, -32:]))


def test_speed_is_of_all_pixels():
    row = ["a volume", "2", "1000", "1000", "8", "2", "4.0", "1.50", "0.80"]
    line = table([row]).splitlines()[2]
    assert line == "| a volume | 2 x 1000 x 1000 | 8 | 2 | 4 | 0.50 | 1.50 | 0.80 |"


@pytest.mark.slow
def test_the_command_measures_a_process_of_its_own(tmp_path, read):
    pytest.importorskip("zarr")
    assert main(["--gib", "0", "--sides", "600", "--textured", "1", "--out", str(tmp_path)]) == 0
    (row,) = read("whole")
    assert row["what"] == "a slice of 600 px" and row["textured"] == row["workers"] == "1"
    assert float(row["seconds"]) > 0 and 0.1 < float(row["peak, GiB"]) < 4
