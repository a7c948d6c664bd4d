"""The documentation site: no dead link, and nothing fetched from elsewhere when it is read."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = 120.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Where the site was built, strictly: a dead link or a page outside the navigation fails."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_site_needs_no_network(site: pathlib.Path) -> None:
    """Links may lead away; scripts, styles, fonts and pictures come from the site itself."""
    fetched = re.compile(r"<(?:script|img|source|iframe)\b[^>]*\bsrc=\"https?://|<link\b[^>]*\bhref=\"https?://")
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    away = [str(page.relative_to(site)) for page in pages if fetched.search(page.read_text())]
    assert away == []


@pytest.mark.slow
def test_no_picture_of_the_site_is_left_to_a_script(site: pathlib.Path) -> None:
    """mkdocs-material loads mermaid from a CDN as soon as a page has a block of it."""
    assert [page.name for page in site.rglob("*.html") if 'class="mermaid"' in page.read_text()] == []
    shown = {path for page in site.rglob("*.html") for path in re.findall(r"pictures/[\w-]+\.svg", page.read_text())}
    assert shown == {f"pictures/{path.name}" for path in (site / "pictures").glob("*.svg")}


@pytest.mark.slow
def test_links_to_headings_lead_somewhere(site: pathlib.Path) -> None:
    """mkdocs warns of a missing page and only notes a missing heading."""
    dead = []
    for page in sorted(site.rglob("*.html")):
        for target, anchor in re.findall(r'href="([^":?]*)#([^"]+)"', page.read_text()):
            other = (page.parent / target).resolve() if target else page
            file = other / "index.html" if other.is_dir() else other
            if file.suffix == ".html" and f'id="{anchor}"' not in file.read_text():
                dead.append(f"{page.relative_to(site)}: {target}#{anchor}")
    assert dead == []
