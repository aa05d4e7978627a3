"""What a terminal would obey is shown instead."""

import sys

from sccs.system.exits import guard
from sccs.system.log import RunLog, say
from sccs.system.text import printable


def test_control_characters_are_escaped_and_all_else_stays():
    assert printable("Zellkern ✓ 核\u3000é") == "Zellkern ✓ 核\u3000é"
    assert printable("a\x1b]0;x\x07\r\n\u202e\x9b\ud800") == r"a\x1b]0;x\x07\r\n\u202e\x9b\ud800"
    assert printable("a\tb\nc\r", "\n\t") == "a\tb\nc\\r"


def test_every_way_out_escapes(tmp_path, capsys):
    def fail() -> None:
        from registry.base import UserError

        raise UserError("file \x1b[2J.tif: \x07 broken")

    assert guard(fail)() == 2
    say("name \x1b[31mred\nnext")
    with RunLog(tmp_path, tensorboard=False) as log:
        log.warning("volume \x1b[2J")
    out, err = capsys.readouterr()
    assert out == "name \\x1b[31mred\nnext\n"
    assert "\x1b" not in err and r"file \x1b[2J.tif" in err and r"volume \x1b[2J" in err
    assert "\x1b" not in (tmp_path / "log.txt").read_text()


def test_a_terminal_that_knows_no_such_letters(capsys, monkeypatch):
    import io

    plain = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", plain)
    say("核 and \ud800")
    assert plain.buffer.getvalue() == b"\\u6838 and \\ud800\n"
