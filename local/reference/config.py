"""docs/reference/config.md: every key of a model's config.toml, from the classes that validate it."""

import ast
import inspect
import json
from collections.abc import Iterator
from itertools import pairwise
from textwrap import dedent
from typing import Any, get_args, get_origin

from local.reference.markdown import table
from nightly.records.config import ModelConfig
from nightly.records.section import Section

HEAD = """# config.toml

`include/models/<name>/config.toml` describes a model: its data, its gates, its training and its release. It is
validated when it is read, and all its errors are reported at once. An unknown key is refused,
with the nearest valid one.
"""
FILLED_IN = {"name": "the folder's name"}  # by load_config
BOUNDS = {
    "minimum": "{} or more",
    "exclusiveMinimum": "above {}",
    "maximum": "{} or less",
    "exclusiveMaximum": "below {}",
}


def page() -> str:
    """Return the page's text."""
    return "\n".join([HEAD, *_section(ModelConfig, "", "Top level")])


def key_paths(section: type[Section] = ModelConfig, path: str = "") -> Iterator[str]:
    """Yield the path of every key, such as data.label.column."""
    for name, field in section.model_fields.items():
        yield path + name
        for inner, inner_path in _sections(field.annotation, path + name):
            yield from key_paths(inner, f"{inner_path}.")


def _section(section: type[Section], path: str, title: str) -> Iterator[str]:
    """Yield the section's lines, then those of its subsections."""
    texts, schema = docstrings(section), section.model_json_schema()
    rows, following = [], []
    for name, field in section.model_fields.items():
        inner = list(_sections(field.annotation, path + name))
        default = "required" if name in schema.get("required", ()) else _default(schema["properties"][name], inner)
        if not path:
            default = FILLED_IN.get(name, default)
        rows.append([f"`{name}`", _type(schema["properties"][name], inner), default, texts[name]])
        for subsection, inner_path in inner:
            fields = subsection.model_fields
            kind = f' with kind = "{fields["kind"].default}"' if "kind" in fields else ""
            following.append((subsection, f"{inner_path}.", f"[{inner_path}]{kind}"))
    yield f"## {title}\n"
    yield f"{inspect.getdoc(section)}\n"
    yield table(["key", "type", "default", "meaning"], rows) + "\n"
    for arguments in following:
        yield from _section(*arguments)


def _sections(annotation: Any, path: str) -> Iterator[tuple[type[Section], str]]:
    """Yield each section class in a key's annotation, with its path; NAME stands for a key that the user chooses."""
    if inspect.isclass(annotation) and issubclass(annotation, Section):
        yield annotation, path
    for inner in get_args(annotation):
        yield from _sections(inner, f"{path}.NAME" if get_origin(annotation) is dict else path)


def docstrings(section: type[Section]) -> dict[str, str]:
    """Return the docstring below each key of a class, inherited ones included."""
    inherited = docstrings(section.__base__) if issubclass(section.__base__, Section) else {}
    body = ast.parse(dedent(inspect.getsource(section))).body[0].body
    return inherited | {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def _type(schema: dict[str, Any], sections: list[Any]) -> str:
    """Return the type of a JSON schema in words, with its bounds."""
    if sections:
        return "sections by name" if schema.get("type") == "object" else "section"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(option, []) for option in schema["anyOf"] if option["type"] != "null"))
    if schema["type"] == "array":
        least = ", at least one" if schema.get("minItems") else ""
        items = schema["items"]
        return f"list of {items['type'] + 's' + _bounds(items) if 'enum' not in items else _type(items, [])}{least}"
    if schema["type"] == "object":
        names = schema.get("propertyNames", {"type": "string"})
        return f"table of {_type(names, [])} = {_type(schema['additionalProperties'], [])}"
    if schema.get("format") == "date":
        return "date"
    return {"integer": "integer", "number": "number", "string": "string", "boolean": "boolean"}[schema["type"]] + (
        _bounds(schema)
    )


def _bounds(schema: dict[str, Any]) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f", {schema['minimum']} to {schema['maximum']}"
    bounds = [text.format(schema[key]) for key, text in BOUNDS.items() if key in schema]
    if "maxLength" in schema:
        bounds.append(f"{schema['minLength']} to {schema['maxLength']} characters")
    elif "minLength" in schema:
        bounds.append("not empty")
    if "pattern" in schema:
        bounds.append(f"matches `{schema['pattern']}`")
    return "".join(f", {bound}" for bound in bounds)


def _default(schema: dict[str, Any], sections: list[Any]) -> str:
    value = schema["default"]
    if value is None:
        return "none"
    if sections and value:
        return "its keys' defaults"
    if isinstance(value, dict):
        return (
            "`{ " + ", ".join(f"{key} = {json.dumps(item)}" for key, item in value.items()) + " }`" if value else "`{}`"
        )
    return f"`{json.dumps(value)}`"
