"""Which slices the page shows."""

from sccs.report.page_pictures import shown_views


def test_test_slices_come_first_and_are_spread(view):
    class Slice:
        def __init__(self, z, split):
            self.z, self.split = z, split

    views = [Slice(z, "test") for z in range(20)] + [Slice(0, "train"), Slice(1, "train"), Slice(2, "train")]
    shown = shown_views(views)
    assert [v.split for v in shown] == ["test"] * 5 + ["train"]
    assert (shown[0].z, shown[4].z) == (0, 19)
    assert [v.split for v in shown_views(views[-3:])] == ["train", "train"]
