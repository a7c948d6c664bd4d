"""The pictures of the site are drawn from the pages as they are, and need no network to be seen."""

import importlib.util
import pathlib
import subprocess
import sys
from types import ModuleType

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools/site_pictures.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_pictures", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up annotations
    spec.loader.exec_module(module)
    return module


def test_every_picture_is_drawn_and_shown() -> None:
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_an_edited_picture_is_a_missing_drawing(tool: ModuleType) -> None:
    source = "flowchart TB\n  accTitle: Two boxes\n  a --> b\n"
    drawn, edited = tool.picture_of(source), tool.picture_of(source.replace("a --> b", "b --> a"))
    assert drawn.file.startswith("two-boxes-")
    assert drawn.file != edited.file


def test_a_picture_needs_a_text_for_those_who_cannot_see_it(tool: ModuleType) -> None:
    with pytest.raises(ValueError, match="has no accTitle: flowchart TB"):
        tool.picture_of("flowchart TB\n  a --> b\n")


def test_no_page_leaves_drawing_to_the_browser(tool: ModuleType) -> None:
    """mkdocs-material draws mermaid with a script from a CDN."""
    for page in (ROOT / "docs").rglob("*.md"):
        depth = len(page.relative_to(ROOT / "docs").parts) - 1
        assert "```mermaid" not in tool.with_drawings(page.read_text(), depth), page


def test_names_in_a_first_column_break_between_their_words(tool: ModuleType) -> None:
    html = "<tr>\n<td><code>log.retention.ms</code></td>\n<td><code>a.b</code></td>\n</tr>"
    assert "<code>log.<wbr>retention.<wbr>ms</code>" in tool.on_page_content(html)
    assert "<code>a.b</code>" in tool.on_page_content(html)
    assert "group_<wbr>lag</code>" in tool.on_page_content(html.replace("log.retention.ms", "group_lag"))
