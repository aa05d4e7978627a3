"""The documentation site is built, and a dead link stops it."""

import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

import registry
import sccs
from sccs.arguments import COMMANDS
from sccs.data.schema import DATA_MODELS

ROOT = Path(sccs.__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="needs the checkout, not an installed copy")
for package in ("mkdocs", "material", "mkdocstrings"):
    pytest.importorskip(package)


def build(config: Path, site: Path) -> subprocess.CompletedProcess:
    """Not with --quiet, which also takes the warnings away that `strict` counts."""
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", str(config), "--site-dir", str(site)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The whole site, built as `make docs` does; mkdocs.yml makes every dead link an error."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def words(page: Path) -> str:
    article = page.read_text().partition("<article")[2].partition("</article>")[0]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", article)).split())


def test_the_front_page_is_the_readme(site):
    assert (ROOT / "README.md").read_text().split("\n\n")[1].split(".")[0].replace("\n", " ") in words(
        site / "index.html"
    )
    assert 'href="tutorial.html"' in (site / "index.html").read_text()


def test_every_command_has_its_options(site):
    text = words(site / "command_line.html")
    assert [name for name in COMMANDS if f"usage: sccs {name}" not in text] == []
    assert "--pixels" not in text and "--voxel-size Z Y X" in text


def test_every_block_and_part_has_its_keys(site):
    text = words(site / "recipe_keys.html")
    heads = [f"data: {name}" for name in DATA_MODELS]
    tables = zip(registry.ROLES, (registry.FEATURES, registry.GRAPH, registry.EMBEDDER, registry.CLUSTERER))
    heads += [f"{role}: {name}" for role, table in tables for name in table]
    assert [head for head in heads if head not in text] == []
    assert (
        "k whole number ≥ 1 8" in text and "pixels_per_superpixel" in text and 'whole number ≥ 80 or "full" 560' in text
    )


def test_the_api_is_there(site):
    text = words(site / "api.html")
    assert "from_recipe" in text and "class FeatureMap" not in text.partition("registry.base")[0]
    assert all(module in text for module in re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(), re.M))


def test_files_out_of_docs_are_copied_and_folders_are_no_links(site):
    assert 'href="source/LICENSE"' in (site / "index.html").read_text()
    assert (site / "source" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert (site / "source" / "benchmarks" / "results" / "quick" / "plus.html").is_file()
    assert 'benchmarks/results/quick"' not in (site / "results.html").read_text()


def test_a_dead_link_stops_the_site(tmp_path):
    """A copy of the configuration with pages of its own, without the parts that take long."""
    text = (ROOT / "mkdocs.yml").read_text()
    text = re.sub(r"^nav:\n(?:(?:  .*)?\n)*", "", text, flags=re.M).replace("hooks: [docs/hooks.py]", "")
    text = re.sub(r"^  - mkdocstrings:\n(?:    .*\n)*", "", text, flags=re.M)
    (tmp_path / "mkdocs.yml").write_text(text)
    (tmp_path / "docs").mkdir()
    for link, code in (("b.md#there", 0), ("b.md#gone", 1), ("c.md", 1)):
        (tmp_path / "docs" / "index.md").write_text(f"# A\n\n[link]({link})\n")
        (tmp_path / "docs" / "b.md").write_text("# B\n\n## There\n")
        assert build(tmp_path / "mkdocs.yml", tmp_path / "site").returncode == code, link
        shutil.rmtree(tmp_path / "site", ignore_errors=True)
