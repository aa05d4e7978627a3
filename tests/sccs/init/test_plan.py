"""What is learnt from and what is segmented: within graphs and time, without empty ends."""

import tifffile

from sccs.data.survey import examine
from sccs.init.cost import Cost
from sccs.init.plan import make_plan
from tests.sccs.survey_files import volume

COST = Cost(
    pixels=10_000, nodes=100, seconds=1.0, connect=0.1, start=5.0, graph_bytes=1000, cache_bytes=500, peak=10**8
)


def test_the_plan_keeps_within_graphs_and_time(tmp_path):
    tifffile.imwrite(tmp_path / "big.tif", volume(depth=40, shape=(1200, 100)))
    found = examine(str(tmp_path / "big.tif"))
    plan = make_plan([found], 12, COST, minutes=4)  # three FOVs a slice
    assert plan.fovs("train") <= 12 and plan.train[0].region == {"z": [4, 40, 10]}
    overlapping = 100 * (440 + 440 + 420)  # px of the three FOVs together
    assert plan.seen("train") == 4 * overlapping and plan.seen("test") == plan.slices * overlapping
    assert plan.pixels("train") + plan.seen("train") + plan.seen("test") <= 4 * 60 * COST.pixels
    assert plan.slices == 10
    assert plan.segmented() == 3 * (4 + 10)  # training slices, too
    one = make_plan([found], 2, COST, minutes=20)
    assert one.train[0].shape == (2, 560, 100) and one.seen("train") == 0  # their nodes are known


def test_empty_slices_at_the_ends_are_not_learnt_from(tmp_path):
    image = volume(depth=12)
    image[:2], image[-3:] = 0, 0
    tifffile.imwrite(tmp_path / "p.tif", image)
    plan = make_plan([examine(str(tmp_path / "p.tif"))], 100, COST, minutes=30)
    assert plan.train[0].region == {"z": [2, 9]}
