"""What a rate comes to, and that processes are counted together."""

import pytest

from benchmarks.speed.throughput import ADDED, SEEN, costs, table


def test_a_field_of_view_adds_what_neighbours_do_not_see():
    assert (SEEN, ADDED) == (520, 480 * 480)


def test_costs_by_hand():
    found = costs(per_second=1e6 / ADDED, cores=2, price=0.05)  # a million pixels a second
    assert found["Mpx/s"] == pytest.approx(1) and found["GB/h"] == pytest.approx(3.6)
    assert found["core hours a teravoxel"] == pytest.approx(2 * 1e6 / 3600)
    assert found["price of a teravoxel"] == pytest.approx(0.05 * 2e6 / 3600)


def test_a_line_for_each_number_of_processes():
    rows = [["sccs_fast", 1, 2, 10, "20.000", "0.50000"], ["sccs_fast", 2, 2, 10, "10.000", "1.00000"]]
    lines = table(rows, 0.05).splitlines()
    assert len(lines) == 4 and lines[2].startswith("| sccs_fast | 1 | 2.000 | 0.12 |")
    assert lines[3].startswith("| sccs_fast | 2 | 1.000 | 0.23 |")
