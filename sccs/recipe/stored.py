"""Read files that SCCS wrote, within bounds and checked against a schema; errors give file and key.

The files may have been edited, truncated, or crafted to do harm.
"""

from __future__ import annotations

import functools
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from registry.base import UserError
from sccs.recipe.located import FLOAT, INTEGER, Node, Place, check, from_python, lines_of, parse_yaml, raise_first
from sccs.system import bounds

T = TypeVar("T")
Length = Annotated[float, Field(gt=0)]


class Stored(BaseModel):
    """The content of a file; unknown keys are accepted."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Resolved(Stored):
    """The keys of resolved.yaml that are read."""

    description: str = ""
    seed: int = 0
    data: str | dict[str, Any] | None = None
    train: dict[str, Any] = {}


class Export(Stored):
    """What `sccs export` adds to model.json."""

    licence: str | None = None
    authors: list[str] = []
    trained_on: dict[str, int] = {}


class Complete(Stored):
    """The keys of a model's recipe that are read before it is checked as a recipe."""

    plugins: list[str] = []
    extends: None = None


class About(Stored):
    """model.json."""

    format: Literal[1]
    recipe: Complete
    fov: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["full"] = 560
    data: str = ""
    voxel_size: Annotated[list[Length], Field(min_length=3, max_length=3)] | None = None
    k: Annotated[int, Field(ge=1, le=255)] | None = None
    classes: dict[str, str] = {}
    ignore: int | None = None
    masked: bool = False
    agreement: float | None = None
    export: Export = Export()

    @field_validator("classes")
    @classmethod
    def _codes(cls, classes: dict[str, str]) -> dict[str, str]:
        for code in classes:
            if not (code.isdecimal() and len(code) < 4 and int(code) < 255):
                raise ValueError(f"classes: {code!r} is not a code from 0 to 254")
        return classes


def read_json(path: str | os.PathLike[str], kind: type[T], mend: str) -> T:
    """The content of a JSON file as a `kind`. Raises UserError; mend: what to do about a damaged file."""
    try:
        text = bounds.read_text(path, bounds.JSON)
    except UserError as error:
        raise UserError(f"{error}; {mend}") from None
    return parse_json(text, path, kind, mend)


def parse_json(text: str, where: object, kind: type[T], mend: str) -> T:
    """The same for text read from `where`."""
    try:
        return _adapter(kind).validate_json(text, strict=True)  # type: ignore[arg-type]  # types can be hashed
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            reason = first["ctx"]["error"]
            raise UserError(f"{where}: not readable as JSON ({reason}); {mend}") from None
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as reason:  # accepted by pydantic's reader
            raise UserError(f"{where}: not readable as JSON ({reason}); {mend}") from None
        problems = lines_of(error, kind, from_python(content, Place(str(where), None, Path())), ())
    raise UserError(f"{problems[0]}; {mend}")


@functools.cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)


def read_resolved(run: Path) -> tuple[dict[str, Any], str]:
    """The recipe in a run's resolved.yaml, and its text. Raises UserError if it is missing or damaged."""
    path = run / "resolved.yaml"
    if not path.exists():
        raise UserError(f"{run}: no resolved.yaml; is this a run folder, and did the run finish?")
    text = bounds.read_text(path, bounds.YAML)
    root = yaml_of_ours(text, path)
    if not isinstance(root.value, dict):
        raise UserError(f"{path}: does not contain a recipe")
    raise_first(check(Resolved, root, ())[1])
    return root.plain(), text


def yaml_of_ours(text: str, path: Path) -> Node:
    """A file's YAML, read like a recipe, in which `yaml.safe_dump` output has the same meaning."""
    return parse_yaml(text, lambda line: Place(str(path), line, path.parent))


class _Dumper(yaml.SafeDumper):
    """Quotes every text that `sccs.recipe.located.scalar` would read as a number, such as 1e3 and 08."""


for kind, form in (("int", INTEGER), ("float", FLOAT)):
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"^(?:{form})$"), list("-+.0123456789"))


def to_yaml(value: Any) -> str:
    """YAML that reads back unchanged, with keys in order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
