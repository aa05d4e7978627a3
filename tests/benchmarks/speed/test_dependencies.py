"""The table of dependencies: every package of setup.cfg has a reason and a line."""

from pathlib import Path

from packaging.utils import canonicalize_name

from benchmarks.speed import dependencies

PAGE = Path(__file__).resolve().parents[3] / "docs" / "decisions.md"


def test_every_dependency_has_a_reason_and_a_line_on_the_page():
    page = PAGE.read_text()
    assert f"Written by `{dependencies.COMMAND} --write`." in page
    for group, requirement in dependencies.listed():
        assert canonicalize_name(requirement.name) in dependencies.WHY, requirement.name
        assert f"| {group} | {requirement.name} " in page, f"{requirement}: run {dependencies.COMMAND} --write"


def test_sizes_are_those_of_installed_files():
    assert dependencies.size("numpy") > 1e6
    assert dependencies.size("no-such-package") is None
    assert "numpy" in dependencies.needs("scipy")
