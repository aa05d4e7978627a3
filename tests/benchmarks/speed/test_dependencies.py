"""The table of dependencies: every package of setup.cfg has a reason and a line."""

import importlib.util
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

PATH = Path(__file__).resolve().parents[3] / "benchmarks" / "speed" / "dependencies.py"


@pytest.fixture(scope="module")
def dependencies():
    spec = importlib.util.spec_from_file_location("dependencies", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_dependency_has_a_reason_and_a_line_on_the_page(dependencies):
    page = (PATH.parents[2] / "docs" / "decisions.md").read_text()
    for group, requirement in dependencies.listed():
        assert canonicalize_name(requirement.name) in dependencies.WHY, requirement.name
        assert f"| {group} | {requirement.name} " in page, (
            f"{requirement}: run benchmarks/speed/dependencies.py --write"
        )


def test_sizes_are_those_of_installed_files(dependencies):
    assert dependencies.size("numpy") > 1e6
    assert dependencies.size("no-such-package") is None
    assert "numpy" in dependencies.needs("scipy")
