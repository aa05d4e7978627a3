"""A stranger's model or run runs no code unless the user trusts it; a recipe of his own does, as is documented."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

import sccs
from registry.base import UserError
from sccs.cli import main as command
from sccs.pipeline import Pipeline
from sccs.recipe import load_recipe
from sccs.system import archive
from tests.sccs.quickest import RECIPE

IMAGE = np.random.default_rng(0).integers(0, 255, (1, 96, 100)).astype(np.uint8)
WAYS = ["absolute", "of the process", "module", "beside", "inside", "above", "package", "extends"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    Pipeline.from_recipe(RECIPE).fit(IMAGE).save(folder / "model")
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The working folder, of which Python imports, as with `python -m` or PYTHONPATH=. ; an image is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("SCCS_TRUST_PLUGINS", raising=False)
    tifffile.imwrite("a.tif", IMAGE[0])
    return tmp_path


def evil(path: Path) -> Path:
    """A plug-in that tells of being run by a file of the working folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"open({str(Path.cwd() / 'ran')!r}, 'w').close()\n"
        "from registry.base import Features\nclass Evil(Features):\n    pass\n"
        f"SCCS_COMPONENTS = {{'features': {{'evil_{path.stem}': Evil}}}}\n"
    )
    return path


def stranger(trained: Path, way: str) -> Path:
    """A run folder whose recipe brings a plug-in, in one of many ways."""
    run, name = Path.cwd() / "run", f"evil_{way.replace(' ', '_')}"
    shutil.copytree(trained, run)
    plugin = {
        "absolute": lambda: str(evil(Path.cwd() / f"{name}.py")),
        "of the process": lambda: f"/proc/self/cwd/{evil(Path.cwd() / f'{name}.py').name}",
        "module": lambda: evil(Path.cwd() / f"{name}.py").stem,
        "beside": lambda: evil(run / f"{name}.py").name,
        "inside": lambda: f"plugins/{evil(run / 'plugins' / f'{name}.py').name}",
        "above": lambda: f"../{evil(Path.cwd() / f'{name}.py').name}",
        "package": lambda: f"{name}_package.{evil(Path.cwd() / f'{name}_package' / f'{name}.py').stem}",
        "extends": lambda: str(evil(Path.cwd() / f"{name}.py")),
    }[way]()
    change = {"plugins": [plugin]}
    if way == "extends":
        (run / "parent.yaml").write_text(yaml.safe_dump({**RECIPE, **change}))
        change = {"extends": str(run / "parent.yaml")}
    about = json.loads((run / "model" / "model.json").read_text())
    about["recipe"].update(change)
    if way == "extends":
        del about["recipe"]["plugins"]
    (run / "model" / "model.json").write_text(json.dumps(about))
    data = {"name": "volumes", "train": [{"image": str(Path.cwd() / "a.tif")}]}
    for file in ("recipe.yaml", "resolved.yaml"):
        (run / file).write_text(yaml.safe_dump({**RECIPE, "data": data, **change}))
    return run


COMMANDS = {
    "segment": lambda run: ["segment", run, "a.tif", "out.tif"],
    "export": lambda run: ["export", run, "out"],
    "graphs": lambda run: ["graphs", run, "out"],
    "run its recipe": lambda run: ["run", f"{run}/recipe.yaml", "--out", "out"],
    "run what it resolved to": lambda run: ["run", f"{run}/resolved.yaml", "--out", "out"],
    "show": lambda run: ["show", f"{run}/recipe.yaml"],
    "name": lambda run: ["name", run, "1=nucleus"],
    "compare": lambda run: ["compare", run],
}


@pytest.mark.parametrize("way", WAYS)
def test_no_command_runs_the_code_of_a_strangers_run(trained, place, capsys, way):
    run = stranger(trained, way)
    for name, arguments in COMMANDS.items():
        code = command([str(argument) for argument in arguments(run)])
        err = capsys.readouterr().err
        assert not Path("ran").exists(), name
        harmless = name == "show"
        damaged = way == "extends" and name in ("segment", "export", "graphs")  # no model has a parent
        assert code == (0 if harmless else 2) and "Traceback" not in err, (name, err)
        if not (harmless or damaged or name in ("name", "compare")):
            assert "SCCS_TRUST_PLUGINS=1" in err, name
        for made in ("out", "out.tif"):
            if harmless:
                shutil.rmtree(made, ignore_errors=True)
                Path(made).unlink(missing_ok=True)
            assert not Path(made).exists()


