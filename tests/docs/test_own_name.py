"""`sccs` and `registry` on the package index are other people's: nothing of ours tells anyone to install them."""

import re
import subprocess
from pathlib import Path

import pytest

import sccs
from registry.requirements import DISTRIBUTION, pip_install

ROOT = Path(sccs.__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "setup.cfg").is_file(), reason="needs the checkout, not an installed copy")
# An extra in brackets, or the bare name after `install`, with or without quotes.
STRANGER = re.compile(
    r"""(?<![\w.-])(sccs|registry)\[[a-z]"""
    r"""|(pip|uv|conda|mamba|poetry)3? (install|add)[^\n]*[\s"'`](sccs|registry)([\s"'`=<>~;)]|$)"""
)
TEXT = (".py", ".md", ".yaml", ".cfg", ".toml", ".txt", ".j2", ".sh", ".cff", "")


def pages() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    return [ROOT / name for name in names if Path(name).suffix in TEXT and (ROOT / name).is_file()]


def test_no_page_and_no_string_recommends_a_strangers_package():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in pages()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if STRANGER.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        'pip install "sccs[cpu]"',
        "pip install sccs",
        "sccs[zarr]",
        "pip install -U 'registry'",
        'uv add "sccs"',
        "pip install sccs[napari] napari[pyside6]",
    ],
)
def test_the_old_form_would_be_found(line):
    assert STRANGER.search(line)


@pytest.mark.parametrize("line", ["pip install '.[cpu]'", "pip install 'sccs-em'", "sccs run sccs", "values[registry]"])
def test_the_new_form_is_not(line):
    assert not STRANGER.search(line)


def test_commands_state_the_range_that_setup_cfg_allows():
    assert DISTRIBUTION in (ROOT / "setup.cfg").read_text()
    assert pip_install("zarr", "no-such-package") == "pip install 'zarr>=3.0' no-such-package"
    lowest = re.search(r"^    onnx >=(.*)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)[1]
    assert pip_install("onnx") == f"pip install 'onnx>={lowest}'"
