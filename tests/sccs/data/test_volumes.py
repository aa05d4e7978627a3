import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from registry.base import UserError
from sccs.data import DATASETS, describe, load_dataset
from sccs.data.loading import phantom_folder
from sccs.data.tiler import assemble
from sccs.data.volumes import DATA_MODELS, LabelCodes, Region, Volume, evenly
from sccs.system.cache import cache_folder

CLASSES = {0: "rest", 1: "nucleus", 2: "granule"}


def picture(shape=(5, 200, 170), seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


def codes(shape=(5, 200, 170), seed=1):
    return np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)


def load(train, test=(), base=".", **block):
    return load_dataset({"name": "volumes", "fov": 80, "train": list(train), "test": list(test), **block}, base)


def refused(match, *args, **kwargs):
    with pytest.raises(UserError, match=match) as error:
        load(*args, **kwargs)
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------ volumes and FOVs
@pytest.mark.parametrize("plane_at_once", [1 << 26, 1000])
def test_fovs_reassemble_to_the_standardised_slices(monkeypatch, plane_at_once):
    monkeypatch.setattr("sccs.data.volumes.PLANE_AT_ONCE", plane_at_once)
    image, labels = picture(), codes()
    volume = load([{"image": image, "labels": labels}], classes=CLASSES).train[0]
    fovs = list(volume.fovs())
    assert len(fovs) == 5 * 3 * 3 and len({fov.key for fov in fovs}) == len(fovs)
    for z in range(5):
        here = [fov for fov in fovs if fov.z == z]
        whole = assemble((200, 170), [(fov.y, fov.x, fov.image) for fov in here])
        assert np.allclose(whole, (image[z] - volume.mean) / volume.std, atol=1e-5)
        assert np.array_equal(whole, volume.read_slice(z))
        assert np.array_equal(assemble((200, 170), [(fov.y, fov.x, fov.labels) for fov in here]), labels[z])
    assert fovs[0].image.dtype == np.float32 and fovs[0].labels.dtype == np.int32
    assert all(fov.image.flags.c_contiguous and fov.labels.flags.c_contiguous for fov in fovs)
    assert np.isclose(volume.mean, image.mean()) and np.isclose(volume.std, image.std())


def test_a_region_is_what_is_read_and_what_the_statistics_are_of():
    image, labels = picture((9, 200, 170)), codes((9, 200, 170))
    region = {"z": [1, 8, 3], "y": [20, 150], "x": [30, 170]}
    volume = load([{"image": image, "labels": labels, "region": region}], classes=CLASSES).train[0]
    assert volume.z_slices == [1, 4, 7] and volume.origin == (1, 20, 30) and volume.shape == (7, 130, 140)
    part = image[1:8:3, 20:150, 30:170]
    assert np.isclose(volume.mean, part.mean()) and np.isclose(volume.std, part.std())
    assert np.allclose(volume.read_slice(4), (part[1] - part.mean()) / part.std(), atol=1e-5)
    assert np.array_equal(volume.read_labels(4), labels[4, 20:150, 30:170])
    fov = next(volume.fovs())
    assert (fov.z, fov.y, fov.x) == (1, 0, 0) and fov.key == f"{volume.name}:1:0:0"


def test_statistics_come_from_sixteen_slices_whatever_is_used():
    image = picture((64, 80, 80)) // 2 + np.arange(64, dtype=np.uint8)[:, None, None]
    few = load([{"image": image}], max_train_slices=2).train[0]
    every = load([{"image": image}]).train[0]
    assert few.z_slices == [16, 48] and len(every.z_slices) == 64
    assert (few.mean, few.std) == (every.mean, every.std)
    assert np.isclose(few.mean, image[2::4].mean()) and np.isclose(few.std, image[2::4].std())


def test_statistics_survive_a_large_offset():
    image = picture((2, 80, 80), dtype=np.float64) / 255 + 1e6
    volume = Volume("v", image)
    assert np.isclose(volume.std, image.std(), rtol=1e-6)


