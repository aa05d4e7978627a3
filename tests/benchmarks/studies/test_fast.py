"""The study of the fast recipe: training images only; every system and choice has its scores, and a row."""

from benchmarks.studies import fast

SHORTCUTS = ((10, "float32", "auto"), (3, "int8", "int8"))


def test_each_choice_is_scored_on_the_same_halves(tmp_path, monkeypatch):
    monkeypatch.setattr(fast, "SHORTCUTS", SHORTCUTS)
    shapes = ("data.shapes=[[4,240,240],[4,240,240],[4,240,240]]", "data.train_slices=1", "data.test_slices=1")
    short = ("train.iterations=40", "clusterer.warmup=10")
    monkeypatch.setattr(fast, "SYSTEMS", {"sccs_fast": (*shapes, *short), "kmeans": ("features=student",)})
    found = fast.of_set("phantom", [0, 1])
    assert set(found) == {(system, *short, "phantom") for system in ("sccs_fast", "kmeans") for short in SHORTCUTS}
    assert all(len(dsc) == 2 and 0 < min(dsc) <= max(dsc) <= 1 for dsc in found.values())
    page = fast.table(found)
    assert page.count("| `sccs_fast` |") == 2 and "lost" in page
