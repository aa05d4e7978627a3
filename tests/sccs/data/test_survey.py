"""What a folder holds: which volumes and levels, what their slices look like, and what is left out and said."""

import json
import shutil

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
    assert "label file" in remarks(good // 100)


def test_the_level_nearest_to_the_pixels_of_the_features_is_taken(tmp_path):
    assert choose_level([(4, 4, 4), (8, 8, 8), (16, 16, 16), (32, 32, 32)])[0] == 2
    assert choose_level([None, None])[0] == 0
    image = volume(shape=(400, 400))
    with tifffile.TiffWriter(tmp_path / "p.tif", ome=True) as file:
        file.write(image, subifds=1, metadata={"axes": "ZYX"})
        file.write(image[:, ::2, ::2], subfiletype=1)
    found = examine(str(tmp_path / "p.tif"), voxel_size=(40, 6, 6))
    assert (found.level, found.source.shape, found.voxel_size) == (1, (6, 200, 200), (40, 12, 12))


def test_levels_that_were_not_copied_are_not_chosen(levels, tmp_path):
    write_ome_zarr(tmp_path / "a.ome.zarr", levels, "0.5")
    shutil.rmtree(tmp_path / "a.ome.zarr" / "1")  # the metadata still lists it
    found = examine(str(tmp_path / "a.ome.zarr"))
    assert len(found.levels) == 1 and found.source.shape == levels[0].shape


def test_levels_smaller_than_a_window_are_not_chosen(levels, tmp_path):
    assert choose_level([(6, 6, 6), (12, 12, 12)], [(9, 90, 150), (9, 45, 75)])[0] == 0
    assert choose_level([(6, 6, 6), (12, 12, 12)], [(9, 45, 75), (9, 22, 37)])[0] == 1  # as none is large enough
    write_ome_zarr(
        tmp_path / "a.ome.zarr", [level[:, :130, :130] for level in levels[:1]] + [levels[1][:, :65, :65]], "0.5"
    )
    found = examine(str(tmp_path / "a.ome.zarr"))
    assert found.level == 0 and found.chosen_for.endswith("among levels of at least 80 px")


def test_the_finest_size_tells_those_of_all_levels(levels, tmp_path):
    write_n5(tmp_path / "a.n5", levels)
    for i in range(3):
        file = tmp_path / "a.n5" / "em" / f"s{i}" / "attributes.json"
        about = json.loads(file.read_text())
        file.write_text(json.dumps({key: value for key, value in about.items() if key != "transform"}))
    assert examine(str(tmp_path / "a.n5")).level == 0  # nobody knows
    found = examine(str(tmp_path / "a.n5"), voxel_size=(30, 6, 6))
    assert (found.level, found.voxel_size) == (1, (30, 12, 12))


def write_flat(folder, *names):
    folder.mkdir(exist_ok=True, parents=True)
    for name, plane in zip(names, volume(depth=len(names))):
        Image.fromarray(plane).save(folder / name)


def found(folder):
    paths, notes = find_volumes(str(folder))
    return [path.removeprefix(f"{folder}/") for path in paths], " / ".join(notes)


def test_folders_in_a_folder_are_looked_into(tmp_path):
    for cell in ("cellA", "cellB"):
        (tmp_path / cell).mkdir()
        tifffile.imwrite(tmp_path / cell / "stack.tif", volume())
    write_flat(tmp_path / "hela", "z170_image.png", "z170_labels.png")
    write_flat(tmp_path / "slices" / "deep", *(f"{z}.png" for z in range(3)))
    write_flat(tmp_path / "masks", "1.png", "2.png")
    (tmp_path / "empty").mkdir()
    paths, notes = found(tmp_path)
    assert paths == ["cellA/stack.tif", "cellB/stack.tif", "hela/z170_image.png", "slices/deep"]
    assert (
        "z170_labels.png: labels, judging by its name" in notes
        and "masks: labels" in notes
        and "empty: not an image" in notes
    )


@pytest.mark.parametrize(
    "names, paths",
    [
        (["z000_c0", "z000_c1", "z001_c0", "z001_c1"], ["z*_c0.png", "z*_c1.png"]),
        (["s1_ch00", "s1_ch01", "s2_ch00", "s2_ch01"], ["s*_ch00.png", "s*_ch01.png"]),
        (["cell1_slice1", "cell1_slice2", "cell2_slice1", "cell2_slice2"], ["cell1_slice*.png", "cell2_slice*.png"]),
        (["tile_r0_c0", "tile_r0_c1", "tile_r1_c0", "tile_r1_c1"], ["tile_r*"] * 4),
        (["img_c0", "img_c1"], ["img_c*"] * 2),
        (["1_1", "1_2", "2_1", "2_2"], ["*_*"] * 4),
        (["s1_20240101", "s2_20240102", "s3_20240103"], ["."]),
        (["cell3_1", "cell3_2", "cell3_3"], ["."]),
        (["c01", "c02", "c03", "c04", "c05", "c06", "c07", "c08", "c09", "c10"], ["."]),
    ],
)
def test_channels_tiles_and_samples_are_no_slices(tmp_path, names, paths):
    write_flat(tmp_path, *(f"{name}.png" for name in names))
    given, notes = found(tmp_path)
    if paths == ["."]:
        assert given == [str(tmp_path)] and "more than one number" not in notes
    elif len(set(paths)) == 1:
        assert given == [f"{name}.png" for name in names] and (
            "separate image" in notes or "not named like slices" in notes
        )
    else:
        assert given == paths and "; taken as" in notes


def test_gaps_in_the_numbers_of_slices_are_told(tmp_path):
    write_flat(tmp_path / "a", "s01.png", "s02.png", "s05.png", "s06.png")
    assert any("none between numbers 2 and 5" in note for note in survey(str(tmp_path / "a"))[1])
    write_flat(tmp_path / "b", "s10.png", "s20.png", "s30.png")
    assert not any("missing" in note for note in survey(str(tmp_path / "b"))[1])


def test_oddities_are_looked_at(tmp_path):
    def remarks(image):
        tifffile.imwrite(tmp_path / "x.tif", image, metadata={"axes": "ZYX"})
        return " ".join(look_at(open_image(tmp_path / "x.tif")).remarks())

    good = volume()
    bar = good.copy()
    bar[:, -16:] = 0
    bar[:, -12:-5, 10:40:3] = 255
    assert "inverted" not in remarks(bar) and "leave it out (region: {y: [0, 80]})" in remarks(bar)
    border = good.copy()
    border[:, :20] = 0
    assert "data bar" not in remarks(border)
    hot = good.astype("u2")
    hot[0, 5, 5] = 65535
    assert "hot pixels" in remarks(hot)
    fading = (good * [[[f]] for f in (1, 0.9, 0.8, 0.7, 0.6, 0.5)]).astype("u1")
    assert "brightness varies along z" in remarks(fading)
    assert "saved as signed" in remarks(good.view("i1")) and "inverted" not in remarks(good.view("i1"))
    cells = (good[:, ::12, ::12].astype("u4") * 300 + range(9)).repeat(12, 1).repeat(12, 2)
    assert "a label file" in remarks(cells)
