"""One command at a time on one output: who is refused, which locks are taken over, what is left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from registry.base import UserError
from sccs.system import lock
from sccs.system.lock import held, lock_file

OWN = {"token": "x", "since": "2026-01-01 10:00:00"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.05)
    monkeypatch.setattr(lock, "SILENCE", 0.6)


def leave(path, **changes):
    """The lock of this process, but for the changes."""
    about = {**lock._here(), "pid": os.getpid(), "started": lock._started(os.getpid()), **OWN, **changes}
    path.write_text(json.dumps(about))


def test_a_second_one_is_refused_and_told_by_whom(tmp_path):
    out = tmp_path / "new" / "a.tif"
    with held(out):
        with pytest.raises(UserError, match=f"process {os.getpid()} on .*; wait until it is done"), held(out):
            pass
        with held(out.with_name("b.tif")):  # another output
            pass
        assert lock_file(out).exists()
    assert not (tmp_path / "new").exists()  # made for the lock, and nothing was written


def test_the_lock_goes_when_the_work_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt), held(tmp_path / "a.tif"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path, capsys):
    code = (
        "from sccs.system.lock import held\nimport time\n"
        f"with held({str(tmp_path / 'a.tif')!r}):\n  print(1)\n  time.sleep(99)"
    )
    process = subprocess.Popen([sys.executable, "-uc", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    with pytest.raises(UserError, match=f"process {process.pid} "), held(tmp_path / "a.tif"):
        pass
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, but not buried
    with held(tmp_path / "a.tif"):
        assert json.loads(lock_file(tmp_path / "a.tif").read_text())["pid"] == os.getpid()
    process.wait()
    assert not list(tmp_path.iterdir()) and not capsys.readouterr().err


@pytest.mark.parametrize("changes", [dict(pid=2**22 + 1), dict(started="1")])
def test_a_process_that_is_gone_or_has_another_ones_number(tmp_path, changes):
    if "started" in changes and not os.path.isdir("/proc/self"):
        pytest.skip("this system does not say when processes were started")
    leave(lock_file(tmp_path / "a.tif"), **changes)
    with held(tmp_path / "a.tif"):
        pass


@pytest.mark.parametrize("changes", [dict(host="node7"), dict(boot="earlier")])
def test_of_another_machine_it_is_watched(tmp_path, capsys, changes):
    path = lock_file(tmp_path / "a.tif")
    leave(path, **changes)
    start = time.monotonic()
    with held(tmp_path / "a.tif"):  # nobody touched it
        assert time.monotonic() - start >= 0.6
    assert "looking for up to" in capsys.readouterr().err
    leave(path, **changes)
    ended = threading.Event()
    beating = threading.Thread(target=lock._beat, args=(path, ended))
    beating.start()
    with pytest.raises(UserError, match="another sccs segment"), held(tmp_path / "a.tif"):
        pass
    ended.set()
    beating.join()
    assert path.exists()


def test_an_owner_that_ends_while_it_is_watched_makes_room(tmp_path):
    path = lock_file(tmp_path / "a.tif")
    leave(path, host="node7")
    gone = threading.Timer(0.2, path.unlink)
    gone.start()
    with held(tmp_path / "a.tif"):
        pass


@pytest.mark.parametrize("text", ["", '{"host"', "[1]"])
def test_a_lock_that_was_cut_off_is_taken_over(tmp_path, text):
    lock_file(tmp_path / "a.tif").write_text(text)
    with held(tmp_path / "a.tif"):
        pass
    assert not list(tmp_path.iterdir())


def test_only_one_of_many_gets_a_stale_lock(tmp_path):
    leave(lock_file(tmp_path / "a.tif"), pid=2**22 + 1)
    got, refused, go = [], [], threading.Barrier(8)

    def attempt():
        go.wait()
        try:
            with held(tmp_path / "a.tif"):
                got.append(1)
                time.sleep(0.5)
        except UserError:
            refused.append(1)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)
