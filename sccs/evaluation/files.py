"""The files that describe a finished run: their schemas, and how to read them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from registry.base import UserError
from sccs.recipe.schema import MappingName
from sccs.recipe.stored import Stored, parse_json, read_json
from sccs.system import bounds
from sccs.system.archive import is_export

AGAIN = "copy the run again, or repair it with `sccs run ... --resume`"
Rule = MappingName | Literal["named", "taught"]
Number = float | None  # null: undefined
Pixels = Annotated[int, Field(ge=0, lt=2**53)]
Table = list[list[Pixels]]
Clusters = Annotated[int, Field(ge=1, le=255)]


class Measures(Stored):
    """Scores of a class, or their mean."""

    dsc: Number
    iou: Number
    sensitivity: Number
    accuracy: Number


class Scores(Stored):
    """Scores by one mapping."""

    classes: dict[str, Measures]
    mean: Measures
    mean_without_rest: Measures


class Spread(Stored):
    """The spread of a class's DSC over slices."""

    mean: Number
    sd: Number
    n: int


class Agreement(Stored):
    """Agreement of neighbouring slices."""

    agreement: Number
    beyond_chance: Number


class AlongZ(Stored):
    """`sccs.evaluation.continuity.z_consistency`."""

    pairs: int
    clusters: Agreement
    labels: Agreement | None = None
    classes: dict[Rule, Agreement] = {}


class Graph(Stored):
    """An entry of graphs.json."""

    key: str
    nodes: Number = None
    edges: Number = None
    density: Annotated[float, Field(ge=0)] | None = None
    isolated: Number = None
    components: Number = None


class Metrics(Stored):
    """metrics.json; its keys are those of `sccs.evaluation.evaluate`."""

    k: Clusters
    clusters_used: dict[Literal["train", "test"], int]
    cluster_share: dict[Literal["train", "test"], list[float]] = {}
    headline: Rule | None = None
    test: dict[Rule, Scores] = {}
    train: dict[Rule, Scores] = {}
    mapping: dict[Rule, list[str | None]] = {}
    per_slice: dict[Rule, dict[str, Spread]] = {}
    consistency: dict[str, Number] = {}
    z_consistency: dict[Literal["train", "test"], AlongZ] = {}
    classes: list[str] = []
    rest: str | None = None
    agreement: Number = None
    notes: list[str] = []
    graphs: list[Graph] = []  # in old runs without graphs.json

    @model_validator(mode="after")
    def _agree(self) -> Metrics:
        if {"train", "test"} - self.clusters_used.keys():
            raise ValueError("clusters_used: does not have both train and test")
        for key, lists in (("mapping", self.mapping), ("cluster_share", self.cluster_share)):
            for name, values in lists.items():
                if len(values) != self.k:
                    raise ValueError(f"{key}.{name}: {len(values)} entries for k = {self.k} clusters")
        if self.headline is not None and self.headline not in self.mapping:
            raise ValueError(f"headline: no mapping {self.headline!r}")
        if self.rest is not None and self.rest not in self.classes:
            raise ValueError(f"rest: {self.rest!r} is not one of the classes")
        if (self.test or self.train) and not self.classes:
            raise ValueError("classes: empty, although there are scores")
        for part in ("test", "train"):
            for rule, scores in getattr(self, part).items():
                if scores.classes.keys() != set(self.classes):
                    raise ValueError(f"{part}.{rule}.classes: differ from `classes`")
        for rule, spread in self.per_slice.items():
            if spread.keys() != set(self.classes):
                raise ValueError(f"per_slice.{rule}: classes differ from `classes`")
        for part, along in self.z_consistency.items():
            scored = set(getattr(self, part)) - {"taught"}
            if along.classes and (along.labels is None or scored - along.classes.keys()):
                raise ValueError(f"z_consistency.{part}: lacks labels, or a scored mapping")
        return self


class Neighbours(Stored):
    """`sccs.evaluation.continuity.NeighbourTables.to_lists`."""

    pairs: Pixels
    clusters: Table
    labels: Table


