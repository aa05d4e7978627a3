"""`registry` is a common name: another package of it that comes first is named, in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sccs


@pytest.mark.parametrize("files", [{"__init__.py": "VALUE = 1\n"}, {"other.txt": ""}], ids=["package", "namespace"])
def test_another_registry_first_on_the_path_is_named(files, tmp_path):
    (tmp_path / "registry").mkdir()
    for name, text in files.items():
        (tmp_path / "registry" / name).write_text(text)
    root = Path(sccs.__file__).resolve().parents[1]
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(root)!r}]; "
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in str(f).lower()]; import sccs"
    )
    if "__init__.py" not in files:  # a folder without __init__.py only counts where no package is behind it
        code = code.replace(f", {str(root)!r}", "")
        (tmp_path / "sccs").symlink_to(root / "sccs")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""}
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: sccs needs its own package `registry`, but Python finds ")
    assert str(tmp_path / "registry") in last and "uninstall" in last
