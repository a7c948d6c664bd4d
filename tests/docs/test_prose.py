"""The prose of the documentation: short lines, and none of the patterns that docs/contributing-style.md lists first."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
STYLE = ROOT / "docs/contributing-style.md"
LONGEST = 120
PATTERNS = {
    r"\b(whoever|whatever|whichever)\b": "name who or what: the client, caller or operator that",
    r"\b(nobody|somebody)\b": "name who: no client, another program",
    r"\b(tells|told|telling)\b": "reports, returns, shows, is notified",
    r"\bin words\b": "as a readable message, or nothing",
    r"\b(is|are|was) no \w+ any ?more\b": "is no longer",
    r"\bso (many|long|often)\b(?! as)": "this many, that long",
    r"\b(of ours|is ours|are ours)\b": "our, Broadsheet's",
    r"\btakes? part\b": "is active, joins",
    r"\blook(s|ed|ing)? for\b": "checks, reads, polls, searches",
    r"\bfor want of\b": "because there is no",
    r"\ba second and (broker|client|connection)\b": "per broker and second",
    r"\banew\b": "again, from scratch",
    r"\bshall\b": "must, is to",
    r"\b(of no matter|stands in it|what (really )?is there)\b": "its value does not matter; the live state",
    r"\b(doors|rooms)\b": "listeners; packages",
    r"\bTake (it|them) away\b": "Clean up, Remove",
}
"""What may not stand in the prose, and what to write instead. Code, commands and output are left alone."""


def pages() -> list[pathlib.Path]:
    """Every page that a person writes: docs/reference is generated from code."""
    reference = ROOT / "docs/reference"
    named = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*named, *sorted(page for page in (ROOT / "docs").rglob("*.md") if reference not in page.parents)]


def prose(page: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Lines outside of fenced code, numbered."""
    fenced = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_line_of_prose_is_long(page: pathlib.Path) -> None:
    """Tables may be wide; what people read and compare in diffs may not."""
    long = [number for number, line in prose(page) if len(line) > LONGEST and not line.startswith("|")]
    assert long == [], f"{page.name}: lines {long} are longer than {LONGEST} characters"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_prose_has_none_of_the_worst_patterns(page: pathlib.Path) -> None:
    if page == STYLE:
        return
    found = []
    for number, line in prose(page):
        text = re.sub(r"`[^`]*`|\"[^\"]*\"", "", line)
        for pattern, better in PATTERNS.items():
            found += [f"{page.name}:{number}: {hit.group()!r}: {better}" for hit in re.finditer(pattern, text, re.I)]
    assert found == [], "\n".join(found)


def test_the_style_page_names_this_check() -> None:
    assert "tests/docs/test_prose.py" in STYLE.read_text()


def test_paths_that_the_prose_names_exist() -> None:
    """Files move; the sentence that names one must move with it."""
    top = "broker-image|operator|tests|e2e|tools|docs|charts|crds"
    missing = [
        f"{page.name}:{number}: {path}"
        for page in pages()
        for number, line in prose(page)
        for path in re.findall(rf"`((?:{top})/[\w./-]+)`", line)
        if not (ROOT / path).exists()
    ]
    assert missing == []


def test_metrics_that_the_prose_names_exist() -> None:
    """People copy them into alerts."""
    listed = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/reference/metrics.md").read_text(), flags=re.M))
    assert listed
    unknown = [
        f"{page.name}:{number}: {name}"
        for page in pages()
        for number, line in prose(page)
        for name in re.findall(r"`((?:kafka|broadsheet)_[a-z]+_\w+|broadsheet_[a-z]+)`", line)
        if name not in listed
    ]
    assert unknown == []
