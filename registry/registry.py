"""From names to parts: lookup, plug-ins, and a part's recipe schema, derived from its signature.

A third party adds parts in one of two ways:

* an installed package declares an entry point ``role.name = module:Class`` in the group ``sccs.components``;
* a recipe lists under ``plugins:`` a module (or a ``.py`` file) which defines
  ``SCCS_COMPONENTS = {"role": {"name": "module:Class" or the class itself}}``, or which calls
  ``registry.register(role, name, cls)`` when it is imported.

A name that is already taken is rejected, never replaced. Names are compared without regard to case, ``-`` and ``_``.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import math
import re
import sys
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.base import Clusterer, Embedder, Features, GraphBuilder, UserError
from registry.requirements import faiss_install

GROUP = "sccs.components"
PROTOCOLS = {"features": Features, "graph": GraphBuilder, "embedder": Embedder, "clusterer": Clusterer}


def canonical(name: str) -> str:
    """The form in which names are compared: `Incremental-KMeans` and `incremental_kmeans` are the same part."""
    return name.lower().replace("-", "").replace("_", "")


def suggestion(value: object, allowed: typing.Iterable[object]) -> str:
    """``did you mean 'x'? `` for the allowed name closest to `value`, or nothing if none is close."""
    names = [str(name) for name in allowed]
    plain = {name.lower(): name for name in reversed(names)}
    near = difflib.get_close_matches(str(value).lower(), plain, n=1, cutoff=0.5)
    return f"did you mean {plain[near[0]]!r}? " if near else ""


@dataclass
class Entry:
    """One registered part: `target` is a class, or ``module:Class`` that is imported on first use."""

    name: str
    target: str | type
    description: str
    plugin: str | None = None  # its source; None for a built-in part

    @property
    def address(self) -> str:
        """``module:Class``."""
        return self.target if isinstance(self.target, str) else f"{self.target.__module__}:{self.target.__qualname__}"


class Registry:
    """The tables of all roles. Entry points are read at the first lookup, and classes are imported on demand."""

    def __init__(self, **tables: dict[str, tuple[str, str]]):
        self.roles = tuple(tables)
        self._entries: dict[str, dict[str, Entry]] = {
            role: {canonical(name): Entry(name, *row) for name, row in table.items()} for role, table in tables.items()
        }
        self._failed: dict[str, str] = {}  # plug-in -> why it could not be imported
        self._plugins: set[str] = set()
        self._added: dict[tuple[str, str], str] = {}  # what `added` returns
        self._scanned = False

    def register(
        self, role: str, name: str, target: str | type, description: str = "", plugin: str | None = None
    ) -> None:
        """Add a part. Registering the same part again is allowed; another one under a taken name raises UserError."""
        if role not in self._entries:
            raise UserError(f"unknown role {role!r} for part {name!r}; roles: {', '.join(self.roles)}")
        if isinstance(target, type):
            _check_protocol(target, role)
        new = Entry(name, target, description or _first_line(target), plugin or "registered from Python")
        old = self._entries[role].setdefault(canonical(name), new)
        if old.address != new.address:
            raise UserError(
                f"{role} {name!r} from {new.address} ({new.plugin}): the name is taken by {old.address}; choose another"
            )

    def is_loaded(self, module: str) -> bool:
        """Whether this process has imported that plug-in."""
        return module in self._plugins

    def load_plugin(self, module: str) -> None:
        """Import a plug-in, given as a module's name or as the path of a ``.py`` file, and register its parts.

        Raises UserError for whatever it does wrong, even if it tries to exit Python.
        """
        if module in self._plugins:
            return
        before, known = self._count(), module in sys.modules
        try:
            loaded = _import_file(Path(module)) if module.endswith(".py") else importlib.import_module(module)
        except (UserError, KeyboardInterrupt):
            raise
        except BaseException as error:  # whatever a third-party module raises is its own fault
            raise UserError(f"cannot import plug-in {module!r}: {_reason(error)}") from error
        for role, name, target in _components(loaded, module):
            try:
                self.register(role, name, target, plugin=f"plug-in {module}")
            except (UserError, TypeError) as error:
                raise UserError(f"plug-in {module!r}: SCCS_COMPONENTS: {error}") from None
        if self._count() == before and not known and not hasattr(loaded, "SCCS_COMPONENTS"):
            raise UserError(f"plug-in {module!r} adds no part; define SCCS_COMPONENTS or call registry.register")
        self._plugins.add(module)

    def available(self, role: str) -> dict[str, str]:
        """Names and one-line descriptions of a role's parts, built-in ones first; imports none of them."""
        return {entry.name: entry.description for entry in self._table(role).values()}

    def resolve(self, role: str, name: str) -> str:
        """The name under which `name` is registered. If unknown: UserError with a suggestion and the full list."""
        return self._find(role, name).name

    def get(self, role: str, name: str) -> type:
        """The class of a part, imported if necessary."""
        entry = self._find(role, name)
        who = f" ({entry.plugin})" if entry.plugin else ""
        if who:
            self._added[role, entry.name] = f"{role} {entry.name!r}{who}"
        if isinstance(entry.target, str):
            try:
                entry.target = _import_class(entry.target, role)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if entry.plugin is None and not isinstance(error, ModuleNotFoundError):
                    raise  # our own bugs keep their traceback
                hint = f"; {faiss_install()}" if getattr(error, "name", "") == "faiss" else ""
                raise UserError(f"{role} {entry.name!r}{who} cannot be imported: {_reason(error)}{hint}") from error
        return entry.target

    def added(self) -> list[str]:
        """Parts of plug-ins that this process has asked for, for a message: role, name and source of each."""
        return list(self._added.values())

    def schema(self, role: str, name: str) -> Any:
        """A pydantic model whose fields are the keyword arguments of the part's ``__init__``.

        Raises UserError if the arguments of a plug-in's part cannot be those of a recipe.
        """
        entry, cls = self._find(role, name), self.get(role, name)
        try:
            return signature_model(cls, entry.name)
        except Exception as error:
            if entry.plugin is None:
                raise
            raise UserError(f"{role} {entry.name!r} ({entry.plugin}): {error}; fix the plug-in") from error

    def _count(self) -> int:
        return sum(map(len, self._entries.values()))

    def _table(self, role: str) -> dict[str, Entry]:
        if not self._scanned:
            self._scanned = True
            for point in importlib.metadata.entry_points(group=GROUP):
                source = f"plug-in {point.dist.name} {point.dist.version}" if point.dist else f"plug-in {point.module}"
                entry_role, _, name = point.name.partition(".")
                if entry_role not in self._entries or not name:
                    self._failed[point.name] = f"{source}: an entry point is named role.name, roles: {self.roles}"
                else:
                    self.register(entry_role, name, point.value, description=source, plugin=source)
        return self._entries[role]

    def _find(self, role: str, name: str) -> Entry:
        table = self._table(role)
        if (entry := table.get(canonical(str(name)))) is not None:
            return entry
        names = self.available(role)
        message = f"unknown {role} {name!r}; {suggestion(name, names)}available: {', '.join(names)}"
        failed = {**self._failed, **self._broken_plugins()}
        if failed:
            message += "; plug-ins that failed to import: " + ", ".join(f"{k} ({v})" for k, v in failed.items())
        raise UserError(message)

    def _broken_plugins(self) -> dict[str, str]:
        """Entry points whose module cannot be imported, a possible reason for an unknown name."""
        broken = {}
        for role, table in self._entries.items():
            for entry in table.values():
                if entry.plugin and isinstance(entry.target, str):
                    try:
                        _import_class(entry.target, role)
                    except (Exception, SystemExit) as error:
                        broken[f"{role}.{entry.name}"] = f"{entry.plugin}: {_reason(error)}"
        return broken


