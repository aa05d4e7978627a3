"""Parts of known signatures, and a recipe of them."""

import textwrap
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from registry.base import Clusterer, Embedder, Features, GraphBuilder, UserError
from sccs.recipe import load_recipe


class ToyFeatures(Features):
    pass


class ToyFile(Features):
    def __init__(self, *, file: Path | None = None):
        self.file = file


class ToyGraph(GraphBuilder):
    def __init__(
        self,
        *,
        n_segments: Annotated[int, Field(ge=1)] = 100,
        compactness: float = 0.2,
        edges: Literal["all", "knn"] = "knn",
        kappa: float | Literal["median"] = 2.0,
        sizes: tuple[int, ...] = (1, 2),
        cells: dict[str, int] = {},
    ):
        self.n_segments, self.sizes = n_segments, sizes
        if compactness < 0:
            raise UserError(f"graph.compactness: {compactness} must not be negative")


class ToyEmbedder(Embedder):
    pass


class ToyClusterer(Clusterer):
    def __init__(self, *, k: int = 8):
        self.k = k


class OtherClusterer(Clusterer):
    def __init__(self, *, rounds: int):
        self.rounds = rounds


BASE = """\
data: phantom
features: toy
graph:
  name: toy
  n_segments: 50
embedder: toy
clusterer: {name: toy, k: 4}
"""


def write(text: str, name: str = "r.yaml") -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(textwrap.dedent(text))
    return name


def error_of(recipe, *overrides: str, **options) -> str:
    with pytest.raises(UserError) as error:
        load_recipe(recipe, overrides, **options)
    assert "\n" not in str(error.value)
    return str(error.value)
