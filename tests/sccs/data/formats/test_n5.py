"""N5: axis order, levels, groups, and the several places where voxel sizes and offsets stand."""

import json
import pickle

import numpy as np
import pytest

from registry.base import UserError
from sccs.data.readers import open_image
from tests.sccs.data.image_files import add_n5, fails, said, same, volume, write_n5


def test_n5_is_turned_to_zyx(tmp_path):
    data = volume((4, 9, 7), "u2")
    write_n5(tmp_path / "a.n5" / "em" / "s0", data, {"pixelResolution": {"dimensions": [4, 8, 16], "unit": "nm"}})
    source = same(tmp_path / "a.n5" / "em" / "s0", data)
    assert source.voxel_size == (16, 8, 4) and source.array.chunk_depth == 3
    np.testing.assert_array_equal(source.array[1, 2:5, 3], data[1, 2:5, 3])
    same(tmp_path / "a.n5", data)
    same(f"{tmp_path}/a.n5:/em/s0", data)
    same(pickle.loads(pickle.dumps(source)).path, data)


def test_n5_written_by_hand_after_its_specification(tmp_path):
    """One raw block: mode, rank and sizes in big-endian, then values with x running fastest."""
    pytest.importorskip("tensorstore")
    data = volume((4, 9, 7), "u2")
    add_n5(
        tmp_path / "a.n5",
        {"dimensions": [7, 9, 4], "blockSize": [7, 9, 4], "dataType": "uint16", "compression": {"type": "raw"}},
    )
    block = tmp_path / "a.n5" / "0" / "0" / "0"
    block.parent.mkdir(parents=True)
    head = np.array([0, 3], ">u2").tobytes() + np.array([7, 9, 4], ">u4").tobytes()
    block.write_bytes(head + data.astype(">u2").tobytes())
    same(tmp_path / "a.n5", data)


def test_n5_with_a_single_channel(tmp_path):
    data = volume((1, 4, 9, 7), "u2")  # stored as (x, y, z, c)
    write_n5(tmp_path / "a.n5", data)
    same(tmp_path / "a.n5", data[0])


def test_n5_levels_and_where_their_voxel_size_stands(tmp_path):
    fine = volume((4, 10, 8))
    levels = [fine, fine[:, ::2, ::2]]

    def container(name, group, each):
        for i, data in enumerate(levels):
            write_n5(tmp_path / name / "em" / f"s{i}", data, each[i])
        add_n5(tmp_path / name / "em", group)
        sizes = []
        for i, data in enumerate(levels):
            sizes.append(same(tmp_path / name / "em", data, level=i).voxel_size)
            assert same(tmp_path / name / "em" / f"s{i}", data).voxel_size == sizes[-1]
        return sizes

    expected = [(16, 8, 4), (16, 16, 8)]
    resolution = {"pixelResolution": {"dimensions": [0.004, 0.008, 0.016], "unit": "um"}}
    assert container("viewer.n5", {**resolution, "scales": [[1, 1, 1], [2, 2, 1]]}, [{}, {}]) == expected
    assert container("spark.n5", resolution, [{}, {"downsamplingFactors": [2, 2, 1]}]) == expected
    assert container("own.n5", {}, [resolution, {**resolution, "downsamplingFactors": [2, 2, 1]}]) == expected
    assert (
        container(
            "neuroglancer.n5", {"resolution": [4, 8, 16], "units": ["nm"] * 3}, [{}, {"downsamplingFactors": [2, 2, 1]}]
        )
        == expected
    )
    transforms = [
        {"axes": ["z", "y", "x"], "scale": list(s), "translate": [0, 0, 0], "units": ["nm"] * 3} for s in expected
    ]
    assert (
        container(
            "organelle.n5",
            {"pixelResolution": {"dimensions": [4, 8, 16], "unit": "nm"}},
            [{"transform": t} for t in transforms],
        )
        == expected
    )
    datasets = [{"path": f"s{i}", "transform": t} for i, t in enumerate(transforms)]
    assert container("group.n5", {"multiscales": [{"datasets": datasets}]}, [{}, {}]) == expected
    fails(tmp_path / "group.n5" / "em", "has 2 level(s) (s0, s1)", level=5)


