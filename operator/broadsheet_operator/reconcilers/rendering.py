"""jinja2 templates and the texts beside them, to plain objects. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    import jinja2


def render(template: str, context: Mapping[str, Any]) -> dict[str, Any]:
    """An object from one of the templates."""
    text = _environment().get_template(f"{template}.yaml.j2").render(context)
    rendered: dict[str, Any] = yaml.safe_load(text)
    return rendered


@cache
def text_of(file: str) -> str:
    """A file beside the templates, as it is."""
    return resources.files("broadsheet_operator").joinpath("templates", file).read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    import jinja2  # `broadsheet up` renders nothing, and starts sooner without it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("broadsheet_operator", "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
    )
    # Plain JSON is valid YAML whatever a value holds; jinja2's own filter escapes for HTML.
    environment.filters["tojson"] = lambda value: json.dumps(value)
    environment.filters["combine"] = lambda first, second: {**first, **second}
    return environment
