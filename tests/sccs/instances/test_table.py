"""Measures equal scikit-image's, and those of ellipsoids that are known."""

import math

import numpy as np
import pytest
from scipy.special import ellipeinc, ellipkinc
from skimage.measure import regionprops

from sccs.instances.stores import Memory
from sccs.instances.table import object_table, summary_table
from sccs.instances.work import Wishes, Work, carry_out_here
from tests.sccs.instances.maps import EDGES, blobs, ellipsoid

pytest.importorskip("cc3d")
pytest.importorskip("edt")


def measured(labels, edges=EDGES, image=None, block=(7, 11, 13), **wishes):
    work = carry_out_here(Work(labels, Memory(), Wishes(**wishes), edges, image, block))
    return object_table(work), work


def test_equal_to_regionprops():
    labels = blobs()
    image = np.random.default_rng(0).integers(0, 60000, labels.shape).astype(np.uint16)
    table, work = measured(labels, image=image)
    for name in work.classes:
        regions = regionprops(work.store.open(f"labels/{name}/0").astype(int), image, spacing=EDGES)
        own = table[table["class"] == name]
        assert len(own) == len(regions) > 3
        columns = {
            "voxels": [r.num_pixels for r in regions],
            "volume_nm3": [r.area for r in regions],
            "diameter_nm": [r.equivalent_diameter_area for r in regions],
            "mean_grey": [r.mean_intensity for r in regions],
            **{f"centroid_{a}_nm": [r.centroid[n] for r in regions] for n, a in enumerate("zyx")},
            **{f"box_{'zyx'[n % 3]}{n // 3}": [r.bbox[n] for r in regions] for n in range(6)},
        }
        for column, values in columns.items():
            np.testing.assert_allclose(own[column], values, rtol=1e-12, atol=1e-9, err_msg=column)
        solid = own["voxels"].to_numpy() > 20  # of flat objects, scikit-image takes roots of rounding errors
        for column, attribute in (("axis_major_nm", "axis_major_length"), ("axis_minor_nm", "axis_minor_length")):
            values = np.array([getattr(r, attribute) for r, big in zip(regions, solid) if big])
            np.testing.assert_allclose(own[column][solid], values, rtol=1e-6, err_msg=column)


@pytest.mark.parametrize("edges", [(10, 10, 10), (30, 8, 8), (10, 20, 14)], ids=str)
@pytest.mark.parametrize("radii", [(300, 300, 300), (300, 250, 150), (400, 200, 200)], ids=str)
def test_ellipsoids_of_anisotropic_voxels(radii, edges):
    table, _ = measured(ellipsoid(radii, edges).astype(np.uint8), edges, block=None)
    (row,) = table.to_dict("records")
    volume, surface = 4 / 3 * math.pi * math.prod(radii), _surface(radii)
    assert row["volume_nm3"] == pytest.approx(volume, rel=0.005)
    assert row["surface_nm2"] == pytest.approx(surface, rel=0.045)  # marching cubes: 9 to 18 % too much
    right = math.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / surface
    assert row["sphericity"] == pytest.approx(right, rel=0.045)
    lengths = [row[f"axis_{place}_nm"] / 2 for place in ("major", "middle", "minor")]
    assert lengths == pytest.approx(sorted(radii, reverse=True), rel=0.01)
    assert not row["touches_border"]


def _surface(radii):
    a, b, c = sorted(radii, reverse=True)
    if a == c:
        return 4 * math.pi * a * a
    angle, k = math.acos(c / a), a * a * (b * b - c * c) / (b * b * (a * a - c * c))
    curved = ellipeinc(angle, k) * math.sin(angle) ** 2 + ellipkinc(angle, k) * math.cos(angle) ** 2
    return 2 * math.pi * c * c + 2 * math.pi * a * b / math.sin(angle) * curved


def test_a_2d_image_has_areas_and_perimeters():
    y, x = np.mgrid[:80, :90]
    disk = (((y - 40) * 10) ** 2 + ((x - 44) * 10) ** 2 <= 300**2).astype(np.uint8)[None]
    table, work = measured(disk, (50, 10, 10))
    (row,) = table.to_dict("records")
    assert "volume_nm3" not in row and not row["touches_border"]
    assert row["area_nm2"] == pytest.approx(math.pi * 300**2, rel=0.01)
    assert row["perimeter_nm"] == pytest.approx(2 * math.pi * 300, rel=0.02)
    assert row["circularity"] == pytest.approx(1, rel=0.03)
    (region,) = regionprops(disk[0], spacing=(10, 10))
    assert row["axis_major_nm"] == pytest.approx(region.axis_major_length)
    assert "objects_per_um2" in summary_table(table, work)


def test_without_a_voxel_size_all_is_in_voxels():
    table, _ = measured(blobs(), None)
    sized, _ = measured(blobs(), (1, 1, 1))
    assert not [name for name in table.columns if "nm" in name]
    np.testing.assert_array_equal(table["volume_px3"], sized["volume_nm3"])


def test_contacts_add_up_to_the_surface_and_are_the_same_from_both_sides():
    labels = blobs()
    table, work = measured(labels, EDGES, classes={"a": 1, "b": 2, "rest": 0})
    a, b = (table[table["class"] == name] for name in "ab")
    total = a["contact_objects_nm2"] + a["contact_b_nm2"] + a["contact_rest_nm2"]
    np.testing.assert_allclose(total, a["surface_nm2"], rtol=1e-12)
    assert a["contact_b_nm2"].sum() == pytest.approx(b["contact_a_nm2"].sum())


def test_a_flat_contact_has_nearly_its_area():
    labels = np.zeros((20, 30, 30), np.uint8)
    labels[4:16, 5:25, 5:15], labels[4:16, 5:25, 15:25] = 1, 2
    table, _ = measured(labels, (10, 10, 10))
    assert table["contact_label_2_nm2"][0] == pytest.approx(
        12 * 20 * 100,
        rel=0.15,  # the worst case: a plane along the axes
    )
    assert table["distance_label_2_nm"][0] == 10


def test_the_summary():
    table, work = measured(blobs(), image=blobs())
    summary = summary_table(table, work).set_index("class")
    own = table[table["class"] == "label_1"]
    row = summary.loc["label_1"]
    assert row["objects"] == len(own) and row["touching_border"] == own["touches_border"].sum()
    assert row["objects_per_um3"] == pytest.approx(len(own) / (20 * 40 * 50 * 1600 / 1e9))
    assert row["volume_fraction"] == pytest.approx((blobs() == 1).mean())
    assert row["volume_nm3_median"] == own["volume_nm3"].median() and row["mean_grey_max"] == 1
