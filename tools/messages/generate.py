"""Write the message classes of `broadsheet_broker.wire.messages` from the trimmed descriptions.

    python tools/messages/generate.py

One module per message, and the table `wire/api_table.py`. A test compares what is there with what this makes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DESCRIPTIONS = Path(__file__).parent / "descriptions"
WIRE = ROOT / "broker-image" / "broadsheet_broker" / "wire"
MESSAGES = WIRE / "messages"
LINE_LENGTH = 120

_PYTHON_TYPES = {
    "bool": "bool",
    "float64": "float",
    "string": "str",
    "bytes": "bytes",
    "records": "Buffers",
    "uuid": "UUID",
    **dict.fromkeys(("int8", "int16", "int32", "int64", "uint16", "uint32"), "int"),
}
_FUNCTIONS = {"bool": "boolean", "bytes": "octets"}


def snake(name: str) -> str:
    """`TopicId` -> `topic_id`, `ISRNodes` -> `isr_nodes`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def load_descriptions() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(DESCRIPTIONS.glob("*/*.json"))]


def _versions(text: str | None) -> str:
    return "" if text in (None, "none") else str(text)


def _structs(description: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The structs of a message, each after those it is made of."""
    common = {struct["name"]: struct["fields"] for struct in description.get("commonStructs", [])}
    result: dict[str, list[dict[str, Any]]] = {}

    def visit(fields: list[dict[str, Any]]) -> None:
        for field in fields:
            name = field["type"].removeprefix("[]")
            if name in _PYTHON_TYPES or name in result:
                continue
            inner = field.get("fields") or common[name]
            visit(inner)
            result[name] = inner

    visit(description["fields"])
    return result


def _field_line(field: dict[str, Any]) -> tuple[str, str]:
    """The line of a field, and the function of `wire.schema` that it uses."""
    type = field["type"].removeprefix("[]")
    is_array = field["type"].startswith("[]")
    primitive = type in _PYTHON_TYPES
    nullable = _versions(field.get("nullableVersions"))
    tagged = _versions(field.get("taggedVersions"))
    function = "array" if is_array else _FUNCTIONS.get(type, type) if primitive else "struct"
    arguments = []
    if is_array or not primitive:
        arguments.append(f'"{type}"' if primitive else type)
    arguments.append(f'"{field.get("versions", tagged)}"')
    default = _default(field, type, is_array)
    if default:
        arguments.append(default)
    if nullable:
        arguments.append(f'nullable="{nullable}"')
    if field.get("ignorable") in (True, "true"):
        arguments.append("ignorable=True")
    if tagged:
        arguments += [f"tag={field['tag']}", f'tagged="{tagged}"']
    if field.get("flexibleVersions") == "none":
        arguments.append("flexible=False")
    python = _PYTHON_TYPES.get(type, type)
    if is_array:
        python = f"list[{python}]"
    if nullable or type == "records":
        python += " | None"
    name = snake(field["name"])
    line = f"    {name}: {python} = {function}({', '.join(arguments)})"
    if len(line) > LINE_LENGTH:
        inner = f"        {', '.join(arguments)}"
        line = f"    {name}: {python} = {function}(\n{inner}\n    )"
    return line, function


def _default(field: dict[str, Any], type: str, is_array: bool) -> str:
    """The default as an argument; empty when it is the usual one of the type."""
    default = field.get("default")
    if default is None or default == "":
        return ""
    if default in ("null", "Null"):
        return "" if type == "records" else "None"
    if is_array:
        raise ValueError(f"{field['name']}: an array whose default is {default!r}")
    if type == "bool":
        return "True" if str(default).lower() == "true" else ""
    if type == "string":
        return json.dumps(default)
    if type == "float64":
        return "" if float(default) == 0 else repr(float(default))
    number = int(str(default), 0)
    return str(number) if number else ""


def message_module(description: dict[str, Any]) -> str:
    """The source of one message's module."""
    used: set[str] = set()
    classes = []
    structs = _structs(description)
    for name, fields in structs.items():
        classes.append(_class(f"class {name}(Struct):", None, fields, used))
    used.add("Message")
    if structs:
        used.add("Struct")
    classes.append(_class(_message_heading(description), _docstring(description), description["fields"], used))
    body = "\n\n\n".join(classes)
    if "Buffers" in body:
        used.add("Buffers")
    imports = ["from __future__ import annotations", ""]
    if "UUID" in body:
        imports += ["from uuid import UUID", ""]
    # Classes first, then functions, numbers in them by size: as ruff sorts imports.
    names = sorted(used, key=lambda name: (not name[0].isupper(), name.rstrip("0123456789"), len(name), name))
    line = f"from broadsheet_broker.wire.schema import {', '.join(names)}"
    if len(line) > LINE_LENGTH:
        line = "from broadsheet_broker.wire.schema import (\n    " + ",\n    ".join(names) + ",\n)"
    heading = f'"""{description["name"]}. Generated by tools/messages/generate.py; do not edit."""'
    return "\n".join([heading, "", *imports, line, "", "", body, ""])


def _message_heading(description: dict[str, Any]) -> str:
    facts = []
    if "apiKey" in description:
        facts.append(f"api_key={description['apiKey']}")
    facts.append(f'versions="{description["validVersions"]}"')
    flexible = description.get("flexibleVersions", "none")
    if flexible != "none":
        facts.append(f"flexible_from={flexible.removesuffix('+')}")
    return f"class {description['name']}(Message, {', '.join(facts)}):"


def _docstring(description: dict[str, Any]) -> str:
    kind = {
        "request": "The request of API key {}",
        "response": "The response of API key {}",
        "metadata": "Metadata record of type {}",
        "coordinator-key": "Key of a coordinator record of type {}",
        "coordinator-value": "Value of a coordinator record of type {}",
    }.get(description["type"], "A message of its own")
    return f'    """{kind.format(description.get("apiKey", ""))}, versions {description["validVersions"]}."""'


def _class(heading: str, docstring: str | None, fields: list[dict[str, Any]], used: set[str]) -> str:
    lines = [heading]
    if docstring:
        lines.append(docstring)
        if fields:
            lines.append("")
    for field in fields:
        line, function = _field_line(field)
        used.add(function)
        lines.append(line)
    if len(lines) == 1:
        lines.append('    """Without fields."""')
    return "\n".join(lines)


def api_table(descriptions: list[dict[str, Any]]) -> str:
    """The source of `wire/api_table.py`."""
    requests = sorted(
        (item["apiKey"], item["name"].removesuffix("Request"), item.get("flexibleVersions", "none"))
        for item in descriptions
        if item["type"] == "request"
    )
    rows = []
    for key, name, flexible in requests:
        first = 32767 if flexible == "none" else int(flexible.removesuffix("+"))
        rows.append(f'    {key}: ("{name}", "{snake(name)}", {first}),')
    return _API_TABLE.replace("ROWS", "\n".join(rows))


_API_TABLE = '''"""The API keys of Kafka. Generated by tools/messages/generate.py; do not edit."""

from __future__ import annotations

APIS: dict[int, tuple[str, str, int]] = {
ROWS
}
"""API key -> Kafka's name, name of the modules without `_request`, first flexible version (32767: none)."""
'''


def generated_files() -> dict[Path, str]:
    """Every generated file and its content."""
    descriptions = load_descriptions()
    files = {MESSAGES / f"{snake(item['name'])}.py": message_module(item) for item in descriptions}
    files[WIRE / "api_table.py"] = api_table(descriptions)
    return files


def main() -> None:
    files = generated_files()
    MESSAGES.mkdir(exist_ok=True)
    for stale in MESSAGES.glob("*.py"):
        if stale not in files and stale.name != "__init__.py":
            stale.unlink()
    for path, content in files.items():
        path.write_text(content)


if __name__ == "__main__":
    main()
