"""Exit codes: what becomes of an exception, and of a signal."""

import os
import signal
import threading
import time

import pytest

from registry.base import UserError
from sccs.system.exits import guard


def raising(error):
    def function():
        raise error

    return function


@pytest.mark.parametrize(
    "error, code, text",
    [
        (UserError("r.yaml:3: graph.k:\n bad"), 2, "sccs: error: r.yaml:3: graph.k: bad\n"),
        (KeyboardInterrupt(), 130, "sccs: interrupted\n"),
        (PermissionError(13, "Permission denied", "/data/runs"), 2, "sccs: error: /data/runs: Permission denied\n"),
        (OSError(28, "No space left on device"), 2, "sccs: error: the disk: No space left on device\n"),
    ],
)
def test_user_errors_and_interruptions_are_one_line(error, code, text, capsys):
    assert guard(raising(error))() == code
    assert capsys.readouterr().err == text


@pytest.mark.parametrize("error", [ZeroDivisionError("ours"), FileNotFoundError(2, "ours")])
def test_a_defect_shows_its_traceback(error, capsys):
    assert guard(raising(error))() == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and type(error).__name__ in err and "ours" in err


def test_sigterm_ends_like_an_interruption_and_the_old_handler_comes_back(capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert guard(lambda: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(5))() == 130
    assert capsys.readouterr().err == "sccs: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_guard_in_another_thread_leaves_signals_alone():
    codes = []
    thread = threading.Thread(target=lambda: codes.append(guard(lambda: 3)()))
    thread.start()
    thread.join()
    assert codes == [3]


def test_success_is_zero_and_a_returned_code_is_kept():
    assert guard(lambda: None)() == 0
    assert guard(lambda: 3)() == 3
