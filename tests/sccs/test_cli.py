"""The command line: exit codes, what each command calls, list, show, info; light imports; devices."""

import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import yaml

import registry
import sccs
from registry.base import UserError
from sccs import cli
from sccs.recipe import load_recipe, packaged_recipes
from sccs.system.device import resolve_device

HEAVY = {"torch", "dgl", "faiss", "napari", "dask", "zarr", "skimage", "sklearn", "matplotlib", "tensorboard"}
RECIPE = "data: phantom\nfeatures: intensity\ngraph: pixel\nembedder: identity\nclusterer: {name: kmeans, k: 3}\n"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(RECIPE)
    return "r.yaml"


@pytest.fixture
def calls(monkeypatch):
    """What the command line calls in the modules that do the work: (function, arguments, options)."""
    made = []

    def stand_in(module: str, function: str):
        known = sys.modules.get(module)
        fake = known if getattr(known, "__file__", "") is None else types.ModuleType(module)
        fake.__file__ = None
        setattr(fake, function, lambda *args, **options: made.append((f"{module}.{function}", args, options)))
        monkeypatch.setitem(sys.modules, module, fake)

    for module, function in (
        ("sccs.run", "command"),
        ("sccs.inference.segment", "segment"),
        ("sccs.sharing.graphs", "main"),
        ("sccs.evaluation.compare", "main"),
        ("sccs.evaluation.files", "read_metrics"),
        ("sccs.evaluation.naming", "main"),
        ("sccs.report.page", "refresh"),
    ):
        stand_in(module, function)
    return made


# ---- exit codes


@pytest.mark.parametrize(
    "argv",
    [
        ["nothing"],
        ["run"],
        ["list", "graphs"],
        ["run", "r.yaml", "--resume", "--overwrite"],
        ["show"],
        ["graphs", "r.yaml"],
        ["segment", "run", "a.tif"],
        ["segment", "run", "a.tif", "b.tif", "--level", "-1"],
        ["segment", "run", "a.tif", "b.tif", "--block", "0"],
        ["segment", "run", "a.tif", "b.tif", "--workers", "0"],
        ["segment", "run", "a.tif", "b.zarr", "--resume", "--overwrite"],
        ["run", "r.yaml", "--seed", "x"],
        ["segment", "", "a.tif", "b.tif"],
        ["segment", "run", "a.tif", "b.tif", "--mask", ""],
        ["teach", "run", "a.tif", ""],
    ],
)
def test_wrong_arguments_exit_with_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2 and "usage: sccs" in capsys.readouterr().err


def test_wrong_arguments_are_quoted_without_control_characters(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "sccs", "--no\x1b[31m"])
    assert r"--no\x1b[31m" in (said := capsys.readouterr().err) and "\x1b" not in said


def test_without_a_command_the_help_is_shown(capsys):
    assert cli.main([]) == 2
    err = capsys.readouterr().err
    assert "segment" in err and "Exit codes" in err


