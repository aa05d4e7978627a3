"""The run's log: what stands in which file, and what a resumed run keeps."""

import json
import logging
import os
import subprocess
import sys

import pytest

import sccs.system.log
from registry.base import UserError
from sccs.system.log import RunLog, bar, clock, quiet_log


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_messages_go_to_file_and_console_as_one_line(tmp_path, capsys):
    with RunLog(tmp_path, tensorboard=False) as log:
        log.info("three volumes\nread")
        log.warning("graph a:0:0:0 has 3 isolated nodes")
    text = (tmp_path / "log.txt").read_text().splitlines()
    assert len(text) == 2
    assert text[0].endswith("INFO    three volumes read")
    console = capsys.readouterr().err
    assert "three volumes read" in console
    assert "warning: graph a:0:0:0" in console


def test_parts_are_heard_through_their_package_logger_until_the_log_is_closed(tmp_path):
    part = logging.getLogger("registry.graph.superpixel")
    with RunLog(tmp_path, tensorboard=False):
        part.warning("no edges at all")
    part.warning("said too late")
    text = (tmp_path / "log.txt").read_text()
    assert "no edges at all" in text
    assert "too late" not in text
    assert logging.getLogger("registry").handlers == []


def test_scalars_of_one_step_share_a_line_and_nan_is_null(tmp_path):
    with RunLog(tmp_path, tensorboard=False) as log:
        log.scalar("loss/total", 0.5, 1)
        log.scalars({"loss/total": 0.25, "loss/spe": float("nan")}, 2)
    assert lines(tmp_path) == [{"step": 1, "loss/total": 0.5}, {"step": 2, "loss/total": 0.25, "loss/spe": None}]


def test_resume_drops_later_steps_and_a_torn_line(tmp_path):
    with RunLog(tmp_path, tensorboard=False) as log:
        log.info("first life")
        for step in range(1, 6):
            log.scalar("loss", step, step)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "lo')
    with RunLog(tmp_path, tensorboard=False, resume_step=3) as log:
        log.scalar("loss", 40, 4)
    assert [(entry["step"], entry["loss"]) for entry in lines(tmp_path)] == [(1, 1), (2, 2), (3, 3), (4, 40)]
    assert "first life" in (tmp_path / "log.txt").read_text()


def test_without_resume_a_log_starts_anew(tmp_path):
    for life in range(2):
        with RunLog(tmp_path, tensorboard=False) as log:
            log.scalar("loss", life, 0)
    assert lines(tmp_path) == [{"step": 0, "loss": 1}]


def test_progress_is_a_line_every_tenth_off_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sccs.system.log, "PAUSE", 0)
    with RunLog(tmp_path, tensorboard=False) as log, log.progress(100, "training") as bar:
        for _ in range(100):
            bar.update(1, loss=0.125)
    said = (tmp_path / "log.txt").read_text().splitlines()
    assert len(said) == 10
    assert "training 10/100, loss 0.125" in said[0] and "left" in said[0]
    assert "took" in said[-1]
    assert capsys.readouterr().err.count("training") == 10


def test_a_short_loop_says_only_that_it_is_done(tmp_path):
    with RunLog(tmp_path, tensorboard=False) as log, log.progress(8, "segmenting") as bar:
        for _ in range(8):
            bar.update(1)
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 1


def test_progress_of_a_resumed_run_counts_on(tmp_path):
    with RunLog(tmp_path, tensorboard=False) as log, log.progress(10, "training", initial=8) as bar:
        bar.update(1)
        bar.update(1)
    said = (tmp_path / "log.txt").read_text()
    assert "10/10" in said


def test_an_empty_progress_is_fine(tmp_path):
    with RunLog(tmp_path, tensorboard=False) as log, log.progress(0, "nothing"):
        pass


