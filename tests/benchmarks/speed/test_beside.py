"""Timing beside other programs: the table, and that the others run and end."""

import psutil

from benchmarks.speed.beside import busy, table


def counting() -> int:
    return sum("while True: pass" in " ".join(each.cmdline()) for each in psutil.Process().children())


def test_other_programs_run_meanwhile_and_no_longer():
    with busy(2):
        assert counting() == 2
    assert counting() == 0


def test_the_table_has_medians_ranges_and_their_ratio():
    rows = [["sccs", "2", "ours", s] for s in ("0.2", "0.1", "0.4")] + [["sccs", "2", "libgomp's", "0.5"]]
    assert table(rows).splitlines()[2] == "| sccs | 2 | 0.200 (0.100 to 0.400) | 0.500 (0.500 to 0.500) | 2.50 |"