def test_a_flat_image_is_a_volume_of_one_slice():
    data = load([{"image": picture((100, 90))}])
    assert data.train[0].shape == (1, 100, 90) and data.train[0].z_slices == [0]


def test_full_gives_one_fov_a_slice():
    assert [fov.image.shape for fov in load([{"image": picture()}], fov="full").train[0].fovs()] == [(200, 170)] * 5


@pytest.mark.parametrize("count, chosen", [(None, [3, 4, 5, 6, 7]), (9, [3, 4, 5, 6, 7]), (1, [5]), (2, [4, 6])])
def test_slices_are_spread_evenly(count, chosen):
    assert evenly(range(3, 8), count) == chosen


def test_test_and_training_slices_are_limited_apart():
    data = load([{"image": picture()}], [{"image": picture(seed=2)}], max_train_slices=1, max_test_slices=2)
    assert data.train[0].z_slices == [2] and data.test[0].z_slices == [1, 3]


# ---------------------------------------------------------------------------------------------------------- labels
def test_merge_and_ignore():
    labels = codes()
    labels[labels == 2] = 6
    labels[0, :10] = 255
    data = load([{"image": picture(), "labels": labels}], classes={0: "rest", 1: "a"}, merge={6: 1}, ignore=255)
    volume = data.train[0]
    read = volume.read_labels(0)
    assert set(np.unique(read)) == {0, 1, 255} and (read[:10] == 255).all()
    assert np.array_equal(read[10:] == 1, labels[0, 10:] > 0)


def test_unlabelled_volumes_have_no_labels():
    data = load([{"image": picture()}])
    assert next(data.train[0].fovs()).labels is None and data.train[0].read_labels(0) is None and data.test == []


def test_unknown_label_codes_are_all_listed():
    labels = codes()
    labels[0, 0, 0], labels[4, 5, 5] = 9, 200
    refused(
        r"data\.test\.0\.labels: label codes 9, 200 are neither",
        [{"image": picture()}],
        [{"image": picture(), "labels": labels}],
        classes=CLASSES,
    )


def test_unknown_codes_outside_the_sample_are_found_when_read():
    reader = LabelCodes({0: "rest"}, ignore=255)
    with pytest.raises(UserError, match="label codes 7 "):
        reader.read(np.array([[0, 255, 7]]), "labels")


def test_labels_of_another_shape_name_both_shapes():
    refused(
        r"\(5, 200, 169\).*\(5, 200, 170\)", [{"image": picture(), "labels": codes((5, 200, 169))}], classes=CLASSES
    )


def test_labels_must_be_integers():
    refused("labels are float64", [{"image": picture(), "labels": codes() * 1.0}], classes=CLASSES)


def test_labels_without_classes_are_refused():
    refused("names no class", [{"image": picture(), "labels": codes()}])


# ------------------------------------------------------------------------------------------------------- bad input
def test_an_empty_training_list_is_refused():
    refused(r"data\.train: the training list is empty", [])


def test_small_images_are_refused_by_the_shorter_side():
    refused("79 x 300 px .* smaller than a window of 80", [{"image": picture((2, 79, 300))}])
    load_dataset({"fov": 80, "train": [{"image": picture((2, 79, 300))}]}, ".", min_side=40)


def test_colour_arrays_are_refused():
    refused("colour", [{"image": picture((200, 170, 3))}])
    refused("no volume", [{"image": picture((2, 200, 170, 3))}])


def test_constant_images_are_refused():
    refused("constant", [{"image": np.full((2, 100, 100), 7, np.uint8)}])
    refused("constant", [{"image": np.full((2, 100, 100), 0.1, np.float32)}])


def test_nan_pixels_are_refused_when_loaded_and_when_read():
    image = picture((40, 80, 80), dtype=np.float32)
    image[0, 3, 3] = np.nan
    refused("slice z=0 has NaN", [{"image": image, "region": {"z": [0, 2]}}])
    volume = load([{"image": image}]).train[0]  # slice 0 is not among the sixteen sampled ones
    with pytest.raises(UserError, match="slice z=0 has NaN"):
        volume.read_slice(0)


