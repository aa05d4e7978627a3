"""The pages: their examples run, their links lead somewhere."""

import re
from pathlib import Path

import numpy as np
import pytest

import sccs
from sccs.pipeline import Pipeline

ROOT = Path(sccs.__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="needs the checkout, not an installed copy")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("role", ["features", "graph", "embedder", "clusterer"])
def test_the_example_of_a_role_runs_and_is_loaded_again(role, tmp_path, monkeypatch):
    """Page -> plug-in and recipe, as a reader would copy them -> a trained model, which loads again."""
    text = (ROOT / "docs" / "parts" / f"{role}.md").read_text()
    (code,), (recipe,) = blocks(text, "python"), blocks(text, "yaml")
    (plugin,) = re.findall(r"plugins: \[(.*)\]", recipe)
    assert f"`{plugin}`" in text
    (tmp_path / plugin).write_text(code)
    (tmp_path / "my.yaml").write_text(recipe)
    monkeypatch.chdir(tmp_path)
    images = [rng.normal(size=(1, 96, 100)) for rng in map(np.random.default_rng, range(2))]
    model = Pipeline.from_recipe("my.yaml", device="cpu").fit(images)
    model.save(tmp_path / "model")
    assert (Pipeline.load("model").segment(images[0]) == model.segment(images[0])).all()
    assert type(getattr(model, role)).__name__ == re.search(r"class (\w+)", code)[1]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_linked_from_another():
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    }
    assert [str(page.relative_to(ROOT)) for page in PAGES[1:] if page not in linked] == []
