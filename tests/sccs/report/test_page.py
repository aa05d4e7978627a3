"""report.html: complete, self-contained, honest about what was fitted on what, and readable in a browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from registry.base import UserError
from sccs.evaluation.naming import name_clusters
from sccs.report.page import write_report
from sccs.report.page_pictures import to_merge
from sccs.report.views import SliceView
from tests.sccs.conftest import make_view

VOID = {"meta", "link", "img", "input", "br", "hr", "option"}


class Page(HTMLParser):
    """Collects tags and text, and fails on tags that do not pair."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def page_of(run):
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_the_page_loads_nothing_from_elsewhere_and_is_small(run_folder):
    run = run_folder()
    page = page_of(run)
    for tag, attributes in page.tags:
        for key in ("src", "href", "xlink:href"):
            if attributes.get(key):
                assert attributes[key].startswith(("data:", "#")), (tag, attributes[key][:60])
    html = (run / "report.html").read_text()
    assert not re.search(r"url\((?!#|data:)|@import|https?://(?!www\.w3\.org)", html)
    assert len(html) < 2_000_000


def test_the_page_is_accessible(run_folder):
    page = page_of(run_folder())
    images = [a for tag, a in page.tags if tag == "img" and "src" in a]
    assert images and all(a["alt"].strip() for a in images)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {"#" + i for i in ids} >= {a["href"] for tag, a in page.tags if tag == "a"}
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert tables == sum(tag == "caption" for tag, _ in page.tags) > 3
    assert ("html", {"lang": "en"}) in page.tags


def test_every_control_has_a_name_and_shows_focus(run_folder):
    run = run_folder()
    page, html = page_of(run), (run / "report.html").read_text()
    inputs = [a for tag, a in page.tags if tag == "input"]
    assert len(inputs) == html.count("<label>") > 3  # each is within its own
    assert not re.findall(r"<button[^>]*>\s*</button>", html)
    assert "tabindex" not in html.replace('tabindex="0"', "")  # nothing is taken out of the order of keys
    assert ":focus-visible { outline: 3px" in html and "outline: none" not in html
    light, dark = (set(re.findall(r"(--[\w-]+):", part)) for part in re.findall(r":root \{(.*?)\}", html, re.S)[:2])
    assert light == dark == set(re.findall(r"var\((--[\w-]+)\)", html)) and "prefers-color-scheme: dark" in html


def test_a_page_without_room_leaves_pictures_of_rare_clusters_beside_it(run_folder, monkeypatch):
    run = run_folder(slices=1)
    whole = write_report(run).read_text()
    monkeypatch.setattr("sccs.report.page_pictures.ROOM", 40_000)
    html = write_report(run).read_text()
    assert sum(map(len, re.findall('src="(data:[^"]*)"', html))) <= 40_000
    beside = [unquote(path) for path in re.findall('src="(figures/pictures/[^"]*)"', html)]
    assert beside and all((run / path).is_file() for path in beside)
    assert [len(re.findall(what, html)) for what in ("<img", "<article")] == [
        len(re.findall(what, whole)) for what in ("<img", "<article")
    ]
    assert re.findall("data-cluster=.([0-9]+)", html) == ["0", "1", "2", "3"]


def test_a_labelled_run_says_all_it_knows(run_folder):
    text = page_of(run_folder()).text
    for words in (
        "a tiny run",
        "seed 3",
        "trained on other",
        "mean DSC, test",
        "mapping train",
        "3 of 4",
        "0.75 s",
        "1:01 min",
        "ground truth",
        "errors",
        "k-means alone",
        "basis 1",
        "Cluster 3",
        "upper bound",
        "Consistency between images",
        "log density",
        "superpixel graph",
        "This cluster does not occur",
        "iterations: 100",
        "torch 2.4",
        "mean without unrecognized",
    ):
        assert words in text, words
    assert "Synthetic" not in text


def test_clusters_come_first_and_details_are_folded(run_folder):
    run = run_folder()
    page = page_of(run)
    sections = [a["id"] for tag, a in page.tags if tag == "section"]
    assert sections[:4] == ["clusters", "slices", "teach", "scores"] and "details" in sections
    html = (run / "report.html").read_text()
    for word in ("basis 1", "k-means alone", "log density"):
        before = html[: html.index(word)]
        assert before.count("<details>") > before.count("</details>"), word


