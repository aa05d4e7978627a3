import csv
import json

import numpy as np
import pytest
import yaml

from registry.base import UserError
from sccs.evaluation.compare import main
from sccs.evaluation.naming import name_clusters, write_metrics

CLASSES = ["unrecognized", "nucleus"]


def make_run(folder, seed, wrong, k=4, timed=True, labelled=True):
    """A finished run: cluster 0 is the rest, cluster 1 the nucleus; `wrong` of its 100 pixels are not."""
    folder.mkdir(parents=True)
    tables = {"a:0:0:0": np.array([[100, 0], [wrong, 100 - wrong]] + [[0, 0]] * (k - 2))}
    write_metrics(folder, tables if labelled else {}, tables, CLASSES, k=k)
    recipe = {"seed": seed, "device": "cpu", "data": {"name": "phantom"}, "clusterer": {"name": "kmeans", "k": k}}
    (folder / "resolved.yaml").write_text(yaml.safe_dump(recipe))
    if timed:
        (folder / "timing.json").write_text(json.dumps({"features": 1.0, "graph": 0.25, "embed": 0, "cluster": 0.125}))
    return str(folder)


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def tables_in(text):
    """Markdown tables -> lists of {heading: cell}."""
    found = []
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith("|"):
            found.append([dict(zip(cells(lines[0]), cells(line))) for line in lines[2:]])
    return found


def test_runs_stand_side_by_side_with_mappings_classes_use_and_time(tmp_path, capsys):
    runs = [make_run(tmp_path / "sccs/20250101-120000-s0", 0, wrong=0), make_run(tmp_path / "mine", 7, wrong=20, k=8)]
    assert main(runs) == 0
    out = capsys.readouterr().out
    (table,) = tables_in(out)
    first, second = table
    assert (first["recipe"], first["seed"], first["data"]) == ("sccs", "0", "phantom")
    assert (second["recipe"], second["seed"]) == ("mine", "7")
    assert first["DSC train"] == first["nucleus"] == first["DSC oracle (upper bound)"] == "1.000"
    assert second["nucleus"] == f"{2 * 80 / 180:.3f}" == second["DSC without rest"]
    assert first["clusters used test"] == "2" and first["s/FOV"] == "1.375"
    assert "use the mapping train" in out
    assert len({len(line) for line in out.splitlines() if line.startswith("|")}) == 1  # aligned in a terminal


def test_seeds_of_one_recipe_are_summarised_as_mean_and_sd(tmp_path, capsys):
    wrong = [0, 20, 10]
    runs = [make_run(tmp_path / f"sccs/20250101-12000{s}-s{s}", s, wrong[s]) for s in range(3)]
    runs.append(make_run(tmp_path / "other/20250101-120000-s0", 0, 0, k=5))
    main(runs)
    every, summary = tables_in(capsys.readouterr().out)
    assert len(every) == 4 and len(summary) == 1
    dsc = [2 * (100 - w) / (200 - w) for w in wrong]
    assert summary[0]["recipe"] == "sccs" and summary[0]["runs"] == "3"
    assert summary[0]["nucleus"] == f"{np.mean(dsc):.3f} ± {np.std(dsc, ddof=1):.3f}"
    assert summary[0]["clusters used test"] == "2.0 ± 0.0"


def test_the_same_run_named_twice_counts_once(tmp_path, capsys):
    run = make_run(tmp_path / "a", 0, 0)
    main([run, run + "/"])
    (table,) = tables_in(capsys.readouterr().out)
    assert len(table) == 1


def test_what_a_run_does_not_have_is_a_dash_and_notes_are_shown(tmp_path, capsys):
    runs = [make_run(tmp_path / "a", 0, 0), make_run(tmp_path / "b", 0, 0, timed=False, labelled=False)]
    main(runs)
    out = capsys.readouterr().out
    every, summary = tables_in(out)
    assert every[1]["DSC train"] == every[1]["s/FOV"] == "-" and every[1]["DSC oracle (upper bound)"] == "1.000"
    assert summary[0]["s/FOV"] == "1.375 (n = 1)"  # the mean says of how many runs it is
    assert every[0]["recipe"] == "a (train)" and every[1]["recipe"] == "b (oracle)"  # what their classes are scored by
    assert "b, seed 0: no labels in the training volumes" in out


def test_csv_has_one_line_per_run_in_full_precision(tmp_path, capsys):
    runs = [make_run(tmp_path / "a", 0, 20), make_run(tmp_path / "b", 1, 0, timed=False)]
    main(runs, csv=str(tmp_path / "out/table.csv"))
    rows = list(csv.DictReader((tmp_path / "out/table.csv").open()))
    assert float(rows[0]["nucleus"]) == 2 * 80 / 180 and rows[1]["s/FOV"] == "" and rows[1]["headline"] == "train"
    capsys.readouterr()
    main(runs, csv="-")
    assert list(csv.DictReader(capsys.readouterr().out.splitlines())) == rows


@pytest.mark.parametrize(
    "spoil, says",
    [
        (lambda run: (run / "metrics.json").unlink(), "no metrics.json.*did the run finish"),
        (lambda run: (run / "resolved.yaml").unlink(), "no resolved.yaml"),
        (lambda run: (run / "metrics.json").write_text('{"test": '), "metrics.json: not readable as JSON"),
        (lambda run: (run / "resolved.yaml").write_text("a: ["), "resolved.yaml:1: not valid YAML"),
        (
            lambda run: (run / "timing.json").write_text('{"graph": "slow"}'),
            "timing.json: graph: got .slow.; expected a number",
        ),
    ],
)
def test_an_unfit_run_is_named_with_what_is_missing(tmp_path, spoil, says):
    run = make_run(tmp_path / "a", 0, 0)
    spoil(tmp_path / "a")
    with pytest.raises(UserError, match=says) as error:
        main([run])
    assert str(tmp_path / "a") in str(error.value) and "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such run folder"):
        main([str(tmp_path / "nowhere")])


def test_a_run_that_scored_and_tested_nothing_says_so(tmp_path, capsys):
    labelled, bare = make_run(tmp_path / "a", 0, 0), make_run(tmp_path / "b", 0, 0)
    write_metrics(tmp_path / "b", {}, {}, [], k=4, train_pixels=np.array([5, 5, 0, 0]), test_pixels=np.zeros(4, int))
    name_clusters(tmp_path / "b", {0: "nucleus"})
    main([labelled, bare])
    every, *_ = tables_in(capsys.readouterr().out)
    assert every[1]["recipe"] == "b" and every[1]["clusters used train"] == "2"
    assert every[1]["clusters used test"] == "-"
    main([bare])
    assert "DSC" not in capsys.readouterr().out


def test_a_class_that_is_named_like_a_column_takes_no_place(tmp_path, capsys):
    run = make_run(tmp_path / "a", 3, wrong=20)
    path = tmp_path / "a" / "metrics.json"
    path.write_text(path.read_text().replace('"nucleus"', '"seed"'))
    assert main([run]) == 0
    (table,) = tables_in(capsys.readouterr().out)
    assert table[0]["seed"] == "3" and table[0]["class seed"] == f"{2 * 80 / 180:.3f}"


def test_the_table_replaces_no_folder(tmp_path):
    run = make_run(tmp_path / "a", 0, wrong=0)
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match="images: is a folder"):
        main([run], str(tmp_path / "images"))
