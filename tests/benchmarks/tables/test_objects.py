"""Clicks, and objects of runs against those of labels."""

from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from benchmarks.tables import objects as table
from sccs.data.volumes import Dataset, LabelCodes, Region, Volume

pytest.importorskip("cc3d")
pytest.importorskip("edt")
CLASSES = {0: "rest", 1: "nucleus", 2: "granules"}
SIDE = 96


@pytest.fixture
def dataset():
    """Two volumes of a file each: slices 2 to 5 of 7, rows and columns from 4 and 6; three columns of classes."""
    rng = np.random.default_rng(0)
    labels = np.zeros((7, SIDE + 8, SIDE + 8), np.uint8)
    labels[:, 10:60, 40:70], labels[:, :, 80:] = 1, 2
    labels[2, 10:60, 40:70] = 0  # what one of the slices has, others do not
    image, area = rng.normal(size=labels.shape), Region(z=(2, 6), y=(4, 4 + SIDE), x=(6, 6 + SIDE))
    codes = LabelCodes(CLASSES, 255)
    volumes = [Volume(name, image, labels=labels, region=area, fov=SIDE, codes=codes) for name in ("a", "b")]
    return Dataset("toy", volumes[:1], volumes[1:], CLASSES, 255, None)


def squares(image):
    """A graph whose regions are 8 x 8 px."""
    y, x = np.indices(image.shape) // 8
    regions = (y * (SIDE // 8) + x).astype(np.int32)
    return SimpleNamespace(regions=regions, n=int(regions.max()) + 1)


def test_clicks_are_places_of_the_file_that_have_their_class(dataset):
    found = list(table.clicks(SimpleNamespace(build=squares), dataset, 5, draw=1))
    assert [sum(name == each for *_, name in found) for each in CLASSES.values()] == [5, 5, 5]
    codes = {name: code for code, name in CLASSES.items()}
    volume = dataset.train[0]
    for image, z, y, x, name in found:
        assert image == "a" and 2 <= z < 6 and volume.labels[z, y, x] == codes[name]
    assert found == list(table.clicks(SimpleNamespace(build=squares), dataset, 5, draw=1))
    assert found != list(table.clicks(SimpleNamespace(build=squares), dataset, 5, draw=2))


def test_a_map_like_the_labels_has_all_objects_and_one_of_other_slices_has_not(dataset, tmp_path):
    volume = dataset.test[0]
    place = tmp_path / "segmentation" / "b_classes.tif"
    place.parent.mkdir()
    found = np.full(volume.file_shape, 255, np.uint8)
    found[2:6, 4:-4, 6:-2] = volume.labels[2:6, 4:-4, 6:-2]
    tifffile.imwrite(place, found)
    rows = {title: measured for title, cleaned, *measured in table.rows(tmp_path, dataset, 10) if cleaned == "no"}
    assert set(rows) == {"nucleus", "granules"}
    assert rows["nucleus"][:8] == ["1", "1", "1", "1", "1", "1", "0", "0"]
    assert rows["nucleus"][8::2] == rows["nucleus"][9::2]  # shapes, beside those of the labels
    found[3, 30:32, 50:52] = 0  # a hole, which is filled
    tifffile.imwrite(place, found)
    cleaned = {title: measured for title, cleaned, *measured in table.rows(tmp_path, dataset, 10) if cleaned == "yes"}
    assert cleaned["nucleus"][:3] == ["1", "1", "1"]
    found[2:6] = np.roll(found[2:6], 1, axis=0)
    tifffile.imwrite(place, found)
    rows = {title: measured for title, cleaned, *measured in table.rows(tmp_path, dataset, 10) if cleaned == "no"}
    assert rows["nucleus"][3:5] == ["0", "0"]


def test_draws_are_one_row_and_a_set_is_said_to_be_synthetic():
    shapes, way = ["0.1", "0.2", "30", "40", "0.8", "0.9"], "30 clicks a class"
    measured = {
        ("8 clusters", ""): ["3", "2", "0.8", "0.5", "0", "0.4", "0.1", "0.2"],
        (way, "0"): ["3", "2", "0.8", "0.5", "0", "0.4", "0.1", "0.2"],
        (way, "1"): ["5", "2", "0.6", "0.5", "0", "0.4", "0.1", "nan"],
    }
    lines = [["phantom", "nucleus", *drawn, "no", *numbers, *shapes] for drawn, numbers in measured.items()]
    first, second = table.table(lines).splitlines()[2:]
    assert first.startswith("| phantom (synthetic) | nucleus | 8 clusters | no | 3 | 2 | 0.800 |")
    assert second.startswith(
        "| phantom (synthetic) | nucleus | 30 clicks a class | no | 4 | 2 | 0.700 ± 0.141 | 0.500 ± 0.000"
    )
    assert "2 draws" in table.page(lines, 500, [])
    lines[1][4] = lines[2][4] = "yes"
    shown = table.shapes_table(lines).splitlines()[2:]
    assert shown == [
        "| phantom (synthetic) | nucleus | 30 clicks a class | 4 (2) | 0.100 (0.200) | 30 (40) | 0.80 (0.90) |"
    ]
