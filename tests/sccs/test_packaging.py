"""What is installed: the wheel's contents, and the command outside of the checkout."""

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import sccs

ROOT = Path(sccs.__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "setup.cfg").is_file(), reason="needs the checkout, not an installed copy")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the checkout, which so stays clean."""
    copy, out = tmp_path_factory.mktemp("checkout") / "sccs", tmp_path_factory.mktemp("wheel")
    junk = shutil.ignore_patterns("__pycache__", ".*", "runs", "build", "*.egg-info")
    shutil.copytree(ROOT, copy, ignore=junk)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            str(out),
            str(copy),
        ],
        check=True,
        capture_output=True,
    )
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def contents(wheel):
    return set(zipfile.ZipFile(wheel).namelist())


def test_two_packages_and_nothing_else_at_top_level(contents):
    assert {name.partition("/")[0] for name in contents} == {
        "sccs",
        "registry",
        f"sccs_em-{sccs.__version__}.dist-info",
    }
    assert not [name for name in contents if "test" in name]


def test_every_module_is_there(contents):
    files = [*(ROOT / "sccs").rglob("*.py"), *(ROOT / "registry").rglob("*.py")]
    assert {str(path.relative_to(ROOT)) for path in files} == {name for name in contents if name.endswith(".py")}


@pytest.mark.parametrize(
    "folder, pattern, place",
    [
        ("recipes", "*.yaml", "sccs/recipes"),
        ("sccs/report", "*.j2", "sccs/report"),
        ("sccs/sharing", "*.j2", "sccs/sharing"),
        ("sccs/napari", "*.yaml", "sccs/napari"),
        ("registry/mae/weights", "*", "registry/mae/weights"),
    ],
)
def test_data_files_travel_with_the_package(folder, pattern, place, contents):
    files = {f"{place}/{path.name}" for path in (ROOT / folder).glob(pattern)}
    assert files == {name for name in contents if name.startswith(f"{place}/") and not name.endswith(".py")}


def test_licence_and_metadata(wheel, contents):
    info = f"sccs_em-{sccs.__version__}.dist-info"
    assert f"{info}/licenses/LICENSE" in contents
    metadata = zipfile.ZipFile(wheel).read(f"{info}/METADATA").decode()
    assert "\nLicense: BSD-3-Clause\n" in metadata
    assert "\nRequires-Python: <3.13,>=3.10\n" in metadata
    for extra in (
        "cpu",
        "gpu",
        "zarr",
        "n5",
        "hdf5",
        "tiff",
        "dask",
        "napari",
        "onnx",
        "bioimage",
        "docs",
        "all",
        "test",
    ):
        assert f"\nProvides-Extra: {extra}\n" in metadata
    entry_points = zipfile.ZipFile(wheel).read(f"{info}/entry_points.txt").decode()
    assert "[napari.manifest]\nsccs = sccs.napari:napari.yaml" in entry_points


def test_installed_copy_works_outside_of_the_checkout(wheel, tmp_path):
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--target",
            str(target),
            str(wheel),
        ],
        check=True,
        capture_output=True,
    )
    assert (target / "bin" / "sccs").is_file()
    environment = {**os.environ, "PYTHONPATH": str(target)}

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=elsewhere, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert Path(python("-c", "import sccs; print(sccs.__file__)").strip()).is_relative_to(target)
    assert f"{target}/sccs/recipes/sccs.yaml:" in python(str(target / "bin" / "sccs"), "show", "recipes/sccs.yaml")


def test_tested_versions_lie_within_the_ranges():
    """constraints.txt pins a version of every dependency, which setup.cfg allows."""
    from packaging.requirements import Requirement

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lists = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    ranges = [Requirement(line) for text in lists for line in text.splitlines() if line.strip() and line[0] != "#"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if not line.startswith("#")]
    pins = {pin.name.lower(): str(pin.specifier).removeprefix("==") for pin in pinned}
    for wanted in ranges:
        if wanted.name in ("sccs-em", "faiss-gpu-cu12"):  # ourselves; and FAISS for GPUs, where the other one is tested
            continue
        assert wanted.specifier.contains(pins[wanted.name.lower()]), wanted
