"""Volumes as standardised slices and FOVs: regions, statistics, labels, and images that are refused."""

import numpy as np
import pytest

from registry.base import UserError
from sccs.data import load_dataset
from sccs.data.schema import Region
from sccs.data.volumes import LabelCodes, Volume, evenly
from tests.sccs.data.own_volumes import CLASSES, codes, load, picture, refused


@pytest.mark.parametrize("plane_at_once", [1 << 26, 1000])
def test_fovs_reassemble_to_the_standardised_slices(monkeypatch, plane_at_once):
    monkeypatch.setattr("sccs.data.volumes.PLANE_AT_ONCE", plane_at_once)
    image, labels = picture(), codes()
    volume = load([{"image": image, "labels": labels}], classes=CLASSES).train[0]
    fovs = list(volume.fovs())
    assert len(fovs) == 5 * 3 * 3 and len({fov.key for fov in fovs}) == len(fovs)
    for z in range(5):
        here = [fov for fov in fovs if fov.z == z]
        whole, known = np.full((200, 170), np.nan, np.float32), np.full((200, 170), -1)
        for fov in here:
            window = slice(fov.y, fov.y + fov.image.shape[0]), slice(fov.x, fov.x + fov.image.shape[1])
            assert np.isnan(whole[window]).all()  # each pixel once
            whole[window], known[window] = fov.image, fov.labels
        assert np.allclose(whole, (image[z] - volume.mean) / volume.std, atol=1e-5)
        assert np.array_equal(whole, volume.read_slice(z))
        assert np.array_equal(known, labels[z])
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
        r"data\.test\.0\.labels: label codes 9, 200 are in neither",
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


def test_an_empty_training_list_is_refused():
    refused(r"data\.train: the list of training volumes is empty", [])


def test_small_images_are_refused_by_the_shorter_side():
    refused("79 x 300 px .* smaller than a window of 80", [{"image": picture((2, 79, 300))}])
    load_dataset({"fov": 80, "train": [{"image": picture((2, 79, 300))}]}, ".", min_side=40)


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
        ({"y": [0, 201]}, r"region y: \[0, 201\] is out of range; the image has 200"),
        ({"z": [4, 9]}, "region z"),
        ({"y": [50, 50]}, "region.*y: .* is not"),
        ({"x": [0, 100, 2]}, "region.*x: .* is not"),
        ({"z": [-2, 4]}, "region.*z: .* is not"),
    ],
)
def test_regions_out_of_range_are_refused(region, message):
    refused(message, [{"image": picture(), "region": region}])


def test_an_anchor_that_is_there_is_kept():
    assert load([{"image": picture()}], anchor="volume:4:67:57").anchor == "volume:4:67:57"


def test_volume_can_be_made_without_a_recipe():
    volume = Volume("mine", picture(), voxel_size=(16, 16, 16), region=Region(y=[0, 100]), fov="full")
    assert [fov.key for fov in volume.fovs()][:2] == ["mine:0:0:0", "mine:1:0:0"]


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


def seen(image, **options):
    """(volume, what was logged of it)."""
    volume = Volume("v", image, **options)
    return volume, " / ".join(volume.notes)


def blurred(shape=(6, 96, 100), seed=0):
    """8-bit values around 120, smooth, as images are."""
    noise = np.random.default_rng(seed).normal(0, 1, shape)
    smooth = sum(np.roll(noise, (i, j), (1, 2)) for i in range(3) for j in range(3)) / 3
    return (120 + 25 * smooth).clip(0, 255).astype(np.uint8)


def test_the_moments_of_an_ordinary_image_are_what_they_always_were():
    """As of version 0.1, to the last bit: tables rest on them."""
    image = blurred()
    count, mean, spread = 0, 0.0, 0.0
    for plane in image:
        part, part_mean = plane.size, float(plane.mean(dtype=np.float64))
        total, shift = count + part, part_mean - mean
        spread += float(plane.var(dtype=np.float64)) * part + shift * shift * count * part / total
        mean += shift * part / total
        count = total
    volume, said = seen(image)
    assert (volume.mean, volume.std, said) == (mean, (spread / count) ** 0.5, "")
    standard = image[2].astype(np.float32)
    standard -= np.float32(mean)
    standard /= np.float32((spread / count) ** 0.5)
    assert np.array_equal(volume.read_slice(2), standard)


@pytest.mark.parametrize("fill, specks", [(0, 0), (255, 0), (0, 5)])
def test_slices_without_an_image_are_left_out(fill, specks, caplog):
    caplog.set_level("INFO", "sccs.data")
    image = blurred()
    image[1], image[4] = fill, fill
    image[1].flat[:specks] = 200
    volume, said = seen(image)
    plain = Volume("v", image[[0, 2, 3, 5]])
    assert (volume.mean, volume.std) == (plain.mean, plain.std)
    assert "(z = 1, 4) are excluded" in said and said in caplog.text


