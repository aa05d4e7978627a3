"""A run's steps: taken back, edited between, ended in the middle, all at once."""

import threading
from dataclasses import replace

import pytest

from registry.base import UserError
from sccs.recipe import history
from sccs.recipe.named import FILE, State, read_state
from sccs.system import files
from sccs.system.lock import held


def name(run, cluster, text):
    state = read_state(run)
    clusters = {**state.clusters, cluster: {"name": text, "colour": "#112233"}}
    return history.take(run, f"name {cluster}={text}", replace(state, clusters=clusters))


def names(run) -> dict[int, str]:
    return {c: entry["name"] for c, entry in read_state(run).clusters.items()}


def commands(run) -> list[str]:
    return [step.command for step in history.steps(run)]


def test_steps_are_told_and_taken_back_in_turn(tmp_path):
    for text in ("a", "b", "c"):
        name(tmp_path, 1, text)
    assert commands(tmp_path) == ["name 1=a", "name 1=b", "name 1=c"]
    assert history.take_back(tmp_path).command == "name 1=c"
    assert names(tmp_path) == {1: "b"}
    name(tmp_path, 2, "d")
    assert commands(tmp_path) == ["name 1=a", "name 1=b", "name 2=d"]
    for _ in range(3):
        history.take_back(tmp_path)
    assert not (tmp_path / FILE).exists() and commands(tmp_path) == []
    with pytest.raises(UserError, match="no step to undo"):
        history.take_back(tmp_path)


def test_what_a_person_wrote_between_is_a_step_of_its_own(tmp_path):
    name(tmp_path, 1, "a")
    (tmp_path / FILE).write_text("clusters: {1: {name: mine}}\n")  # without the step's number
    assert commands(tmp_path) == ["name 1=a", history.BY_HAND]
    name(tmp_path, 2, "b")
    assert names(tmp_path) == {1: "mine", 2: "b"}
    history.take_back(tmp_path)
    assert names(tmp_path) == {1: "mine"}
    history.take_back(tmp_path)
    assert names(tmp_path) == {1: "a"} and commands(tmp_path) == ["name 1=a"]


def test_a_file_that_a_person_removed_is_the_state_before_all_steps(tmp_path):
    name(tmp_path, 1, "a")
    (tmp_path / FILE).unlink()
    assert commands(tmp_path) == [] and names(tmp_path) == {}
    name(tmp_path, 2, "b")
    assert names(tmp_path) == {2: "b"} and commands(tmp_path) == ["name 2=b"]


def test_a_run_of_before_there_was_a_history_begins_one_and_comes_back(tmp_path):
    (tmp_path / FILE).write_text("clusters: {0: {name: old, colour: '#00ff00'}}\n")
    before = (tmp_path / FILE).read_text()
    assert commands(tmp_path) == []
    name(tmp_path, 1, "new")
    assert names(tmp_path) == {0: "old", 1: "new"}
    history.take_back(tmp_path)
    assert (tmp_path / FILE).read_text() == before


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_step_that_ends_early_leaves_the_state_before_or_after(tmp_path, monkeypatch, writes):
    name(tmp_path, 1, "a")
    left, real = [writes], files.move_into_place

    def ends(temporary, path):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        real(temporary, path)

    def fill(folder):
        (folder / "teacher.json").write_text("{}")

    monkeypatch.setattr(files, "move_into_place", ends)
    after = State(teacher=history.part(tmp_path, "teacher"))
    try:
        history.take(tmp_path, "teach", after, fill)
    except KeyboardInterrupt:
        assert writes < 3
    monkeypatch.undo()
    state = read_state(tmp_path)
    assert state.teacher is None or (tmp_path / f"{state.teacher}.json").exists()
    known = commands(tmp_path)
    assert known in (["name 1=a"], ["name 1=a", "teach"])
    assert (state.teacher is None) == (len(known) == 1)
    name(tmp_path, 2, "b")
    assert commands(tmp_path) == [*known, "name 2=b"]


def test_many_at_once_lose_nothing(tmp_path):
    run = tmp_path / "run"
    run.mkdir()

    def one(number):
        with held(run, wait=60):
            name(run, number, f"n{number}")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(run) == {number: f"n{number}" for number in range(8)} and len(commands(run)) == 8


@pytest.mark.parametrize(
    "text, says",
    [
        ("{", "not readable as JSON"),
        ('{"number": 1}', "parent"),
        ('{"number": 1, "parent": 1, "command": "", "when": "", "before": null, "after": null}', "step 1 follows 1"),
    ],
)
def test_a_damaged_step_is_told_in_one_line(tmp_path, text, says):
    name(tmp_path, 1, "a")
    step = tmp_path / "history" / "0001" / "step.json"
    step.write_text(text.replace('"after": null', '"after": ' + repr("x").replace("'", '"')))
    with pytest.raises(UserError, match=says) as error:
        history.steps(tmp_path)
    assert "step.json" in str(error.value) or "0001" in str(error.value)


def test_an_undone_step_stays_undone_when_a_person_then_writes_the_file(tmp_path):
    for text in ("a", "b", "c"):
        name(tmp_path, 1, text)
    history.take_back(tmp_path)
    history.take_back(tmp_path)
    (tmp_path / FILE).write_text("clusters:\n  0: {name: hand}\n")  # without its line `history`
    assert commands(tmp_path) == ["name 1=a", history.BY_HAND]
    assert history.take_back(tmp_path).command == history.BY_HAND and names(tmp_path) == {1: "a"}
    assert commands(tmp_path) == ["name 1=a"]
    name(tmp_path, 2, "d")
    assert commands(tmp_path) == ["name 1=a", "name 2=d"]
    (tmp_path / FILE).write_text("clusters:\n  0: {name: again}\n")
    name(tmp_path, 3, "e")
    assert commands(tmp_path) == ["name 1=a", "name 2=d", history.BY_HAND, "name 3=e"]


def test_a_step_that_fails_leaves_nothing_to_catch_up_with(tmp_path):
    name(tmp_path, 1, "a")
    with pytest.raises(OSError, match="full"), history.falling_behind(tmp_path):
        raise OSError("full")
    assert not history.is_behind(tmp_path)
    with pytest.raises(KeyboardInterrupt), history.falling_behind(tmp_path):
        name(tmp_path, 1, "b")
        raise KeyboardInterrupt
    assert history.is_behind(tmp_path)


@pytest.mark.parametrize(
    "error, said",
    [
        (UserError("no picture"), r"^no picture \(the step took effect, see `sccs history run`"),
        (
            PermissionError(13, "Permission denied", "run/x.png"),
            r"^run/x.png: Permission denied \(the step took effect",
        ),
    ],
)
def test_what_fails_after_a_step_says_that_it_took_effect(error, said):
    with pytest.raises(UserError, match=said), history.taken("run"):
        raise error
    with pytest.raises(ValueError, match="a bug"), history.taken("run"):
        raise ValueError("a bug")