@pytest.mark.parametrize("way", ["absolute", "module", "inside", "beside"])
@pytest.mark.parametrize("zipped", [False, True])
def test_nor_does_an_export(trained, place, way, zipped):
    run = stranger(trained, way)
    archive.seal(run)
    if zipped:
        archive.pack(run, place / "model.zip")
        with zipfile.ZipFile(place / "model.zip") as packed:
            packed.extractall(place)  # what it holds lies in the working folder, too
        run = place / "model.zip"
    with pytest.raises(UserError, match=f"evil_{way}.*SCCS_TRUST_PLUGINS=1"):
        sccs.load(run)
    assert not Path("ran").exists()


@pytest.mark.parametrize("way", [way for way in WAYS if way != "extends"])
def test_it_does_where_the_user_trusts_it(trained, place, monkeypatch, way):
    run = stranger(trained, way)
    monkeypatch.setenv("SCCS_TRUST_PLUGINS", "1")
    assert sccs.load(run).k == 3 and Path("ran").exists()


@pytest.mark.parametrize("value", ["", "0", "true", "yes"])
def test_only_1_is_trust(trained, place, monkeypatch, value):
    monkeypatch.setenv("SCCS_TRUST_PLUGINS", value)
    with pytest.raises(UserError, match="SCCS_TRUST_PLUGINS=1"):
        sccs.load(stranger(trained, "absolute"))


@pytest.mark.parametrize("plugins", ["evil", {"evil": 1}, [1], [["evil.py"]], 3])
def test_plugins_that_are_no_list_of_names_are_damage(trained, place, plugins):
    run = stranger(trained, "module")
    about = json.loads((run / "model" / "model.json").read_text())
    about["recipe"]["plugins"] = plugins
    (run / "model" / "model.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="model.json: recipe.plugins"):
        sccs.load(run)


# ---- recipes of one's own
def own(name: str) -> Path:
    evil(Path.cwd() / "mine" / f"{name}.py")
    path = Path("mine/my.yaml")
    path.write_text(
        yaml.safe_dump({**RECIPE, "features": f"evil_{name}", "data": "phantom", "plugins": [f"{name}.py"]})
    )
    return path


def test_a_recipe_of_ones_own_runs_its_plugins(place):
    assert load_recipe(own("plain")).features.name == "evil_plain" and Path("ran").exists()


def test_show_runs_no_plugin_and_says_so(place, capsys, monkeypatch):
    path = own("shown")
    assert command(["show", str(path)]) == 0
    out = capsys.readouterr().out
    assert not Path("ran").exists() and yaml.safe_load(out)["features"] == {"name": "evil_shown"}
    assert out.startswith("# not imported") and "shown.py" in out and "SCCS_TRUST_PLUGINS=1" in out
    monkeypatch.setenv("SCCS_TRUST_PLUGINS", "1")
    assert command(["show", str(path)]) == 0
    assert Path("ran").exists() and "not imported" not in capsys.readouterr().out


def test_show_leaves_a_part_within_a_part_as_written_if_its_plugin_is_not_imported(place, capsys):
    path = own("within")
    assert command(["show", str(path), "--set", "features={name: concat, of: [evil_within, intensity]}"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["features"]["of"] == [{"name": "evil_within"}, {"name": "intensity"}]
    assert not Path("ran").exists()


def test_show_still_tells_of_mistakes_in_what_is_known(place, fails):
    path = own("mistaken")
    fails(["show", path, "--set", "clusterer.kk=3"], "clusterer.kk", "unknown key")
    fails(["show", path, "--set", "plugins=[]"], "unknown features 'evil_mistaken'")


def test_a_link_to_a_strangers_recipe_is_still_his(trained, place, fails):
    run = stranger(trained, "absolute")
    Path("mine.yaml").symlink_to(run / "recipe.yaml")
    Path("child.yaml").write_text(f"extends: {run}/recipe.yaml\n")
    for name in ("mine.yaml", "child.yaml"):
        fails(["run", name, "--out", "out"], "recipe.yaml:", "plugins.0", "SCCS_TRUST_PLUGINS=1")
    assert not Path("ran").exists()


@pytest.mark.parametrize("module", ["sccs", "sccs.run"])
@pytest.mark.parametrize("trap", ["yaml.py", "pydantic.py", "registry/__init__.py", "torch/__init__.py"])
def test_python_m_imports_nothing_from_the_working_folder(place, module, trap):
    path = evil(place / trap)
    path.write_text(f"# sccs.components\n{path.read_text()}")
    environment = {**os.environ, "PYTHONPATH": str(Path(sccs.__file__).parents[1])}
    arguments = ["show", "kmeans"] if module == "sccs" else ["kmeans", "--device", "nowhere", "--out", "out"]
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, env=environment)
    assert not Path("ran").exists()
    assert done.returncode == (0 if module == "sccs" else 2) and "Traceback" not in done.stderr
