"""The examples in docstrings give what they show."""

import doctest
import importlib
import pkgutil

import registry
import sccs

WINDOWS = ("sccs.napari", "sccs.__main__")  # need Qt; start the command


def modules() -> list[str]:
    return [
        found.name
        for package in (registry, sccs)
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".", onerror=lambda name: None)
        if not found.name.startswith(WINDOWS)
    ]


def test_every_example_in_a_docstring_gives_what_it_shows():
    tried, failed = 0, []
    for name in modules():
        result = doctest.testmod(importlib.import_module(name))
        tried += result.attempted
        failed += [name] if result.failed else []
    assert failed == [] and tried > 10
