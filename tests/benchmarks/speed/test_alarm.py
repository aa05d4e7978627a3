"""The alarm rings for a stage that is slower by the median, and for no other."""

from benchmarks.speed.alarm import ratios, slower


def rounds(*pairs, stage="features"):
    return [{"base": {stage: base}, "here": {stage: here}} for base, here in pairs]


def test_a_ratio_is_the_median_over_rounds():
    assert ratios(rounds((1.0, 1.2), (1.0, 1.0), (2.0, 2.1))) == {"features": 1.05}


def test_a_tenth_more_is_too_much():
    assert slower(rounds((1.0, 1.11), (1.0, 1.12), (1.0, 0.9))) == ["features"]
    assert slower(rounds((1.0, 1.09), (1.0, 1.5), (1.0, 0.9))) == []
    assert slower(rounds((1.0, 1.2)), limit=1.25) == []


def test_stages_of_a_few_milliseconds_ring_no_alarm():
    assert slower(rounds((0.001, 0.002))) == []
    assert slower(rounds((0.001, 0.5))) == ["features"]