def test_quiet_log_writes_nothing_and_leaves_messages_to_the_program(tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.chdir(tmp_path)
    with quiet_log() as log, caplog.at_level(logging.INFO, "sccs"):
        log.warning("3 isolated nodes, 100%")
        log.scalars({"loss": 1.0}, 1)
        log.image("bases", None, 1)
        with log.progress(2, "training") as bar:
            bar.update(2, loss=1.0)
    assert caplog.messages[0] == "3 isolated nodes, 100%"
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().err == ""


def test_missing_tensorboard_is_said_and_nothing_breaks(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with RunLog(tmp_path) as log:
        log.scalar("loss", 1, 1)
        log.hparams({"a": 1}, {"dsc": 0.5})
    assert "TensorBoard is not installed" in (tmp_path / "log.txt").read_text()


def test_tensorboard_holds_scalars_images_and_hyper_parameters(tmp_path):
    pytest.importorskip("tensorboard")
    import numpy as np
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunLog(tmp_path) as log:
        log.scalar("loss/total", 0.5, 1)
        log.image("bases", np.zeros((4, 5, 3), np.uint8), 1)
        log.histogram("assignments", np.arange(5), 1)
        log.embedding("a/b", np.eye(3), ["cluster 0", "cluster 1", "x"], np.zeros((3, 8, 8, 3), np.uint8))
        log.hparams({"graph": {"name": "superpixel", "kappa": 2}, "seed": 0, "anchor": None}, {"dsc": 0.8})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert "loss/total" in tags["scalars"] and "final/dsc" in tags["scalars"]
    assert tags["images"] == ["bases"]
    board = tmp_path / "tensorboard"
    assert "sprite" in (board / "projector_config.pbtxt").read_text()
    (metadata,) = board.rglob("metadata.tsv")
    assert metadata.read_text().split("\n")[:2] == ["cluster 0", "cluster 1"]


def test_a_resumed_run_writes_its_embedding_again_without_a_warning(tmp_path, capsys):
    pytest.importorskip("tensorboard")
    import numpy as np

    for names, step in ((["old", "x"], None), (["new", "x"], 3)):
        with RunLog(tmp_path, resume=step is not None, resume_step=step) as log:
            log.embedding("a/b", np.eye(2), names, np.zeros((2, 8, 8, 3), np.uint8))
    (metadata,) = (tmp_path / "tensorboard").rglob("metadata.tsv")
    assert metadata.read_text().startswith("new") and "warning" not in capsys.readouterr().out


@pytest.mark.parametrize("seconds, text", [(0.44, "0.4 s"), (12.3, "12 s"), (185, "3:05 min"), (3723, "1:02:03 h")])
def test_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_a_command_answers_may_go_unread(unbuffered):
    code = "from sccs.system.log import say; say('x'); say('y'); import sys; print('at work', file=sys.stderr)"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    process.stdout.close()
    with process.stderr:
        assert (process.stderr.read(), process.wait()) == (b"at work\n", 0)


def test_a_bar_is_drawn_on_a_terminal_alone_and_yields_what_it_goes_over(capsys, monkeypatch):
    assert list(bar(3, "segmenting", "slice", "abc")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with bar(4, "segmenting", "FOV", initial=1) as shown:
        shown.update(3)
    drawn = capsys.readouterr().err
    assert "segmenting: 100%" in drawn and "4/4" in drawn and "FOV" in drawn


def test_off_a_terminal_a_long_bar_is_lines_and_quiet_says_nothing(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sccs.system.log, "PATIENCE", 0)
    monkeypatch.setattr(sccs.system.log, "SELDOM", 0)
    list(bar(3, "segmenting", "slice", "abc"))
    said = capsys.readouterr().err
    assert "\r" not in said and said.splitlines()[-1].startswith("segmenting 3/3") and " left" in said
    monkeypatch.setattr(sccs.system.log, "_quiet", True)
    monkeypatch.setattr(sccs.system.log, "PAUSE", 0)
    list(bar(3, "segmenting", "slice", "abc"))
    with RunLog(tmp_path, tensorboard=False) as log:
        log.info("fine")
        with log.progress(3, "training") as shown:
            shown.update(3)
        log.warning("look")
    assert capsys.readouterr().err.split(" ", 1)[1] == "warning: look\n"
    assert "fine" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("size", [0, 60, 300])
def test_a_full_disk_stops_the_run_at_once_and_leaves_no_logger_behind(tmp_path, capsys, monkeypatch, disk_of, size):
    """log.txt, metrics.jsonl, TensorBoard: whichever is full first."""
    monkeypatch.setattr("threading.excepthook", lambda args: None)  # as `guard` does
    with pytest.raises((OSError, UserError), match="File too large"), disk_of(size), RunLog(tmp_path) as log:
        for step in range(2000):
            log.scalar("loss", step, step)
            log.info(f"step {step}")
    assert "Traceback" not in capsys.readouterr().err
    assert logging.getLogger("sccs").handlers == []


def test_a_terminal_that_is_closed_stops_no_run(tmp_path, monkeypatch):
    class Closed:
        def write(self, text):
            raise OSError(5, "Input/output error")

        def flush(self):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Closed())
    with RunLog(tmp_path, tensorboard=False) as log:
        log.info("still at work")
    assert "still at work" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("line", ["[1]", "3", "null", '{"step": "x"}', '{"loss": 1}', "\udcff"])
def test_a_damaged_line_is_dropped_when_a_run_goes_on(tmp_path, line):
    with RunLog(tmp_path, tensorboard=False) as log:
        log.scalar("loss", 1, 1)
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(line.encode("utf-8", "surrogateescape") + b"\n")
    with RunLog(tmp_path, tensorboard=False, resume_step=3) as log:
        log.scalar("loss", 2, 2)
    assert [entry["step"] for entry in lines(tmp_path)] == [1, 2]
