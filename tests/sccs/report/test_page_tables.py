"""Numbers as text."""

from sccs.report.page_tables import duration, number, percent


def test_numbers_as_a_person_writes_them():
    assert (number(None), number(float("nan")), number(0.12345)) == ("–", "–", "0.123")
    assert (percent(0.0), percent(0.0001), percent(0.123)) == ("0.0 %", "< 0.1 %", "12.3 %")
    assert (duration(0.0042), duration(1.7), duration(75)) == ("4.2 ms", "1.70 s", "1:15 min")