@pytest.mark.parametrize(
    "region, message",
    [
        ({"y": [0, 201]}, r"region y: \[0, 201\] is out of range, the image has 200"),
        ({"z": [4, 9]}, "region z"),
        ({"y": [50, 50]}, "region.*y: .* is not"),
        ({"x": [0, 100, 2]}, "region.*x: .* is not"),
        ({"z": [-2, 4]}, "region.*z: .* is not"),
    ],
)
def test_regions_out_of_range_are_refused(region, message):
    refused(message, [{"image": picture(), "region": region}])


@pytest.mark.parametrize(
    "block, message",
    [
        ({"fow": 80}, "data.fow"),
        ({"fov": 60}, "data.fov"),
        ({"fov": "half"}, "data.fov"),
        ({"classes": {0: "a", 1: "a"}}, "not unique"),
        ({"classes": {0: "a"}, "ignore": 0}, "ignore: code 0 is also a class"),
        ({"classes": {0: "a"}, "merge": {6: 5}}, "merge: 6 goes to 5"),
        ({"max_train_slices": 0}, "data.max_train_slices"),
        ({"name": "volume"}, "no data set 'volume'; one of phantom, betaseg, volumes"),
        ({"anchor": "volume:0:0:7"}, "data.anchor: .*'volume:0:0:7'.*reads like volume:0:0:0"),
    ],
)
def test_wrong_blocks_are_refused_by_key(block, message):
    refused(message, [{"image": picture()}], **block)


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"image": picture(), "name": "a:b"}, "data.train.0.name"),
        ({"image": picture(), "voxel_size": [1, 1]}, "data.train.0.voxel_size"),
        ({"image": picture(), "voxel_size": [1, 0, 1]}, "positive"),
        ({"image": picture(), "label": "x"}, "data.train.0.label: "),
        ({"image": 5}, "data.train.0.image: "),
        ({"image": "$SCCS_NO_SUCH_FOLDER/a.tif"}, r"data\.train\.0\.image: .* variable SCCS_NO_SUCH_FOLDER is not set"),
    ],
)
def test_wrong_entries_are_refused_by_key(entry, message):
    refused(message, [entry])


def test_an_anchor_that_is_there_is_kept():
    assert load([{"image": picture()}], anchor="volume:4:67:57").anchor == "volume:4:67:57"


# ------------------------------------------------------------------------------------------------ files and naming
def test_files_are_found_relative_to_the_recipe_and_through_variables(tmp_path, monkeypatch):
    image, labels = picture(), codes()
    tifffile.imwrite(tmp_path / "cell.tif", image, photometric="minisblack")
    tifffile.imwrite(tmp_path / "cell_labels.tif", labels, photometric="minisblack")
    monkeypatch.setenv("SCCS_TEST_FOLDER", str(tmp_path))
    data = load(
        [{"image": "cell.tif", "labels": "cell_labels.tif", "voxel_size": [8, 4, 4]}],
        [{"image": "${SCCS_TEST_FOLDER}/cell.tif", "region": {"z": [4, 5]}}],
        base=tmp_path,
        classes=CLASSES,
    )
    assert [data.train[0].name, data.test[0].name] == ["cell-train", "cell-test"]
    assert data.train[0].voxel_size == (8, 4, 4)
    assert np.array_equal(data.train[0].read_labels(2), labels[2])
    assert np.allclose(data.test[0].read_slice(4) * data.test[0].std + data.test[0].mean, image[4], atol=1e-3)


def test_a_missing_file_is_one_line(tmp_path):
    refused("nowhere.tif", [{"image": "nowhere.tif"}], base=tmp_path)


@pytest.mark.parametrize(
    "images, names",
    [
        (["a.tif", "sub/b.ome.zarr", "c.h5:/raw/em"], ["a", "b", "c"]),
        (["x/em.tif", "y/em.tif"], ["em-train", "em-train-2"]),
        (["stack/*.png", "folder/"], ["stack", "folder"]),
        (["d.n5/volumes/raw", "my cell.TIFF"], ["d", "my_cell"]),
    ],
)
def test_volumes_are_named_after_their_files(images, names):
    from sccs.data.loading import _names

    block = DATA_MODELS["volumes"](train=[{"image": image} for image in images])
    assert list(_names(block).values()) == names


