"""A checked recipe, and the parts that it chose."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import registry
from registry.base import UserError
from sccs.recipe.located import M, Node, check, plain, raise_first
from sccs.recipe.schema import Evaluation, Train

READ = ("image", "labels", "mask", "checkpoint", "teacher")  # keys of a recipe that name its input files


@dataclass
class Choice:
    """A part that the recipe names, with all of its arguments, including defaults and those of parts within it
    (`features.of`), so that a stored recipe does not change if a default does."""

    role: str
    name: str
    kwargs: dict[str, Any]
    written: Node = field(repr=False)

    def build(self) -> Any:
        """Build the part. Raises UserError, with the recipe's file and line, if the part rejects a value."""
        try:
            return registry.get(self.role, self.name)(**self.kwargs)
        except UserError as error:
            at = self.written
            for key in str(error).partition(":")[0].split(".")[1:]:  # role.key or role.key.key, as far as given
                at = at.child(key) or at
            raise UserError(f"{at.place}: {error}") from error

    def block(self) -> dict[str, Any]:
        """The part as a recipe would write it, with every option."""
        return {"name": self.name, **self.kwargs}


@dataclass
class Recipe:
    """A checked recipe. The four parts are None only in a recipe that has a `pretrain` block and names no part."""

    source: Path | None  # the file; None for a recipe given as a dict
    description: str
    seed: int
    device: str  # as written: auto, cpu, cuda or cuda:N
    plugins: list[str]
    data: dict[str, Any] | None  # with `name`, every key of its model, and absolute paths
    features: Choice | None
    graph: Choice | None
    embedder: Choice | None
    clusterer: Choice | None
    train: Train
    evaluation: Evaluation
    pretrain: dict[str, Any] | None  # not checked here: `validate("pretrain", Model)`
    written: Node = field(repr=False)  # what the user wrote, merged

    @property
    def name(self) -> str:
        """The file's stem."""
        return self.source.stem if self.source else "recipe"

    def where(self, *path: object) -> str:
        """``file:line`` of the value at `path`, or ``default`` if it was not written."""
        node = self.written
        for key in path:
            if (inner := node.child(key)) is None:
                return "default"
            node = inner
        return str(node.place)

    def validate(self, block: str, model: type[M]) -> M:
        """The block `block` checked against a pydantic model; raises UserError with file, line and dotted path."""
        node = self.written.child(block) or Node({}, self.written.place)
        instance, problems = check(model, node, (block,))
        raise_first(problems)
        assert instance is not None  # no mistakes
        return instance

    def resolved(self) -> dict[str, Any]:
        """The whole recipe as plain data, every default filled in; reading it again gives the same recipe."""
        blocks = {role: getattr(self, role).block() for role in registry.ROLES if getattr(self, role)}
        recipe = {
            "description": self.description,
            "seed": self.seed,
            "device": self.device,
            "plugins": self.plugins,
            "data": self.data,
            **blocks,
            "train": self.train.model_dump(),
            "evaluation": self.evaluation.model_dump(),
            "pretrain": self.pretrain,
        }
        return {key: plain(value) for key, value in recipe.items() if value is not None}

    def reads(self) -> dict[str, list[str]]:
        """Names of the recipe's inputs (images, labels, checkpoints) -> their paths, for `sccs.system.apart`."""
        found: dict[str, list[str]] = {}
        for key, text in _texts(self.resolved()):
            path = os.path.expanduser(os.path.expandvars(text))
            if key in READ and os.path.isabs(path):  # else a name, such as `bundled`
                found.setdefault(f"the recipe's `{key}`", []).append(path)
        return found


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, text) of every text in plain data, however deep."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, key)
    elif isinstance(value, str):
        yield key, value
