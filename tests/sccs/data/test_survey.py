"""What a folder holds: which volumes and levels, what their slices look like, and what is left out and said."""

import json

import pytest
import tifffile
from PIL import Image

from sccs.data.readers import open_image
from sccs.data.survey import choose_level, examine, find_volumes, look_at, survey
from tests.sccs.survey_files import phantom_levels, volume, write_n5, write_ome_zarr, write_stacks


@pytest.fixture(scope="module")
def levels():
    return phantom_levels()


def test_numbered_images_of_one_size_are_slices_of_one_volume(tmp_path):
    for z, plane in enumerate(volume()):
        Image.fromarray(plane).save(tmp_path / f"s_{z}.png")
    paths, notes = find_volumes(str(tmp_path))
    assert paths == [str(tmp_path)] and "6 images of one size" in notes[0]
    Image.fromarray(volume(shape=(120, 90))[0]).save(tmp_path / "s_9.png")
    assert len(find_volumes(str(tmp_path))[0]) == 7  # several sizes: images of their own


def test_a_damaged_volume_among_others_is_left_out_and_said(tmp_path):
    cells = write_stacks(tmp_path / "cells")
    (cells / "d.tif").write_bytes(b"II*\0 no more")
    volumes, notes = survey(str(cells))
    assert [found.name for found in volumes] == ["a", "b", "c"]
    assert any("d.tif" in note for note in notes)


def test_contrast_is_looked_at(tmp_path):
    def remarks(image):
        tifffile.imwrite(tmp_path / "x.tif", image, metadata={"axes": "ZYX"})
        return " ".join(look_at(open_image(tmp_path / "x.tif")).remarks())

    good = volume()
    assert remarks(good) == ""
    assert "inverted" in remarks(255 - good)
    padded, half = good.copy(), good.copy()
    padded[0] = 0
    half[:, :40] = 255
    assert "1 of 6 slices looked at are empty" in remarks(padded)
    assert "exactly 255" in remarks(half)
    assert "labels" in remarks(good // 100)


def test_the_level_nearest_to_the_pixels_of_the_features_is_taken(tmp_path):
    assert choose_level([(4, 4, 4), (8, 8, 8), (16, 16, 16), (32, 32, 32)])[0] == 2
    assert choose_level([None, None])[0] == 0
    image = volume(shape=(400, 400))
    with tifffile.TiffWriter(tmp_path / "p.tif", ome=True) as file:
        file.write(image, subifds=1, metadata={"axes": "ZYX"})
        file.write(image[:, ::2, ::2], subfiletype=1)
    found = examine(str(tmp_path / "p.tif"), voxel_size=(40, 6, 6))
    assert (found.level, found.source.shape, found.voxel_size) == (1, (6, 200, 200), (40, 12, 12))


def test_levels_smaller_than_a_window_are_not_chosen(levels, tmp_path):
    assert choose_level([(6, 6, 6), (12, 12, 12)], [(9, 90, 150), (9, 45, 75)])[0] == 0
    assert choose_level([(6, 6, 6), (12, 12, 12)], [(9, 45, 75), (9, 22, 37)])[0] == 1  # as none is large enough
    write_ome_zarr(
        tmp_path / "a.ome.zarr", [level[:, :130, :130] for level in levels[:1]] + [levels[1][:, :65, :65]], "0.5"
    )
    found = examine(str(tmp_path / "a.ome.zarr"))
    assert found.level == 0 and found.chosen_for.endswith("of the levels of 80 px and more")


def test_the_finest_size_tells_those_of_all_levels(levels, tmp_path):
    write_n5(tmp_path / "a.n5", levels)
    for i in range(3):
        file = tmp_path / "a.n5" / "em" / f"s{i}" / "attributes.json"
        about = json.loads(file.read_text())
        file.write_text(json.dumps({key: value for key, value in about.items() if key != "transform"}))
    assert examine(str(tmp_path / "a.n5")).level == 0  # nobody knows
    found = examine(str(tmp_path / "a.n5"), voxel_size=(30, 6, 6))
    assert (found.level, found.voxel_size) == (1, (30, 12, 12))
