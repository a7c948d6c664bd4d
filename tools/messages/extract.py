"""Read Apache Kafka's message descriptions out of its jars and keep the facts.

    python tools/messages/extract.py [--repository ~/.m2/repository]

The jars come from Maven Central, for example with
`mvn dependency:get -Dartifact=org.apache.kafka:kafka-clients:4.3.0 -Dtransitive=false` for each artifact below. What is
kept is what an implementation must agree on: names, types, versions, tags, defaults, nullability. Prose is dropped.
The result, one file per message under `descriptions/`, is what `generate.py` makes the message classes from.
"""

from __future__ import annotations

import argparse
import json
import re
import zipfile
from pathlib import Path
from typing import Any

KAFKA_VERSION = "4.3.0"
ARTIFACTS = ("kafka-clients", "kafka-metadata", "kafka-group-coordinator", "kafka-transaction-coordinator")
DESCRIPTIONS = Path(__file__).parent / "descriptions"

_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*')
_MESSAGE_FACTS = ("apiKey", "type", "name", "validVersions", "flexibleVersions", "latestVersionUnstable")
_FIELD_FACTS = (
    "name",
    "type",
    "versions",
    "nullableVersions",
    "taggedVersions",
    "tag",
    "flexibleVersions",
    "default",
    "ignorable",
)


def without_comments(text: str) -> str:
    """Kafka's descriptions are JSON with line comments."""
    return _COMMENT.sub(lambda match: match[0] if match[0].startswith('"') else "", text)


def trim_fields(fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
    result = []
    for field in fields:
        facts = {key: field[key] for key in _FIELD_FACTS if key in field}
        if "fields" in field:
            facts["fields"] = trim_fields(field["fields"])
        result.append(facts)
    return result


def trim(description: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {key: description[key] for key in _MESSAGE_FACTS if key in description}
    facts["fields"] = trim_fields(description["fields"])
    if description.get("commonStructs"):
        facts["commonStructs"] = [
            {"name": struct["name"], "fields": trim_fields(struct["fields"])} for struct in description["commonStructs"]
        ]
    return facts


def to_text(value: Any, indent: str = "") -> str:
    """JSON with one field per line: short to keep, easy to read, and a change of one fact is a change of one line."""
    inner = indent + "  "
    lines = []
    for key, item in value.items():
        if isinstance(item, list):
            rows = [_row(row, inner + "  ") for row in item]
            text = "[\n" + ",\n".join(rows) + "\n" + inner + "]" if rows else "[]"
        else:
            text = json.dumps(item)
        lines.append(f'{inner}"{key}": {text}')
    return "{\n" + ",\n".join(lines) + "\n" + indent + "}"


def _row(row: dict[str, Any], indent: str) -> str:
    plain = {key: item for key, item in row.items() if key != "fields"}
    text = json.dumps(plain)
    if row.get("fields"):
        inner = ",\n".join(_row(field, indent + "  ") for field in row["fields"])
        text = f'{text[:-1]}, "fields": [\n{inner}\n{indent}]}}'
    elif "fields" in row:
        text = text[:-1] + ', "fields": []}'
    return indent + text


def extract(jar: Path) -> dict[str, dict[str, Any]]:
    """The trimmed descriptions of one jar, by message name."""
    messages = {}
    with zipfile.ZipFile(jar) as archive:
        for name in archive.namelist():
            if name.startswith("common/") and name.endswith(".json"):
                description = json.loads(without_comments(archive.read(name).decode()))
                # Messages that Kafka 4 removed are still named there, without versions or fields.
                if description.get("validVersions", "none") != "none":
                    messages[description["name"]] = trim(description)
    return messages


def main() -> None:
    parser = argparse.ArgumentParser(description="Trim Kafka's message descriptions to facts.")
    parser.add_argument("--repository", type=Path, default=Path.home() / ".m2" / "repository")
    repository = parser.parse_args().repository
    for artifact in ARTIFACTS:
        jar = repository / "org/apache/kafka" / artifact / KAFKA_VERSION / f"{artifact}-{KAFKA_VERSION}.jar"
        folder = DESCRIPTIONS / artifact
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("*.json"):
            stale.unlink()
        for name, description in extract(jar).items():
            (folder / f"{name}.json").write_text(to_text(description) + "\n")


if __name__ == "__main__":
    main()
