"""Pictures of docs and README that show a window: the report in Chromium, the plug-in in napari, the overview of a run.

    SCCS_DATA=DIR python -m benchmarks.studies.screenshots [--only report clusters paint objects overview]

A HeLa cell (slice 170 of EMPIAR-10478, CC0) for the report and the tabs Clusters and Paint, with strokes as in
`benchmarks.studies.strokes`; the bundled phantom for the tab Objects and the overview. Needs Chromium for the report,
and a display or Xvfb for napari. Writes docs/images/report.jpg, napari_clusters.jpg, napari_paint.jpg,
napari_objects.jpg, overview.jpg.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.pages import ROOT
from benchmarks.studies.strokes import NAMES, first_places, stroke, truth_of, wrong_places
from registry.base import UserError
from sccs.system.exits import guard
from sccs.system.files import write_text

COMMAND = "python -m benchmarks.studies.screenshots"
VOXEL = (50, 10, 10)  # nm, of the HeLa cell
ROUNDS, SIZE = 8, (1500, 950)  # of strokes; px of a window
ORGANELLES = {1: "nucleus", 2: "granules", 3: "mitochondria", 4: "cytoplasm"}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def hela() -> tuple[Path, np.ndarray, np.ndarray]:
    """The image's path, the image and the codes of `strokes.NAMES`, (Y, X) uint8."""
    folder = Path(os.environ.get("SCCS_DATA", "")) / "hela"
    image, labels = (np.asarray(Image.open(folder / f"z170_{kind}.png")) for kind in ("image", "labels"))
    return folder / "z170_image.png", image, truth_of(labels)


def saved(picture: Path | np.ndarray, path: Path) -> None:
    """Write an image file or pixels (H, W, 3) as a JPEG."""
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else Image.open(picture)
    image.convert("RGB").save(path, quality=85)
    print(path, flush=True)


# ---------------------------------------------------------------------------------------------- the report, a run
def sccs(*words: object) -> None:
    """Run a command of SCCS."""
    subprocess.run([sys.executable, "-m", "sccs", *map(str, words)], check=True)


def report(folder: Path, out: Path) -> None:
    """The first clusters in the report of `sccs_plus` on the HeLa cell."""
    browser = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if browser is None:
        raise UserError(f"no browser for the report: install one of {', '.join(CHROMIUM)}")
    image, recipe = shutil.copy(hela()[0], folder / "hela.png"), folder / "hela.yaml"
    data = f"[{{image: '{image}', voxel_size: {list(VOXEL)}}}]"
    write_text(recipe, f"extends: {ROOT / 'recipes/sccs_plus.yaml'}\ndata:\n  name: volumes\n  train: {data}\n")
    sccs("run", recipe, "--out", folder / "runs" / "hela")
    page, shot = folder / "runs" / "hela" / "report.html", folder / "report.png"
    write_text(page, page.read_text().replace(f"{folder}/", ""))
    words = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--screenshot={shot}", "--window-size=1280,1400"]
    subprocess.run([browser, *words, f"file://{page}"], check=True, capture_output=True)
    saved(np.asarray(Image.open(shot))[:1180], out / "report.jpg")


def overview(folder: Path, out: Path) -> None:
    """Input, bases, k-means image by image, and classes, of `sccs` on the phantom."""
    sccs("run", "sccs", "--out", folder / "demo")
    saved(folder / "demo" / "figures" / "figure4_overview.png", out / "overview.jpg")