def test_a_named_slice_is_one_row_of_pictures(run_folder):
    run = run_folder(labelled=False)
    rows = re.findall(r'<div class="pictures">(.*?)</div>', write_report(run).read_text(), re.S)
    assert [re.findall('data-name="([^"]*)"', row) for row in rows[:2]] == [
        ["input", "clusters"],
        ["superpixels", "k-means alone"],
    ]
    name_clusters(run, {0: "nucleus"})
    rows = re.findall(r'<div class="pictures">(.*?)</div>', write_report(run).read_text(), re.S)
    assert re.findall('data-name="([^"]*)"', rows[0]) == ["input", "classes"]


def test_large_pictures_are_files_beside_a_light_page(run_folder):
    run = run_folder(slices=0)
    make_view(shape=(560, 560), u=12).save(run / "figures" / "data")
    html = write_report(run).read_text()
    full = [run / unquote(path) for path in re.findall('data-full="([^"]*)"', html)]
    assert len(full) == len(set(full)) == len(list((run / "figures" / "pictures").iterdir())) > 20
    with Image.open(next(path for path in full if "cell_z0000_clusters" in path.name)) as image:
        assert image.size == (560, 560)
    assert max(map(len, re.findall('src="([^"]*)"', html))) < 80_000  # six slices of eight pictures are within 3 MB
    for path in (run / "figures" / "data").glob("cell*.npz"):
        path.unlink()
    write_report(run)
    assert not list((run / "figures" / "pictures").glob("cell*"))


def test_the_title_is_what_was_segmented(run_folder):
    page = page_of(run_folder())
    assert page.text.startswith("other, cell · SCCS report a tiny run · 4 clusters other, cell")
    assert "phantom · SCCS report" in page_of(run_folder(data="phantom", name="b")).text


def test_synthetic_data_is_called_synthetic(run_folder):
    assert "Synthetic data." in page_of(run_folder(data="phantom")).text


def test_a_run_without_labels_has_no_scores_but_all_the_rest(run_folder):
    page = page_of(run_folder(labelled=False))
    assert "mean DSC" not in page.text and "name them" in page.text and "Warnings" not in page.text
    assert "ground truth" not in page.text
    assert not any(a.get("id") == "scores" for _, a in page.tags)
    assert sum(a.get("class") == "name" for _, a in page.tags) == 4


def test_a_run_without_test_volumes_counts_the_clusters_of_training(run_folder):
    run = run_folder(labelled=False, slices=0)
    assert "in training" in page_of(run).text and "on the test volumes" not in page_of(run).text


def test_many_slices_are_limited_and_the_page_says_so(run_folder):
    page = page_of(run_folder(slices=9))
    assert sum(a.get("class") == "card slice" for _, a in page.tags) == 6
    assert "Showing 6 of 10 stored slices (9 test, 1 train)" in page.text


def test_names_appear_after_a_rebuild_and_are_escaped(run_folder):
    run = run_folder()
    name_clusters(run, {0: "nucleus", 2: "<b>odd & ends"})
    page = page_of(run)
    assert "Cluster 0 : nucleus" in page.text or "Cluster 0: nucleus" in page.text
    assert "<b>odd & ends" in page.text and "mapping named" in page.text


def test_slices_are_scored_as_the_metrics_are(run_folder):
    """One test slice: its mean DSC is that of the whole, also where clusters go without a class."""
    run = run_folder(slices=1)
    name_clusters(run, {1: "nucleus", 2: "odd thing"})
    metrics = json.loads((run / "metrics.json").read_text())
    assert f"mean DSC {metrics['test']['named']['mean']['dsc']:.3f}, mapping named" in page_of(run).text


def test_a_cluster_is_a_gallery_of_several_slices_with_size_and_grey(run_folder):
    run = run_folder()
    for path in (run / "figures" / "data").glob("*.npz"):
        view = SliceView.load(path)
        view.voxel_size = (40.0, 5.0, 5.0)
        view.save(path.parent)
    page = page_of(run)
    spots = [a["alt"] for tag, a in page.tags if tag == "img" and a.get("alt", "").startswith("Spot")]
    assert {alt.rpartition(" in ")[2] for alt in spots if "cluster 1," in alt} == {
        "cell, z = 0",
        "cell, z = 1",
        "other, z = 0",
    }
    assert "72 px (360 nm) wide" in page.text and "mean grey" in page.text


