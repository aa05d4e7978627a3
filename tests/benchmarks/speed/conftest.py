"""What tests of the benchmarks of speed share. Commands run at their smallest, and no time is judged."""

import csv
from pathlib import Path

import pytest


@pytest.fixture
def read(tmp_path):
    """read(name): rows of the CSV that a command wrote, whose page must say the command and the machine."""

    def rows(name: str, out: Path = tmp_path) -> list[dict]:
        text = (out / f"{name}.md").read_text()
        assert text.startswith("# ") and f"python -m benchmarks.speed.{name}" in text and "CPU core" in text
        with open(out / f"{name}.csv", newline="") as file:
            return list(csv.DictReader(file))

    return rows
