"""What pictures say: known answers on small slices, and every figure of a run."""

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest

from registry.base import UserError
from sccs.evaluation.naming import name_clusters
from sccs.report import figures
from sccs.report.figures import SHOWN_BASES, SliceView
from sccs.system.colours import WRONG, class_colours, rgb

NAMES = ["unrecognized", "nucleus", "granules"]


def small(**changes):
    """2 x 3 px, two superpixels and one pixel without."""
    values = dict(
        volume="a",
        z=1,
        split="test",
        image=np.full((2, 3), 100, np.uint8),
        labels=np.array([[0, 1, 1], [0, 9, 2]]),
        regions=np.array([[0, 0, 1], [0, 1, -1]], np.int32),
        bases=np.array([[0.0], [1.0]]),
        clusters=np.array([2, 0]),
        ignore=9,
        classes={0: "unrecognized", 1: "nucleus", 2: "granules"},
    )
    return SliceView(**{**values, **changes})


# ------------------------------------------------------------------------------------------------------- SliceView
@pytest.mark.parametrize("labelled", [True, False])
def test_a_view_comes_back_as_it_was_saved(tmp_path, view, labelled):
    if not labelled:
        view.labels = view.kmeans_raw = view.ignore = None
    path = view.save(tmp_path / "data")
    assert path.name == "cell_z0000.npz" and path.stat().st_size < 60_000
    again = SliceView.load(path)
    for field in dataclasses.fields(SliceView):
        before, after = getattr(view, field.name), getattr(again, field.name)
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(before, after)
        else:
            assert before == after, field.name


def test_of_many_bases_those_of_highest_variance_are_kept():
    rng = np.random.default_rng(0)
    scale = np.ones(40)
    scale[5::3] = 10
    bases = rng.normal(size=(300, 40)) * scale
    view = small(
        regions=np.arange(300).reshape(15, 20),
        image=np.zeros((15, 20), np.uint8),
        labels=None,
        bases=bases,
        clusters=np.zeros(300, int),
    )
    assert view.u == 40
    assert view.columns.tolist() == list(range(5, 40, 3))[:SHOWN_BASES]
    np.testing.assert_allclose(view.bases, bases[:, 5::3], rtol=1e-5)


def test_a_view_refuses_arrays_that_do_not_belong_together():
    with pytest.raises(ValueError, match="share one shape"):
        small(labels=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="number of superpixels"):
        small(clusters=np.array([0]))


def test_superpixels_become_pixels():
    view = small()
    assert view.cluster_image().tolist() == [[2, 2, 0], [2, 0, -1]]
    assert view.class_image(["nucleus", "granules", None], NAMES).tolist() == [[-1, -1, 1], [-1, 1, -1]]
    assert view.truth_image(NAMES).tolist() == [[0, 1, 1], [0, -1, 2]]
    assert small(labels=None).truth_image(NAMES) is None


# ------------------------------------------------------------------------------------------------------ RGB images
def test_outlines_are_one_pixel_thin():
    regions = np.repeat([[0, 0, 1, 1]], 3, axis=0)
    assert figures.outlines(regions).tolist() == [[False, True, False, False]] * 3


def test_error_map_shows_wrong_pixels_in_the_colour_of_their_true_class():
    view, colours = small(), class_colours(NAMES)
    truth = view.truth_image(NAMES)
    predicted = np.array([[1, 1, 2], [0, 0, 2]])
    out = figures.error_map(view, truth, predicted, colours)
    assert tuple(out[0, 0]) == rgb(WRONG)  # false alarm: truly unrecognized
    assert tuple(out[0, 2]) == rgb(colours["nucleus"])
    assert tuple(out[1, 1]) == (255, 255, 255)  # not scored
    right = out[[0, 1, 1], [1, 0, 2]]
    assert (right == right[0]).all() and right[0].min() > 150


def test_what_no_label_can_confirm_counts_as_the_rest():
    predicted = np.array([[-1, 0, 1, 2, 3]])  # 3: a name that a person added
    assert figures.as_scored(predicted, NAMES).tolist() == [[0, 0, 1, 2, 0]]
    assert figures.as_scored(predicted, ["nucleus", "granules", "mitochondria"]).tolist() == predicted.tolist()


@pytest.mark.parametrize("values", [[0.0, 1.0], [2.0, 2.0], [np.nan, 1.0]])
def test_basis_map_copes_with_constant_and_undefined_bases(values):
    out = figures.basis_map(small(bases=np.array(values)[:, None]), 0)
    assert out.shape == (2, 3, 3) and out.dtype == np.uint8


def test_basis_map_runs_from_blue_to_red(view):
    out = figures.basis_map(view, 4, alpha=1.0).astype(int)
    nucleus, rest = out[40, 36], out[90, 8]
    assert rest[2] > rest[0]  # low: blue
    granule = out[60, 86]
    assert granule[0] > granule[2]  # high: red
    assert not np.array_equal(nucleus, rest)


