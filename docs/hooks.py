"""What mkdocs.yml adds to the pages: the front page, generated lists, and the files elsewhere that pages link to.

A page is written for readers of the checkout: README.md is the front page, links lead to files. Here links to files out
of `docs` lead to copies below `source/`, and `<!-- generated: NAME -->` is replaced by what `GENERATED` makes.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import posixpath
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, InclusionLevel

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
MARK = re.compile(r"<!-- generated: (\w+) -->")
CODE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """The front page, and every file of the checkout that a page links to, and so on from there."""
    files.append(File.generated(config, "index.md", abs_src_path=str(ROOT / "README.md")))
    waiting = [file.src_uri for file in files.documentation_pages()]
    for page in waiting:  # grows
        for target in links(page):
            uri = uri_of(target)
            if uri.startswith("source/") and target.is_file() and files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(target), inclusion=InclusionLevel.NOT_IN_NAV))
                if uri.endswith(".md"):
                    waiting.append(uri)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links as the site has them, and what is generated."""
    return MARK.sub(lambda mark: GENERATED[mark[1]](), relinked(markdown, page.file.src_uri))


def path_of(uri: str) -> Path:
    """Where a page of the site lies in the checkout."""
    if uri == "index.md":
        return ROOT / "README.md"
    return ROOT / uri.removeprefix("source/") if uri.startswith("source/") else ROOT / "docs" / uri


def uri_of(path: Path) -> str:
    """The reverse of `path_of`."""
    name = Path(os.path.relpath(path, ROOT)).as_posix()
    if name == "README.md":
        return "index.md"
    return name.removeprefix("docs/") if name.startswith("docs/") else f"source/{name}"


def links(uri: str) -> Iterator[Path]:
    """The files and folders that a page links to."""
    path = path_of(uri)
    for part in CODE.split(path.read_text(encoding="utf-8"))[::2]:
        for link in LINK.finditer(part):
            if not re.match(r"[a-z]+:", link[2]):
                yield (path.parent / link[2]).resolve()


def relinked(markdown: str, uri: str) -> str:
    """The text of a page with its links as the site has them; a folder, which the site has not, is no link there."""

    def new(link: re.Match[str]) -> str:
        if re.match(r"[a-z]+:", link[2]):
            return link[0]
        target = (path_of(uri).parent / link[2]).resolve()
        to = posixpath.relpath(uri_of(target), posixpath.dirname(uri) or ".")
        return f"{link[1]}{to}{link[3]}"

    def part(text: str) -> str:
        text = re.sub(
            r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)\)",
            lambda link: link[1] if (path_of(uri).parent / link[2]).is_dir() else link[0],
            text,
        )
        return LINK.sub(new, text)

    return "".join(text if i % 2 else part(text) for i, text in enumerate(CODE.split(markdown)))


def command_line() -> str:
    """Every command with its help, from the parser itself."""
    from sccs.arguments import COMMANDS

    help_of = partial(argparse.HelpFormatter, width=110, max_help_position=32)
    sections = []
    for name, (purpose, add) in COMMANDS.items():
        parser = argparse.ArgumentParser(f"sccs {name}", formatter_class=help_of)
        add(parser)
        sections.append(f"## sccs {name}\n\n{_sentence(purpose)}\n\n```text\n{parser.format_help().rstrip()}\n```")
    return "\n\n".join(sections)


def recipe_keys() -> str:
    """Every key that a recipe may have, from the schemas that check it."""
    import registry
    from sccs.data import DATASETS
    from sccs.data.schema import DATA_MODELS, Region, VolumeEntry
    from sccs.recipe.schema import Evaluation, General, Train
    from sccs.training.pretrain_settings import Pretrain

    sections = ["## Top level", "`extends` names the recipe that this one changes.", keys(General)]
    for name, model in DATA_MODELS.items():
        sections += [f"## data: {name}", _sentence(DATASETS[name]), keys(model)]
        if name == "volumes":
            sections += ["An entry of `train` and `test`:", keys(VolumeEntry), "A `region`:", keys(Region)]
    for role in registry.ROLES:
        for name, purpose in registry.available(role).items():
            says = inspect.cleandoc(registry.get(role, name).__doc__ or "")
            says = re.sub(r"^ +", "", says, flags=re.MULTILINE)
            sections += [f"## {role}: {name}", _sentence(purpose), _plain(says), keys(registry.schema(role, name))]
    for name, model in {"train": Train, "evaluation": Evaluation, "pretrain": Pretrain}.items():
        sections += [f"## {name}", _plain(inspect.cleandoc(model.__doc__ or "")), keys(model)]
    return "\n\n".join(sections)


def keys(model: Any) -> str:
    """A table of the keys of a pydantic model: what each takes, its default, and the comment behind it."""
    schema = model.model_json_schema()
    if not schema.get("properties"):
        return "No keys."
    comments = dict(re.findall(r"^    (\w+): .*?  # (.*)$", _source(model), re.MULTILINE))
    required = schema.get("required", ())
    lines = ["| key | takes | default | what it does |", "|---|---|---|---|"]
    for key, value in schema["properties"].items():
        default = "required" if key in required else f"`{json.dumps(value.get('default'), ensure_ascii=False)}`"
        cells = [f"`{key}`", takes(value, schema.get("$defs", {})), default, comments.get(key, "")]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def takes(value: dict[str, Any], named: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in value:
        target = named[value["$ref"].rpartition("/")[2]]
        return "a block" if target.get("type") == "object" else takes(target, named)
    if options := value.get("anyOf") or value.get("oneOf"):
        return " or ".join(dict.fromkeys(takes(option, named) for option in options))
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "enum" in value:
        return ", ".join(f"`{each}`" for each in value["enum"])
    kind = value.get("type")
    if kind == "array":
        if isinstance(first := value.get("prefixItems"), list):
            return "[" + ", ".join(takes(each, named) for each in first) + "]"
        return f"a list of: {takes(value.get('items', {}), named)}"
    if kind == "object":
        inner = value.get("additionalProperties")
        return f"a block of: {takes(inner, named)}" if isinstance(inner, dict) else "a block"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true, false", "null": "null"}
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {value[bound]:g}" for bound, sign in bounds.items() if abs(value.get(bound, 1e5)) < 1e5]
    return " ".join([words.get(str(kind), "anything"), *([", ".join(limits)] if limits else [])])


def _source(model: Any) -> str:
    try:
        return inspect.getsource(model)
    except (OSError, TypeError):  # made from a signature
        return ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _plain(text: str) -> str:
    """A docstring as Markdown: formulas and indices are not markup, except in code."""
    parts = re.split(r"(`+[^`]*`+)", text)
    return "".join(part if i % 2 else re.sub(r"([*_|<])", r"\\\1", part) for i, part in enumerate(parts))


GENERATED: dict[str, Callable[[], str]] = {"command_line": command_line, "recipe_keys": recipe_keys}
