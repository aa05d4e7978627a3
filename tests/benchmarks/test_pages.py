"""What scripts write: numbers over seeds and rounds, tables, a page with its CSV."""

from benchmarks.pages import markdown, mean_sd, median_range, named, publish


def test_numbers_over_seeds_and_rounds():
    assert mean_sd([0.5, 0.6, None]) == "0.550 ± 0.071" and mean_sd([0.5]) == "0.500"
    assert mean_sd([]) == mean_sd([None, float("nan")]) == "-"
    assert median_range([0.3, 0.1, 0.2], digits=1) == "0.2 (0.1 to 0.3)"


def test_a_page_and_its_csv(tmp_path):
    text = markdown(["set", "dsc"], [[named("phantom"), "0.5"]])
    path = publish(tmp_path, "page", "Title", text, ["set", "dsc"], [["phantom", 0.5]])
    assert path.read_text() == "# Title\n\n| set | dsc |\n|---|---|\n| phantom (synthetic) | 0.5 |\n"
    assert (tmp_path / "page.csv").read_text() == "set,dsc\nphantom,0.5\n"