def test_a_wrong_recipe_exits_with_2_and_one_line(recipe, capsys):
    assert cli.main(["show", recipe, "--set", "graph.kapa=1"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("sccs: error: --set graph.kapa=1: graph.kapa: unknown key")
    assert err.count("\n") == 1


# ---- what each command calls


def test_run_hands_its_arguments_on(calls):
    argv = [
        "r.yaml",
        "--set",
        "graph.kappa=3",
        "train.lr=1",
        "--out",
        "d",
        "--resume",
        "--device",
        "cpu",
        "--seed",
        "3",
    ]
    assert cli.main(["run", *argv]) == 0
    ((function, (args,), _),) = calls
    assert function == "sccs.run.command"
    assert vars(args) == {
        "command": "run",
        "recipe": "r.yaml",
        "set": ["graph.kappa=3", "train.lr=1"],
        "out": "d",
        "resume": True,
        "overwrite": False,
        "device": "cpu",
        "seed": 3,
    }


def test_segment(calls):
    assert cli.main(["segment", "run", "a.tif", "b.ome.zarr"]) == 0
    cli.main(
        [
            "segment",
            "run",
            "a.tif",
            "b.ome.zarr",
            "--level",
            "1",
            "--voxel-size",
            "16",
            "16",
            "16",
            "--axes",
            "ZYX",
            "--plane",
            "xz",
            "--depth",
            "16",
            "--classes",
            "--overwrite",
            "--device",
            "cpu",
        ]
    )
    cli.main(
        [
            "segment",
            "run",
            "a.zarr",
            "b.ome.zarr",
            "--level",
            "auto",
            "--region",
            "0:9,:,:",
            "--mask",
            "m.tif",
            "--halo",
            "0",
            "--block",
            "9",
            "80",
            "80",
            "--ome",
            "0.4",
            "--workers",
            "2",
            "--resume",
        ]
    )
    plain = dict(
        level=None,
        voxel_size=None,
        axes=None,
        plane="xy",
        depth=None,
        classes=False,
        probabilities=None,
        overwrite=False,
        device="auto",
        region=None,
        mask=None,
        halo=None,
        block=None,
        ome=None,
        workers=1,
        scheduler=None,
        resume=False,
    )
    assert calls[0] == ("sccs.inference.segment.segment", ("run", "a.tif", "b.ome.zarr"), plain)
    assert calls[1][2] == plain | dict(
        level=1,
        voxel_size=[16.0, 16.0, 16.0],
        axes="ZYX",
        plane="xz",
        depth=16.0,
        classes=True,
        overwrite=True,
        device="cpu",
    )
    assert calls[2][2] == plain | dict(
        level="auto", region="0:9,:,:", mask="m.tif", halo=0, block=[9, 80, 80], ome="0.4", workers=2, resume=True
    )


def test_graphs(calls):
    cli.main(["graphs", "r.yaml", "out", "--set", "graph.kappa=3", "seed=1", "--overwrite"])
    cli.main(["graphs", "run", "out"])
    assert calls == [
        ("sccs.sharing.graphs.main", ("r.yaml", "out", ["graph.kappa=3", "seed=1"]), {"overwrite": True}),
        ("sccs.sharing.graphs.main", ("run", "out", []), {"overwrite": False}),
    ]


def test_compare_and_name(calls, monkeypatch):
    checked = "sccs.run_folder.check_finished"
    monkeypatch.setattr(checked, lambda *args, **options: calls.append((checked, args, options)))
    cli.main(["compare", "a", "b", "--csv", "-"])
    cli.main(["name", "run", "3=nucleus", "5=mitochondria:#00ff00"])
    cli.main(["name", "run"])  # only prints: the report stays as it is
    assert calls == [
        ("sccs.evaluation.compare.main", (["a", "b"], "-"), {}),
        ("sccs.run_folder.check_finished", (Path("run"),), {"taught": True}),
        ("sccs.evaluation.naming.main", ("run", ["3=nucleus", "5=mitochondria:#00ff00"], []), {}),
        ("sccs.report.page.refresh", (Path("run"),), {}),
        ("sccs.evaluation.naming.main", ("run", [], []), {}),
    ]


def test_latest_is_the_newest_run(calls, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["name", "latest"]) == 2
    assert "there is no run" in capsys.readouterr().err
    runs = ["b/20260102-100000-s0", "a/20260103-090000-s7", "a/20260103-090000-s7-2", "c/20251230-235959-s0"]
    for run in [*runs, "demo-20260101-000000"]:
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "resolved.yaml").touch()
    newest = "runs/a/20260103-090000-s7-2"
    cli.main(["compare", "x", "latest"])
    cli.main(["segment", "latest", "in.tif", "latest"])
    cli.main(["run", "r.yaml", "--out", "latest", "--resume"])
    cli.main(["run", "r.yaml", "--out", "latest"])
    assert calls[0][1][0] == ["x", newest] and calls[1][1] == (newest, "in.tif", "latest")
    assert [call[1][0].out for call in calls[2:]] == [newest, "latest"]
    (tmp_path / "latest").mkdir()  # a folder of that name is meant
    cli.main(["compare", "latest"])
    assert calls[-1][1][0] == ["latest"]


# ---- list, show, info


def test_list_shows_every_part_recipe_and_data_set(capsys):
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    names = [name for role in registry.ROLES for name in registry.available(role)]
    for name in [*registry.ROLES, *names, "recipes", *packaged_recipes(), "datasets", "phantom", "betaseg", "volumes"]:
        assert re.search(rf"^ *{name}\b", out, re.MULTILINE), name


def test_list_of_one_role(capsys):
    cli.main(["list", "embedder"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "embedder",
        *registry.available("embedder"),
    ]


def test_a_reader_that_closes_the_pipe_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m sccs list | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_show_prints_the_recipe_as_yaml_with_the_place_of_each_value(recipe, capsys):
    assert cli.main(["show", recipe, "--set", "clusterer.k=5", "seed=2"]) == 0
    out = capsys.readouterr().out
    shown = yaml.safe_load(out)
    assert shown == load_recipe(recipe, ["clusterer.k=5", "seed=2"]).resolved()
    assert "seed: 2  # --set seed=2\n" in out and "  k: 5  # --set clusterer.k=5\n" in out
    assert "  name: pixel  # r.yaml:3\n" in out and "  lr: 0.01  # default\n" in out


def test_info(capsys):
    assert cli.main(["info"]) == 0
    rows = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["sccs"].startswith(sccs.__version__)
    assert {"python", "torch", "dgl", "device", "threads", "faiss", "cache", "recipes"} <= set(rows)
    weights = {Path(name).stem: text for name, text in rows.items() if name.endswith(".safetensors")}
    assert set(weights) == {"mae_vem", "student_vem"}
    for name, text in weights.items():
        assert re.fullmatch(r"sha256 [0-9a-f]{64}", text)
        card = Path(registry.__file__).parent / "mae" / "weights" / f"{name}.md"
        assert text.removeprefix("sha256 ") in card.read_text()


# ---- light imports


def loaded_by(code: str) -> set[str]:
    code += "\nimport sys; print(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import sccs, registry",
        "import sccs.recipe.grammar, sccs.cli, sccs.data, sccs.system.device",
        "from sccs.cli import main; main(['list'])",
        "from sccs.cli import main; main(['history', 'no run'])",
    ],
)
def test_imports_are_light(code):
    assert not loaded_by(code) & HEAVY


