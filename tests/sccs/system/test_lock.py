"""One command at a time on one output: who is refused, which locks are no obstacle, what is left behind."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from registry.base import UserError
from sccs.system import lock
from sccs.system.lock import held, lock_file

HOLDER = "from sccs.system.lock import held\nimport sys, time\nwith held(sys.argv[1]):\n  print(1)\n  time.sleep(99)"
COUNTER = """
import sys, time
from pathlib import Path
from registry.base import UserError
from sccs.system.lock import held
count, done = Path(sys.argv[2]), 0
while done < 25:
    try:
        with held(sys.argv[1]):
            count.write_text(str(int(count.read_text()) + 1))
            done += 1
    except UserError:
        time.sleep(0.001)
"""


def test_a_second_one_is_refused_and_told_by_whom(tmp_path):
    out = tmp_path / "new" / "a.tif"
    with held(out):
        with pytest.raises(UserError, match=f"process {os.getpid()} on .*; wait until it is done"), held(out):
            pass
        with held(out.with_name("b.tif")):  # another output
            pass
        assert lock_file(out).exists()
    assert not (tmp_path / "new").exists()  # made for the lock, and nothing was written


def test_one_that_is_refused_says_host_and_time(tmp_path):
    with held(tmp_path / "a.tif"):
        about = json.loads(lock_file(tmp_path / "a.tif").read_text())
        with pytest.raises(UserError) as refused, held(tmp_path / "a.tif"):
            pass
    assert f"on {about['host']}, since {about['since']})" in str(refused.value)


def test_the_lock_goes_when_the_work_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt), held(tmp_path / "a.tif"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path, capsys):
    process = subprocess.Popen([sys.executable, "-uc", HOLDER, tmp_path / "a.tif"], stdout=subprocess.PIPE)
    process.stdout.readline()
    with pytest.raises(UserError, match=f"process {process.pid} "), held(tmp_path / "a.tif"):
        pass
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, but not buried
    assert lock_file(tmp_path / "a.tif").exists()
    with held(tmp_path / "a.tif"):
        assert json.loads(lock_file(tmp_path / "a.tif").read_text())["pid"] == os.getpid()
    process.wait()
    assert not list(tmp_path.iterdir()) and not capsys.readouterr().err


@pytest.mark.parametrize("host", [None, "node7"])
@pytest.mark.parametrize("pid", [os.getpid(), 2**22 + 1], ids=["alive", "gone"])
def test_a_file_that_nobody_locks_is_no_obstacle_whoever_left_it(tmp_path, capsys, host, pid):
    about = {"host": host or socket.gethostname(), "pid": pid, "since": "2026-01-01 10:00:00"}
    lock_file(tmp_path / "a.tif").write_text(json.dumps(about))
    with held(tmp_path / "a.tif"):
        assert json.loads(lock_file(tmp_path / "a.tif").read_text())["since"] > about["since"]
    assert not capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", '{"host"', "[1]"])
def test_a_lock_that_was_cut_off_is_taken_over(tmp_path, text):
    lock_file(tmp_path / "a.tif").write_text(text)
    with held(tmp_path / "a.tif"):
        pass
    assert not list(tmp_path.iterdir())


def test_only_one_of_many_gets_a_lock_that_was_left(tmp_path):
    lock_file(tmp_path / "a.tif").write_text("{}")
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


def test_processes_that_take_turns_are_never_two_at_once(tmp_path):
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", COUNTER, tmp_path / "a.tif", tmp_path / "count"]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "75"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


@pytest.mark.parametrize("followed", [False, True])
def test_a_file_that_its_last_owner_removes_meanwhile_is_not_taken_for_the_lock(tmp_path, monkeypatch, followed):
    path, opened = lock_file(tmp_path / "a.tif"), []

    def after_the_owner(file, blocking):
        opened.append(file)
        if len(opened) == 1:
            path.unlink()
            if followed:
                path.write_text("{}")
        return True

    monkeypatch.setattr(lock, "lock_descriptor", after_the_owner)
    with held(tmp_path / "a.tif"):
        assert len(opened) == 2 and path.exists()
    assert not list(tmp_path.iterdir())


def test_an_owner_that_has_not_signed_yet_is_waited_for(tmp_path):
    path = lock_file(tmp_path / "a.tif")
    with held(tmp_path / "a.tif"):
        text = path.read_text()
        path.write_text("")
        signing = threading.Timer(0.2, path.write_text, [text])
        signing.start()
        with pytest.raises(UserError, match=f"process {os.getpid()} on "), held(tmp_path / "a.tif"):
            pass


def test_a_lock_that_another_person_left_is_removed(tmp_path, monkeypatch):
    path, real = lock_file(tmp_path / "a.tif"), os.open
    path.write_text('{"pid": 1}')

    def another_persons(name, flags, *mode, **options):
        if Path(name) == path and flags & os.O_RDWR and path.exists() and path.read_text() == '{"pid": 1}':
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(name, flags, *mode, **options)

    monkeypatch.setattr(lock.os, "open", another_persons)
    with held(tmp_path / "a.tif"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_warned_of_in_one_line(tmp_path, monkeypatch, capsys, number):
    def unknown(file, blocking):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock, "lock_descriptor", unknown)
    with held(tmp_path / "a.tif"):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert "does not support locks" in line and str(tmp_path / "a.tif") in line
    assert not list(tmp_path.iterdir())


def test_links_to_an_output_share_its_lock(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "latest").symlink_to("run")
    with held(tmp_path / "latest"), pytest.raises(UserError, match="is being written"), held(tmp_path / "run"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "run"]


def test_one_that_waits_gets_its_turn_and_one_that_waited_long_enough_is_refused(tmp_path):
    taken, done = threading.Event(), []

    def other():
        with held(tmp_path / "a.tif", "sccs run"):
            taken.set()
            time.sleep(0.5)
            done.append(1)

    thread = threading.Thread(target=other)
    thread.start()
    taken.wait()
    with pytest.raises(UserError, match="by another sccs run "), held(tmp_path / "a.tif", wait=0.1):
        pass
    with held(tmp_path / "a.tif", wait=60):
        assert done
    thread.join()


def test_what_a_killed_command_left_half_written_goes_with_the_next(tmp_path):
    (tmp_path / ".0a1b2c3d-a.tif").write_text("half")
    (tmp_path / ".0a1b2c3d-b.tif").write_text("of another output")
    with held(tmp_path / "a.tif"):
        assert not (tmp_path / ".0a1b2c3d-a.tif").exists()
    assert [path.name for path in tmp_path.iterdir()] == [".0a1b2c3d-b.tif"]


@pytest.mark.parametrize(
    "name, word", [("file/a.tif", "Not a directory"), ("file/b/a.tif", "Not a directory"), ("n" * 255, "too long")]
)
def test_an_output_that_cannot_be_is_one_line_and_leaves_nothing(tmp_path, name, word):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"cannot write .*{word}"), held(tmp_path / name):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_that_takes_no_signature_still_locks(tmp_path, monkeypatch):
    def full(file, by):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lock, "_sign", full)
    with held(tmp_path / "a.tif"), pytest.raises(UserError, match="is being written"), held(tmp_path / "a.tif"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "put",
    [
        lambda path: path.mkdir(),
        lambda path: path.write_text(9 * "# This file is generated by a package manager"),
        lambda path: path.write_text('{"nodes": {}}'),
        lambda path: path.symlink_to("precious"),
        lambda path: path.symlink_to("nowhere"),
        lambda path: os.mkfifo(path),
    ],
    ids=["folder", "text", "json", "link", "dangling", "pipe"],
)
def test_what_is_no_lock_but_has_its_name_is_left_as_it_is(tmp_path, put):
    (tmp_path / "precious").write_text("precious")
    path = lock_file(tmp_path / "poetry")
    put(path)
    before = path.lstat()
    with pytest.raises(UserError, match="poetry.lock: named like a lock file of sccs"), held(tmp_path / "poetry"):
        pass
    assert path.lstat() == before and (tmp_path / "precious").read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == ["poetry.lock", "precious"]


def test_the_root_of_a_disk_is_no_output():
    with pytest.raises(UserError, match="root of a disk"), held("/"):
        pass


def test_a_lock_that_its_owner_removes_during_the_look_is_free(tmp_path, monkeypatch):
    """Two commands that take turns: between two questions about the lock file, the other one may end."""
    path = tmp_path / "out.lock"
    look = os.lstat

    def removed_after(asked, *args, **options):
        found = look(asked, *args, **options)
        if os.fspath(asked) == os.fspath(path):
            path.unlink(missing_ok=True)
        return found

    path.write_text("")
    monkeypatch.setattr(os, "lstat", removed_after)
    with held(tmp_path / "out"):
        pass
