"""The figures of a run folder: its information on clusters, and every picture drawn from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.base import UserError
from sccs.evaluation.files import AGAIN, read_file
from sccs.evaluation.files import read_metrics as read_metrics_file
from sccs.model.teacher import Taught, Teacher, doubt
from sccs.recipe.named import State, cluster_names, read_state
from sccs.recipe.stored import About
from sccs.report.charts import cluster_use_chart, dsc_bars, loss_curves, read_metrics
from sccs.report.drawing import save_png
from sccs.report.panels import basis_panel, comparison_panel, overview_panel
from sccs.report.views import SliceView
from sccs.system.colours import class_colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class RunView:
    """A run folder's information on its clusters: all that figures and report need besides the slices.

    k: number of clusters. rule: the mapping to draw, or None; class_of_cluster: its class (or None) for each
    cluster. colours: class name -> hex. metrics: metrics.json, {} if the run is not scored yet.
    """

    k: int
    views: list[SliceView]
    rule: str | None
    class_of_cluster: list[str | None] | None
    colours: dict[str, str]
    metrics: dict[str, Any]
    cluster_labels: list[str]


def read_run(run: Path, taught: bool = True) -> RunView:
    """Read metrics.json, classes.yaml, model/model.json and figures/data of a run folder; with `taught`, its teacher.

    Figures show the user's names (classes.yaml) if there are any, else the headline mapping. Raises UserError if the
    folder is not a run.
    """
    run = Path(run)
    if not run.is_dir():
        raise UserError(f"{run}: no such run folder")
    metrics = read_metrics_file(run) if (run / "metrics.json").exists() else {}
    views = sorted((SliceView.load(path) for path in (run / "figures" / "data").glob("*.npz")), key=_order)
    if not metrics and not views:
        raise UserError(f"{run}: neither metrics.json nor figures/data; is this the folder of a finished run?")
    k = metrics.get("k") or 1 + max(int(view.clusters.max(initial=0)) for view in views)
    about = read_file(run, "model/model.json", About)
    codes = {int(code): name for code, name in about.classes.items()} if about else {}
    for view in views:
        if view.clusters.max(initial=0) >= k:
            raise UserError(f"{run}: figures/data/{view.key}.npz has clusters beyond the run's {k}; {AGAIN}")
        view.classes = view.classes or codes
    state = read_state(run)
    entries = state.clusters
    names = list(metrics.get("classes") or codes.values())
    rule, classes = metrics.get("headline"), metrics.get("mapping", {}).get(metrics.get("headline"))
    if entries:
        position = {name.lower(): name for name in names}
        given = {c: position.get(entry["name"].lower(), entry["name"]) for c, entry in entries.items()}
        rule, classes = "named", [given.get(c) for c in range(k)]
        names += [name for name in dict.fromkeys(given.values()) if name not in names]
    chosen = {entry["name"]: entry["colour"] for entry in entries.values()}
    if taught and state.teacher is not None and (known := _taught(run, state, k, views, names)):
        rule, classes = "taught", classes or [None] * k
        chosen |= {name: colour for name, colour in known.items() if colour is not None}
        names += [name for name in known if name not in names]
    colours = class_colours(names, {n: chosen[m] for n in names for m in chosen if m.lower() == n.lower()})
    labels = cluster_names(entries, k)
    return RunView(k, views, rule if classes else None, classes, colours, metrics, labels)


def _taught(run: Path, state: State, k: int, views: list[SliceView], names: list[str]) -> dict[str, str | None] | None:
    """Set the teacher's classes of the views that store its scores; returns the classes with their chosen colours, or
    None if there is no such view. names: of the data, whose spelling is kept."""
    teacher = Teacher.read(run / str(state.teacher))
    taught = Taught.of(teacher, state.clusters, k)
    position = {name.lower(): name for name in names}
    spelled = [position.get(name.lower(), name) for name in taught.names]
    found = False
    for view in views:
        if view.judged is None or view.teacher != teacher.digest or view.judged.shape[1] != len(teacher.classes):
            continue
        P = taught.blended(view.judged, view.clusters)
        view.taught, view.doubt, found = [spelled[c] for c in P.argmax(1)], doubt(P), True
    return dict(zip(spelled, taught.colours)) if found else None


def _order(view: SliceView) -> tuple[bool, str, int]:
    return view.split != "test", view.volume, view.z


def draw_all(run: Path, most: int = 4) -> list[Path]:
    """Draw the run's figures/*.png from its folder alone; at most `most` slices each, test slices first."""
    run = Path(run)
    seen = read_run(run)
    folder = run / "figures"
    figures: dict[str, Figure | None] = {}
    shown = [view for view in seen.views if view.split == "test"][:most] or seen.views[:most]
    for view in shown:
        figures[f"figure2_bases_{view.key}"] = basis_panel(view)
    if shown:
        figures["figure4_overview"] = overview_panel(shown, seen.k, seen.class_of_cluster, seen.colours)
        if seen.class_of_cluster is not None:
            figures["figure3_comparison"] = comparison_panel(
                shown, seen.class_of_cluster, seen.colours, seen.metrics.get("classes", []), seen.metrics.get("rest")
            )
    figures["training"] = loss_curves(read_metrics(run / "metrics.jsonl"))
    if seen.metrics.get("cluster_share"):
        figures["cluster_use"] = cluster_use_chart(seen.metrics["cluster_share"])
    if seen.metrics.get("test"):
        figures["dsc"] = dsc_bars(seen.metrics["test"], seen.colours, seen.metrics.get("headline"))
    for name in {"figure3_comparison", "dsc"} - figures.keys():  # of names that were taken back
        (folder / f"{name}.png").unlink(missing_ok=True)
    return [save_png(figure, folder / f"{name}.png") for name, figure in figures.items() if figure is not None]
