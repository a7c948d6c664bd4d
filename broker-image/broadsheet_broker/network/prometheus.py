"""The text format of Prometheus, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from broadsheet_broker.seams.metrics import Family, KnownLabels, label_text

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

LINES_AT_ONCE = 1000
"""Samples that are written in one step: less than a millisecond."""


def render(families: Iterable[Family]) -> bytes:
    """All families as text. Families of the same name from several collectors are merged."""
    return b"".join(text for text in render_in_steps(families) if text is not None)


def render_in_steps(families: Iterable[Family | None]) -> Iterator[bytes | None]:
    """The text in parts, and None where nothing is written yet; between two of them other work may be done."""
    merged: dict[str, list[Family]] = {}
    for family in families:
        if family is None:
            yield None
        else:
            merged.setdefault(family.name, []).append(family)
    lines: list[str] = []
    for name, parts in merged.items():
        lines.append(f"# HELP {name} {_escape_help(parts[0].help)}")
        lines.append(f"# TYPE {name} {parts[0].kind}")
        for family in parts:
            samples = family.samples
            for start in range(0, len(samples), LINES_AT_ONCE):
                some = samples[start : start + LINES_AT_ONCE]
                suffixes = family.suffixes
                if suffixes is None:
                    lines += [f"{name}{_text(labels)} {_number(value)}" for labels, value in some]
                else:
                    rows = zip(some, suffixes[start : start + LINES_AT_ONCE], strict=True)
                    lines += [f"{name}{suffix}{_text(labels)} {_number(value)}" for (labels, value), suffix in rows]
                if len(lines) >= LINES_AT_ONCE:
                    yield _joined(lines)
                    lines = []
    if lines:
        yield _joined(lines)


def _joined(lines: list[str]) -> bytes:
    lines.append("")
    return "\n".join(lines).encode()


def _text(labels: tuple[tuple[str, str], ...]) -> str:
    return labels.text if type(labels) is KnownLabels else label_text(labels)


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    if type(value) is int:
        return str(value)
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value))
