"""The tab Paint: strokes in a Labels layer, the slice's classes predicted from them, and the table of classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
from napari.qt.threading import create_worker
from qtpy.QtCore import QTimer

from registry.base import UserError
from sccs.evaluation.legend import Legend
from sccs.napari import job
from sccs.napari.layers import look
from sccs.napari.tables import Row
from sccs.napari.teaching import TOO_FEW, Teaching
from sccs.napari.watch import Watch
from sccs.system.colours import rgb

if TYPE_CHECKING:
    from sccs.inference.suggest import Suggestion
    from sccs.napari.widget import SCCS

WAIT = 150  # ms to stay on a slice before it is predicted
SUGGESTED = 20


class Painting:
    """The tab's actions. Predicts one slice at a time, in a thread; strokes made meanwhile come next."""

    def __init__(self, host: SCCS):
        self.host, self.viewer = host, host.viewer
        self.teaching: Teaching | None = None
        self.layer: napari.layers.Labels | None = None  # the strokes
        self.answer: napari.layers.Labels | None = None  # the classes of the slice
        self.hidden: set[str] = set()  # hidden classes, in lower case
        self._last: Teaching | None = None
        self._legend = Legend({}, {})
        self._worker: Any = None
        self._due = False
        self._done: list[str] = []  # "stroke" or "step", in order
        self._suggested: list[Suggestion] = []
        self._next = 0
        self._timer = QTimer(singleShot=True, interval=WAIT)
        self._timer.timeout.connect(self.follow)
        host.paint_button.clicked.connect(self.begin)
        host.class_button.clicked.connect(self.add)
        host.class_edit.native.returnPressed.connect(self.add)
        host.class_table.renamed.connect(self.rename)
        host.class_table.toggled.connect(self.show)
        host.class_table.picked.connect(self.pick)
        host.suggest_button.clicked.connect(self.suggest)
        host.next_button.clicked.connect(self.next)
        host.undo_button.clicked.connect(self.undo)
        host.keep_button.clicked.connect(self.keep)
        self.viewer.dims.events.current_step.connect(self._turned)

    # -------------------------------------------------------------------------------------------------------- begin
    def begin(self) -> None:
        """Start painting on the chosen image; earlier strokes of this run are restored."""

        def prepare() -> tuple[job.Work, Any]:
            given = self.host.given()
            run = self.host.chosen_run()

            def work(watch: Watch) -> Teaching:
                self._finish()
                self.host.open(run)
                teaching = self.host.session.teaching(given.array, given.name, voxel_size=given.voxel_size)
                if (before := self.teaching or self._last) is not None:
                    teaching.adopt(before)
                teaching.open(watch)
                return teaching

            def done(teaching: Teaching) -> None:
                self._done, self._suggested = [], []
                self.teaching = teaching
                data = np.zeros(given.array.shape, np.uint8)
                teaching.painted.fill(data)
                self._remove(self.layer, self.answer)
                self.answer = None
                legend = self._painted_legend()
                self.layer = self.viewer.add_labels(
                    data, name=f"painted on {given.layer.name}", **given.like, **look(legend)
                )
                self.layer.events.paint.connect(self._painted)
                self.layer.events.set_data.connect(self._painted)
                self.layer.brush_size = 8
                self.layer.mode = "paint"
                self.host.status.value = "paint at least two classes, one stroke of each; SCCS then predicts the slice"
                self.refresh()
                self.pick(next(iter(teaching.painted.classes)))
                self.host.show_clusters()
                self.follow()

            return work, done

        self.host.start("opening", prepare)

    def stop(self) -> None:
        """Stop painting; the strokes stay in the run."""
        self._remove(self.layer, self.answer)
        self._last = self.teaching or self._last
        self.teaching = self.layer = self.answer = None
        self.refresh()

    def _remove(self, *layers: napari.layers.Labels | None) -> None:
        for layer in layers:
            if layer is not None and layer in self.viewer.layers:
                self.viewer.layers.remove(layer)

    @property
    def going(self) -> bool:
        """Whether there is a layer to paint on."""
        return self.teaching is not None and self.layer is not None and self.layer in self.viewer.layers

    @property
    def at_work(self) -> bool:
        """Whether a stroke is still being processed."""
        return self._worker is not None or (self.going and self._due)

    # -------------------------------------------------------------------------------------------------------- follow
    def _z(self) -> int:
        """The current slice."""
        assert self.layer is not None
        if self.layer.ndim == 2:
            return 0
        z = round(float(self.layer.world_to_data(self.viewer.dims.point[-self.layer.ndim :])[0]))
        return min(max(z, 0), self.layer.data.shape[0] - 1)

    def _turned(self, event: Any = None) -> None:
        if self.going:
            self._timer.start()

    def _painted(self, event: Any = None) -> None:
        """A stroke was made or undone, or only the view changed."""
        if not self.going or not self._changed(event):
            return
        if event is not None and event.type == "paint":
            self._done.append("stroke")
        self.follow()

    def _planes(self) -> np.ndarray:
        assert self.layer is not None
        return self.layer.data.reshape((-1, *self.layer.data.shape[-2:]))

    def _changed(self, event: Any = None) -> dict[int, np.ndarray]:
        """The slices whose strokes differ from those that were learned."""
        assert self.teaching is not None
        planes, painted = self._planes(), self.teaching.painted.slices
        looked = {self._z(), *painted, *_touched(getattr(event, "value", None), planes)}
        found = {}
        for z in sorted(looked):
            y, x, codes = painted.get(z, (np.zeros(0, int), np.zeros(0, int), np.zeros(0, np.uint8)))
            if np.count_nonzero(planes[z]) != len(y) or not np.array_equal(planes[z][y, x], codes):
                found[z] = planes[z].copy()
        return found

    def follow(self) -> None:
        """Learn the strokes, and predict the current slice; if already busy, do it again afterwards."""
        self._due = True
        if self._worker is not None or self.host.busy or not self.going:
            return
        self._due = False
        z, changed, teaching = self._z(), self._changed(), self.teaching
        assert teaching is not None

        def work() -> Any:
            with self.host.lock:
                try:
                    for each, plane in changed.items():
                        teaching.stroke(each, plane)
                    return z, teaching.predict(z), bool(changed)
                except Exception as error:
                    return error

        self._worker = create_worker(work, _start_thread=False, _connect={"returned": self._answered})
        self._worker.start()

    def _answered(self, answer: Any) -> None:
        self._worker = None
        if not self.going:
            return
        if isinstance(answer, (UserError, OSError)):
            self.host.complain(answer)
        elif isinstance(answer, Exception):
            self.host.status.value = f"a bug in SCCS: {answer}"
            raise answer
        else:
            self._show(*answer)
        self.refresh()
        if self._due:
            self.follow()

    def _show(self, z: int, predicted: tuple[np.ndarray, Legend] | None, stroke: bool) -> None:
        assert self.layer is not None
        if predicted is None:
            if stroke:
                self.host.status.value = TOO_FEW
            if self.answer is not None and self.answer in self.viewer.layers:
                self.answer.visible = False
            return
        plane, self._legend = predicted
        layer = self.layer
        data = plane.reshape((1,) * (layer.ndim - 2) + plane.shape)
        step = np.zeros(layer.ndim)
        step[0] = z if layer.ndim == 3 else 0
        place = {"scale": layer.scale, "units": layer.units, "translate": layer.translate + step * layer.scale}
        name = layer.name.replace("painted on", "taught:", 1)
        new = self.answer is None or self.answer not in self.viewer.layers
        self.answer = self.host.labels_layer(self.answer, name, data, self.without_hidden(self._legend), place)
        if stroke or new:
            self.host.status.value = (
                f"slice {z}, predicted from your strokes; Teach applies them to the run and the whole image"
            )
            self.host.show_only(self.answer)
        if new:
            self.on_top()

    def on_top(self) -> None:
        """Move the strokes above all other layers."""
        assert self.layer is not None
        self.viewer.layers.move(self.viewer.layers.index(self.layer), len(self.viewer.layers))
        self.viewer.layers.selection.active = self.layer

    # ------------------------------------------------------------------------------------------------------- classes
    def refresh(self) -> None:
        """Update the table of classes, and the colours of the strokes."""
        if self.teaching is None:
            self.host.class_table.fill([])
            return
        counts = self.teaching.counts
        self.host.class_table.fill(
            Row(code, each.colour or "#808080", each.name, counts[code], each.name.lower() not in self.hidden)
            for code, each in sorted(self.teaching.painted.classes.items())
        )
        if self.layer is not None and self.layer in self.viewer.layers:
            self.host.dress(self.layer, self._painted_legend())

    def _painted_legend(self) -> Legend:
        assert self.teaching is not None
        classes = self.teaching.painted.classes
        return self.without_hidden(
            Legend(
                {c: each.name for c, each in classes.items()}, {c: rgb(str(each.colour)) for c, each in classes.items()}
            )
        )

    def named(self) -> None:
        """A cluster was named."""
        self._done.append("step")
        self.follow()

    def without_hidden(self, legend: Legend) -> Legend:
        """The legend without the colours of hidden classes."""
        colours = {c: colour for c, colour in legend.colours.items() if legend.names[c].lower() not in self.hidden}
        return Legend(legend.names, colours)

    def add(self) -> None:
        """Add a class with the typed name, and select it for the brush."""
        text = self.host.class_edit.value
        if self.teaching is None:
            self.host.complain(UserError("press Paint first"))
            return
        try:
            with self.host.lock:
                code = self.teaching.add(text)
        except UserError as error:
            self.host.complain(error)
            return
        self.host.class_edit.value = ""
        self.refresh()
        self.pick(code)

    def rename(self, code: int, text: str) -> None:
        """Rename a class."""
        assert self.teaching is not None
        try:
            with self.host.lock:
                self.teaching.rename(code, text)
        except UserError as error:
            self.host.complain(error)
        self.refresh()
        self.follow()

    def show(self, code: int, shown: bool) -> None:
        """Show or hide a class in all layers of classes."""
        assert self.teaching is not None
        name = self.teaching.painted.classes[code].name.lower()
        (self.hidden.discard if shown else self.hidden.add)(name)
        self.refresh()
        if self.answer is not None:
            self.host.dress(self.answer, self.without_hidden(self._legend))
        self.host.show_clusters()

    def pick(self, code: int) -> None:
        """Select this class for the brush."""
        if self.layer is None or self.layer not in self.viewer.layers:
            return
        self.host.class_table.select(code)
        self.layer.selected_label = code
        self.layer.mode = "paint"
        self.viewer.layers.selection.active = self.layer

    # ----------------------------------------------------------------------------------------- undo, teach, suggest
    def undo(self) -> None:
        """Undo the last stroke; without one since the last step, undo the run's last step."""
        if self.going and self._done and self._done[-1] == "stroke":
            self._done.pop()
            assert self.layer is not None
            self.layer.undo()
            self._painted()
            self.host.status.value = "undid a stroke"
            return

        def prepare() -> tuple[job.Work, Any]:
            run = self.host.chosen_run()

            def work(watch: Watch) -> str:
                self._finish()
                self.host.open(run)
                return self.host.session.undo()

            def done(command: str) -> None:
                if self._done:
                    self._done.pop()
                was = self.going
                self.stop()
                self.host.status.value = f"undid: {command}" + ("; press Paint to continue" if was else "")
                self.host.show_clusters()

            return work, done

        self.host.start("undoing", prepare)

    def keep(self) -> None:
        """Teach the run the strokes, as one step of its history, and segment the whole image with it."""
        if self.going and self.host.session.model.taught is not None:
            self.host.segment()
        else:
            self.host.complain(UserError(TOO_FEW if self.going else "press Paint first, then paint"))

    def take_in(self) -> None:
        """Teach the run the strokes that it does not know yet; in a job's thread."""
        self._finish()
        teaching = self.teaching
        if teaching is None or teaching.model is not self.host.session.model or teaching.model.taught is None:
            return
        if not teaching.kept:
            teaching.keep()
            self._done.append("step")

    def _finish(self) -> None:
        """Learn pending strokes before anything else happens; in a job's thread."""
        if self.going and self.teaching is not None:
            for z, plane in self._changed().items():
                self.teaching.stroke(z, plane)

    def suggest(self) -> None:
        """Find the superpixels most worth labelling, show them as points, and go to the first."""
        if not self.going:
            self.host.complain(UserError("press Paint first"))
            return

        def prepare() -> tuple[job.Work, Any]:
            teaching = self.teaching
            assert teaching is not None

            def done(found: list[Suggestion]) -> None:
                self._suggested, self._next = found, 0
                self._points()
                self.host.next_button.enabled = bool(found)
                self.next()

            return lambda watch: teaching.suggest(SUGGESTED), done

        self.host.start("looking for superpixels", prepare)

    def _points(self) -> None:
        assert self.layer is not None
        layer, name = self.layer, "suggested"
        places = np.array([(s.z, s.y, s.x) for s in self._suggested], float).reshape(-1, 3)[:, -layer.ndim :]
        self._remove(*(each for each in self.viewer.layers if each.name == name))
        self.viewer.add_points(
            places,
            name=name,
            size=14,
            symbol="ring",
            face_color="transparent",
            border_color="#ff00ff",
            border_width=0.15,
            out_of_slice_display=False,
            scale=layer.scale,
            translate=layer.translate,
            units=layer.units,
        )
        self.viewer.layers.selection.active = layer

    def next(self) -> None:
        """Go to the next suggestion."""
        if not self._suggested or not self.going:
            return
        assert self.layer is not None
        number, found = self._next % len(self._suggested), self._suggested[self._next % len(self._suggested)]
        self._next += 1
        self.host.go_to(self.layer, (found.z, found.y, found.x))
        doubt = "" if found.doubt is None else f", doubt {found.doubt:.2f}"
        self.host.status.value = f"suggestion {number + 1} of {len(self._suggested)}{doubt}: paint its class"


def _touched(atoms: Any, planes: np.ndarray) -> Iterable[int]:
    """Slices changed by a napari paint event, whose items are (indices, ...) or have a `slice_key`."""
    for atom in atoms if isinstance(atoms, list) else ():
        key = getattr(atom, "slice_key", None) or atom[0]
        if len(key) < 3:
            yield 0
        elif isinstance(key[0], slice):
            yield from range(*key[0].indices(len(planes)))
        else:
            yield from np.unique(np.asarray(key[0])).tolist()
