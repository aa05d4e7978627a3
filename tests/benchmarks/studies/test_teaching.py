"""The table of heads."""

from types import SimpleNamespace

import numpy as np

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


def test_rules_of_suggestions_are_compared_in_a_table_of_their_own():
    rule, *others = teaching.RULES
    way, _ = teaching.ASKED
    found = [(name, way, "hela", 0, 0, n, 0.5) for name in others for n in teaching.BUDGETS]
    found += [(rule, way, data, 0, 0, n, n / 100) for data in ("hela", "vnc") for n in teaching.BUDGETS]
    assert f"| {rule} | 0.030 | 0.100 | 0.300 | 1.000 |" in teaching.table(found, way, teaching.RULES)


def test_chance_may_decide_which_clusters_come_first():
    coordinates = SimpleNamespace(u=1, deviation_=np.ones((1, 1), np.float32))
    kinds = np.repeat(np.arange(6), 10)
    points = (100.0 * kinds + np.random.default_rng(0).normal(size=60))[:, None].astype(np.float32)
    ruled, drawn = (
        [kinds[rule(coordinates, points, kinds, None, 2, seed)].tolist() for seed in range(9)]
        for rule in (teaching.telling, teaching.by_chance)
    )
    assert all(chosen == [0, 5] for chosen in ruled) and len({*map(tuple, drawn)}) > 3


def test_the_other_rule_weighs_clusters_by_the_roots_of_their_sizes():
    coordinates = SimpleNamespace(u=1, deviation_=np.ones((2, 1), np.float32))
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 1], [90, 10])
    points = np.stack([rng.normal(size=100), 9.0 * kinds + rng.normal(size=100)], 1).astype(np.float32)
    chosen = teaching.weighed(coordinates, points, kinds, None, 2, 0)
    assert kinds[chosen].tolist() == [0, 1]
