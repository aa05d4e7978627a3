"""Images without labels, as `sccs init` meets them: stacks of noise and lines, pyramids of a synthetic phantom."""

import json

import numpy as np
import pytest
import tifffile


def volume(seed=0, depth=6, shape=(96, 100)):
    """(Z, Y, X) uint8: bright ground, dark lines, noise."""
    rng = np.random.default_rng(seed)
    image = 170 + rng.normal(0, 4, (depth, *shape))
    image[:, ::9] -= 90
    return image.clip(0, 255).astype(np.uint8)


def write_stacks(folder):
    """Three stacks, labels of one of them and a text."""
    folder.mkdir()
    for name, seed in (("a", 0), ("b", 1), ("c", 2)):
        tifffile.imwrite(folder / f"{name}.tif", volume(seed))
    tifffile.imwrite(folder / "a_labels.tif", volume() // 100)
    (folder / "notes.txt").write_text("block 7")
    return folder


def halved(image):
    Z, Y, X = image.shape
    return image.reshape(Z, Y // 2, 2, X // 2, 2).mean((2, 4)).astype(np.uint8)


def phantom_levels():
    """A synthetic phantom of 4 slices at 30 x 6 x 6 nm, and its coarser levels; the third is below 80 px."""
    from sccs.data import load_dataset

    shapes = [[4, 240, 256]] * 2
    image = np.asarray(load_dataset({"name": "phantom", "shapes": shapes}, ".", 0).train[0].image[:])
    return [image, halved(image), halved(halved(image))]


def write_ome_zarr(path, levels, version, axes="zyx", inside=""):
    zarr = pytest.importorskip("zarr")
    top = zarr.create_group(str(path), zarr_format=3 if version == "0.5" else 2)
    group = top.create_group(inside) if inside else top
    datasets = []
    for i, level in enumerate(levels):
        data = level.reshape((1,) * (len(axes) - 3) + level.shape)
        group.create_array(str(i), data=data, chunks=(1,) * (len(axes) - 2) + (64, 64))
        scale = [1.0] * (len(axes) - 3) + [0.03, 0.006 * 2**i, 0.006 * 2**i]
        datasets.append({"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    kinds = {"t": {"type": "time"}, "c": {"type": "channel"}}
    named = [{"name": a, **kinds.get(a, {"type": "space", "unit": "micrometer"})} for a in axes]
    image = {"axes": named, "datasets": datasets}
    group.attrs.update(
        {"ome": {"version": version, "multiscales": [image]}}
        if version == "0.5"
        else {"multiscales": [{"version": version, **image}]}
    )


def write_n5(path, levels, organelle=True):
    tensorstore = pytest.importorskip("tensorstore")
    for i, level in enumerate(levels):
        place, factor = path / "em" / f"s{i}", 2**i
        tensorstore.open(
            {
                "driver": "n5",
                "kvstore": {"driver": "file", "path": f"{place}/"},
                "metadata": {
                    "dimensions": list(level.shape[::-1]),
                    "blockSize": [64, 64, 1],
                    "dataType": "uint8",
                    "compression": {"type": "gzip"},
                },
            },
            create=True,
        ).result().write(level.T).result()
        about = json.loads((place / "attributes.json").read_text())
        if organelle:
            about["transform"] = {
                "axes": ["z", "y", "x"],
                "scale": [30, 6 * factor, 6 * factor],
                "translate": [0, 3 * (factor - 1), 3 * (factor - 1)],
                "units": ["nm"] * 3,
            }
        else:
            about |= {"downsamplingFactors": [factor, factor, 1]}
        (place / "attributes.json").write_text(json.dumps(about))
    (path / "attributes.json").write_text('{"n5": "2.0.0"}')
    if not organelle:
        pixels = {"pixelResolution": {"dimensions": [6, 6, 30], "unit": "nm"}}
        (path / "em" / "attributes.json").write_text(json.dumps(pixels))
