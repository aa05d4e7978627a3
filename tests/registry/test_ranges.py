"""Numbers of parts: finite, and within a range, whatever the part and however deep in its arguments."""

import json
import math
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError

import registry
from registry.base import GraphBuilder
from registry.registry import signature_model

EVERY_PART = [(role, name) for role in registry.ROLES for name in registry.available(role)]
ODD = (math.nan, math.inf, -math.inf, 10**18, -(10**18))


def accepted(model: Any, key: str, value: object) -> bool:
    try:
        model.model_validate_json(json.dumps({key: value}), strict=True)
    except ValidationError as error:
        return all(detail["loc"][0] != key for detail in error.errors())
    return True


@pytest.mark.parametrize("role, name", EVERY_PART)
def test_no_argument_of_any_part_takes_an_odd_number(role, name):
    model = registry.schema(role, name)
    for key in model.model_fields:
        for number in ODD:
            for value in (number, [number], [[number]], {"a": number}):
                finite = math.isfinite(number)
                free = finite and key in ("of", "options")  # blocks of other parts, arguments of DGL's
                assert free or not accepted(model, key, value), (key, value)


class Knobs(GraphBuilder):
    def __init__(
        self,
        *,
        plain: float = 1.0,
        maybe: float | None = None,
        either: Literal["auto"] | float = "auto",
        listed: list[float] = [],
        pairs: tuple[float, ...] = (),
        named: dict[str, list[float]] = {},
        anything: Any = None,
        deep: dict[str, Any] = {},
        bare: list = [],
        open: Annotated[float, Field(allow_inf_nan=True)] = math.inf,
    ):
        pass


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "key, wrap",
    [
        ("plain", lambda x: x),
        ("maybe", lambda x: x),
        ("either", lambda x: x),
        ("listed", lambda x: [1.0, x]),
        ("pairs", lambda x: [x]),
        ("named", lambda x: {"a": [x]}),
        ("anything", lambda x: x),
        ("anything", lambda x: [{"a": [x]}]),
        ("deep", lambda x: {"a": {"b": x}}),
        ("bare", lambda x: [[x]]),
    ],
)
def test_what_is_not_finite_is_refused_at_any_depth(key, wrap, bad):
    model = signature_model(Knobs, "knobs")
    assert accepted(model, key, wrap(2.5))
    assert not accepted(model, key, wrap(bad))


def test_a_type_may_allow_what_is_not_finite():
    model = signature_model(Knobs, "knobs")
    assert math.isnan(model.model_validate({"open": math.nan}).open)
    assert accepted(model, "open", math.inf)
