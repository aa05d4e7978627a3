"""The figures of a run folder."""

import pytest

from registry.base import UserError
from sccs.evaluation.naming import name_clusters
from sccs.report.figures import draw_all, read_run
from tests.sccs.report.slices import NAMES


def test_every_figure_of_a_labelled_run(run_folder):
    run = run_folder()
    paths = draw_all(run)
    assert {path.name for path in paths} == {
        "figure2_bases_cell_z0000.png",
        "figure2_bases_cell_z0001.png",
        "figure3_comparison.png",
        "figure4_overview.png",
        "training.png",
        "cluster_use.png",
        "dsc.png",
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size < 600_000 for path in paths)


def test_figures_of_a_run_without_labels(run_folder):
    names = {path.name for path in draw_all(run_folder(labelled=False, slices=1))}
    assert "figure4_overview.png" in names
    assert not names & {"figure3_comparison.png", "dsc.png"}


def test_figures_of_classes_go_when_the_classes_are_taken_back(run_folder):
    run = run_folder(labelled=False)
    name_clusters(run, {0: "nucleus"})
    assert run / "figures" / "figure3_comparison.png" in draw_all(run)
    name_clusters(run, {0: ""})
    draw_all(run)
    assert not (run / "figures" / "figure3_comparison.png").exists()
    assert (run / "figures" / "figure4_overview.png").exists()


def test_names_that_a_person_gave_come_before_the_headline_mapping(run_folder):
    run = run_folder()
    assert read_run(run).rule == "train"
    name_clusters(run, {0: "Nucleus", 1: "vesicle"}, {1: "#123456"})
    seen = read_run(run)
    assert seen.rule == "named"
    assert seen.class_of_cluster == ["nucleus", "vesicle", None, None]
    assert seen.colours["vesicle"] == "#123456" and list(seen.colours)[:3] == NAMES


def test_a_folder_without_run_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="no such run folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(UserError, match="finished run"):
        read_run(tmp_path)
