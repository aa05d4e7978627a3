"""Jobs: what makes two runs the same."""

from benchmarks import harness

SMALL = ["data.shapes=[[4,240,240],[4,240,240]]", "data.train_slices=1", "data.test_slices=1"]


def test_another_option_is_another_run():
    plain, more = (harness.job("kmeans", "phantom", 0, overrides=[*SMALL, *extra]) for extra in ([], ["clusterer.k=5"]))
    assert plain.file != more.file and plain.configuration != more.configuration
    other_data = harness.job("kmeans", "phantom", 0, overrides=[*SMALL, "data.test_slices=2"])
    assert other_data.file != plain.file and other_data.configuration == plain.configuration


def test_the_rest_class_is_that_of_the_set(real_data):
    rest = {data: harness.job("kmeans", data, 0).rest for data in harness.REAL}
    assert rest == {"platelet": "cell", "hela": "rest of cell", "cdeep3m": None, "vnc": "intracellular"}


def test_the_rest_class_names_the_run():
    one, other = (harness.job("kmeans", "phantom", 0, overrides=SMALL) for _ in range(2))
    other.rest = "nucleus"
    assert one.file != other.file and one.configuration == other.configuration


def test_what_a_size_shortens_is_said():
    rows = [("sccs", ()), ("wo_smo", ()), ("kmeans", ()), ("maester", ()), ("maester", ("features.central=4",))]
    said = harness.shortened(rows, "quick")
    assert "`train.iterations=2000 clusterer.warmup=500` for sccs, wo_smo" in said and "kmeans" not in said
    assert said.count("maester") == 1 and harness.shortened(rows, "full") == ""
    assert harness.shortened([("segmenter", ()), ("vit", ())], "quick") == ""  # their recipes' own steps and depth
