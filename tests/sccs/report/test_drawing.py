"""Figures without a display."""

import re
import subprocess
import sys


def test_drawing_needs_no_display_and_leaves_pyplot_alone():
    code = "import sys, sccs.report.drawing as f; f.new_figure(1, 1); assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_dollar_signs_are_dollar_signs_and_logarithms_keep_their_powers(tmp_path):
    import numpy as np

    from sccs.report.charts import loss_curves
    from sccs.report.drawing import add_legend, new_figure, save_png, to_svg

    figure, axes = new_figure(3, 2)
    axes[0, 0].set_title(r"$\frac{$")
    axes[0, 0].set_xticks([0, 1], ["$a$", r"\$"])
    add_legend(figure, {r"$x^{$": "#ff0000"})
    assert r"$\frac{$" in (text := to_svg(figure, "a")) and r"$x^{$" in text and "$a$" in text
    save_png(figure, tmp_path / "a.png")
    steps = np.arange(1, 100)
    figure = loss_curves({r"loss/$\frac{$": (steps, 10.0 ** (-steps / 10))})
    shown = re.sub("<!--.*?-->", "", to_svg(figure, "b"))
    assert r"$\frac{$" in shown and "mathdefault" not in shown


def test_control_characters_are_drawn_as_escapes_and_are_in_no_svg(tmp_path, recwarn):
    from sccs.report.drawing import new_figure, save_png, to_svg

    figure, axes = new_figure(3, 2)
    axes[0, 0].set_title("a\x1b[31m")
    assert r"a\x1b[31m" in (text := to_svg(figure, "a")) and "\x1b" not in text
    save_png(figure, tmp_path / "a.png")
    assert not recwarn.list  # no glyph is missing