def test_the_command_to_name_clusters_can_be_pasted(run_folder, monkeypatch):
    run = run_folder(name="my run")
    monkeypatch.chdir(run.parent)
    assert "sccs name 'my run' 0=NAME" in page_of(run).text


def test_the_folder_alone_is_enough_and_gives_the_same_page(run_folder, tmp_path, monkeypatch):
    run = run_folder()
    first = write_report(run).read_text()
    shutil.copytree(run, tmp_path / "elsewhere" / "run")
    run.rename(tmp_path / "gone")
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = write_report(Path("run")).read_text()
    assert first.replace(str(run), "run") == again


@pytest.mark.parametrize(
    "missing",
    [
        "metrics.json",
        "timing.json",
        "environment.json",
        "metrics.jsonl",
        "graphs.json",
        "resolved.yaml",
        "recipe.yaml",
        "figures",
    ],
)
def test_what_is_missing_is_left_out(run_folder, missing):
    run = run_folder(slices=1)
    path = run / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "Cluster 0" in page_of(run).text


def test_warnings_of_the_log_are_shown_once(run_folder):
    run = run_folder(slices=1)
    line = "2026-01-01 10:00:00 WARNING graph a:0:0:0: 9 nodes have no neighbour\n"
    (run / "log.txt").write_text(line + "2026-01-01 10:00:01 INFO    fine\n" + line)
    assert page_of(run).text.count("9 nodes have no neighbour") == 1


@pytest.mark.parametrize(
    "given, alike, pair",
    [
        (["", "", "", ""], [1, 3, 1, 1], (1, 3)),
        (["", "a", "", "a"], [2, 0, 0, 0], (1, 3)),  # one name comes before likeness
        (["a", "b", "", ""], [1, 0, 3, None], None),  # named differently; no likeness of both
        (["", ""], [None, None], None),
    ],
)
def test_clusters_that_one_might_merge(given, alike, pair):
    made = [{"number": n, "given": g, "alike": a} for n, (g, a) in enumerate(zip(given, alike))]
    assert to_merge(made) == pair


def test_the_page_names_two_clusters_to_merge(run_folder):
    found = re.findall(r"sccs merge \S+ (\d) (\d)", page_of(run_folder()).text)
    assert len(found) == 1 and int(found[0][0]) < int(found[0][1]) < 4


def test_notes_are_no_warnings(run_folder):
    run = run_folder(slices=1)
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | {"notes": ["no labels in the test volumes"]}))
    page = page_of(run)
    assert "Notes no labels in the test volumes" in page.text and "Warnings" not in page.text
    (run / "log.txt").write_text("2026-01-01 10:00:00 WARNING empty slices\n")
    assert "Warnings empty slices Notes no labels in the test volumes" in page_of(run).text


def test_a_folder_without_run_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="finished run"):
        write_report(tmp_path)


@pytest.mark.parametrize("slices, parts", [(2, ["train", "test"]), (0, ["train"])])
def test_a_cluster_has_shares_of_the_parts_that_there_are(run_folder, slices, parts):
    html = write_report(run_folder(slices=slices)).read_text()
    tables = re.findall(r'<table class="share">(.*?)</table>', html, re.DOTALL)
    assert tables and all(re.findall(r'<th scope="row">(\w+)</th>', table) == parts for table in tables)


@pytest.mark.browser
def test_the_page_in_a_browser(run_folder, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    report = write_report(run_folder())
    shot = tmp_path / "report.png"
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-sync",
        "--disable-background-networking",
        "--disable-component-update",
        "--window-size=1300,1800",
    ]

    def browse(*more):
        command = [browser, *options, f"--user-data-dir={tmp_path / 'profile'}", *more, report.as_uri()]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

    browse(f"--screenshot={shot}")
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape == (1800, 1300, 3)
    assert pixels.std() > 20  # something was drawn
    assert len(np.unique(pixels[600:].reshape(-1, 3), axis=0)) > 1000  # and pictures among it
    command = re.search(r'<pre id="command"[^>]*>([^<]*)', browse("--dump-dom")).group(1)
    assert command.endswith("0=NAME 3=nucleus …")  # the script ran to the end
