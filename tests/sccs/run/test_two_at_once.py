"""Several commands on one folder at once: one writes, the others wait or are told; nothing is lost."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sccs.cli import main as command
from sccs.evaluation.naming import read_names
from sccs.system.lock import held, lock_file
from tests.sccs.run.small import fails

NAME = """
import sys
from sccs.evaluation.naming import main
from sccs.system.lock import BRIEFLY, held
with held(sys.argv[1], wait=BRIEFLY):
    main(sys.argv[1], sys.argv[2:])
"""


def test_a_second_run_into_the_same_folder_is_refused(folder, capsys):
    with held(folder / "run", "sccs run"):
        for option in ([], ["--resume"], ["--overwrite"]):
            fails(
                capsys,
                [folder / "recipe.yaml", "--out", folder / "run", *option],
                "is being written by another sccs run",
            )
    assert not (folder / "run").exists() and not lock_file(folder / "run").exists()


def test_a_run_holds_the_lock_until_its_report_is_there(folder, monkeypatch):
    from sccs import products

    seen = []
    real = products.refresh
    monkeypatch.setattr(products, "refresh", lambda run: seen.append(lock_file(run).exists()) or real(run))
    monkeypatch.chdir(folder)
    assert command(["run", "recipe.yaml"]) == 0  # into a new folder
    assert seen == [True] and list(folder.glob("runs/*/*")) and not list(folder.glob("runs/**/*.lock"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "{run}", "{out}/x.zip"],
        ["export", "{run}", "{out}/x"],
        ["graphs", "{run}", "{out}/x"],
        ["segment", "{run}", "{run}/../a.tif", "{out}/x.tif"],
        ["compare", "{run}", "--csv", "{out}/x.csv"],
        ["name", "{run}", "1=nucleus"],
    ],
    ids=lambda arguments: " ".join(arguments[::2]),
)
def test_every_command_that_writes_asks_for_the_lock(finished, tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.setattr("sccs.system.lock.BRIEFLY", 0.1)
    monkeypatch.setattr("sccs.evaluation.compare.BRIEFLY", 0.1)
    filled = [text.format(run=finished, out=tmp_path) for text in arguments]
    written = finished if arguments[0] == "name" else Path(filled[-1])
    before = sorted(finished.rglob("*"))
    with held(written, "sccs run"):
        assert command(filled) == 2
    assert "is being written by another sccs run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [] and sorted(finished.rglob("*")) == before


def test_four_that_name_at_once_lose_no_name(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    processes = [
        subprocess.Popen([sys.executable, "-c", NAME, str(run), f"{cluster}={name}"], stdout=subprocess.DEVNULL)
        for cluster, name in enumerate(("dark", "grey", "bright"))
        for _ in range(2)
    ]
    assert [process.wait() for process in processes] == [0] * 6
    assert [entry["name"] for entry in read_names(run).values()] == ["dark", "grey", "bright"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_goes_on_where_a_killed_one_left_remains(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    remains = [run / ".0a1b2c3d-metrics.json", run / "model" / ".0a1b2c3d-graph.safetensors", tmp_path / "run.lock"]
    for path in remains:
        path.write_text("half")
    recipe = tmp_path / "again.yaml"
    recipe.write_text((run / "resolved.yaml").read_text())
    assert command(["run", str(recipe), "--out", str(run), "--resume"]) == 0
    assert not [path for path in remains if path.exists()]


@pytest.mark.parametrize("text", ["", "[", "3", "\x00", "- a"])
def test_a_damaged_resolved_recipe_is_said(finished, tmp_path, capsys, text):
    shutil.copytree(finished, tmp_path / "run")
    recipe = tmp_path / "again.yaml"
    recipe.write_text(yaml.safe_dump(yaml.safe_load((finished / "resolved.yaml").read_text())))
    (tmp_path / "run" / "resolved.yaml").write_text(text)
    fails(capsys, [recipe, "--out", tmp_path / "run", "--resume"], "resolved.yaml is damaged")
