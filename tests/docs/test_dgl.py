"""The page on DGL: its graphs are written and its classifier trained, as a reader would do it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sccs.cli import main as command
from tests.docs.test_docs import ROOT, blocks

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="needs the checkout, not an installed copy")


def test_the_classifier_learns_from_the_saved_graphs(tmp_path: Path, monkeypatch):
    page = (ROOT / "docs" / "dgl.md").read_text()
    (line,) = [text for text in blocks(page, "sh") if text.startswith("sccs graphs")]
    (code,) = blocks(page, "python")
    assert len(code.strip().splitlines()) <= 32
    monkeypatch.chdir(tmp_path)
    assert command(shlex.split(line)[1:]) == 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    accuracy, guess = map(float, re.findall(r"\d\.\d+", done.stdout))
    assert accuracy > guess + 0.05, done.stdout
