"""Names to parts: the tables, lookup and its errors, schemas from signatures, plug-ins."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from pydantic import ValidationError

import registry
from registry.base import Clusterer, Embedder, FeatureMap, Features, GraphBuilder, UserError
from registry.registry import PROTOCOLS, Registry, signature_model, suggestion

EVERY_PART = [(role, name) for role in registry.ROLES for name in registry.available(role)]
PLUGIN = Path(__file__).parent.parent / "plugin_package"


class Knobs(GraphBuilder):
    def __init__(
        self,
        *,
        n: int,
        scale: float = 1.0,
        edges: Literal["all", "knn"] = "knn",
        kappa: float | Literal["median"] = 2.0,
        sizes: tuple[int, ...] = (1, 2),
        loops: bool = True,
    ):
        self.n = n


class OtherKnobs(GraphBuilder):
    pass


@pytest.fixture
def parts():
    return Registry(features={}, graph={"knobs": (f"{__name__}:Knobs", "a graph")}, embedder={}, clusterer={})


@pytest.mark.parametrize("role, name", EVERY_PART)
def test_every_listed_part_is_there_and_has_a_schema_and_a_description(role, name):
    cls = registry.get(role, name)
    assert issubclass(cls, PROTOCOLS[role])
    assert registry.schema(role, name).model_config["extra"] == "forbid"
    assert registry.available(role)[name]


def test_roles_are_the_four_of_the_design():
    assert registry.ROLES == ("features", "graph", "embedder", "clusterer")
    assert [PROTOCOLS[role] for role in registry.ROLES] == [Features, GraphBuilder, Embedder, Clusterer]


@pytest.mark.parametrize("spelling", ["incremental_kmeans", "Incremental-KMeans", "INCREMENTALKMEANS"])
def test_case_and_separators_do_not_matter(spelling):
    assert registry.resolve("clusterer", spelling) == "incremental_kmeans"


def test_unknown_name_gets_a_suggestion_and_the_full_list():
    with pytest.raises(UserError) as error:
        registry.get("graph", "superpixels")
    assert str(error.value).startswith("unknown graph 'superpixels'; did you mean 'superpixel'? available: superpixel,")
    for name in registry.available("graph"):
        assert name in str(error.value)


def test_a_suggestion_does_not_mind_case():
    assert suggestion("K", ["seed", "k", "n_init"]) == "did you mean 'k'? "
    assert suggestion("KAPPA", ["alpha", "kappa"]) == "did you mean 'kappa'? "


def test_unknown_name_without_a_near_one_gets_no_suggestion():
    with pytest.raises(UserError, match=r"^unknown graph 'zzz'; available: superpixel"):
        registry.get("graph", "zzz")


def test_intensity_is_the_grey_value():
    image = np.arange(6, dtype=np.float32).reshape(2, 3)
    features = registry.get("features", "intensity")().extract(image)
    assert isinstance(features, FeatureMap) and (features.step, features.offset, features.shape) == (1, 0, (2, 3))
    np.testing.assert_array_equal(features.values[..., 0], image)


# ---- schema


@pytest.mark.parametrize(
    "block",
    [
        {"n": 3},
        {"n": 3, "scale": 3},
        {"n": 3, "kappa": "median"},
        {"n": 3, "sizes": [1, 2, 3]},
        {"n": 3, "loops": False},
    ],
)
def test_schema_accepts_what_the_signature_allows(block):
    model = signature_model(Knobs, "knobs").model_validate_json(json.dumps(block))
    assert {key: getattr(model, key) for key in block} == {k: tuple(v) if k == "sizes" else v for k, v in block.items()}


@pytest.mark.parametrize(
    "block",
    [
        {},
        {"n": "3"},
        {"n": True},
        {"n": 3.5},
        {"n": 3, "scale": "1"},
        {"n": 3, "scale": True},
        {"n": 3, "edges": "some"},
        {"n": 3, "kappa": "mean"},
        {"n": 3, "sizes": ["a"]},
        {"n": 3, "loops": 1},
        {"n": 3, "m": 1},
        {"n": None},
    ],
)
def test_schema_refuses_other_types_values_and_keys(block):
    with pytest.raises(ValidationError):
        signature_model(Knobs, "knobs").model_validate_json(json.dumps(block))


def test_a_part_without_arguments_has_an_empty_schema():
    assert signature_model(OtherKnobs, "other").model_fields == {}


def test_positional_or_untyped_arguments_are_the_authors_mistake():
    class Positional(GraphBuilder):
        def __init__(self, n: int):
            pass

    class Untyped(GraphBuilder):
        def __init__(self, *, n):
            pass

    for cls in (Positional, Untyped):
        with pytest.raises(TypeError, match="'n' must be keyword-only and have a type"):
            signature_model(cls, "part")


# ---- registration


def test_taken_names_are_refused_and_the_same_part_may_come_twice(parts):
    parts.register("graph", "other", OtherKnobs, "other")
    parts.register("graph", "other", OtherKnobs)
    assert parts.available("graph")["other"] == "other"
    with pytest.raises(UserError, match=f"graph 'K-nobs' .*the name is taken by {__name__}:Knobs"):
        parts.register("graph", "K-nobs", OtherKnobs)


def test_unknown_role_and_wrong_protocol_are_refused(parts):
    with pytest.raises(UserError, match="unknown role 'grpah' .*roles: features, graph, embedder, clusterer"):
        parts.register("grpah", "x", Knobs)
    with pytest.raises(TypeError, match="is not a subclass of registry.base.Clusterer"):
        parts.register("clusterer", "x", Knobs)


# ---- plug-ins


def test_plugin_file_with_a_table(parts, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from registry.base import Embedder\n"
        "class Mine(Embedder):\n    'My embedding.'\n"
        "    def __init__(self, *, u: int = 3):\n        self.u = u\n"
        "SCCS_COMPONENTS = {'embedder': {'mine': Mine}}\n"
    )
    parts.load_plugin(str(file))
    parts.load_plugin(str(file))
    assert parts.available("embedder") == {"mine": "My embedding."}
    assert parts.schema("embedder", "mine").model_fields["u"].default == 3


def test_plugin_module_that_registers_by_itself(tmp_path, monkeypatch):
    parts = Registry(features={}, graph={}, embedder={}, clusterer={})
    monkeypatch.setattr(registry, "register", parts.register)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "registers_itself.py").write_text(
        "import registry\nfrom registry.base import Embedder\nclass Mine(Embedder):\n    pass\n"
        "registry.register('embedder', 'mine', Mine)\n"
    )
    parts.load_plugin("registers_itself")
    assert parts.get("embedder", "mine").__name__ == "Mine"


@pytest.mark.parametrize(
    "text, reason",
    [
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError"),
        ("x = 1", "adds no part; define SCCS_COMPONENTS or call registry.register"),
    ],
)
def test_plugin_that_does_not_work_says_why(parts, tmp_path, text, reason):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(UserError, match=f"plug-in .*bad.py'.*{reason}"):
        parts.load_plugin(str(tmp_path / "bad.py"))


@pytest.mark.parametrize(
    "text, reason",
    [
        ("import sys\nsys.exit(0)", "SystemExit: 0"),
        ("raise SystemExit", "SystemExit"),
        ("class Stop(BaseException): pass\nraise Stop('now')", "Stop: now"),
        ("SCCS_COMPONENTS = None", "SCCS_COMPONENTS is None; write {'role'"),
        ("SCCS_COMPONENTS = ['features']", r"SCCS_COMPONENTS is \['features'\]; write"),
        ("SCCS_COMPONENTS = {'features': 'a:B'}", r"SCCS_COMPONENTS\['features'\] is 'a:B'; write"),
        ("SCCS_COMPONENTS = {'features': {'x': 3}}", r"SCCS_COMPONENTS\['features'\] has 'x': 3; write"),
        ("SCCS_COMPONENTS = {'features': {'x': 'no_colon'}}", "has 'x': 'no_colon'; write"),
        ("SCCS_COMPONENTS = {'features': {3: int}}", r"has 3: <class 'int'>; write"),
        ("SCCS_COMPONENTS = {'features': {'x': int}}", "is not a subclass of registry.base.Features"),
        ("SCCS_COMPONENTS = {'feature': {'x': int}}", "unknown role 'feature'"),
    ],
)
def test_plugin_of_another_form_is_told_so_in_one_line(parts, tmp_path, text, reason):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(UserError, match=f"plug-in .*bad.py'.*{reason}") as told:
        parts.load_plugin(str(tmp_path / "bad.py"))
    assert "\n" not in str(told.value) and not parts.is_loaded(str(tmp_path / "bad.py"))


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ("self, n: int = 3", "argument 'n' must be keyword-only and have a type"),
        ("self, *, n=3", "argument 'n' must be keyword-only and have a type"),
        ("self, **options", "argument 'options' must be keyword-only and have a type"),
        ("self, *, n: 'Nowhere' = 3", "name 'Nowhere' is not defined"),
    ],
)
def test_a_plugins_part_with_other_arguments_is_told_so(parts, tmp_path, arguments, reason):
    path = tmp_path / "odd.py"
    path.write_text(
        f"from registry.base import Embedder\nclass Odd(Embedder):\n    def __init__({arguments}):\n        pass\n"
        "SCCS_COMPONENTS = {'embedder': {'odd': Odd}}\n"
    )
    parts.load_plugin(str(path))
    with pytest.raises(UserError, match=f"embedder 'odd' .plug-in .*odd.py.: .*{reason}"):
        parts.schema("embedder", "odd")


def test_a_part_whose_module_ends_python_is_told_so(parts, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ends_python.py").write_text("raise SystemExit(0)")
    parts.register("graph", "ending", "ends_python:Graph")
    with pytest.raises(UserError, match="graph 'ending' .* cannot be imported: SystemExit: 0"):
        parts.get("graph", "ending")
    with pytest.raises(UserError, match="plug-ins that failed to import: graph.ending"):
        parts.get("graph", "nothing_near")


def test_missing_plugin_module(parts):

    with pytest.raises(UserError, match="cannot import plug-in 'no_such_module': ModuleNotFoundError"):
        parts.load_plugin("no_such_module")


@pytest.fixture(scope="module")
def installed_plugin(tmp_path_factory):
    """The plug-in package, installed by pip as a user would, in a folder of its own."""
    source, target = tmp_path_factory.mktemp("source") / "p", tmp_path_factory.mktemp("target")
    source.mkdir()
    for file in PLUGIN.iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--target",
            str(target),
            str(source),
        ],
        check=True,
        capture_output=True,
    )
    return target


def in_python(code: str, target: Path) -> subprocess.CompletedProcess:
    root = Path(registry.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), str(root)])}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


def test_installed_package_adds_a_part_by_entry_point(installed_plugin):
    done = in_python(
        "import registry, sys\n"
        "print(registry.available('features')['blur'], 'sccs_blur' in sys.modules)\n"
        "print(registry.get('features', 'Blur')(widths=[3.0]).widths)",
        installed_plugin,
    )
    assert done.stdout.split("\n")[:2] == ["plug-in sccs-blur 1.0 False", "[3.0]"], done.stderr


def test_unknown_name_tells_which_installed_plugin_failed_to_import(installed_plugin):
    done = in_python("import registry\nregistry.get('graph', 'nothing_near')", installed_plugin)
    assert (
        "plug-ins that failed to import: graph.broken (plug-in sccs-blur 1.0: "
        "ModuleNotFoundError: No module named 'sccs_blur_missing')"
    ) in done.stderr


def test_broken_plugin_asked_for_by_name(installed_plugin):
    done = in_python("import registry\nregistry.get('graph', 'broken')", installed_plugin)
    assert (
        "UserError: graph 'broken' (plug-in sccs-blur 1.0) cannot be imported: "
        "ModuleNotFoundError: No module named 'sccs_blur_missing'"
    ) in done.stderr
