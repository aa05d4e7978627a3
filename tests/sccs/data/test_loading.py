"""From a `data` block to a data set: paths and names, the phantom's cache, the recipes of real sets."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from sccs.data import describe, load_dataset
from sccs.data.loading import phantom_folder
from sccs.data.schema import DATA_MODELS
from sccs.system import cache as cache_module
from sccs.system.cache import cache_folder
from tests.sccs.data.own_volumes import CLASSES, codes, load, picture, refused


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


def test_labels_without_classes_are_refused():
    refused("data.classes is empty", [{"image": picture(), "labels": codes()}])


def test_colour_arrays_are_refused():
    refused("colour", [{"image": picture((200, 170, 3))}])
    refused("neither a volume", [{"image": picture((2, 200, 170, 3))}])


@pytest.mark.parametrize(
    "images, names",
    [
        (["a.tif", "sub/b.ome.zarr", "c.h5:/raw/em"], ["a", "b", "c"]),
        (["x/em.tif", "y/em.tif"], ["em-train", "em-train-2"]),
        (["em.tif", "Em.tif"], ["em", "Em-2"]),  # one file on disks that know no capitals
        (["stack/*.png", "folder/"], ["stack", "folder"]),
        (["d.n5/volumes/raw", "my cell.TIFF"], ["d", "my_cell"]),
    ],
)
def test_volumes_are_named_after_their_files(images, names):
    from sccs.data.loading import _names

    block = DATA_MODELS["volumes"](train=[{"image": image} for image in images])
    assert list(_names(block).values()) == names


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


def test_the_entry_is_named_by_the_code_of_every_module_of_the_generator(cache, monkeypatch):
    from sccs.data import phantom

    first = phantom_folder({"seed": 0, "shapes": [[4, 8, 8]]})
    for path in Path(phantom.__file__).parent.glob("*.py"):
        module = phantom.__name__ if path.stem == "__init__" else f"{phantom.__name__}.{path.stem}"
        code = cache_module._code
        with monkeypatch.context() as patch:
            patch.setattr(cache_module, "_code", lambda name: code(name) + "pass" * (name == module))
            patch.setattr(phantom, "make_phantom", lambda **_: [])
            assert phantom_folder({"seed": 0, "shapes": [[4, 8, 8]]}) != first, module
    monkeypatch.setattr(phantom, "make_phantom", lambda **_: pytest.fail("generated again"))
    assert phantom_folder({"seed": 0, "shapes": [[4, 8, 8]]}) == first


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


def test_import_is_light():
    heavy = ["torch", "dgl", "faiss", "zarr", "skimage", "matplotlib", "tifffile", "h5py"]
    code = f"import sys, sccs.data, sccs.data.loading; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


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
    evaluation = text.pop("evaluation", {})
    assert set(text) == {"description", "extends", "data"}, "recipes of real sets change nothing but the data"
    assert set(evaluation) <= {"rest"} and set(evaluation.values()) <= set(text["data"]["classes"].values())
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
