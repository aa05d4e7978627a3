"""Commands on the pages: each is one that the parser takes, and the tutorial's run in their order."""

import argparse
import configparser
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

import sccs
from benchmarks.studies import tutorial
from sccs.arguments import COMMANDS, build_parser
from sccs.cli import main

ROOT = Path(sccs.__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="needs the checkout, not an installed copy")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# what a reader puts in, where the parser wants a number or one of a few words
PLACES = {"N": "2", "NM": "20", "L": "1", "WEIGHT": "16", "CLUSTER": "3", "LABELS...": "labels.tif", "RUN...": "run"}


def commands(page: Path) -> list[str]:
    """Lines of the blocks without a language or of the shell's, without comments; lines that go on are joined."""
    found = []
    for language, text in BLOCK.findall(page.read_text()):
        if language in ("", "bash", "sh"):
            found += re.sub(r"\\\n\s*", " ", text).splitlines()
    return [line for line in found if re.match(r"(\w+=\S+ )*(sccs|python|make|pip|torchrun) ", line)]


def words(line: str) -> list[str]:
    return [PLACES.get(word, word) for word in shlex.split(re.sub(r"\s#.*", "", line))]


def wrong(line: str) -> str:
    """Why nobody could carry out a command line; "" if it could be."""
    parts = [word for word in words(line) if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    if parts[0] == "sccs":
        try:
            build_parser().parse_args(parts[1:])
        except SystemExit as end:
            return "" if end.code == 0 else "the parser refuses it"
        return ""
    if parts[:2] == ["python", "-m"] and parts[2].split(".")[0] in ("benchmarks", "sccs", "registry"):
        return "" if importlib.util.find_spec(parts[2]) else f"no module {parts[2]}"
    if parts[0] == "make":
        targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        return ", ".join(f"no target {word}" for word in parts[1:] if "=" not in word and word not in targets)
    if parts[0] == "pip":
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        extras = {extra for word in parts for extra in re.findall(r"^(?:\.|sccs-em)\[(.*?)\]", word)}
        named = {name for extra in extras for name in extra.split(",")}
        return ", ".join(f"no extra {name}" for name in named - set(setup["options.extras_require"]))
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_can_be_given(page, capsys):
    assert {line: why for line in commands(page) if (why := wrong(line))} == {}


def test_commands_are_found():
    assert sum(len(commands(page)) for page in PAGES) > 50


@pytest.mark.parametrize(
    "line",
    [
        "sccs segment RUN INPUT",
        "sccs run RECIPE --epochs 3",
        "sccs train RECIPE",
        "make dmeo",
        "pip install '.[cpu,al]'",
        "python -m benchmarks.tabels table1",
    ],
)
def test_a_wrong_command_is_found(line, capsys):
    assert wrong(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_in_the_text_are_those_of_their_command(page):
    """`sccs COMMAND ... --option` within a sentence: the command is there, and has the option."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    strange = []
    for code in re.findall(r"`sccs ([^`]+)`", text):
        name, *rest = code.split()
        if name in COMMANDS:
            parser = argparse.ArgumentParser()
            COMMANDS[name][1](parser)
            known = parser.format_help()
            strange += [
                code for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", " ".join(rest)) if option not in known
            ]
        elif not re.match(r"[A-Z-]", name):
            strange.append(code)
    assert strange == []


@pytest.mark.slow
def test_the_tutorial_runs_word_by_word(tmp_path, monkeypatch):
    """All blocks in their order, on smaller cells."""
    text = (ROOT / "docs" / "tutorial.md").read_text()
    small = text.replace("make_phantom(seed=0)", "make_phantom(seed=0, shapes=[(4, 240, 240)] * 4)")
    assert small != text
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCCS_CACHE", "off")
    script, ran = "", []
    for language, block in BLOCK.findall(small):
        if language == "python":
            script = block
            continue
        for line in block.splitlines():
            if line.startswith("python "):
                exec(compile(script, line, "exec"), {})
            elif line.startswith("sccs "):
                assert main(words(line)[1:]) in (0, None), line
                ran.append(line.split()[1])
    assert ran == ["init", "run", "name", "segment", "suggest", "teach", "segment", "objects"]
    assert len((tmp_path / "c1_objects" / "objects.csv").read_text().splitlines()) > 1
    monkeypatch.setattr(tutorial, "Z", 2)
    assert tutorial.main([".", "--pictures", "."]) == 0  # the page's pictures
    assert {path.name for path in tmp_path.glob("*.jpg")} == {
        *("tutorial_stages.jpg", "tutorial_gallery.jpg", "objects.jpg")
    }
