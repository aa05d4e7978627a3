"""A teacher learned from a few labels for a trained model: a head of the registry, and its classes.

The head works on the model's graphs and does not change the model. If the head is unsure of a node, the name of the
node's cluster decides, if it has one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

import registry
from registry.base import UserError
from registry.registry import suggestion
from registry.spg.graphs import RegionGraph
from sccs.data.schema import LONGEST_CLASS
from sccs.model.parts import MOST_CLUSTERS
from sccs.recipe.stored import Stored, read_json
from sccs.system.files import write_json
from sccs.system.tensors import read_arrays, write_arrays
from sccs.system.text import UNPRINTABLE

HEADS = ("label_spreading", "sparse_trees", "sparse_logistic")  # built in; the first is the default
START = 10  # labelled superpixels per class at which a name has half its weight
MEND = "undo the step with `sccs undo`, copy the run again, or remove the line `teacher:` from classes.yaml"
MISFITS = (KeyError, ValueError, TypeError, IndexError, AttributeError, AssertionError)


class Class(Stored):
    """A taught class. colour: None if not chosen."""

    name: Annotated[str, Field(min_length=1, max_length=LONGEST_CLASS)]
    colour: Annotated[str, Field(pattern="^#[0-9a-f]{6}$")] | None = None


class Content(Stored):
    """teacher.json. model: digest of the model's weights (`sccs.model.folder.digest`). labels: their sources, one line
    per command. codes: class names of codes in label images, in addition to those of the data set."""

    model: str
    head: str
    codes: dict[str, str] = {}
    arguments: dict[str, Any]
    classes: Annotated[list[Class], Field(min_length=1, max_length=MOST_CLUSTERS - 1)]
    labels: list[str] = []


@dataclass
class Teacher:
    """A head fitted to sparse labels (`registry.clusterer.sparse`), and its classes in order."""

    model: str
    name: str  # of the head
    head: Any
    classes: list[Class]
    labels: list[str]
    codes: dict[int, str] = field(default_factory=dict)  # of label images, in addition to the data set's

    @classmethod
    def new(
        cls, model: str, classes: Sequence[Class], head: str = HEADS[0], seed: int = 0, **arguments: Any
    ) -> Teacher:
        """A head that has not learned anything yet. Raises UserError if it cannot be fitted to sparse labels."""
        choice = f"{suggestion(head, HEADS)}choose one of {', '.join(HEADS)}, or a plug-in's head"
        try:
            name = registry.resolve("clusterer", head)
        except UserError as error:
            _, failed, plug_ins = str(error).partition("; plug-ins that failed")
            raise UserError(f"--head {head}: no such head; {choice}{failed}{plug_ins}") from None
        if not is_sparse(registry.get("clusterer", name)):
            raise UserError(f"--head {head}: cannot learn from a few labels; {choice}")
        return cls(model, name, _built(name, {**arguments, "k": len(classes)}, seed), list(classes), [])

    def judge(self, graph: RegionGraph, Z: torch.Tensor) -> np.ndarray:
        """P (n_s, C) float32 from the head alone, columns in the order of `classes`."""
        return self.head.predict(graph, Z).cpu().numpy()

    @property
    def digest(self) -> str:
        """Digest of the head's learned state."""
        found = hashlib.sha256()
        for name, value in sorted(self.head.get_state().items()):
            found.update(name.encode() + np.ascontiguousarray(value).tobytes())
        return found.hexdigest()[:16]

    def grown(self, classes: Sequence[Class], head: str | None = None) -> Teacher:
        """A copy with additional, yet untaught classes at the end; with another head, if given.

        It has all labels, and is fitted with the next ones (`partial_fit`).
        """
        other = head is not None and registry.resolve("clusterer", head) != self.name
        arguments = {} if other else {k: v for k, v in self.head.get_params().items() if k not in ("k", "seed")}
        grown = Teacher.new(
            self.model, classes, head if other and head else self.name, self.head.seed or 0, **arguments
        )
        grown.head.coordinates_ = self.head.coordinates_
        grown.head.points_, grown.head.classes_ = self.head.points_, self.head.classes_
        grown.labels += self.labels
        grown.codes |= self.codes
        return grown

    def write(self, stem: Path) -> None:
        """Write `stem`.json and `stem`.safetensors."""
        write_arrays(stem.with_suffix(".safetensors"), self.head.get_state())
        content = Content(
            model=self.model,
            head=self.name,
            arguments=self.head.get_params(),
            classes=self.classes,
            labels=self.labels,
            codes={str(code): name for code, name in self.codes.items()},
        )
        write_json(stem.with_suffix(".json"), content.model_dump())

    @classmethod
    def read(cls, stem: Path) -> Teacher:
        """Read a teacher. Raises UserError for missing or damaged files."""
        path, arrays_path = stem.with_suffix(".json"), stem.with_suffix(".safetensors")
        content = read_json(path, Content, MEND)
        if len({each.name.lower() for each in content.classes}) < len(content.classes):
            raise UserError(f"{path}: classes: two have the same name; {MEND}")
        if any(UNPRINTABLE.search(each.name) for each in content.classes):
            raise UserError(f"{path}: classes: a name that cannot be printed; {MEND}")
        try:
            if not is_sparse(registry.get("clusterer", content.head)):
                raise ValueError(f"head: {content.head!r} cannot learn from a few labels")
            arrays, _ = read_arrays(arrays_path)
            registry.schema("clusterer", content.head).model_validate(content.arguments)
            head = _built(content.head, content.arguments, content.arguments.get("seed") or 0)
            if head.k != len(content.classes):
                raise ValueError(f"{head.k} classes, but {len(content.classes)} names")
            head.set_state(arrays)
            if not len(head.points_) or any(np.isnan(each).any() for each in arrays.values() if each.dtype.kind == "f"):
                raise ValueError("no labels, or NaN")
        except FileNotFoundError:
            raise UserError(f"{arrays_path}: missing; {MEND}") from None
        except (UserError, *MISFITS) as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"{path}: damaged ({first}); {MEND}") from None
        codes = {int(code): name for code, name in content.codes.items() if code.isdecimal() and 0 < int(code) < 255}
        return cls(content.model, content.head, head, content.classes, content.labels, codes)