class Tables(Stored):
    """tables.json: the arguments of `sccs.evaluation.evaluate.evaluate`."""

    model_config = ConfigDict(extra="forbid")

    train: dict[str, Table]
    test: dict[str, Table]
    class_names: list[str]
    k: Clusters
    rest: str | None = None
    mappings: list[MappingName]
    headline: Rule = "train"
    train_pixels: list[Pixels] | None = None
    test_pixels: list[Pixels] | None = None
    supervised: list[str] = []
    neighbours: dict[Literal["train", "test"], Neighbours] = {}
    agreement: Number = None

    @model_validator(mode="after")
    def _shapes(self) -> Tables:
        k, C = self.k, len(self.class_names)
        found = {
            f"{part}.{key}": (table, k, C) for part in ("train", "test") for key, table in getattr(self, part).items()
        }
        for part, each in self.neighbours.items():
            found[f"neighbours.{part}.clusters"] = (each.clusters, k, k)
            found[f"neighbours.{part}.labels"] = (each.labels, C, C)
        for key in ("train_pixels", "test_pixels"):
            if (pixels := getattr(self, key)) is not None:
                found[key] = ([pixels], 1, k)
        for name, (table, rows, columns) in found.items():
            if len(table) != rows or any(len(row) != columns for row in table):
                raise ValueError(f"{name}: not a table of {rows} x {columns} numbers")
        return self


class TaughtTables(Stored):
    """tables_taught.json: `sccs.evaluation.naming.write_taught`."""

    state: str
    classes: list[str]
    train: dict[str, Table]
    test: dict[str, Table]


class Timing(Stored):
    """timing.json: seconds."""

    features: Number = None
    graph: Number = None
    embed: Number = None
    cluster: Number = None
    total: Number = None
    pixels_per_fov: Number = None
    training_seconds: Number = None


class Environment(Stored):
    """environment.json."""

    device: str | None = None
    gpu: str | None = None
    packages: dict[str, str] = {}


def read_metrics(run: Path) -> dict[str, Any]:
    """The run's `metrics.json`. Raises UserError if it is missing (not a finished run), damaged, or of pre-training."""
    path = Path(run) / "metrics.json"
    if is_export(run):
        raise UserError(f"{run}: is an export, not a run; use the run that it came from, and export that again")
    if not Path(run).is_dir():
        raise UserError(f"{run}: no such run folder")
    if not path.exists():
        raise UserError(f"{run}: no metrics.json; is this a run folder, and did the run finish? (sccs run --resume)")
    text = bounds.read_text(path, bounds.JSON)
    if "clusters_used" not in parse_json(text, path, dict[str, Any], AGAIN):
        raise UserError(f"{run}: has no clusters and is probably a pre-training run; give a run that segmented images")
    return parse_json(text, path, Metrics, AGAIN).model_dump(exclude_unset=True)


def read_timing(run: Path) -> dict[str, Any]:
    """The run's timing.json without nulls, {} if it is missing. Raises UserError if it is invalid."""
    timing = read_file(run, "timing.json", Timing)
    return {} if timing is None else timing.model_dump(exclude_none=True)


def read_environment(run: Path) -> dict[str, Any]:
    """The run's environment.json, {} if it is missing. Raises UserError if it is invalid."""
    environment = read_file(run, "environment.json", Environment)
    return {} if environment is None else environment.model_dump(exclude_unset=True)


def read_graphs(run: Path) -> list[dict[str, Any]]:
    """The run's graphs.json, [] if it is missing. Raises UserError if it is invalid."""
    return [graph.model_dump() for graph in read_file(run, "graphs.json", list[Graph]) or []]


def read_file(run: Path, name: str, kind: Any) -> Any:
    """A JSON file of a run as a `kind`, None if it is missing. Raises UserError if it is invalid."""
    path = Path(run) / name
    return read_json(path, kind, AGAIN) if path.exists() else None
