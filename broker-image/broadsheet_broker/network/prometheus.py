"""The text format of Prometheus, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable

from broadsheet_broker.seams.metrics import Family, Labels

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(families: Iterable[Family]) -> bytes:
    """All families as text. Families of the same name from several collectors are merged."""
    merged: dict[str, list[Family]] = {}
    for family in families:
        merged.setdefault(family.name, []).append(family)
    lines = []
    for name, parts in merged.items():
        lines.append(f"# HELP {name} {_escape_help(parts[0].help)}")
        lines.append(f"# TYPE {name} {parts[0].kind}")
        for family in parts:
            suffixes = family.suffixes or [""] * len(family.samples)
            for (labels, value), suffix in zip(family.samples, suffixes, strict=True):
                lines.append(f"{name}{suffix}{_labels(labels)} {_number(value)}")
    lines.append("")
    return "\n".join(lines).encode()


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
