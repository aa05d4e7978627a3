import json

import numpy as np
import pytest

from registry.base import UserError
from sccs.evaluation import naming
from sccs.evaluation.naming import (
    cluster_names,
    name_clusters,
    named_mapping,
    parse_assignments,
    read_names,
    rescore,
    write_metrics,
)  # fmt: skip
from sccs.system.colours import class_colours

CLASSES = ["unrecognized", "nucleus", "mitochondria"]


@pytest.fixture
def run(tmp_path):
    """A finished run with k = 4 clusters; cluster 1 is the nucleus, cluster 2 mostly mitochondria."""
    table = np.array([[50, 0, 0], [0, 30, 0], [5, 0, 20], [9, 0, 0]])
    write_metrics(tmp_path, {"a:0:0:0": table}, {"b:0:0:0": 2 * table}, CLASSES, k=4, test_pixels=np.full(4, 99))
    return tmp_path


# ----------------------------------------------------------------------------------------------- the command's words
def test_assignments_are_cluster_equals_name_with_an_optional_colour():
    names, colours = parse_assignments(["3=nucleus", "5= dense granule :#0F0", "0=golgi:00ff7f"], k=8)
    assert names == {3: "nucleus", 5: "dense granule", 0: "golgi"}
    assert colours == {5: "#00ff00", 0: "#00ff7f"}


@pytest.mark.parametrize(
    "item, says",
    [
        ("nucleus", "gives no name: write CLUSTER=NAME"),
        ("three=nucleus", "'three' is not a cluster number"),
        ("-1=nucleus", "'-1' is not a cluster number"),
        ("8=nucleus", "no cluster 8; the run has 0 to 7"),
        ("3=:#00ff00", "the name is empty"),
        ("3=nucleus:green", "'green' is not a colour: write six hex digits"),
        ("3=nucleus:", "'' is not a colour"),
    ],
)
def test_a_wrong_assignment_is_answered_in_one_line(item, says):
    with pytest.raises(UserError) as error:
        parse_assignments([item], k=8)
    assert says in str(error.value) and item in str(error.value) and "\n" not in str(error.value)


def test_a_cluster_is_named_once():
    with pytest.raises(UserError, match="cluster 3 was already given the name 'nucleus'"):
        parse_assignments(["3=nucleus", "3=golgi"])


# ------------------------------------------------------------------------------------------------------ classes.yaml
def test_names_and_colours_are_kept_in_the_run_folder(run):
    assert read_names(run) == {}
    written = name_clusters(run, {1: "nucleus", 2: "mitochondria"}, {2: "#00FF00"})
    assert read_names(run) == written == {
        1: {"name": "nucleus", "colour": class_colours(["nucleus"])["nucleus"]},
        2: {"name": "mitochondria", "colour": "#00ff00"},
    }  # fmt: skip
    assert cluster_names(written, 4) == ["cluster 0", "nucleus", "mitochondria", "cluster 3"]


def test_later_names_are_added_and_replace_earlier_ones(run):
    name_clusters(run, {1: "nucleus", 2: "golgi"})
    golgi = read_names(run)[2]["colour"]
    name_clusters(run, {1: "granules", 3: "golgi"})
    named = read_names(run)
    assert [named[c]["name"] for c in (1, 2, 3)] == ["granules", "golgi", "golgi"]
    assert named[2]["colour"] == named[3]["colour"] == golgi  # an earlier colour stays


def test_one_class_has_one_colour(run):
    name_clusters(run, {1: "nucleus", 2: "nucleus"})
    name_clusters(run, {}, {1: "#123456"})
    assert {entry["colour"] for entry in read_names(run).values()} == {"#123456"}
    with pytest.raises(UserError, match="'nucleus' was given two colours, #111111 and #222222"):
        name_clusters(run, {1: "nucleus", 2: "nucleus"}, {1: "#111111", 2: "#222222"})


def test_naming_needs_a_finished_run_and_an_existing_cluster(run, tmp_path):
    with pytest.raises(UserError, match="no cluster 4; the run has 0 to 3"):
        name_clusters(run, {4: "nucleus"})
    with pytest.raises(UserError, match="no such run folder"):
        name_clusters(tmp_path / "nowhere", {0: "nucleus"})
    (tmp_path / "begun").mkdir()
    with pytest.raises(UserError, match="no metrics.json.*did the run finish"):
        name_clusters(tmp_path / "begun", {0: "nucleus"})


