"""The commands that print the paper's tables, at the smallest size: what is written, and that nothing is run twice."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks" / "tables"
SMALL = ["data.shapes=[[4,240,240],[4,240,240]]", "data.train_slices=1", "data.test_slices=1"]


@pytest.fixture(scope="module", autouse=True)
def on_path():
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def table(out: Path, name: str, systems: list[str], *options: str, kept: bool = False) -> tuple[str, list[dict]]:
    import tables

    code = tables.guard(tables.main)(
        [
            name,
            "--data",
            "phantom",
            "--systems",
            *systems,
            "--seeds",
            "0",
            "1",
            "--out",
            str(out),
            *(["--kept"] if kept else []),
            "--set",
            *SMALL,
            *options,
        ]
    )
    assert code == 0
    with open(out / f"{name}.csv", newline="") as file:
        return (out / f"{name}.md").read_text(), list(csv.DictReader(file))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


def test_table_1_has_our_numbers_and_the_papers_in_columns_of_their_own(out):
    text, numbers = table(out, "table1", ["kmeans", "intensity_kmeans"])
    line = next(line for line in text.splitlines() if line.startswith("| kmeans |"))
    ours = [
        float(n["value"])
        for n in numbers
        if (n["row"], n["mapping"], n["class"], n["measure"]) == ("kmeans", "train", "mean", "dsc")
    ]
    assert len(ours) == 2 and f"{np.mean(ours):.3f} ± " in line and line.endswith("| 0.728 |")
    assert "phantom (synthetic)" in text and "seeds 0, 1" in text
    assert {n["mapping"] for n in numbers} >= {"train", "hungarian", "greedy", "majority", "oracle"}
    assert (out / "table1.png").stat().st_size > 0 and (out / "table1_phantom.png").stat().st_size > 0


def test_tables_share_runs_and_a_second_command_repeats_none(out, monkeypatch):
    import harness

    table(out, "table1", ["kmeans", "intensity_kmeans"])
    monkeypatch.setattr(harness, "carry_out", lambda job: pytest.fail(f"{job.file} is there already"))
    assert "sensitivity" in table(out, "appendix1", ["kmeans", "intensity_kmeans"])[0]
    text, numbers = table(out, "consistency", ["kmeans", "intensity_kmeans"])
    gap = [float(n["value"]) for n in numbers if n["row"] == "kmeans" and n["measure"] == "gap"]
    assert len(gap) == 2 and all(value >= -1e-9 for value in gap)


def test_kept_runs_make_a_table_and_others_are_left_out(out):
    import tables

    table(out, "table1", ["kmeans", "intensity_kmeans"])
    text, numbers = table(out, "appendix1", ["kmeans", "filters_kmeans"], kept=True)
    assert "| kmeans |" in text and "filters_kmeans |" not in text and {n["row"] for n in numbers} == {"kmeans"}
    empty = ["table1", "--data", "phantom", "--kept", "--out", str(out / "nothing")]
    assert tables.guard(tables.main)(empty) == 2


def test_another_option_is_another_run(out):
    import harness

    plain, more = (harness.job("kmeans", "phantom", 0, overrides=[*SMALL, *extra]) for extra in ([], ["clusterer.k=5"]))
    assert plain.file != more.file and plain.configuration != more.configuration
    other_data = harness.job("kmeans", "phantom", 0, overrides=[*SMALL, "data.test_slices=2"])
    assert other_data.file != plain.file and other_data.configuration == plain.configuration


def test_a_system_that_cannot_work_on_a_set_is_named_with_its_reason(out):
    text, _ = table(out, "table1", ["kmeans", "intensity_kmeans"], "graph.pixels_per_superpixel=20000")
    assert "Not to be had" in text and "clusterer.k: 8 clusters" in text


def test_noise_is_put_on_test_images_only(out):
    text, numbers = table(out, "appendix3", ["intensity_kmeans"])
    by = {
        n["images"]: float(n["value"])
        for n in numbers
        if n["mapping"] == "train" and n["seed"] == "0" and n["class"] == "mean" and n["measure"] == "dsc"
    }
    assert set(by) == {"clean", *(f"{kind} {level:g}" for kind, level in harness_levels())}
    assert by["salt_and_pepper 0.1"] != by["clean"]
    clean = [n for n in numbers if n["images"] == "clean" and n["mapping"] == "train" and n["class"] == "mean"]
    plain = table(out, "table1", ["intensity_kmeans"])[1]
    same = [n for n in plain if n["images"] == "clean" and n["mapping"] == "train" and n["class"] == "mean"]
    assert [n["value"] for n in clean] == [n["value"] for n in same]


def harness_levels():
    import tables

    return tables.noise_levels("quick")


def test_settings_become_rows_with_the_papers_numbers_beside(out):
    import tables

    rows = tables.k_rows(["sccs"], "full")
    assert [row.overrides for row in rows] == [("clusterer.k=6",), ("clusterer.k=7",), (), ("clusterer.k=9",)]
    rows = [row for row in tables.figure5_rows(["sccs"], "full")[:5] if row.overrides]
    nodes = [560 * 560 / float(row.overrides[0].split("=")[1]) for row in rows]
    assert np.allclose(nodes, [2000, 2500, 3500, 4000], rtol=1e-3)
    text, _ = table(out, "table2", ["kmeans"])
    assert "| k = 7 |" in text and text.count("0.798") == 1


def test_a_wrong_system_is_one_line(capsys):
    import tables

    assert tables.guard(tables.main)(["table1", "--systems", "kmean"]) == 2
    assert "--systems: no recipe 'kmean'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "kind, level", [("gaussian", 0.5), ("poisson", 0.5), ("salt_and_pepper", 0.1), ("blur", 2.0), ("contrast", 0.5)]
)
def test_degraded_images_are_what_they_say(kind, level):
    import noise

    rng = np.random.default_rng(0)
    plane = (120 + 30 * rng.normal(size=(200, 200))).astype(np.float32)
    limits = tuple(np.quantile(plane, (0.001, 0.999)))
    worse = noise.degrade(plane, kind, level, np.random.default_rng(1), plane.mean(), plane.std(), limits)
    difference = worse - plane
    if kind in ("gaussian", "poisson"):
        assert abs(difference.mean()) < 1 and np.isclose(difference.std(), level * plane.std(), rtol=0.1)
    elif kind == "salt_and_pepper":
        changed = (difference != 0).mean()
        assert np.isclose(changed, level, atol=0.01) and set(np.unique(worse[difference != 0])) <= set(limits)
    elif kind == "blur":
        assert worse.std() < plane.std() / 4
    else:
        assert np.isclose(worse.std(), plane.std() * level, rtol=0.02)


def test_a_degraded_volume_is_standardised_anew_and_reads_the_same_twice():
    import noise

    from sccs.data.volumes import Volume

    image = np.random.default_rng(0).integers(0, 255, (3, 100, 120)).astype(np.uint8)
    volume = Volume("a", image, labels=(image > 99).astype(np.uint8), codes=codes(), fov=100)
    worse = noise.degraded(volume, "gaussian", 1.0)
    first, second = (worse.read_slice(1) for _ in range(2))
    assert np.array_equal(first, second) and abs(first.mean()) < 0.05 and abs(first.std() - 1) < 0.05
    assert np.array_equal(worse.read_labels(1), volume.read_labels(1))
    assert not np.array_equal(worse.read_slice(0), worse.read_slice(2))


def codes():
    from sccs.data.volumes import LabelCodes

    return LabelCodes({0: "dark", 1: "bright"})


@pytest.mark.slow
def test_timing_runs_side_by_side_and_counts_nodes(tmp_path):
    import timing

    assert timing.guard(timing.main)(["--systems", "sccs", "kmeans", "--repeats", "2", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "timing.md").read_text()
    assert "RTX 2080 Ti" in text and "| kmeans |" in text
    with open(tmp_path / "timing.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and all(float(row["features"]) > 0 for row in rows)
    json.dumps(rows)
