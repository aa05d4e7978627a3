"""Exit codes: what becomes of an exception, and of a signal."""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

import registry
from registry.base import UserError
from registry.registry import Registry
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
        (
            PermissionError(13, "Permission denied", "/data/runs"),
            2,
            "sccs: error: /data/runs: Permission denied: ask its owner for access, or choose another place\n",
        ),
        (
            OSError(28, "No space left on device"),
            2,
            "sccs: error: the disk: No space left on device: free some space, or choose another place\n",
        ),
    ],
)
def test_user_errors_and_interruptions_are_one_line(error, code, text, capsys):
    assert guard(raising(error))() == code
    assert capsys.readouterr().err == text


@pytest.mark.parametrize("error", [ZeroDivisionError("ours"), FileNotFoundError(2, "ours")])
def test_a_defect_shows_its_traceback(error, monkeypatch, capsys):
    monkeypatch.setattr(registry, "added", list)  # other tests use plug-ins
    assert guard(raising(error))() == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and type(error).__name__ in err and "ours" in err
    assert err.endswith("sccs: this is a bug in sccs; please report it with the lines above\n")


def test_a_defect_may_be_that_of_a_plug_in_in_use(tmp_path, monkeypatch, capsys):
    parts = Registry(**{role: {} for role in registry.ROLES})
    monkeypatch.setattr(registry, "added", parts.added)
    (tmp_path / "theirs.py").write_text(
        "from registry.base import Features\n\nclass Mine(Features):\n    pass\n\n"
        "SCCS_COMPONENTS = {'features': {'mine': Mine, 'unused': Mine}}\n"
    )
    parts.load_plugin(str(tmp_path / "theirs.py"))
    parts.get("features", "mine")
    assert guard(raising(ZeroDivisionError("theirs")))() == 1
    whose = f"features 'mine' (plug-in {tmp_path / 'theirs.py'})"
    assert capsys.readouterr().err.endswith(f"a bug in sccs or in {whose}; please report it with the lines above\n")


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


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
def test_a_closed_terminal_ends_like_an_interruption_but_not_under_nohup(capsys):
    hang_up = lambda: os.kill(os.getpid(), signal.SIGHUP) or time.sleep(0.2)  # noqa: E731
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever the tests were started with
    try:
        assert guard(hang_up)() == 130
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert guard(hang_up)() == 0 and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_whoever_asks_python_to_end_is_told_of_in_one_line(capsys):
    for code in (0, 3, "bye"):
        assert guard(raising(SystemExit(code)))() == 2
        err = capsys.readouterr().err
        assert err.startswith("sccs: error: a plug-in") and f"SystemExit: {code}" in err and err.count("\n") == 1


def test_the_help_of_a_command_ends_as_it_likes(capsys):
    with pytest.raises(SystemExit) as stop:
        guard(lambda: argparse.ArgumentParser().parse_args(["--help"]))()
    assert stop.value.code == 0


def test_a_full_disk_that_another_library_words_is_one_line(capsys):
    assert guard(raising(RuntimeError("write failed: No space left on device")))() == 2
    assert (
        capsys.readouterr().err
        == "sccs: error: the disk: No space left on device: free some space, or choose another place\n"
    )


def test_a_thread_that_a_full_disk_stops_shows_no_traceback_others_do(monkeypatch):
    shown = []
    monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(str(args.exc_value)))

    def work():
        for error in (OSError(28, "No space left on device"), ZeroDivisionError("ours")):
            thread = threading.Thread(target=raising(error))
            thread.start()
            thread.join()

    assert guard(work)() == 0 and shown == ["ours"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
@pytest.mark.parametrize("stream", [">", "2>"])
def test_an_output_that_takes_nothing(stream):
    call = f"{sys.executable} -m sccs list recipes {stream} /dev/full"
    done = subprocess.run(call, shell=True, capture_output=True, text=True)
    if stream == ">":
        assert (done.returncode, done.stderr) == (
            2,
            "sccs: error: the disk: No space left on device: free some space, or choose another place\n",
        )
    else:
        assert done.returncode == 0 and "sccs_plus" in done.stdout


def test_a_warning_of_a_library_is_one_line_without_control_characters(capsys, recwarn):
    def function():
        print(warnings.formatwarning("a\x1b[31m\nb", UserWarning, "lib.py", 7, "source()"), end="", file=sys.stderr)

    assert guard(function)() == 0
    assert capsys.readouterr().err == "sccs: UserWarning: a\\x1b[31m b\n"


@pytest.mark.parametrize("interrupt", [signal.default_int_handler, signal.SIG_IGN])  # ignored: after `&`
def test_an_interrupt_that_python_drops_still_ends_the_command(interrupt):
    class Removed:
        def __del__(self):
            raise KeyboardInterrupt

    def work():
        Removed()
        threading.Event().wait(60)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        assert guard(work)() == 130
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_without_standard_streams_writes_its_files_alone(tmp_path, closed):
    """What is printed, by Python or by a library, must not reach a file that took the number of a closed stream."""
    work = (
        "import os, sys\n"
        "from sccs.system.exits import guard\n"
        "def work():\n"
        f"    with open({str(tmp_path / 'labels')!r}, 'w') as file:\n"
        "        for number in (1, 2):\n"
        "            os.write(number, b'noise')\n"
        "        print('noise'), print('noise', file=sys.stderr), file.write('labels')\n"
        "sys.exit(guard(work)())\n"
    )
    (tmp_path / "work.py").write_text(work)
    command = f'"{sys.executable}" "{tmp_path}/work.py" {closed}'
    assert subprocess.run(["sh", "-c", command], capture_output=True).returncode == 0
    assert (tmp_path / "labels").read_text() == "labels"


@pytest.mark.parametrize("when", ["before", "during", "where it looks like another fault"])
def test_a_working_folder_that_is_deleted_is_one_line(tmp_path, monkeypatch, capsys, when):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def work():
        if when != "before":
            os.rmdir(tmp_path / "here")
        if when == "where it looks like another fault":
            raise UserError("../a.tif: truncated or damaged")
        os.path.abspath("a.tif")

    if when == "before":
        os.rmdir(tmp_path / "here")
    assert guard(work)() == 2
    assert "the working folder was deleted or moved" in capsys.readouterr().err
    os.chdir(tmp_path)
