"""Painting without a window: what strokes teach, what of them is kept, and what is taken back."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from registry.base import UserError
from sccs.cli import main
from sccs.data.readers import open_image
from sccs.model.teacher import Class
from sccs.napari.painted import Painted, beginning
from sccs.napari.session import Session
from sccs.napari.teaching import Teaching
from sccs.pipeline import Pipeline
from sccs.recipe import history
from sccs.steps import unpainted

RECIPE = {
    "features": "intensity",
    "graph": {"name": "superpixel", "pixels_per_superpixel": 64, "edges": "knn+adjacent", "neighbours": 4},
    "embedder": {"name": "lgc_principal", "u": 3, "hops": 1},
    "clusterer": {"name": "kmeans", "k": 4},
    "device": "cpu",
}
SHAPE = (5, 80, 150)  # two fields of view in a row


def thirds(seed: int = 0) -> np.ndarray:
    """(5, 80, 150) uint8: left, middle, right third of three greys, with noise."""
    grey = np.array([60, 120, 190])[np.arange(150) // 50]
    return (grey + np.random.default_rng(seed).normal(0, 12, SHAPE)).clip(0, 255).astype(np.uint8)


def strokes(*painted: tuple[int, int]) -> np.ndarray:
    """A slice with a stroke of 6 x 2 pixels for each (column, code)."""
    plane = np.zeros(SHAPE[1:], np.uint8)
    for column, code in painted:
        plane[37:43, column : column + 2] = code
    return plane


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("teaching") / "run"
    return Session().train(thirds(), run, recipe=RECIPE, slices=1, fov=84, name="thirds")


@pytest.fixture
def session(trained, tmp_path) -> Session:
    session = Session()
    session.open(shutil.copytree(trained, tmp_path / "run"))
    return session


@pytest.fixture
def teaching(session) -> Teaching:
    return begun(session)


def begun(session: Session, seed: int = 1) -> Teaching:
    teaching = session.teaching(thirds(seed), "thirds" if seed == 1 else f"other {seed}")
    teaching.open()
    return teaching


def said(teaching: Teaching, z: int) -> list[str]:
    """The class of the middle of each third."""
    plane, legend = teaching.predict(z)
    return [legend.names[int(plane[40, column])] for column in (25, 75, 125)]


def test_a_slice_follows_the_strokes_and_others_learn_from_them(teaching):
    assert teaching.predict(0) is None and teaching.counts == {1: 0, 2: 0}
    assert teaching.stroke(0, strokes((20, 1)))
    assert teaching.predict(0) is None  # of one class alone nothing is learned
    teaching.stroke(0, strokes((20, 1), (120, 2)))
    assert said(teaching, 0)[::2] == ["class 1", "class 2"] == said(teaching, 2)[::2]
    before = teaching.counts
    assert min(before.values()) > 0
    teaching.stroke(2, strokes((70, 3)))
    assert said(teaching, 1) == ["class 1", "class 3", "class 2"]
    assert teaching.counts == {**before, 3: teaching.counts[3]} and teaching.counts[3] > 0
    assert not teaching.stroke(2, strokes((70, 3)))  # as it was


def test_an_erased_stroke_is_forgotten(teaching):
    teaching.stroke(0, strokes((20, 1), (120, 2)))
    before = teaching.predict(0)[0]
    teaching.stroke(1, strokes((70, 3)))
    assert said(teaching, 0)[1] == "class 3"
    teaching.stroke(1, strokes())
    assert np.array_equal(teaching.predict(0)[0], before) and teaching.counts[3] == 0


def test_a_superpixel_in_two_fields_of_view_counts_once(teaching):
    first, second = (span for _, span, _ in teaching.live(0).graphs[:2])
    plane = strokes((20, 1))
    plane[40, (second.low + first.high) // 2] = 2  # both fields of view look there
    teaching.stroke(0, plane)
    assert teaching.counts[2] == 1 and (teaching.painted.labelled[0].classes == 2).sum() == 2


def test_what_is_painted_is_there_again_and_teaches_the_same(session, teaching):
    teaching.stroke(0, strokes((20, 1), (120, 2)))
    teaching.rename(2, "nucleus:#102030")
    plane, legend = teaching.predict(1)
    again = Session()
    again.open(session.run)
    assert again.model.taught is None  # the run itself is not taught before somebody says so
    second = begun(again)
    painted = np.zeros(SHAPE, np.uint8)
    second.painted.fill(painted)
    assert np.array_equal(painted[0], strokes((20, 1), (120, 2))) and not painted[1:].any()
    found, of = second.predict(1)
    assert np.array_equal(found, plane) and of == legend and second.counts == teaching.counts
    assert of.colours[next(c for c, name in of.names.items() if name == "nucleus")] == (0x10, 0x20, 0x30)
    assert not second._live or len(second._live) == 1  # painted slices are not looked at again


def test_kept_strokes_are_a_step_and_the_pixels_those_of_the_commands(session, teaching):
    teaching.stroke(0, strokes((20, 1), (120, 2)))
    assert not teaching.kept
    teaching.keep()
    assert teaching.kept and [step.command for step in history.steps(session.run)] == ["paint thirds"]
    image = session.run.parent / "image.tif"
    tifffile.imwrite(image, thirds(1))
    out = session.run.parent / "classes.tif"
    assert main(["segment", str(session.run), str(image), str(out), "--classes"]) == 0
    classes = open_image(out, codes=True).array[:]
    for z in range(5):
        assert np.array_equal(teaching.predict(z)[0], classes[z])
    session.segment(thirds(1))
    assert np.array_equal(session.classes()[0], classes)


def test_painting_again_takes_the_place_of_painting_and_not_of_other_labels(session, teaching):
    teaching.stroke(0, strokes((20, 1), (120, 2)))
    teaching.keep()
    teaching.stroke(0, strokes((20, 2), (120, 1)))
    teaching.keep()
    again = Pipeline.load(session.run)
    assert sorted(again.taught.teacher.head.classes_) == sorted(teaching.model.taught.teacher.head.classes_)
    assert unpainted(session.run) is None and said(teaching, 0)[::2] == ["class 2", "class 1"]


def test_labels_of_the_command_stay_under_what_is_painted(session):
    image, table = session.run.parent / "image.tif", session.run.parent / "few.csv"
    tifffile.imwrite(image, thirds(5))
    table.write_text("z,y,x,class\n0,40,25,left\n0,40,125,right\n")
    assert main(["teach", str(session.run), str(table), "--image", str(image)]) == 0
    session.open(session.run)
    teaching = begun(session)
    assert [each.name for each in teaching.painted.classes.values()] == ["left", "right"]
    code = teaching.painted.add("middle")
    teaching.stroke(0, strokes((70, code)))
    assert said(teaching, 1) == ["left", "middle", "right"]
    teaching.keep()
    assert [each.name for each in unpainted(session.run).classes] == ["left", "right"]
    teaching.stroke(0, strokes())
    assert len(teaching.model.taught.names) == 2


def test_two_images_of_a_run_teach_together(session, teaching):
    teaching.stroke(0, strokes((20, 1), (120, 2)))
    other = begun(session, seed=2)
    assert said(other, 0)[::2] == ["class 1", "class 2"] and other.counts == {1: 0, 2: 0}
    code = other.painted.add("middle")
    other.stroke(1, strokes((70, code)))
    other.keep()
    assert [each.name for each in Pipeline.load(session.run).taught.teacher.classes] == ["class 1", "class 2", "middle"]


def test_undo_takes_the_step_back_and_leaves_what_is_painted(session, teaching):
    teaching.stroke(0, strokes((20, 1), (120, 2)))
    teaching.keep()
    assert session.undo() == "paint thirds"
    assert session.model.taught is None
    again = begun(session)
    assert said(again, 0)[::2] == ["class 1", "class 2"] and not again.kept


def test_another_weights_nodes_are_looked_at_anew(session, teaching):
    teaching.stroke(0, strokes((20, 1), (120, 2)))
    plane = teaching.predict(0)[0]
    kept = Painted.read(teaching.path)
    kept.model = "of another training"
    kept.labelled[0].points[:] = 7
    kept.write(teaching.path)
    session.open(session.run)
    again = begun(session)
    assert np.array_equal(again.predict(0)[0], plane)


def test_suggestions_leave_painted_superpixels_out(teaching):
    teaching.stroke(0, strokes((20, 1), (120, 2)))
    live = teaching.live(0)
    labelled = set(live.regions[strokes((20, 1), (120, 2)) > 0].tolist())
    found = teaching.suggest(30)
    assert found and not {int(live.regions[s.y, s.x]) for s in found if s.z == 0} & labelled


def test_what_cannot_be_taught_is_refused(session, teaching):
    with pytest.raises(UserError, match="at least two classes"):
        teaching.keep()
    assert not history.steps(session.run)
    with pytest.raises(UserError, match="there is already a class named 'Class 2'"):
        teaching.rename(1, "Class 2")
    with pytest.raises(UserError, match="the name is empty"):
        teaching.rename(1, " ")
    teaching.stroke(0, strokes((20, 1), (120, 2)))
    weights = session.run / "model" / "clusterer.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(UserError, match="has been retrained"):
        teaching.keep()


def test_a_damaged_file_is_named(session, teaching):
    teaching.stroke(0, strokes((20, 1), (120, 2)))
    teaching.path.write_bytes(teaching.path.read_bytes()[:-4])
    with pytest.raises(UserError, match="damaged"):
        begun(session)


def test_classes_begin_with_those_of_the_run_and_keep_their_codes():
    classes = beginning(["nucleus", "rest", "golgi"], {3: "nucleus", 0: "rest"}, {"golgi": "#010203"})
    assert {code: each.name for code, each in classes.items()} == {3: "nucleus", 1: "rest", 2: "golgi"}
    assert classes[2].colour == "#010203" and len({each.colour for each in classes.values()}) == 3


def test_painted_pixels_are_written_and_read(tmp_path):
    painted = Painted((4, 6), {2: Class(name="b", colour="#000001")})
    plane = np.zeros((4, 6), np.uint8)
    plane[1, 2], plane[3, 5] = 2, 9
    assert painted.take(0, plane) and painted.classes[9].name == "class 9"
    painted.write(tmp_path / "p.safetensors")
    again = Painted.read(tmp_path / "p.safetensors")
    found = np.zeros((4, 6), np.uint8)
    again.fill(found)
    assert np.array_equal(found, plane) and again.classes == painted.classes and again.shape == (4, 6)
