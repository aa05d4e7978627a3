"""The benchmark of seams: its rates on labels made by hand, and a set of the tables from training to the file."""

import csv

import numpy as np

from benchmarks.studies import seams


def test_rates_count_pairs_across_borders_and_inside():
    owner = np.repeat([[0, 0, 1, 1]], 3, axis=0)
    labels = np.array([[5, 5, 6, 6], [5, 5, 5, 6], [5, 5, 5, 5]])
    # along y 8 pairs, none across, 2 of them differ; along x 9 pairs: 3 across, 1 differs; 6 inside, 1 differs
    assert seams.rates(labels, owner).tolist() == [1, 3, 3, 14]


def test_a_set_is_trained_on_and_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(seams.CHANGED, "phantom", ["data.shapes=[[4,240,240],[4,240,240]]", "data.fov=160"])
    assert (
        seams.main(
            [
                "--data",
                "phantom",
                "--system",
                "intensity_kmeans",
                "--halo",
                "0",
                "11",
                "--slices",
                "1",
                "--out",
                str(tmp_path),
            ]
        )
        == 0
    )
    with open(tmp_path / "seams.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["halo, px"], row["put together"]) for row in rows] == [
        ("0", "cut straight"),
        ("11", "cut straight"),
        ("11", "stitched"),
    ]
    assert {row["image"] for row in rows} == {"phantom (synthetic)"} and rows[0]["FOVs a slice"] == "4"
    assert float(rows[2]["ratio"]) < float(rows[0]["ratio"])
    assert "intensity_kmeans, trained on other slices" in (tmp_path / "seams.md").read_text()


def test_a_real_set_needs_its_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("SCCS_DATA", raising=False)
    assert seams.guard(seams.main)(["--data", "vnc", "--out", str(tmp_path)]) == 2
    assert "SCCS_DATA is not set" in capsys.readouterr().err and not list(tmp_path.iterdir())
