"""Figures without a display."""

import subprocess
import sys


def test_drawing_needs_no_display_and_leaves_pyplot_alone():
    code = "import sys, sccs.report.drawing as f; f.new_figure(1, 1); assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
