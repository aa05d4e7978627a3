"""Curves and bars."""

import re

import numpy as np

from sccs.report.charts import _smoothed, _thinned, dsc_bars, loss_curves, read_metrics, share_curves
from sccs.report.drawing import INK, to_svg


def test_metrics_are_read_by_tag_and_null_is_nan(run_folder):
    metrics = read_metrics(run_folder() / "metrics.jsonl")
    steps, values = metrics["loss/spe"]
    assert steps.tolist() == list(range(10, 101, 10))
    assert np.isnan(values[0]) and values[1] == 0.5


def test_charts_without_data_are_none(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == {}
    assert loss_curves({}) is None
    assert share_curves({}) is None
    assert dsc_bars({}, {}) is None


def test_smoothing_keeps_a_constant_and_skips_nan():
    values = np.full(100, 2.0)
    values[::7] = np.nan
    np.testing.assert_allclose(_smoothed(values), 2.0)
    steps, thin = _thinned(np.arange(1000), np.arange(1000.0))
    assert len(steps) <= 400 and np.array_equal(steps, thin)


def test_svg_takes_the_pages_colour_and_ids_of_its_own(run_folder):
    metrics = read_metrics(run_folder() / "metrics.jsonl")
    one, two = (to_svg(loss_curves(metrics), name) for name in ("one", "two"))
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert ids[0] and not ids[0] & ids[1]
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', one)) <= ids[0]
    assert "currentColor" in one and INK not in one
