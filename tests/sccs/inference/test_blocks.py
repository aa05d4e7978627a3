"""How a volume is cut: fields of view with halos, blocks of whole chunks."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry.base import CONTEXT, UserError
from sccs.data.pyramid import box, grid
from sccs.data.tiler import WINDOW, tiles
from sccs.inference.blocks import BLOCK, WIDE, chosen_level, default_halo, following, make_plan, overlapping, spans

LENGTHS, FOVS = st.integers(1, 3000), st.integers(80, 700) | st.just("full")


@given(length=LENGTHS, fov=FOVS, halo=st.integers(0, 39))
def test_centres_cover_a_side_once_and_see_their_halo(length, fov, halo):
    found = spans(length, fov, halo)
    assert found[0].start == 0 and found[-1].stop == length
    for one, other in itertools.pairwise(found):
        assert one.stop == other.start
    for span in found:
        assert 0 <= span.low <= max(0, span.start - halo) and min(length, span.stop + halo) <= span.high <= length
        assert fov == "full" or span.high - span.low < fov + WINDOW
    assert len({span.stop - span.start for span in found[:-1]}) <= 1


@pytest.mark.parametrize(
    "length, fov, halo, seen",
    [
        (560, 560, 40, [(0, 560)]),
        (1120, 560, 0, [(0, 560), (560, 1120)]),
        (1024, 560, 0, [(0, 560), (560, 1024)]),
        (1000, 560, 40, [(0, 560), (480, 1000)]),
        (1041, 560, 40, [(0, 480), (360, 840), (640, 1041)]),
        (1024, 560, 20, [(0, 532), (480, 1024)]),
        (1040, 560, 20, [(0, 540), (480, 1040)]),
        (3360, 560, 20, [(0, 520), *((i - 20, i + 500) for i in range(480, 2880, 480)), (2860, 3360)]),
        (1130, 560, 0, [(0, 400), (400, 800), (800, 1130)]),
        (2242, 560, 0, [(0, 480), (480, 960), (960, 1440), (1440, 1920), (1920, 2242)]),
        (1285, 160, 0, [*((i, i + 160) for i in range(0, 1120, 160)), (1120, 1280), (1200, 1285)]),
    ],
)
def test_what_fovs_see(length, fov, halo, seen):
    assert [(span.low, span.high) for span in spans(length, fov, halo)] == seen


def test_without_a_halo_fovs_are_the_tiles_of_the_pipeline():
    for shape in ((300, 560), (800, 1024), (1120, 1680)):
        cut = [(y.low, y.high, x.low, x.high) for y in spans(shape[0], 560, 0) for x in spans(shape[1], 560, 0)]
        assert cut == [tuple(tile) for tile in tiles(shape, 560)]


@given(fov=st.integers(200, 700), share=st.floats(0, 1), halo=st.integers(0, 39))
def test_of_two_fovs_each_sees_one_halo_more_than_it_writes(fov, share, halo):
    longest = (fov - 2 * halo) // WINDOW * WINDOW + fov
    length = fov + round(share * max(1, longest - fov))
    if fov < length <= longest and halo:
        one, other = spans(length, fov, halo)
        assert one.high == one.stop + halo <= fov and other.high == length
        assert other.low % WINDOW == 0 and other.high - other.low <= max(fov, 2 * WINDOW)


@given(shape=st.tuples(LENGTHS, LENGTHS), fov=FOVS)
def test_the_default_halo_is_wide_where_that_adds_no_fov(shape, fov):
    halo, (few, many) = default_halo(shape, fov, CONTEXT), (overlapping(shape, fov, px) for px in _both(fov))
    assert overlapping(shape, fov) == (few if max(len(few.y), len(few.x)) <= 2 else many)
    assert halo in _both(fov)
    if halo == WIDE:
        assert len(few) <= len(many)


def _both(fov):
    return (0, 0) if fov == "full" else (min(WIDE, fov // 14), min(CONTEXT, fov // 14))


@pytest.mark.parametrize("halo", [-1, 80, 200])
def test_a_halo_that_leaves_no_centre_is_refused(halo):
    with pytest.raises(UserError, match="--halo .*: FOVs of 160 px allow a halo of 0 to 79 px"):
        spans(500, 160, halo)


@given(
    shape=st.tuples(st.integers(1, 80), st.integers(1, 2500), st.integers(1, 2500)),
    fov=FOVS,
    halo=st.integers(0, 39),
    block=st.none() | st.tuples(*[st.integers(1, 2000)] * 3),
)
@example(shape=(1, 81, 81), fov=80, halo=0, block=(1, 1, 160))  # one axis covered by a block, one as long not
def test_blocks_are_whole_fovs_and_whole_chunks_and_each_once(shape, fov, halo, block):
    plan = make_plan(shape, fov, halo, block)
    fovs, voxels = Counter(), 0
    for number in range(plan.count):
        area, (zs, rows, columns) = plan.box(number), plan.within(number)
        assert all(side.start % chunk == 0 for side, chunk in zip(area, plan.chunk))
        assert (area[0].start, area[0].stop) == (zs.start, zs.stop)
        for numbers, spans_, side in ((rows, plan.y, area[1]), (columns, plan.x, area[2])):
            assert (spans_[numbers[0]].start, spans_[numbers[-1]].stop) == (side.start, side.stop)
        fovs.update((z, i, j) for z in (zs[0], zs[-1]) for i in rows for j in columns)
        voxels += np.prod([side.stop - side.start for side in area])
    assert voxels == np.prod(shape) and set(fovs.values()) <= {1, 2}
    # a block that covers its axis may be longer, and then its chunks need not divide it
    assert all(b % c == 0 for b, c, n in zip(plan.block, plan.chunk, plan.shape) if n > b)


def test_boxes_are_in_c_order_and_end_with_the_volume():
    assert grid((5, 7, 8), (2, 4, 8)) == (3, 2, 1)
    assert box((5, 7, 8), (2, 4, 8), 3) == (slice(2, 4), slice(4, 7), slice(0, 8))
    assert box((5, 7, 8), (2, 4, 8), 5) == (slice(4, 5), slice(4, 7), slice(0, 8))


def test_the_level_nearest_by_ratio_and_of_two_the_finer():
    sizes = [(16, 4, 4), (16, 8, 8), (32, 16, 16)]
    assert [chosen_level(sizes, (50, xy, xy)) for xy in (1, 5, 6.5, 9, 100)] == [0, 0, 1, 1, 2]
    assert chosen_level([(8, 4, 4), (8, 16, 16)], (8, 8, 8)) == 0


@pytest.mark.parametrize(
    "depth, fov, wished",
    [(1, 560, None), (32, 560, None), (64, 560, 64), (100, 560, 25), (256, 560, 128), (512, 560, 128), (512, 160, 512)],
)
def test_blocks_are_equal_parts_of_deep_chunks_and_fovs_stay_as_they_are(depth, fov, wished):
    shape = (1024, 3000, 3000)
    block = following(depth, shape, fov)
    assert block == (wished and [wished, *BLOCK[1:]])
    plan, plain = (make_plan(shape, fov, block=each) for each in (block, None))
    assert (plan.y, plan.x) == (plain.y, plain.x)
    if wished:
        assert plan.block[0] == wished and depth % wished == 0 and wished % plan.chunk[0] == 0