def test_a_pretraining_has_no_clusters_to_name(tmp_path):
    (tmp_path / "metrics.json").write_text('{"loss": 0.5}')
    with pytest.raises(UserError, match="pre-training"):
        naming.main(tmp_path, [])


def test_a_person_may_edit_the_file(run):
    (run / naming.FILE).write_text("clusters:\n  2: {name: mitochondria}\n  0: {name: golgi, colour: '#ABC'}\n")
    named = read_names(run)
    assert named[2] == {"name": "mitochondria", "colour": class_colours(["mitochondria"])["mitochondria"]}
    assert named[0] == {"name": "golgi", "colour": "#aabbcc"}


@pytest.mark.parametrize("text", ["clusters: [3]", "3", "clusters: {x: {name: a}}", "clusters: {3: {}}", "a: [", "\t"])
def test_a_spoilt_file_is_named_with_an_example(run, text):
    (run / naming.FILE).write_text(text)
    with pytest.raises(UserError, match=r"classes.yaml:1: .*write lines such as"):
        read_names(run)


# ------------------------------------------------------------------------------------------------ the mapping `named`
def test_named_mapping_matches_class_names_whatever_their_case():
    entries = {0: {"name": "Nucleus"}, 2: {"name": "golgi"}, 3: {"name": "mitochondria"}}
    assert named_mapping(entries, CLASSES, 5).tolist() == [1, -1, -1, 2, -1]


def test_naming_scores_the_mapping_named_from_the_kept_tables(run):
    before = json.loads((run / "metrics.json").read_text())
    assert "named" not in before["test"]
    name_clusters(run, {1: "nucleus", 2: "mitochondria"})
    after = json.loads((run / "metrics.json").read_text())
    assert after["test"]["named"]["classes"]["nucleus"]["dsc"] == 1
    assert after["mapping"]["named"] == [None, "nucleus", "mitochondria", None]
    assert {key: after["test"][key] for key in before["test"]} == before["test"]
    assert after["cluster_share"] == before["cluster_share"]


def test_names_that_are_no_labelled_class_are_said_to_count_as_rest(run):
    name_clusters(run, {1: "nuclues"})
    assert rescore(run)["notes"] == ["named, but not a labelled class: nuclues; scored as unrecognized"]


def test_a_run_without_labels_can_be_named(tmp_path):
    metrics = write_metrics(tmp_path, {}, {}, [], k=3, train_pixels=[1, 2, 3], test_pixels=[1, 2, 3])
    assert metrics["test"] == {} and metrics["clusters_used"] == {"train": 3, "test": 3}
    name_clusters(tmp_path, {0: "nucleus"})
    assert cluster_names(read_names(tmp_path), 3) == ["nucleus", "cluster 1", "cluster 2"]


def test_the_command_prints_what_every_cluster_is_called(run, capsys):
    assert naming.main(run, ["1=nucleus:#f0d22e"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["  0           cluster 0", "  1  #f0d22e  nucleus"]
    assert naming.main(run, []) == 0


def test_names_come_from_a_file_as_the_report_saves_it(run, tmp_path, capsys):
    name_clusters(run, {1: "golgi", 3: "cytosol"}, {1: "#123456"})
    path = tmp_path / "saved" / "classes.yaml"
    path.parent.mkdir()
    path.write_text('clusters:\n  1: {name: "nucleus: large"}\n  2: {name: "golgi"}\n')
    assert naming.main(run, [str(path)]) == 0
    entries = read_names(run)
    assert {c: entry["name"] for c, entry in entries.items()} == {1: "nucleus: large", 2: "golgi", 3: "cytosol"}
    assert entries[2]["colour"] == "#123456"
    for text, says in (("clusters: {9: {name: a}}", "no cluster 9"), ("", "names no cluster")):
        path.write_text(text)
        with pytest.raises(UserError, match=says):
            naming.main(run, [str(path)])
    with pytest.raises(UserError, match="nowhere.yaml"):
        naming.main(run, [str(tmp_path / "nowhere.yaml")])
