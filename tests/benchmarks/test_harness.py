"""Jobs: what makes two runs the same."""

from benchmarks import harness

SMALL = ["data.shapes=[[4,240,240],[4,240,240]]", "data.train_slices=1", "data.test_slices=1"]


def test_another_option_is_another_run():
    plain, more = (harness.job("kmeans", "phantom", 0, overrides=[*SMALL, *extra]) for extra in ([], ["clusterer.k=5"]))
    assert plain.file != more.file and plain.configuration != more.configuration
    other_data = harness.job("kmeans", "phantom", 0, overrides=[*SMALL, "data.test_slices=2"])
    assert other_data.file != plain.file and other_data.configuration == plain.configuration
