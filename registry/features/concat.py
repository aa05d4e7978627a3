"""Several features parts side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import numpy as np
from torch import Tensor

import registry
from registry.base import FeatureMap, Features, FeatureStack, TensorMap, UserError
from registry.ranges import Seed


class Concat(Features):
    """image (H, W) -> FeatureStack, the maps of the parts in `of`, each on its own grid.

    of: two or more blocks, as under `features` of a recipe: ``[{name: mae}, {name: filters}]``; plain names also work.
    Parts that are fitted to labels are rejected.

    Graphs concatenate the node features of the maps; if they pool over regions, `standardize: set` gives each map the
    same total variance, so that many channels do not outweigh few.
    """

    parts: tuple[Features, ...] = ()
    holds_parts = "of"

    def __init__(self, *, of: list[Any] = ["mae", "filters"], seed: Seed | None = None):
        self.of = of
        if len(of) < 2:
            raise UserError(f"features.of: concat needs two or more parts, such as [mae, filters], not {len(of)}")
        self.parts = tuple(_built(block, f"features.of[{i}]") for i, block in enumerate(of))
        self._seed, self._device = seed, "cpu"
        self.seed = seed

    @property
    def seed(self) -> int | None:
        """The run's seed, for every part without its own."""
        return self._seed

    @seed.setter
    def seed(self, value: int | None) -> None:
        self._seed = value
        for part in self.parts:
            if hasattr(part, "seed") and part.seed is None:
                part.seed = value

    @property
    def device(self) -> str:
        """The parts' device."""
        return self._device

    @device.setter
    def device(self, value: str) -> None:
        self._device = value
        for part in self.parts:
            if hasattr(part, "device"):
                part.device = value

    @property
    def window(self) -> int:
        """Shortest side of an image that all parts accept, px."""
        return max(getattr(part, "window", 1) for part in self.parts)

    def fit(self, images: Iterable[np.ndarray]) -> None:
        for part in self.parts:
            part.fit(images)

    def extract(self, image: np.ndarray) -> FeatureStack:
        maps = tuple(part.extract(image) for part in self.parts)  # a nested concat gives a stack; pooling takes either
        return FeatureStack(cast("tuple[FeatureMap, ...]", maps))

    def extract_batch(self, images: Tensor) -> list[TensorMap]:
        return [each for part in self.parts for each in part.extract_batch(images)]

    def on_cpu(self) -> list[str]:
        return [name for part in self.parts for name in part.on_cpu()]

    @contextmanager
    def sharing(self) -> Iterator[None]:
        with ExitStack() as entered:
            for part in self.parts:
                entered.enter_context(part.sharing())
            yield

    def fingerprint(self) -> str:
        return "+".join(part.fingerprint() for part in self.parts)

    def get_state(self) -> dict[str, np.ndarray]:
        return {f"{i}.{name}": value for i, part in enumerate(self.parts) for name, value in part.get_state().items()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        for i, part in enumerate(self.parts):
            part.set_state(
                {name.removeprefix(f"{i}."): value for name, value in state.items() if name.startswith(f"{i}.")}
            )


def _built(block: Any, place: str) -> Features:
    """The part that a block of a recipe names. Raises UserError, with its `place`, if it is not one."""
    from pydantic import ValidationError

    block = {"name": block} if isinstance(block, str) else block
    if not isinstance(block, dict) or not isinstance(block.get("name"), str):
        raise UserError(
            f"{place}: {block!r} is not a part; write a name or a block with `name`, such as {{name: filters}}"
        )
    options = {key: value for key, value in block.items() if key != "name"}
    try:
        arguments = registry.schema("features", block["name"])(**options)
        part = registry.get("features", block["name"])(**{key: getattr(arguments, key) for key in options})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(step) for step in first["loc"])
        known = ", ".join(registry.schema("features", block["name"]).model_fields) or "no option"
        raise UserError(f"{place}.{key}: {first['msg']}; {block['name']} takes {known}") from None
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    if part.supervised:
        raise UserError(f"{place}: {block['name']} needs labels, which concat does not pass on; use it alone")
    return part
