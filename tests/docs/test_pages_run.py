"""The `sccs` commands of the pages run in their order, on small synthetic cells with the names that the pages use."""

import csv
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from sccs.cli import main
from sccs.data.phantom import make_phantom
from tests.docs.test_commands import BLOCK, PAGES, ROOT, commands, words
from tests.sccs.survey_files import halved, write_ome_zarr

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="needs the checkout, not an installed copy"),
]
SHAPES = [(4, 240, 240)] * 3
NAMES = ["background", "nucleus", "granules", "mitochondria"]
SHORT = "train.iterations=30 clusterer.warmup=10"
PHANTOM = "data.shapes=[[4,240,240],[4,240,240]] data.train_slices=1 data.test_slices=1"
NOT_HERE = {  # commands that no test of this file runs, and what does
    "docs/tutorial.md": "tests/docs/test_commands.py",
    "docs/pretraining.md": "tests/sccs/training/test_distiller.py",
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> Path:
    """raw/cell1.tif, cell2.tif, cell3.tif, their labels in truth/, and `run`, a run that was trained on two of them."""
    folder = tmp_path_factory.mktemp("cells")
    for name in ("raw", "truth"):
        (folder / name).mkdir()
    for i, cell in enumerate(make_phantom(seed=0, shapes=SHAPES), 1):
        save(folder / "raw" / f"cell{i}.tif", cell.image)
        save(folder / "truth" / f"cell{i}.tif", cell.labels)
    entries = [{"image": f"raw/cell{i}.tif", "labels": f"truth/cell{i}.tif"} for i in (1, 2)]
    data = {"name": "volumes", "train": entries, "classes": dict(enumerate(NAMES))}
    (folder / "cdeep3m.yaml").write_text(yaml.safe_dump({"extends": "filters_kmeans", "data": data}))
    assert main(["run", str(folder / "cdeep3m.yaml"), "--out", str(folder / "run"), "--quiet"]) in (0, None)
    return folder


def save(path: Path, volume: np.ndarray) -> None:
    scale = {"axes": "ZYX", "spacing": 0.016, "unit": "um"}
    tifffile.imwrite(path, volume, imagej=True, resolution=(1 / 0.016, 1 / 0.016), metadata=scale)


def save_pyramid(path: Path, volume: np.ndarray) -> None:
    write_ome_zarr(path, [volume, halved(volume)], "0.5")


@pytest.fixture
def desk(cells, tmp_path, monkeypatch) -> Path:
    """A copy of the cells, which is the working folder."""
    shutil.copytree(cells, tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    return tmp_path / "desk"


def answered(asked: Path, answers: Path) -> None:
    """What a person does with a table of suggestions: fill in the classes, here from the true labels."""
    with open(asked, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        truth = tifffile.imread(f"truth/{Path(row['image']).stem}.tif")
        row["class"] = NAMES[truth[int(row["z"]), int(row["y"]), int(row["x"])]]
    with open(answers, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def follow(page: str, changes: dict[str, str], after: dict[str, Callable[[], None]] | None = None) -> Iterator[str]:
    """Run the `sccs` commands of a page; yields each after it ran.

    changes: texts of the commands and what stands for them here. after: by the beginning of a command, what the reader
    does once it has run.
    """
    unused = dict.fromkeys([*changes, *(after or {})])
    for line in commands(ROOT / page):
        if not line.startswith("sccs "):
            continue
        given = line
        for text, here in changes.items():
            if text in given:
                unused.pop(text, None)
                given = given.replace(text, here)
        print(given)
        assert main(words(given)[1:]) in (0, None), given
        for start, do in (after or {}).items():
            if line.startswith(start):
                unused.pop(start, None)
                do()
        yield line
    assert not unused, "no command has these"


def test_readme(desk):
    truth = tifffile.imread("truth/cell3.tif")
    save(desk / "truth.tif", truth)

    def fill_in() -> None:
        assert "<html" in (desk / "runs" / "my" / "suggestions.html").read_text()
        assert main(["suggest", "runs/my", "--out", "ask.csv"]) in (0, None)
        answered(desk / "ask.csv", desk / "answers.csv")

    ran = list(follow("README.md", {}, {"sccs suggest": fill_in}))
    assert [line.split()[1] for line in ran] == [
        *("init", "run", "name", "segment"),
        *("suggest", "teach", "segment", "objects", "compare-labels"),
    ]
    assert tifffile.imread("cell3.tif").shape == truth.shape
    assert list(Path("objects/meshes").rglob("*.ply"))


def test_own_data(desk):
    """With the recipe that the page shows."""
    volume = tifffile.imread("raw/cell2.tif")
    save_pyramid(desk / "raw" / "cell2.ome.zarr", volume)
    save_pyramid(desk / "tissue.zarr", volume)
    Path("raw/cell2.tif").unlink()
    recipes = [text for language, text in BLOCK.findall((ROOT / "docs/own_data.md").read_text()) if language == "yaml"]
    recipe = next(text for text in recipes if text.startswith("extends:"))
    assert "z: [0, 200, 10]" in recipe
    Path("my.yaml").write_text(recipe.replace("z: [0, 200, 10]", "z: [0, 4, 2]"))  # these have four slices
    changes = {
        "FOLDER_OR_VOLUME": "raw",
        "run my.yaml": f"run my.yaml --out runs/my/20250131-120000-s0 --set {SHORT}",
        "raw/cell3.mrc": "raw/cell3.tif",
        "--workers 4": "--workers 2",
    }
    fill_in = {"sccs suggest": lambda: answered(desk / "ask.csv", desk / "ask.csv")}
    assert len(list(follow("docs/own_data.md", changes, fill_in))) == 8
    assert {"cell3.tif", "cell3.ome.zarr", "labels.ome.zarr"} <= {path.name for path in desk.iterdir()}


def test_teach(desk):
    volume, truth = tifffile.imread("raw/cell3.tif"), tifffile.imread("truth/cell3.tif")
    save(desk / "cell3.tif", volume)
    save(desk / "cell4.tif", volume[:2])
    save(desk / "few.tif", np.where(np.arange(240) % 40 == 0, truth % 3, 0).astype(np.uint8))
    fill_in = {"sccs suggest": lambda: answered(desk / "ask.csv", desk / "ask.csv")}
    ran = list(follow("docs/teach.md", {"RUN": "run"}, fill_in))
    assert [line.split()[1] for line in ran if "segment" not in line] == [
        *("suggest", "teach", "teach", "undo"),
        *("split", "merge", "name"),
    ]
    assert tifffile.imread("classes.tif").shape == (2, 240, 240)


def test_objects(desk):
    save(desk / "cell.tif", tifffile.imread("raw/cell1.tif"))
    assert main(["name", "run", "1=mitochondria", "2=granules", "3=mitochondria"]) in (0, None)
    assert main(["segment", "run", "cell.tif", "cell_classes.ome.zarr", "--classes"]) in (0, None)
    deep = make_phantom(seed=1, shapes=[(20, 240, 240)])[0]
    save(desk / "z010-029_image.tif", deep.image)
    shutil.rmtree("run")
    clicks = [["z", "y", "x", "class", "image"]]
    truth = tifffile.imread("truth/cell1.tif")
    for code in (1, 2, 3):
        places = np.argwhere(truth == code)
        clicks += [[*place, NAMES[code], "cell1"] for place in places[:: len(places) // 9].tolist()]
    with open("clicks.csv", "w", newline="") as file:
        csv.writer(file).writerows(clicks)
    assert len(list(follow("docs/objects.md", {}))) == 5
    assert Path("cell_objects/report.html").exists() and Path("mitochondria/objects.csv").exists()


def test_big_volumes(desk):
    distributed = pytest.importorskip("distributed")
    for name in ("tissue.ome.zarr", "INPUT.zarr"):
        save_pyramid(desk / name, tifffile.imread("raw/cell1.tif"))
    with ExitStack() as stack:
        local = stack.enter_context(
            distributed.LocalCluster(
                n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
            )
        )
        changes = {
            "runs/my/20250131-120000-s0": "run",
            "RUN": "run",
            "--workers 4": "--workers 2",
            "tcp://HOST:8786": local.scheduler_address,
            "tcp://$(hostname):8786": local.scheduler_address,
        }
        written = []
        for _ in follow("docs/big_volumes.md", changes):
            written += [name for name in ("labels.ome.zarr", "OUTPUT.ome.zarr") if Path(name).is_dir()]
            shutil.rmtree(written[-1])
        assert written == ["labels.ome.zarr", "OUTPUT.ome.zarr", "OUTPUT.ome.zarr"]


def test_dgl(desk):
    changes = {"data=platelet": f"{PHANTOM} {SHORT}"}
    assert len(list(follow("docs/dgl.md", changes))) == 2
    assert Path("graphs/graphs.bin").exists()


def test_install(desk):
    assert len(list(follow("docs/install.md", {"run sccs": f"run sccs --set {PHANTOM} {SHORT}"}))) == 1
    assert list(Path("runs").rglob("report.html"))


def test_every_page_with_commands_is_followed():
    """A page with `sccs` commands that is new has a test here, or says where it has one."""
    text = Path(__file__).read_text()
    followed = {*re.findall(r'follow\("([^"]+)"', text), *NOT_HERE}
    asking = {page.relative_to(ROOT).as_posix() for page in PAGES if any(c.startswith("sccs ") for c in commands(page))}
    assert asking == followed
    assert all((ROOT / test).is_file() for test in NOT_HERE.values())