@pytest.mark.parametrize("code", [-1, 255, 300])
def test_codes_that_no_file_can_hold_are_refused_with_merge(code):
    refused(f"code {code} of 'b'.*merge: {{{code}: 1}}", [{"image": picture()}], classes={0: "a", code: "b"})
    data = load([{"image": picture()}], classes={0: "a", 1: "b"}, merge={code: 1}, ignore=1000)
    assert data.train[0].codes.read(np.array([[code, 0, 1000]]), "labels").tolist() == [[1, 0, 1000]]


def test_given_names_are_kept_and_must_be_unique():
    assert load([{"image": picture(), "name": "c1"}]).train[0].name == "c1"
    refused("2 volumes are named 'c1'", [{"image": picture(), "name": "c1"}], [{"image": picture(), "name": "c1"}])


def test_describe_has_a_line_for_each_volume():
    text = describe(
        load(
            [{"image": picture()}],
            [{"image": picture(), "labels": codes(), "voxel_size": [50, 10, 10]}],
            classes=CLASSES,
        )
    )
    assert len(text.splitlines()) == 3
    assert "50 x 10 x 10 nm" in text and "unlabelled" in text and "45 FOVs" in text


# --------------------------------------------------------------------------------------------------------- phantom
@pytest.fixture()
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SCCS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


SMALL = {"name": "phantom", "fov": 80, "shapes": [[4, 80, 80]] * 4, "train_slices": 1, "test_slices": 2}


def test_phantom_is_generated_once_and_read_from_the_cache_after(cache, monkeypatch):
    first = load_dataset(SMALL, ".")
    assert [volume.name for volume in first.train + first.test] == [f"phantom_c{i}" for i in (1, 2, 3, 4)]
    assert len(first.test) == 1 and first.test[0].z_slices == [1, 3] and first.train[0].z_slices == [2]
    assert first.ignore == 255 and first.classes[1] == "nucleus"
    assert [path.name for path in cache.iterdir()] == [path.name for path in cache.glob("phantom-*")]
    monkeypatch.setattr("sccs.data.phantom.make_phantom", lambda **_: pytest.fail("generated again"))
    again = load_dataset(SMALL, ".")
    assert np.array_equal(first.test[0].read_slice(1), again.test[0].read_slice(1))
    assert np.array_equal(first.test[0].read_labels(1), again.test[0].read_labels(1))


def test_phantom_seed_is_fixed_or_the_runs(cache, monkeypatch):
    asked = []
    monkeypatch.setattr("sccs.data.loading.phantom_folder", lambda arguments: asked.append(arguments) or 1 / 0)
    for block, seed in ((SMALL, 5), ({**SMALL, "seed": None}, 5), ({**SMALL, "seed": 3}, 5)):
        with pytest.raises(ZeroDivisionError):
            load_dataset(block, ".", seed)
    assert [arguments["seed"] for arguments in asked] == [0, 5, 3]


def test_a_generation_that_fails_leaves_nothing(cache, monkeypatch):
    def broken(**_):
        raise RuntimeError("killed")

    monkeypatch.setattr("sccs.data.phantom.make_phantom", broken)
    with pytest.raises(RuntimeError):
        phantom_folder({"seed": 1})
    assert list(cache.iterdir()) == []


def test_two_generations_at_once_agree(cache, monkeypatch):
    from sccs.data import phantom

    make = phantom.make_phantom

    def slow(**arguments):  # another run finishes while this one generates
        monkeypatch.setattr(phantom, "make_phantom", make)
        other = phantom_folder(arguments)
        monkeypatch.setattr(phantom, "make_phantom", slow)
        assert other.is_dir()
        return make(**arguments)

    monkeypatch.setattr(phantom, "make_phantom", slow)
    folder = phantom_folder({"seed": 0, "shapes": [[4, 80, 80]] * 2})
    assert list(cache.iterdir()) == [folder] and (folder / "cells.json").is_file()


