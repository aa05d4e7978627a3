"""The study of SLIC's iterations: training images only; every system and number has its scores, and a row."""

from benchmarks.studies import iterations


def test_each_number_of_iterations_is_scored_on_the_same_halves(tmp_path, monkeypatch):
    monkeypatch.setattr(iterations, "ITERATIONS", (10, 3))
    shapes = ("data.shapes=[[4,240,240],[4,240,240],[4,240,240]]", "data.train_slices=1", "data.test_slices=1")
    short = ("train.iterations=40", "clusterer.warmup=10")
    monkeypatch.setattr(iterations, "SYSTEMS", {"sccs_fast": (*shapes, *short), "kmeans": ("features=student",)})
    found = iterations.of_set("phantom", [0, 1])
    assert set(found) == {(system, n, "phantom") for system in ("sccs_fast", "kmeans") for n in (10, 3)}
    assert all(len(dsc) == 2 and 0 < min(dsc) <= max(dsc) <= 1 for dsc in found.values())
    page = iterations.table(found)
    assert page.count("| `sccs_fast` |") == 2 and "lost" in page