def is_sparse(kind: Any) -> bool:
    """Whether a clusterer's class is fitted to a few labels."""
    return kind.supervised and hasattr(kind, "partial_fit")


def _built(name: str, arguments: Mapping[str, Any], seed: int) -> Any:
    head: Any = registry.get("clusterer", name)(**arguments)
    if getattr(head, "seed", 0) is None:
        head.seed = seed
    return head


@dataclass(frozen=True)
class Taught:
    """The classes of a taught model: those of its teacher, then further names of clusters.

    names, colours: of the classes; a colour is None if not chosen. of_cluster: (k,) int64, the class of a
    cluster's name, -1 without name.
    """

    teacher: Teacher
    names: list[str]
    colours: list[str | None]
    of_cluster: np.ndarray

    @classmethod
    def of(cls, teacher: Teacher, clusters: Mapping[int, Mapping[str, str]], k: int) -> Taught:
        """clusters: the named ones, from `sccs.recipe.named.read_names`. Names match regardless of case."""
        names, colours = [each.name for each in teacher.classes], [each.colour for each in teacher.classes]
        position = {name.lower(): i for i, name in enumerate(names)}
        of_cluster = np.full(k, -1, np.int64)
        for cluster, entry in clusters.items():
            if cluster >= k:
                continue
            at = position.setdefault(entry["name"].lower(), len(names))
            if at == len(names):
                names.append(entry["name"])
                colours.append(None)
            colours[at] = colours[at] or entry["colour"]
            of_cluster[cluster] = at
        return cls(teacher, names, colours, of_cluster)

    @property
    def say_of_names(self) -> float:
        """The share of the head's uncertainty that goes to the cluster's name."""
        taught = self.teacher.head.classes_
        return START / (START + len(taught) / max(len(np.unique(taught)), 1))

    def blended(self, P: np.ndarray, assignment: np.ndarray) -> np.ndarray:
        """P (n_s, C) float32 over `names`, rows sum to one, from the head's P (n_s, teacher's classes).

        assignment (n_s,): the cluster of each node. The head's uncertainty, one minus its largest probability, is
        added to the class of the cluster's name: in full without labels, half of it at `START` labelled superpixels per
        class. So names decide if the head is unsure, and labels gradually outweigh them.
        """
        out = np.zeros((len(P), len(self.names)), np.float32)
        out[:, : P.shape[1]] = P
        classes = self.of_cluster[assignment]
        named = np.flatnonzero(classes >= 0)
        if len(named):
            out[named, classes[named]] += np.float32(self.say_of_names) * (1 - P[named].max(1))
            out /= out.sum(1, keepdims=True)
        return out


def doubt(P: np.ndarray) -> np.ndarray:
    """(n,) float32 from probabilities (n, C): one minus the lead of the first class over the second; 1: undecided."""
    if P.shape[1] < 2:
        return np.zeros(len(P), np.float32)
    two = np.partition(P, -2, axis=1)[:, -2:]
    return 1 - (two[:, 1] - two[:, 0])