def signature_model(cls: type, name: str) -> Any:
    """Pydantic model of ``cls.__init__``: extra keys forbidden, types strict, defaults as in the signature.

    NaN and infinities are rejected at any depth, unless a type says ``Annotated[float, Field(allow_inf_nan=True)]``.
    Raises TypeError if the class breaks the rule of keyword-only typed arguments (its author's mistake).
    """
    from pydantic import AfterValidator, ConfigDict, create_model  # not needed to list parts

    owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
    fields: dict[str, Any] = {}
    if owner is not object and not owner.__module__.startswith("torch."):  # otherwise the part takes no argument
        constructor = vars(owner)["__init__"]
        hints = typing.get_type_hints(constructor, include_extras=True)
        for parameter in list(inspect.signature(constructor).parameters.values())[1:]:
            if parameter.kind is not parameter.KEYWORD_ONLY or parameter.name not in hints:
                raise TypeError(
                    f"{cls.__module__}:{cls.__qualname__}: argument {parameter.name!r} "
                    "must be keyword-only and have a type"
                )
            default = ... if parameter.default is parameter.empty else parameter.default
            hint = hints[parameter.name]
            if _any_inside(hint):
                hint = typing.Annotated[hint, AfterValidator(_finite)]
            fields[parameter.name] = (hint, default)
    config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=(), arbitrary_types_allowed=True
    )
    return create_model(name, __config__=config, **fields)


def _any_inside(annotation: Any) -> bool:
    """Whether a type contains Any at any depth, so that pydantic does not check the numbers there."""
    return annotation in (Any, object, dict, list, tuple) or any(map(_any_inside, typing.get_args(annotation)))


def _finite(value: Any) -> Any:
    """Return `value`. Raises ValueError if it contains NaN or infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"got {value}; expected a finite number")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        _finite(item)
    return value


def _import_class(address: str, role: str) -> type:
    module, _, attribute = address.partition(":")
    cls = getattr(importlib.import_module(module), attribute)
    _check_protocol(cls, role)
    return cls


def _check_protocol(cls: object, role: str) -> None:
    if not (isinstance(cls, type) and issubclass(cls, PROTOCOLS[role])):
        raise TypeError(f"{cls!r} is not a subclass of registry.base.{PROTOCOLS[role].__name__}")


def _import_file(path: Path) -> Any:
    name = f"sccs_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # the module's classes must find it by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _components(module: Any, name: str) -> list[tuple[str, str, str | type]]:
    """(role, name, target) of each entry of a plug-in's ``SCCS_COMPONENTS``. Raises UserError if it is malformed."""
    table = getattr(module, "SCCS_COMPONENTS", {})
    form = "write {'role': {'name': 'module:Class' or the class itself}}"
    if not isinstance(table, dict):
        raise UserError(f"plug-in {name!r}: SCCS_COMPONENTS is {table!r:.60}; {form}")
    found = []
    for role, parts in table.items():
        if not isinstance(parts, dict):
            raise UserError(f"plug-in {name!r}: SCCS_COMPONENTS[{role!r}] is {parts!r:.60}; {form}")
        for part, target in parts.items():
            address = isinstance(target, type) or (isinstance(target, str) and re.fullmatch(r"[\w.]+:\w+", target))
            if not (isinstance(part, str) and part and address):
                raise UserError(f"plug-in {name!r}: SCCS_COMPONENTS[{role!r}] has {part!r}: {target!r:.60}; {form}")
            found.append((role, part, target))
    return found


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _first_line(target: str | type) -> str:
    text = "" if isinstance(target, str) else inspect.getdoc(target) or ""
    return text.partition("\n")[0]
