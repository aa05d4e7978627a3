"""The table of heads."""

from benchmarks.studies import teaching


def test_a_number_is_the_mean_over_sets_of_what_halves_and_draws_gave():
    name = next(iter(teaching.HEADS))
    values = {("hela", 0, 0): 0.2, ("hela", 1, 0): 0.4, ("vnc", 0, 0): 0.9}  # hela: .3
    found = [
        (head, labels, data, half, draw, n, value if (head, labels, n) == (name, "class by class", 3) else 0.1)
        for head in teaching.HEADS
        for labels in teaching.DRAWS
        for n in teaching.BUDGETS
        for (data, half, draw), value in values.items()
    ]
    assert f"| {name} | 0.600 | 0.100 | 0.100 | 0.100 |" in teaching.table(found, "class by class")
    assert f"| {name} | 0.100 | 0.100 | 0.100 | 0.100 |" in teaching.table(found, "as they come")