UM = ["um"] * 3


@pytest.mark.parametrize(
    "group, each, translations",
    [
        (
            {},
            [
                {
                    "transform": {
                        "axes": ["z", "y", "x"],
                        "scale": [0.016, 0.008 * f, 0.004 * f],
                        "units": UM,
                        "translate": [0.5, 0.02 + 0.004 * (f - 1), 0.03],
                    }
                }
                for f in (1, 2)
            ],
            [(500, 20, 30), (500, 24, 30)],
        ),
        (
            {},
            [
                {
                    "transform": {
                        "axes": ["x", "y", "z"],
                        "scale": [4 * f, 8 * f, 16],
                        "units": ["nm", "nm", "nm"],
                        "translate": [3, 2, 1],
                    }
                }
                for f in (1, 2)
            ],
            [(1, 2, 3)] * 2,
        ),
        (
            {
                "multiscales": [
                    {
                        "name": "em",
                        "datasets": [
                            {
                                "path": f"s{i}",
                                "transform": {
                                    "axes": ["z", "y", "x"],
                                    "scale": [16, 8 * f, 4 * f],
                                    "units": ["nm"] * 3,
                                    "translate": [1, 2 * f, 3],
                                },
                            }
                            for i, f in enumerate((1, 2))
                        ],
                    }
                ]
            },
            [{}, {}],
            [(1, 2, 3), (1, 4, 3)],
        ),
        (
            {
                "multiscales": [
                    {
                        "axes": [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"],
                        "datasets": [
                            {
                                "path": f"s{i}",
                                "coordinateTransformations": [
                                    {"type": "scale", "scale": [0.016, 0.008 * f, 0.004 * f]},
                                    {"type": "translation", "translation": [1, 2 * f, 3]},
                                ],
                            }
                            for i, f in enumerate((1, 2))
                        ],
                    }
                ]
            },
            [{}, {}],
            [(1000, 2000, 3000), (1000, 4000, 3000)],
        ),
        (
            {"pixelResolution": {"dimensions": [0.004, 0.008, 0.016], "unit": "um"}, "scales": [[1, 1, 1], [2, 2, 1]]},
            [{}, {}],
            [(0, 0, 0), (0, 4, 2)],
        ),  # a voxel of the second level lies in the middle of four
        (
            {"resolution": [4, 8, 16], "offset": [30, 20, 10]},
            [{}, {"downsamplingFactors": [2, 2, 1]}],
            [(10, 20, 30), (10, 24, 32)],
        ),
    ],
)
def test_n5_says_where_its_first_voxel_is(tmp_path, group, each, translations):
    fine = volume((4, 10, 8))
    for i, data in enumerate((fine, fine[:, ::2, ::2])):
        write_n5(tmp_path / "a.n5" / "em" / f"s{i}", data, each[i])
    add_n5(tmp_path / "a.n5" / "em", group)
    for i, (expected, size) in enumerate(zip(translations, [(16, 8, 4), (16, 16, 8)])):
        for source in (open_image(tmp_path / "a.n5" / "em", level=i), open_image(tmp_path / "a.n5" / "em" / f"s{i}")):
            assert source.translation == expected and source.voxel_size == size


@pytest.mark.parametrize(
    "attributes, size, translation",
    [
        ({"transform": {"scale": [16, 8, 4], "units": "nm", "translate": [1, 2, 3]}}, (16, 8, 4), (1, 2, 3)),
        ({"transform": {"scale": [16, 8, 4], "axes": ["z", "y", "x"]}}, (16, 8, 4), (0, 0, 0)),
        (
            {
                "transform": {
                    "scale": [1, 1, 1],
                    "axes": ["z", "y", "x"],
                    "units": ["pixel"] * 3,
                    "translate": [5, 5, 5],
                }
            },
            None,
            (0, 0, 0),
        ),  # of no known length
        ({}, None, (0, 0, 0)),
    ],
)
def test_n5_transforms_that_say_less(tmp_path, attributes, size, translation):
    write_n5(tmp_path / "a.n5", volume(), attributes)
    source = open_image(tmp_path / "a.n5")
    assert (source.voxel_size, source.translation) == (size, translation)


def test_n5_groups(tmp_path):
    write_n5(tmp_path / "a.n5" / "em", volume())
    write_n5(tmp_path / "a.n5" / "labels" / "mito", volume())
    fails(tmp_path / "a.n5", "several datasets, none chosen", "em, labels/mito")
    for i, data in enumerate((volume((4, 10, 8)), volume((4, 5, 4)))):
        write_n5(tmp_path / "c.n5" / "em" / f"s{i}", data)
    same(tmp_path / "c.n5", volume((4, 5, 4)), level=1)
    write_n5(tmp_path / "c.n5" / "labels" / "s0", volume())
    fails(tmp_path / "c.n5", "several datasets, none chosen", "<one of: em, labels>")
    (tmp_path / "b.n5").mkdir()
    fails(tmp_path / "b.n5", "an N5 group without a dataset")


def test_damaged_n5_block(tmp_path):
    write_n5(tmp_path / "a.n5", volume())
    (tmp_path / "a.n5" / "0" / "0" / "1").write_bytes(b"\x00\x00\x00")
    array = open_image(tmp_path / "a.n5").array
    np.testing.assert_array_equal(array[0], volume()[0])
    with pytest.raises(UserError) as caught:
        array[3]
    said(caught, "a.n5, slice z=3: cannot be read")


@pytest.mark.parametrize("unit, size", [("um", (50, 9, 8)), ("nm", (0.05, 0.009, 0.008)), ("pixel", None)])
def test_voxels_as_imagej_writes_them(tmp_path, unit, size):
    write_n5(
        tmp_path / "a.n5",
        volume(),
        {"pixelWidth": 0.008, "pixelHeight": 0.009, "pixelDepth": 0.05, "pixelUnit": unit, "numSlices": 4},
    )
    assert same(tmp_path / "a.n5", volume()).voxel_size == size


def test_a_compression_that_is_not_there_is_named(tmp_path):
    write_n5(tmp_path / "a.n5", volume())
    add_n5(tmp_path / "a.n5", {"compression": {"type": "lz4", "blockSize": 65536}})
    fails(tmp_path / "a.n5", "its compression lz4 of N5", "export it with gzip, blosc or zstd")


@pytest.mark.parametrize(
    "attributes, size, told",
    [
        ({"resolution": [8, 9, 50], "units": "nm"}, (50, 9, 8), None),
        ({"resolution": [8, 9, 50], "units": None}, (50, 9, 8), None),
        ({"resolution": [8, 9, 50], "units": ["parsec"] * 3}, None, "its unit parsec is not a length"),
        ({"resolution": {"x": 8}}, None, None),
        ({"pixelResolution": {"unit": "nm", "dimensions": "8 x 9"}}, None, "voxel size is not understood"),
        ({"multiscales": 3, "transform": {"scale": ["a"]}}, None, "voxel size is not understood"),
    ],
)
def test_what_is_said_of_sizes_never_costs_the_pixels(tmp_path, attributes, size, told):
    write_n5(tmp_path / "a.n5", volume())
    add_n5(tmp_path / "a.n5", attributes)  # tensorstore refuses to write, or read, some of them
    source = same(tmp_path / "a.n5", volume())
    assert source.voxel_size == size
    assert [told in note for note in source.notes] == ([True] if told else [])


def test_n5_before_version_2_and_without_what_pixels_need(tmp_path):
    write_n5(tmp_path / "a.n5", volume())
    file = tmp_path / "a.n5" / "attributes.json"
    attributes = json.loads(file.read_text())
    del attributes["compression"]
    file.write_text(json.dumps({**attributes, "compressionType": "gzip"}))
    same(tmp_path / "a.n5", volume())
    del attributes["blockSize"]
    file.write_text(json.dumps(attributes))
    fails(tmp_path / "a.n5", "attributes.json: has no blockSize")
