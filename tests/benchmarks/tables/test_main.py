"""The commands that print the paper's tables, at the smallest size: what is written, and that nothing is run twice."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import harness
from benchmarks.noise import noise_levels
from benchmarks.pages import Origin, commit
from benchmarks.tables import text as text_of
from benchmarks.tables.__main__ import main
from benchmarks.tables.answers import read_csv
from sccs.system.exits import guard

SMALL = ["data.shapes=[[4,240,240],[4,240,240]]", "data.train_slices=1", "data.test_slices=1"]


def table(out: Path, name: str, systems: list[str], *options: str, kept: bool = False) -> tuple[str, list[dict]]:
    code = guard(main)(
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


def test_the_csv_gives_the_table_of_the_page_again_and_says_what_it_is_of(out):
    text, numbers = table(out, "table1", ["kmeans", "intensity_kmeans"])
    assert text_of.by_system(read_csv(out / "table1.csv")) in text
    origin = Origin.read(out / "table1.csv")
    assert origin.commits == [commit()] and origin.seeds == [0, 1] and str(origin) in text
    assert "Without rest: without unrecognized" in text


def test_noisy_images_and_gaps_are_read_again(out):
    table(out, "appendix3", ["intensity_kmeans"])
    (run, _) = read_csv(out / "appendix3.csv").of("intensity_kmeans")
    assert set(run["noise"]) == {f"{kind} {level:g}" for kind, level in noise_levels("quick")}
    table(out, "plus", ["kmeans"])
    answers = read_csv(out / "plus.csv")
    assert answers.of("kmeans on both features")[0].keys() >= {"consistency", "train_images", "used_per_test_volume"}


def test_tables_share_runs_and_a_second_command_repeats_none(out, monkeypatch):
    table(out, "table1", ["kmeans", "intensity_kmeans"])
    monkeypatch.setattr(harness, "carry_out", lambda job: pytest.fail(f"{job.file} is there already"))
    assert "sensitivity" in table(out, "appendix1", ["kmeans", "intensity_kmeans"])[0]
    text, numbers = table(out, "consistency", ["kmeans", "intensity_kmeans"])
    gap = [float(n["value"]) for n in numbers if n["row"] == "kmeans" and n["measure"] == "gap"]
    assert len(gap) == 2 and all(value >= -1e-9 for value in gap)


def test_kept_runs_make_a_table_and_others_are_left_out(out):
    table(out, "table1", ["kmeans", "intensity_kmeans"])
    text, numbers = table(out, "appendix1", ["kmeans", "filters_kmeans"], kept=True)
    assert "| kmeans |" in text and "filters_kmeans |" not in text and {n["row"] for n in numbers} == {"kmeans"}
    empty = ["table1", "--data", "phantom", "--kept", "--out", str(out / "nothing")]
    assert guard(main)(empty) == 2


def test_a_system_that_cannot_work_on_a_set_is_named_with_its_reason(out):
    few = "graph.pixels_per_superpixel=4000"  # fewer superpixels than 32 clusters
    text, numbers = table(out, "table1", ["kmeans", "sccs_plus_fine"], few)
    assert "Failed:" in text and "clusterer.k: 32 clusters" in text and {n["row"] for n in numbers} == {"kmeans"}


def test_a_table_whose_runs_all_fail_is_not_written(out, capsys):
    asked = ["table1", "--data", "phantom", "--systems", "kmeans", "--seeds", "0", "--out", str(out / "none")]
    assert guard(main)([*asked, "--set", *SMALL, "graph.pixels_per_superpixel=20000"]) == 2
    assert "every run failed, so nothing was written: kmeans on phantom: " in capsys.readouterr().err
    assert not (out / "none" / "table1.csv").exists()


def test_noise_is_put_on_test_images_only(out):
    text, numbers = table(out, "appendix3", ["intensity_kmeans"])
    by = {
        n["images"]: float(n["value"])
        for n in numbers
        if n["mapping"] == "train" and n["seed"] == "0" and n["class"] == "mean" and n["measure"] == "dsc"
    }
    assert set(by) == {"clean", *(f"{kind} {level:g}" for kind, level in noise_levels("quick"))}
    assert by["salt_and_pepper 0.1"] != by["clean"]
    clean = [n for n in numbers if n["images"] == "clean" and n["mapping"] == "train" and n["class"] == "mean"]
    plain = table(out, "table1", ["intensity_kmeans"])[1]
    same = [n for n in plain if n["images"] == "clean" and n["mapping"] == "train" and n["class"] == "mean"]
    assert [n["value"] for n in clean] == [n["value"] for n in same]


def test_the_papers_numbers_stand_beside_settings(out):
    text, _ = table(out, "table2", ["kmeans"])
    assert "| k = 7 |" in text and text.count("0.798") == 1


def test_a_wrong_system_is_one_line(capsys):
    assert guard(main)(["table1", "--systems", "kmean"]) == 2
    assert "--systems: no recipe 'kmean'" in capsys.readouterr().err


def test_an_update_takes_the_other_sets_from_the_csv(out, tmp_path, monkeypatch, capsys):
    """As if the table had been made on HeLa, and the phantom is now run again."""
    monkeypatch.setenv("SCCS_DATA", str(tmp_path))
    page, _ = table(out, "table1", ["kmeans", "intensity_kmeans"])
    csv_of, origin = tmp_path / "table1.csv", json.loads((out / "table1.json").read_text())
    csv_of.write_text((out / "table1.csv").read_text().replace(",phantom,", ",hela,"))
    (tmp_path / "table1.json").write_text(json.dumps({**origin, "commits": ["0123456"]}))
    shutil.copytree(out / "runs", tmp_path / "runs")
    before = csv_of.read_text().splitlines()
    command = ["table1", "--data", "phantom", "--seeds", "0", "1", "--out", str(tmp_path), "--update", "--set", *SMALL]
    assert guard(main)([*command, "--systems", "kmeans", "intensity_kmeans"]) == 0
    text, now = (tmp_path / "table1.md").read_text(), read_csv(csv_of)
    assert (
        now.sets == ["hela", "phantom"]
        and f"Runs of phantom: commit {commit()}; of all other sets: commit 0123456." in text
    )
    kept = [line for line in csv_of.read_text().splitlines() if ",phantom," not in line]
    assert kept == before, "what is taken from the CSV is written as it was"
    for label in ("kmeans", "intensity_kmeans"):
        assert np.allclose(now.score(label, "hela"), now.score(label, "phantom"), atol=1e-5)
    assert "without cell" not in page and "hela: DSC of each class" in text and "--update" in text
    assert Origin.read(csv_of).commits == sorted(["0123456", commit()])

    assert guard(main)([*command, "--systems", "kmeans", "raw_kmeans"]) == 2
    assert "has no row 'raw_kmeans', so only a new table can contain it" in capsys.readouterr().err
    assert (tmp_path / "table1.md").read_text() == text
    csv_of.unlink()
    monkeypatch.setattr("benchmarks.tables.__main__.collect", None)  # is not reached: the runs take hours
    assert guard(main)([*command, "--systems", "kmeans"]) == 2
    assert "table1.csv; leave --update out to make the table" in capsys.readouterr().err
