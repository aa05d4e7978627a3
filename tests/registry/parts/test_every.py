"""What every registered part must keep to, whoever wrote it: one test for each promise, run over all parts.

A new part is tested as soon as it is registered (conftest.py tells how it is built). The other files here have the
promises of each role.
"""

import inspect
import re

import pytest
from sklearn.base import clone

import registry
from registry.base import UserError

PARTS = [(role, name) for role in registry.ROLES for name in registry.available(role)]
every_part = pytest.mark.parametrize("role, name", PARTS)


@every_part
def test_arguments_are_keyword_only_and_have_defaults(role, name):
    cls = registry.get(role, name)
    fields = registry.schema(role, name).model_fields  # raises for arguments that are positional or have no type
    assert [key for key, field in fields.items() if field.is_required()] == []
    with pytest.raises(TypeError):
        cls(1)


@every_part
def test_defaults_pass_their_own_schema(role, name):
    model = registry.schema(role, name)
    model.model_validate({key: field.default for key, field in model.model_fields.items()})


@every_part
def test_arguments_are_stored_as_they_are(role, name, arguments):
    given = arguments(role, name)
    part = registry.get(role, name)(**given)
    for key, field in registry.schema(role, name).model_fields.items():
        assert getattr(part, key) == given.get(key, field.default), key


@every_part
def test_arguments_are_read_set_and_cloned_as_scikit_learn_does(role, name, arguments):
    part = registry.get(role, name)(**arguments(role, name))
    held = part.get_params()
    assert held.keys() == registry.schema(role, name).model_fields.keys()
    assert clone(part).get_params() == held
    assert part.set_params(**held) is part and part.get_params() == held
    with pytest.raises(UserError, match="has no argument 'nonsense'"):
        part.set_params(nonsense=1)


@every_part
def test_docstring_tells_every_argument(role, name):
    cls = registry.get(role, name)
    text = " ".join(base.__doc__ or "" for base in cls.__mro__ if not base.__module__.startswith("torch"))
    assert cls.__doc__
    # `seed` means the same everywhere: the run's, unless the recipe says another
    keys = registry.schema(role, name).model_fields.keys() - {"seed"}
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}\b", text)] == []


@every_part
def test_described_in_one_line_and_documented_module(role, name):
    line = registry.available(role)[name]
    assert line and "\n" not in line
    assert inspect.getmodule(registry.get(role, name)).__doc__