def test_basis_mosaic_shows_at_most_twelve(view):
    n = len(view.clusters)
    out = figures.basis_mosaic(np.random.default_rng(0).normal(size=(n, 30)), view.regions)
    assert out.shape == (3 * 96, 4 * 112, 3)
    assert figures.basis_mosaic(np.zeros((n, 1)), view.regions).shape == (96, 4 * 112, 3)


def test_overlays_have_the_image_shape(view):
    colours = class_colours(NAMES)
    for out in (
        figures.superpixel_overlay(view),
        figures.cluster_overlay(view, 4),
        figures.unsynchronised_overlay(view),
        figures.class_overlay(view, view.truth_image(NAMES), colours),
        figures.cluster_place(view, 1, "#ff0000"),
    ):
        assert out.shape == (96, 112, 3) and out.dtype == np.uint8
    assert figures.superpixel_overlay(small()).shape == (2, 3, 3)
    assert figures.unsynchronised_overlay(small()) is None


def test_crops_show_a_cluster_outlined_and_none_of_an_empty_one(view):
    crops = figures.cluster_crops([view, view], 1, "#ff0000", count=3, side=32)
    assert 1 <= len(crops) <= 3
    assert all(crop.picture.shape == (64, 64, 3) and crop.view is view for crop in crops)
    assert (crops[0].picture == rgb("#ff0000")).all(axis=2).any()
    assert figures.cluster_crops([view], 3, "#ff0000") == []


def test_crops_come_from_all_slices(view):
    other = dataclasses.replace(view, z=7)
    crops = figures.cluster_crops([view, other], 1, "#ff0000", count=4, side=32)
    assert {crop.view.z for crop in crops} == {0, 7}


def test_mean_grey_is_in_deviations_of_the_volume(view):
    flat = dataclasses.replace(view, image=np.full(view.image.shape, 255, np.uint8))
    assert figures.cluster_grey([flat], 1) == pytest.approx(3.0)
    assert figures.cluster_grey([flat], 3) is None


def test_crops_of_an_image_smaller_than_a_crop():
    crops = figures.cluster_crops([small()], 2, "#ff0000", side=8)
    assert [crop.picture.shape for crop in crops] == [(16, 16, 3)]


# --------------------------------------------------------------------------------------------------------- figures
def test_every_figure_of_a_labelled_run(run_folder):
    run = run_folder()
    paths = figures.draw_all(run)
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
    names = {path.name for path in figures.draw_all(run_folder(labelled=False, slices=1))}
    assert "figure4_overview.png" in names
    assert not names & {"figure3_comparison.png", "dsc.png"}


def test_an_identity_embedding_of_one_column_still_has_an_overview(view):
    figure = figures.overview_panel([small(), view], 4, None, {})
    assert figures.to_rgb(figure, dpi=40).ndim == 3


def test_metrics_are_read_by_tag_and_null_is_nan(run_folder):
    metrics = figures.read_metrics(run_folder() / "metrics.jsonl")
    steps, values = metrics["loss/spe"]
    assert steps.tolist() == list(range(10, 101, 10))
    assert np.isnan(values[0]) and values[1] == 0.5


def test_charts_without_data_are_none(tmp_path):
    assert figures.read_metrics(tmp_path / "metrics.jsonl") == {}
    assert figures.loss_curves({}) is None
    assert figures.share_curves({}) is None
    assert figures.dsc_bars({}, {}) is None


def test_smoothing_keeps_a_constant_and_skips_nan():
    values = np.full(100, 2.0)
    values[::7] = np.nan
    np.testing.assert_allclose(figures._smoothed(values), 2.0)
    steps, thin = figures._thinned(np.arange(1000), np.arange(1000.0))
    assert len(steps) <= 400 and np.array_equal(steps, thin)


def test_svg_takes_the_pages_colour_and_ids_of_its_own(run_folder):
    metrics = figures.read_metrics(run_folder() / "metrics.jsonl")
    one, two = (figures.to_svg(figures.loss_curves(metrics), name) for name in ("one", "two"))
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert ids[0] and not ids[0] & ids[1]
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', one)) <= ids[0]
    assert "currentColor" in one and figures.INK not in one


# ------------------------------------------------------------------------------------------------------ whole runs
def test_names_that_a_person_gave_come_before_the_headline_mapping(run_folder):
    run = run_folder()
    assert figures.read_run(run).rule == "train"
    name_clusters(run, {0: "Nucleus", 1: "vesicle"}, {1: "#123456"})
    seen = figures.read_run(run)
    assert seen.rule == "named"
    assert seen.class_of_cluster == ["nucleus", "vesicle", None, None]
    assert seen.colours["vesicle"] == "#123456" and list(seen.colours)[:3] == NAMES


def test_a_folder_without_run_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="no such run folder"):
        figures.read_run(tmp_path / "nowhere")
    with pytest.raises(UserError, match="finished run"):
        figures.read_run(tmp_path)


def test_drawing_needs_no_display_and_leaves_pyplot_alone():
    code = "import sys, sccs.report.figures as f; f.new_figure(1, 1); assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
