"""The alarm rings for a stage that is slower by the median, and for no other."""

from pathlib import Path

import pytest

from benchmarks.speed import alarm
from benchmarks.speed.alarm import ratios, slower
from registry.base import UserError


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


@pytest.mark.parametrize("here, code", [(0.101, 0), (0.12, 1)])
def test_the_command_compares_two_checkouts_and_ends_with_1_if_one_is_slower(
    tmp_path, monkeypatch, read, capsys, here, code
):
    asked = []

    def turn(folder, systems, scratch):
        assert (Path(folder) / "setup.cfg").is_file()
        asked.append((folder == alarm.ROOT, list(systems)))
        return {"sccs_plus features": here if folder == alarm.ROOT else 0.1, "sccs_plus graph": 0.2}

    monkeypatch.setattr(alarm, "turn", turn)
    assert alarm.main(["HEAD", "--quick", "--out", str(tmp_path)]) == code
    assert sorted(asked) == [(side, ["sccs_plus"]) for side in (False, True) for _ in range(1 + 3)]  # one compiles
    rows = read("alarm")
    assert {(row["stage"], row["checkout"]) for row in rows} == {
        (stage, name) for stage in ("sccs_plus features", "sccs_plus graph") for name in alarm.BOTH
    }
    said = "sccs_plus features: 1.20 times the CPU time at HEAD; the limit is 1.1"
    assert (said in capsys.readouterr().out) == bool(code)


def test_an_unknown_commit_and_a_checkout_that_fails_are_told(tmp_path):
    with pytest.raises(UserError, match="^nowhere: "):
        alarm.main(["nowhere", "--quick", "--out", str(tmp_path)])
    with pytest.raises(UserError, match="ended with code 1: .*sccs_plsu"):
        alarm.turn(alarm.ROOT, ["sccs_plsu"], tmp_path)