def test_the_cache_lies_in_the_home_folder_unless_told(monkeypatch):
    monkeypatch.delenv("SCCS_CACHE", raising=False)
    assert cache_folder().parts[-2:] == (".cache", "sccs")


# ---------------------------------------------------------------------------------------------------- whole package
def test_every_data_set_is_described_and_has_a_schema():
    assert set(DATASETS) == set(DATA_MODELS)


def test_import_is_light():
    heavy = ["torch", "dgl", "faiss", "zarr", "skimage", "matplotlib", "tifffile", "h5py"]
    code = f"import sys, sccs.data, sccs.data.loading; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_volume_can_be_made_without_a_recipe():
    volume = Volume("mine", picture(), voxel_size=(16, 16, 16), region=Region(y=[0, 100]), fov="full")
    assert [fov.key for fov in volume.fovs()][:2] == ["mine:0:0:0", "mine:1:0:0"]


# ------------------------------------------------------------------------------------------------------- real sets
EXPECTED = {  # training and test slices, classes that occur in both parts
    "platelet": ([0], [0], {0, 1, 2, 3, 4, 5}),
    "hela": ([0], [0], {1, 2, 3, 4}),
    "cdeep3m": ([0, 2, 4, 6], [12, 14, 16, 18], {0, 1}),
    "vnc": ([0, 2, 4], [8, 10, 12], {0, 1, 2, 3, 4}),
}


@pytest.mark.skipif(not os.environ.get("SCCS_DATA"), reason="SCCS_DATA, the folder of the real sets, is not set")
@pytest.mark.parametrize("name", EXPECTED)
def test_real_sets_have_every_class_in_both_parts_and_share_no_pixel(name):
    recipe = Path(__file__).parents[3] / "recipes" / f"{name}.yaml"
    text = yaml.safe_load(recipe.read_text())
    assert set(text) == {"description", "extends", "data"}, "recipes of real sets change nothing but the data"
    data = load_dataset(text["data"], recipe.parent)
    train, test = data.train[0], data.test[0]
    for volume, slices in ((train, EXPECTED[name][0]), (test, EXPECTED[name][1])):
        assert volume.z_slices == slices
        found = {int(code) for z in slices for code in np.unique(volume.read_labels(z))}
        assert found == EXPECTED[name][2] == set(data.classes)
    assert set(train.z_slices).isdisjoint(test.z_slices) or any(
        train.origin[axis] + train.shape[axis] <= test.origin[axis] for axis in (1, 2)
    )
    assert train.name != test.name


# ---------------------------------------------------------------------------------------------------- windows, sample
def test_a_window_is_that_part_of_the_standardised_slice():
    image = np.random.default_rng(0).integers(0, 255, (3, 100, 120)).astype(np.uint8)
    volume = Volume("a", image, region=Region(z=[1, 3], y=[10, 100], x=[5, 115]))
    window = volume.read_window(2, slice(3, 40), slice(7, 50))
    assert np.array_equal(window, volume.read_slice(2)[3:40, 7:50]) and window.dtype == np.float32


def test_known_statistics_are_not_taken_again():
    image = Unreadable(np.zeros((3, 100, 120), np.uint8))
    volume = Volume("a", image, statistics=(100.0, 20.0))
    assert (volume.mean, volume.std) == (100.0, 20.0)


class Unreadable:
    """A shape, and no pixels."""

    def __init__(self, array):
        self.shape = array.shape


def test_of_very_large_slices_evenly_spaced_bands_are_sampled(monkeypatch):
    monkeypatch.setattr("sccs.data.volumes.PLANE_AT_ONCE", 1200)
    monkeypatch.setattr("sccs.data.volumes.SAMPLED_PIXELS", 2400)
    image = np.random.default_rng(0).integers(0, 255, (1, 100, 120)).astype(np.uint8)
    rows = np.r_[20:30, 70:80]  # two bands of ten, of ten bands
    assert Volume("a", image).mean == pytest.approx(image[0, rows].mean())