def test_help_does_without_numpy():
    """Importing it takes half of the command's time."""
    assert "numpy" not in loaded_by("from sccs.cli import main; main(['--help'])")


def test_a_recipe_that_is_only_read_does_without_dgl():
    """It imports pandas; both take a third of the time of `sccs show`. (`dgl.graphbolt`, our stub, is always there.)"""
    assert not loaded_by("from sccs.cli import main; main(['show', 'sccs'])") & {"pandas", "faiss"}


def test_the_package_offers_pipeline_and_load_lazily():
    assert sccs.Pipeline.__name__ == "Pipeline" and sccs.load == sccs.Pipeline.load
    with pytest.raises(AttributeError, match="no attribute 'Pipline'"):
        _ = sccs.Pipline


# ---- devices


@pytest.mark.parametrize(
    "found, asked, device",
    [(0, "auto", "cpu"), (1, "auto", "cuda:0"), (1, "cpu", "cpu"), (1, "cuda", "cuda:0"), (2, "cuda:1", "cuda:1")],
)
def test_devices(found, asked, device, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: found > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: found)
    assert resolve_device(asked) == device


@pytest.mark.parametrize(
    "found, asked, message",
    [
        (0, "cuda", r"^device 'cuda' is not available \(no usable GPU found\); use --device auto or --device cpu$"),
        (
            2,
            "cuda:2",
            r"^device 'cuda:2' is not available \(2 found, cuda:0 to cuda:1\); use --device auto or --device cpu$",
        ),
        (1, "gpu", r"^device 'gpu' is unknown; use auto, cpu, cuda or cuda:N$"),
    ],
)
def test_a_device_that_is_not_there(found, asked, message, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: found > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: found)
    with pytest.raises(UserError, match=message):
        resolve_device(asked)


@pytest.mark.parametrize("text", ["9" * 5000, "9" * 19, "x"])
def test_numbers_of_any_length_are_answered(text, capsys):
    with pytest.raises(SystemExit):
        cli.main(["split", "run", text, "--into", "2"])
    error = capsys.readouterr().err
    assert "is not a whole number >= 0 with at most 18 digits" in error and len(error) < 500


def test_regions_of_any_length_are_answered():
    from sccs.inference.source import parse_region

    with pytest.raises(UserError, match="write z0:z1"):
        parse_region("9" * 5000 + ":,:,:")
