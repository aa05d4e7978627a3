"""A disk that is full at any place: one line, code 2, what was there before is kept, nothing half written is left."""

import json
import re
import shutil

import numpy as np
import pytest
import tifffile

from sccs.cli import main as command
from tests.sccs.run.small import PRETRAIN

SIZES = (0, 1000, 3000, 10_000)  # bytes that a file may take


def said(capsys) -> str:
    """The one line of an error."""
    err = capsys.readouterr().err
    (line,) = [line for line in err.splitlines() if line.startswith("sccs: error: ")]
    assert "Traceback" not in err and "Logging error" not in err and "defect" not in err
    return line


def remains(folder) -> list[str]:
    """What only a command that is at work may have there."""
    return [
        path.name for path in folder.rglob("*") if re.match(r"\.[0-9a-f]{8}[-+]", path.name) or path.suffix == ".lock"
    ]


@pytest.mark.parametrize("size", SIZES)
def test_of_a_run(folder, capsys, disk_of, monkeypatch, size):
    monkeypatch.setenv("SCCS_CACHE", "off")
    arguments = ["run", str(folder / "recipe.yaml"), "--out", str(folder / "run"), "--set", "train.checkpoint_every=20"]
    with disk_of(size):
        assert command(arguments) == 2
    assert "File too large" in said(capsys) and not remains(folder)
    if (folder / "run").exists():
        assert (folder / "run" / "resolved.yaml").exists()  # so that it can be resumed
        assert command([*arguments, "--resume"]) == 0
        assert json.loads((folder / "run" / "metrics.json").read_text())


def test_of_a_pretraining(folder, capsys, disk_of):
    (folder / "p.yaml").write_text(PRETRAIN % ("a.tif", "null"))
    shape = "{window: 20, width: 8, depth: 1, decoder_width: 8, decoder_depth: 1, decoder_heads: 1}"
    arguments = [
        "run",
        str(folder / "p.yaml"),
        "--set",
        f"pretrain.architecture={shape}",
        "--out",
        str(folder / "run"),
        "--device",
        "cpu",
    ]
    for size in (100, 3000, 20_000):
        with disk_of(size):
            assert command([*arguments, *(["--resume"] if (folder / "run").exists() else [])]) == 2
        assert "File too large" in said(capsys) and not remains(folder)
    assert command([*arguments, "--resume"]) == 0


@pytest.mark.parametrize("name", ["out.tif", "out.ome.zarr"])
@pytest.mark.parametrize("size", [0, 100, 300])
def test_of_a_segmentation(finished, tmp_path, capsys, disk_of, name, size):
    tifffile.imwrite(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 255, (2, 96, 100)).astype(np.uint8))
    with disk_of(size):
        code = command(["segment", str(finished), str(tmp_path / "a.tif"), str(tmp_path / name)])
    assert code == 2 and "File too large" in said(capsys)
    assert not remains(tmp_path) and not (tmp_path / name).exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["name", "{run}", "1=nucleus"],
        ["export", "{run}", "{out}/x.zip"],
        ["export", "{run}", "{out}/x"],
        ["graphs", "{run}", "{out}/x"],
        ["compare", "{run}", "--csv", "{out}/x.csv"],
    ],
    ids=lambda arguments: " ".join(arguments[::2]),
)
@pytest.mark.parametrize("size", [0, 200])
def test_of_what_is_done_with_a_run(finished, tmp_path, capsys, disk_of, arguments, size):
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(finished, run)
    out.mkdir()
    kept = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with disk_of(size):
        code = command([text.format(run=run, out=out) for text in arguments])
    if code == 0:  # all of it is that small
        assert size and list(out.iterdir())
        return
    assert code == 2 and re.search("File too large|No space left", said(capsys))  # DGL says nothing of why
    assert list(out.iterdir()) == [] and not remains(tmp_path)
    changed = [path.name for path, content in kept.items() if path.read_bytes() != content]
    assert set(changed) <= {"classes.yaml"} and json.loads((run / "metrics.json").read_text())