# ------------------------------------------------------------------------------------------------------- the plug-in
@contextmanager
def display() -> Iterator[None]:
    """The display that is there, else one of Xvfb's."""
    if os.environ.get("DISPLAY"):
        yield
        return
    if shutil.which("Xvfb") is None:
        raise UserError("no display for napari: install Xvfb, or set DISPLAY")
    reading, writing = os.pipe()
    words = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1600x1200x24"]
    server = subprocess.Popen(words, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as number:
        os.environ["DISPLAY"] = f":{number.readline().strip()}"
    try:
        yield
    finally:
        del os.environ["DISPLAY"]
        server.terminate()
        server.wait()


class Window:
    """napari with the plug-in, as its menu opens it; runs are saved in `folder`."""

    def __init__(self, folder: Path):
        import napari

        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(*SIZE)
        _, self.widget = self.viewer.window.add_plugin_dock_widget("sccs-em", "SCCS")
        self.widget.runs.value = folder
        self.wait()

    def wait(self, seconds: float = 0.5) -> None:
        """Let jobs and strokes end, and the window draw itself."""
        from qtpy.QtWidgets import QApplication

        end = time.monotonic() + seconds
        while time.monotonic() < end or self.widget.busy or self.widget.painting.at_work:
            QApplication.processEvents()
            time.sleep(0.01)

    def press(self, button: str, said: str) -> None:
        """Press a button and let it finish. Raises UserError if the status line then does not start with `said`."""
        getattr(self.widget, f"{button}_button").native.click()
        self.wait()
        if not (status := self.widget.status.value).startswith(said):
            raise UserError(f"napari, {button}: {status}")

    def turn_to(self, tab: str) -> None:
        from qtpy.QtWidgets import QTabWidget

        tabs = self.widget.native.findChild(QTabWidget)
        tabs.setCurrentIndex([tabs.tabText(i) for i in range(tabs.count())].index(tab))

    def paint(self, plane: np.ndarray, z: int | None = None) -> None:
        """Paint the codes (Y, X) above zero, in slice z, class by class."""
        painting = self.widget.painting
        for code in np.unique(plane[plane > 0]).tolist():
            painting.pick(code)
            rows, columns = np.nonzero(plane == code)
            place = (rows, columns) if z is None else (np.full_like(rows, z), rows, columns)
            with painting.layer.block_history():
                painting.layer.data_setitem(place, code)
            self.wait()

    def begin_painting(self, names: dict[int, str]) -> None:
        """Press Paint, and enter the names of the classes."""
        self.press("paint", "paint")
        for code, name in names.items():
            if code > self.widget.class_table.rowCount():
                self.widget.class_edit.value = name
                self.press("class", "")
            else:
                self.widget.class_table.item(code - 1, 1).setText(name)
            self.wait()

    def shot(self, path: Path) -> None:
        self.wait(1)
        saved(self.viewer.screenshot(canvas_only=False, flash=False), path)
        self.viewer.close()


def open_hela(folder: Path) -> Window:
    """The HeLa cell, trained on and segmented."""
    window = Window(folder)
    image = window.viewer.add_image(hela()[1], name="HeLa z170")
    window.viewer.layers.selection.active = image
    window.widget.voxels.value = " ".join(map(str, VOXEL))
    window.turn_to("Train")
    window.press("train", "trained")
    window.turn_to("Clusters")
    window.press("segment", "segmented")
    return window


def clusters(folder: Path, out: Path) -> None:
    """The clusters of the HeLa cell, and the table of them."""
    open_hela(folder).shot(out / "napari_clusters.jpg")


def paint(folder: Path, out: Path) -> None:
    """Rounds of strokes on the HeLa cell, and the classes that follow them."""
    window, (_, _, truth), rng = open_hela(folder), hela(), np.random.default_rng(0)
    window.turn_to("Paint")
    window.begin_painting(NAMES)
    places = first_places(truth, rng)
    for _ in range(ROUNDS):
        strokes = np.zeros_like(truth)
        for y, x, length in places:
            stroke(strokes, truth, y, x, length, rng.uniform(0, np.pi))
        window.paint(strokes)
        places = wrong_places(truth, seen(window, NAMES))
    window.press("keep", "segmented")
    window.shot(out / "napari_paint.jpg")


def seen(window: Window, names: dict[int, str]) -> np.ndarray:
    """The codes of `names` (Y, X) that the slice shows."""
    answer: Any = window.widget.painting.answer
    shown = dict(zip(answer.features["name"], answer.features["index"]))
    plane = np.asarray(answer.data).reshape(answer.data.shape[-2:])
    return sum((np.where(plane == shown.get(name, -1), code, 0) for code, name in names.items()), np.zeros_like(plane))


def objects(folder: Path, out: Path) -> None:
    """The mitochondria of a synthetic cell, painted and separated."""
    window = Window(folder)
    for layer in window.viewer.open_sample("sccs-em", "phantom"):
        layer.data = layer.data[:12, :400, :400]
    image, labels = (window.viewer.layers[f"{name} (synthetic)"] for name in ("cell", "true classes"))
    window.viewer.layers.selection.active = image
    labels.visible = False
    window.viewer.reset_view()
    window.turn_to("Train")
    window.widget.slices.value = 4
    window.press("train", "trained")
    window.turn_to("Paint")
    window.begin_painting(ORGANELLES)
    code_of = {name: code for code, name in ORGANELLES.items()}
    names = dict(zip(labels.features["index"], labels.features["name"]))
    truth = np.zeros_like(labels.data)
    for index, name in names.items():
        truth[labels.data == index] = code_of.get(name, code_of["cytoplasm"])
    rng = np.random.default_rng(0)
    for number in range(3):
        for z in (1, 6, 10):
            window.viewer.dims.set_current_step(0, z)
            window.wait()
            now = seen(window, ORGANELLES) if number or z > 1 else np.zeros_like(truth[z])
            strokes = np.zeros_like(truth[z])
            for y, x, length in wrong_places(truth[z], now, ORGANELLES):
                stroke(strokes, truth[z], y, x, length // 2, rng.uniform(0, np.pi))
            window.paint(strokes, z)
    window.press("keep", "segmented")
    window.turn_to("Objects")
    window.widget.of_class.value, window.widget.least.value = "mitochondria", "200"
    window.widget.split.value = window.widget.fill.value = True
    window.press("find", "objects")
    window.viewer.dims.set_current_step(0, 6)
    window.widget.painting.layer.visible = False
    window.shot(out / "napari_objects.jpg")


MAKERS = {maker.__name__: maker for maker in (report, clusters, paint, objects, overview)}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--only", nargs="+", default=list(MAKERS), choices=MAKERS, metavar="PICTURE")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", metavar="DIR")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    windows = not {"report", "overview"}.issuperset(args.only)
    with tempfile.TemporaryDirectory() as folder, display() if windows else nullcontext():
        for name in args.only:
            MAKERS[name](Path(folder), args.out)
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
