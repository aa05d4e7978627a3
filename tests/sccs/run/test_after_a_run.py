"""What is done with a finished run: segment, name, compare."""

import json

import numpy as np
import pytest
import tifffile

from sccs.cli import main as command
from tests.sccs.run.small import CLASSES, volume


def entries(**names) -> dict[int, dict[str, str]]:
    """entries(c3="nucleus"): cluster 3 is so named."""
    return {int(cluster[1:]): {"name": name, "colour": "#112233"} for cluster, name in names.items()}


def test_segment_a_new_image_to_tiff_with_voxel_size(finished, tmp_path):
    image, labels = volume(7)
    tifffile.imwrite(tmp_path / "new.tif", image)
    out = tmp_path / "out.tif"
    assert command(["segment", str(finished), str(tmp_path / "new.tif"), str(out), "--voxel-size", "16", "8", "8"]) == 0
    found = tifffile.imread(out)
    assert found.shape == image.shape
    assert len({(a, b) for a, b in zip(labels[:, :, ::33].ravel(), found[:, :, ::33].ravel())}) < 8
    from sccs.data.readers import open_image

    assert open_image(out).voxel_size == pytest.approx((16, 8, 8))


def test_names_are_used_by_segment_and_report(finished, tmp_path):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(finished, run)
    mapping = json.loads((run / "metrics.json").read_text())["mapping"]["train"]
    names = [f"{cluster}={name}" for cluster, name in enumerate(mapping)]
    assert command(["name", str(run), *names]) == 0
    assert json.loads((run / "metrics.json").read_text())["test"]["named"]["mean"]["dsc"] > 0.9
    assert "bright" in (run / "report.html").read_text()
    image, labels = volume(7)
    tifffile.imwrite(tmp_path / "new.tif", image)
    assert command(["segment", str(run), str(tmp_path / "new.tif"), str(tmp_path / "out.tif"), "--classes"]) == 0
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert (file.asarray() == labels).mean() > 0.9  # the codes of the run's own classes
        assert file.imagej_metadata["Info"] == "0 = dark\n1 = grey\n2 = bright"


def test_classes_without_names_are_refused(finished, tmp_path, capsys):
    tifffile.imwrite(tmp_path / "new.tif", volume(7)[0])
    assert command(["segment", str(finished), str(tmp_path / "new.tif"), str(tmp_path / "out.tif"), "--classes"]) == 2
    assert "sccs name" in capsys.readouterr().err and not (tmp_path / "out.tif").exists()


@pytest.mark.parametrize(
    "classes, ignore, named, codes, rest",
    [
        (CLASSES, 255, entries(c0="Nucleus", c2="mitochondria"), {0: 1, 2: 4}, (0, "unrecognized")),
        (CLASSES, 5, entries(c0="vesicles", c1="golgi", c2="Golgi"), {0: 7, 1: 6, 2: 6}, (0, "unrecognized")),
        ({1: "nucleus"}, None, entries(c0="nucleus"), {0: 1}, (255, "unnamed")),
        ({}, None, entries(c5="b", c6="a"), {5: 2, 6: 1}, (255, "unnamed")),
        ({254: "nucleus"}, 0, entries(c0="golgi"), {0: 1}, (255, "unnamed")),
    ],
)
def test_class_codes_are_the_runs_own_then_the_next_free(classes, ignore, named, codes, rest):
    from sccs.evaluation.legend import class_codes

    table, legend = class_codes(named, 8, classes, ignore)
    assert {cluster: int(table[cluster]) for cluster in named} == codes
    assert table.shape == (8,) and int(table[7]) == rest[0] and legend.names[rest[0]] == rest[1]
    assert set(legend.names) == {*codes.values(), rest[0]} and legend.colours[codes[min(codes)]] == (17, 34, 51)


def test_segmentations_of_the_run_have_names_and_colours(finished):
    said = {"clusters": {"0 = cluster 0", "255 = not segmented"}, "classes": {"0 = dark", "2 = bright"}}
    for kind, names in said.items():
        with tifffile.TiffFile(finished / "segmentation" / f"b_{kind}.tif") as file:
            assert names <= set(file.imagej_metadata["Info"].split("\n"))
            red, green, blue = np.array(file.imagej_metadata["LUTs"]).reshape(3, 256)[:, 1]
            assert not red == green == blue


def test_only_drawn_slices_are_held(finished):
    import sccs
    from sccs.data.volumes import Dataset, Volume
    from sccs.products import Counts, segment_volume

    model, seen, done = sccs.load(finished), [], []
    cell = Volume("cell", volume(3)[0], fov=80)
    planes = segment_volume(
        model,
        cell,
        Counts(model.k, Dataset("arrays", [cell], [], {})),
        drawn=[1],
        draw=lambda z, found: seen.append((z, len(found.results))),
        done=lambda: done.append(1),
    )
    assert [plane.shape for plane in planes] == [(96, 100)] * 2
    assert seen == [(1, 4)] and len(done) == 2 * 4


def test_pixels_of_another_size_are_warned_of(capsys):
    from sccs.inference.source import warn_of_voxels

    for here, trained in ((None, (16, 16, 16)), ((16, 16, 16), None), ((50, 5, 5), (16, 5.5, 5.5))):
        warn_of_voxels(here, trained)
    assert capsys.readouterr().err == ""
    warn_of_voxels((50, 20, 20), (50, 5, 5))
    assert capsys.readouterr().err.startswith("sccs: warning: the image has 20 nm pixels")


def test_compare_prints_runs(finished, capsys):
    assert command(["compare", str(finished)]) == 0
    assert "train" in capsys.readouterr().out
