"""Run folders and exported models that were made before the code moved into rooms (commit e6fa01b) are still read.

`tests/fixtures/before_rooms`: a run of a tiny MAE on the phantom (synthetic), two of its clusters named; its export;
the export of a run with a graph plug-in, which imports modules by their names of then; an image, and its clusters as
that commit gave them.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

import sccs
from sccs.cli import main

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "before_rooms"
EXPECTED = np.load(FIXTURES / "expected.npz")


@pytest.mark.parametrize("name", ["run", "run.zip"])
def test_a_model_of_then_gives_the_labels_of_then(name):
    assert (sccs.load(FIXTURES / name).segment(EXPECTED["image"]) == EXPECTED["run"]).all()


@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_an_export_whose_plug_in_names_old_modules_loads(monkeypatch):
    monkeypatch.setenv("SCCS_TRUST_PLUGINS", "1")
    model = sccs.load(FIXTURES / "plugged.zip")
    assert type(model.graph).__name__ == "Stripes"
    assert (model.segment(EXPECTED["image"]) == EXPECTED["plugged_zip"]).all()


@pytest.mark.parametrize("out", ["folder", "again.zip"])
def test_an_export_with_a_plug_in_is_exported_again(out, tmp_path, monkeypatch):
    monkeypatch.setenv("SCCS_TRUST_PLUGINS", "1")
    assert main(["export", str(FIXTURES / "plugged.zip"), str(tmp_path / out)]) == 0
    assert (sccs.load(tmp_path / out).segment(EXPECTED["image"]) == EXPECTED["plugged_zip"]).all()


def test_commands_work_on_a_run_folder_of_then(tmp_path, capsys):
    import tifffile

    run = tmp_path / "run"
    shutil.copytree(FIXTURES / "run", run)
    tifffile.imwrite(tmp_path / "image.tif", EXPECTED["image"])
    assert main(["segment", str(run), str(tmp_path / "image.tif"), str(tmp_path / "labels.tif")]) == 0
    assert (tifffile.imread(tmp_path / "labels.tif") == EXPECTED["run"][0]).all()
    assert main(["name", str(run), "4=cytoplasm"]) == 0
    assert main(["compare", str(run), str(run)]) == 0
    assert main(["export", str(run), str(tmp_path / "again.zip")]) == 0
    assert "nucleus" in capsys.readouterr().out
    assert "cytoplasm" in (run / "report.html").read_text()
