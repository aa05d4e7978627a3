"""The schema of a recipe's `data` block: wrong keys and values are refused by their dotted path."""

import numpy as np
import pytest

from sccs.data import DATASETS
from sccs.data.schema import DATA_MODELS
from tests.sccs.data.own_volumes import load, picture, refused


@pytest.mark.parametrize(
    "block, message",
    [
        ({"fow": 80}, "data.fow"),
        ({"fov": 60}, "data.fov"),
        ({"fov": "half"}, "data.fov"),
        ({"classes": {0: "a", 1: "a"}}, "not unique"),
        ({"classes": {0: "a"}, "ignore": 0}, "ignore: code 0 is also a class"),
        ({"classes": {0: "a"}, "merge": {6: 5}}, "merge: 6 maps to 5"),
        ({"max_train_slices": 0}, "data.max_train_slices"),
        ({"name": "volume"}, "no data set 'volume'; one of phantom, betaseg, volumes"),
        ({"anchor": "volume:0:0:7"}, "data.anchor: .*'volume:0:0:7'.*is written like volume:0:0:0"),
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


@pytest.mark.parametrize("code", [-1, 255, 300])
def test_codes_that_no_file_can_hold_are_refused_with_merge(code):
    refused(f"code {code} of 'b'.*merge: {{{code}: 1}}", [{"image": picture()}], classes={0: "a", code: "b"})
    data = load([{"image": picture()}], classes={0: "a", 1: "b"}, merge={code: 1}, ignore=1000)
    assert data.train[0].codes.read(np.array([[code, 0, 1000]]), "labels").tolist() == [[1, 0, 1000]]


def test_every_data_set_is_described_and_has_a_schema():
    assert set(DATASETS) == set(DATA_MODELS)


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\nb", "x" * 101])
def test_names_of_classes_fit_into_a_legend(name):
    refused("classes: the name of 1", [{"image": picture()}], classes={0: "a", 1: name})


@pytest.mark.parametrize("size", [[0, 1, 1], [1e308, 1e-300, 5]])
def test_voxels_have_a_size_that_files_can_say(size):
    refused(
        "voxel sizes must be positive numbers in nm, from 0.001 to 1e\\+09", [{"image": picture(), "voxel_size": size}]
    )
