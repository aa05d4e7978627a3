"""A short, deterministic piece of the fuzzing; `python -m tests.fuzz` goes on for as long as one likes."""

import pytest

from tests.fuzz.targets import TARGETS, attempt

SEEDS = {"recipe": 60, "names": 60, "run": 25, "report": 4, "archive": 80, "checkpoint": 150, "reader": 120}
FOUND: list[tuple[str, int]] = [("reader", 2541), ("reader", 511011)]  # what longer runs found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_harmed_inputs_are_told_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seeds = [*range(SEEDS[name]), *(seed for target, seed in FOUND if target == name)]
    for seed in seeds:
        error = attempt(TARGETS[name], seed, tmp_path / "input")
        assert error is None, (name, seed, error)
