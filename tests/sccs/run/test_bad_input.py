"""Bad input is answered with one line and exit code 2."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.sccs.run.small import fails, volume


def rewrite(folder: Path, name: str, image: np.ndarray) -> None:
    tifffile.imwrite(folder / f"{name}.tif", image)


def test_unknown_recipe_key(folder, capsys):
    text = (folder / "recipe.yaml").read_text().replace("checkpoint_every", "checkpoint_evry")
    (folder / "recipe.yaml").write_text(text)
    line = 1 + next(i for i, t in enumerate(text.splitlines()) if "checkpoint_evry" in t)
    fails(
        capsys,
        [folder / "recipe.yaml", "--out", folder / "run"],
        f"recipe.yaml:{line}",
        "train.checkpoint_evry",
        "'checkpoint_every'",
    )
    assert not (folder / "run").exists()


def test_more_graphs_an_iteration_than_there_are(folder, capsys):
    words = "train.batch: 100000 graphs per iteration", "one for each field of view"
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run", "--set", "train.batch=100000"], *words)
    assert not (folder / "run").exists()


def test_missing_file(folder, capsys):
    (folder / "a.tif").rename(folder / "aa.tif")
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run"], "a.tif", "aa.tif")
    assert not (folder / "run").exists()


def test_missing_recipe(folder, capsys):
    fails(capsys, [folder / "recipes.yaml"], "not found")


def test_rgb_image(folder, capsys):
    tifffile.imwrite(folder / "a.tif", np.zeros((96, 100, 3), np.uint8), photometric="rgb")
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run"], "a.tif", "3")


@pytest.mark.parametrize("value, word", [(np.nan, "NaN"), (0.0, "constant")])
def test_nan_and_constant_image(folder, capsys, value, word):
    image = np.zeros((2, 96, 100), np.float32) if value == 0 else volume(0)[0].astype(np.float32)
    image[0, 5, 5] = value
    rewrite(folder, "a", image)
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run"], "a.tif", word)


def test_image_smaller_than_a_window(folder, capsys):
    image, labels = volume(0)
    rewrite(folder, "a", image[:, :60, :60])
    rewrite(folder, "a_labels", labels[:, :60, :60])
    fails(
        capsys,
        [folder / "recipe.yaml", "--out", folder / "run", "--set", "features=mae"],
        "a.tif",
        "60 x 60",
        "smaller than a window of 80 x 80",
    )
    rewrite(folder, "a", image[:, :60, :12])
    rewrite(folder, "a_labels", labels[:, :60, :12])
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run"], "a.tif", "60 x 12", "16")


def test_labels_of_another_shape(folder, capsys):
    rewrite(folder, "a_labels", volume(0)[1][:, :90])
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run"], "a_labels.tif", "90", "96")


def test_more_clusters_than_nodes(folder, capsys):
    fails(
        capsys,
        [folder / "recipe.yaml", "--out", folder / "run", "--set", "clusterer.k=250"],
        "clusterer.k: 250",
        "nodes",
    )


def test_one_superpixel_fov(folder, capsys):
    fails(
        capsys,
        [folder / "recipe.yaml", "--out", folder / "run", "--set", "graph.pixels_per_superpixel=1000000"],
        "1 node",
        "pixels_per_superpixel",
    )


def test_empty_training_list(folder, capsys):
    fails(
        capsys, [folder / "recipe.yaml", "--out", folder / "run", "--set", "data.train=[]"], "training volumes is empty"
    )


def test_truncated_tiff(folder, capsys):
    whole = (folder / "a.tif").read_bytes()
    (folder / "a.tif").write_bytes(whole[: len(whole) // 2])
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run"], "a.tif")


def test_unreadable_zarr_chunk(folder, capsys):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(str(folder / "a.zarr"), shape=(2, 96, 100), chunks=(1, 96, 100), dtype="u1")
    array[:] = volume(0)[0]
    chunk = next(path for path in (folder / "a.zarr" / "c").rglob("*") if path.is_file())
    chunk.write_bytes(b"broken")
    image = f"data.train.0.image={folder / 'a.zarr'}"
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run", "--set", image], "a.zarr")


def test_a_gpu_that_is_not_there(folder, capsys):
    fails(capsys, [folder / "recipe.yaml", "--out", folder / "run", "--device", "cuda:63"], "cuda:63", "--device")
    assert not (folder / "run").exists()


def test_a_checkpoint_that_does_not_fit(folder, capsys):
    fails(
        capsys,
        [folder / "recipe.yaml", "--out", folder / "run", "--set", "features=mae", "features.width=96"],
        "features.width is 96",
        "192",
    )
