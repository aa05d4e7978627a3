"""Estimates of `sccs init` beside what a run takes."""

import pytest

from benchmarks.speed.estimates import ESTIMATE, seconds_of, table
from sccs.init.cost import span
from sccs.system.log import clock


@pytest.mark.parametrize("seconds", [0.4, 9.9, 12, 59, 61, 3599, 3723])
def test_seconds_are_read_as_they_are_printed(seconds):
    assert seconds_of(clock(seconds)) == pytest.approx(seconds)


def test_the_estimate_is_found_in_what_init_says():
    line = f"time of this run: {span(600)}: 9 FOVs to train on 3 s, training 4 s, 27 FOVs to segment 2:00 min"
    found = ESTIMATE.search(f"memory: ...\n{line}\n")
    assert [seconds_of(found[1]), seconds_of(found[2]), found[3]] == [400, 900, "27"]


def test_the_table_says_which_were_missed():
    rows = table([["hela", "25", "20.0", "45.0", "30.0"], ["vnc", "9", "20.0", "45.0", "60.0"]]).splitlines()[2:]
    assert "| 1.00 | yes |" in rows[0] and "| 2.00 | no |" in rows[1]