@pytest.mark.parametrize("dtype, value", [("u2", 65535), ("f4", 1e30), ("f4", -1e30), ("f8", 1e200), ("i2", -32768)])
def test_hot_pixels_move_nothing_but_themselves(dtype, value):
    image = blurred().astype(dtype)
    plain = Volume("v", image.copy())
    image[:, 5, 5] = value
    volume, said = seen(image)
    assert volume.mean == pytest.approx(plain.mean, rel=1e-4) and volume.std == pytest.approx(plain.std, rel=1e-3)
    assert "a few pixels lie far outside" in said
    found, expected = volume.read_slice(3), plain.read_slice(3)
    assert abs(found[5, 5]) == 20 and np.isfinite(found).all()
    found[5, 5] = expected[5, 5]
    assert np.allclose(found, expected, atol=0.02)


def test_what_is_rare_but_not_absurd_stays():
    image = blurred()
    image[:, ::7, ::50] = 255  # gold, say
    volume, said = seen(image)
    assert volume.mean == pytest.approx(image.mean()) and said == ""
    mostly = np.zeros((3, 100, 100), np.uint8)
    mostly[:, 40:60, 40:60] = blurred((3, 20, 20))
    mostly[:, ::99] = mostly[:, :, ::99] = 1  # no border
    assert Volume("v", mostly).std == pytest.approx(mostly.std())


@pytest.mark.parametrize("dtype, offset", [("f8", 1e9), ("f8", -1e12), ("i8", 2**40), ("u8", 2**50), ("u2", 60000)])
def test_values_far_from_0_are_told_apart(dtype, offset):
    image = blurred()
    plain, volume = Volume("v", image), Volume("v", image.astype(dtype) + np.dtype(dtype).type(offset))
    assert volume.std == pytest.approx(plain.std, rel=1e-4)
    assert np.allclose(volume.read_slice(0), plain.read_slice(0), atol=1e-3)


def test_integers_beyond_double_precision_are_refused():
    with pytest.raises(UserError, match="double precision rounds neighbouring values to one; subtract"):
        Volume("v", blurred().astype("u8") + np.uint64(2**60))


@pytest.mark.parametrize("factor", [1e-35, 1e-12, 1e35])
def test_the_scale_of_floats_does_not_matter(factor):
    image = blurred().astype("f8")
    assert np.allclose(Volume("v", image * factor).read_slice(0), Volume("v", image).read_slice(0), atol=1e-5)


def test_drift_is_told():
    image = blurred((8, 96, 100)).astype(np.float32)
    fade = np.linspace(1, 0.5, 8, dtype=np.float32)[:, None, None]
    assert "brightness varies along z by" in seen(image * fade)[1]
    assert "contrast varies along z" in seen((image - 120) * np.where(fade < 0.7, 0.3, 1) + 120)[1]
    assert seen(image * np.linspace(1, 0.95, 8, dtype=np.float32)[:, None, None])[1] == ""


def test_unsigned_values_saved_as_signed_are_told():
    assert "unsigned values were saved as signed" in seen(blurred().view("i1"))[1]
    assert seen(blurred().astype("i2") - 120)[1] == ""


def test_only_what_needs_attention_is_a_warning(caplog):
    caplog.set_level("INFO", "sccs.data")
    image = blurred()
    image[1] = 0
    Volume("v", image, path="a.tif")
    Volume("v", blurred().view("i1"), path="b.tif")
    assert [(r.levelname, r.getMessage()[:5]) for r in caplog.records] == [("INFO", "a.tif"), ("WARNING", "b.tif")]


def test_a_note_is_logged_once_and_not_by_workers(caplog):
    caplog.set_level("INFO", "sccs.data")
    image = blurred()
    image[1] = 0
    Volume("v", image, path="a.tif")
    assert caplog.text.count("a.tif: slices without an image") == 1
    caplog.clear()
    Volume("v", image, statistics=(100.0, 20.0))
    assert caplog.text == ""


@pytest.mark.parametrize("factor, kind", [(1e180, "large"), (1e-300, "small")])
def test_values_whose_squares_are_no_numbers(factor, kind):
    pixels = np.random.default_rng(0).random((1, 96, 96)) * factor
    with pytest.raises(UserError, match=f"too {kind} for double precision; rescale"):
        Volume("far", pixels, path="far.tif").std  # noqa: B018
