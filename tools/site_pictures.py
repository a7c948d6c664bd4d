"""Draws the mermaid blocks of the documentation into docs/pictures/, and puts the drawings into the site.

.venv/bin/python tools/site_pictures.py            draws what is missing, removes drawings that no page shows
.venv/bin/python tools/site_pictures.py --check    lists both, and fails if there are any

GitHub draws mermaid blocks itself. The site must work without network, and mkdocs-material would load mermaid from a
CDN, so the drawings are committed. A drawing is named after its title and a digest of its source and of the settings
below: an edited block is a missing drawing. Only drawing needs npm and Chromium (Debian: npm, chromium); building the
site and `--check` do not.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PICTURES = DOCS / "pictures"
BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.S | re.M)
TITLE = re.compile(r"^\s*accTitle:\s*(.+)$", re.M)
NAME = re.compile(r"<tr>\s*<td><code>[^<]+</code>")
PACKAGES = ("@mermaid-js/mermaid-cli@11.17.0", "puppeteer@24.43.1")
CHROMIUM_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
MERMAID = {
    "theme": "neutral",
    "htmlLabels": False,
    "fontFamily": "Helvetica, Arial, sans-serif",
    "themeVariables": {"noteBkgColor": "#fff3c4", "noteTextColor": "#222222", "noteBorderColor": "#bbaa66"},
    "flowchart": {
        "htmlLabels": False,
        "useMaxWidth": False,
        "wrappingWidth": 320,
        "nodeSpacing": 40,
        "rankSpacing": 36,
    },
    "sequence": {
        "useMaxWidth": False,
        "mirrorActors": False,
        "wrap": True,
        "width": 120,
        "actorMargin": 30,
        "messageFontSize": 14,
    },
    "state": {"useMaxWidth": False},
}
"""Labels as SVG text: HTML inside an SVG is not drawn everywhere. Fixed sizes: the page scales a picture down."""


@dataclass(frozen=True)
class Picture:
    """One mermaid block of a page."""

    title: str
    """What it shows: the alternative text."""
    source: str

    @property
    def file(self) -> str:
        """Name of the drawing under docs/pictures/."""
        name = re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")
        inputs = json.dumps([self.source, MERMAID, PACKAGES])
        return f"{name}-{hashlib.sha256(inputs.encode()).hexdigest()[:8]}.svg"


def picture_of(source: str) -> Picture:
    """The picture of a block. ValueError without `accTitle`: a picture needs a text for those who cannot see it."""
    title = TITLE.search(source)
    if title is None:
        raise ValueError(f"a mermaid block has no accTitle: {source.splitlines()[0]}")
    return Picture(title.group(1).strip(), source)


def pictures() -> Iterator[Picture]:
    """Every picture of the documentation."""
    for page in sorted(DOCS.rglob("*.md")):
        for source in BLOCK.findall(page.read_text()):
            try:
                yield picture_of(source)
            except ValueError as error:
                raise ValueError(f"{page.relative_to(ROOT)}: {error}") from None


def with_drawings(markdown: str, depth: int) -> str:
    """The page with a link to its drawing in place of each block. `depth`: folders between the page and docs/."""

    def drawn(block: re.Match[str]) -> str:
        picture = picture_of(block.group(1))
        path = "../" * depth + f"pictures/{picture.file}"
        return f"[![{picture.title}]({path}){{ .picture }}]({path})"

    return BLOCK.sub(drawn, markdown)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Called by mkdocs for each page (`hooks` in mkdocs.yml)."""
    return with_drawings(markdown, page.file.src_uri.count("/"))


def on_page_content(html: str, **_: Any) -> str:
    """Called by mkdocs with each finished page: names in the first column of a table may break between their words."""
    return NAME.sub(lambda name: re.sub("[._]", r"\g<0><wbr>", name.group(0)), html)


def draw(picture: Picture, folder: pathlib.Path) -> None:
    """Draw one picture with mermaid-cli and the Chromium of this machine."""
    source, settings, browser = folder / "picture.mmd", folder / "mermaid.json", folder / "chromium.json"
    source.write_text(picture.source)
    settings.write_text(json.dumps(MERMAID))
    browser.write_text(json.dumps({"executablePath": "/usr/bin/chromium", "args": CHROMIUM_FLAGS}))
    packages = [f"--package={name}" for name in PACKAGES]
    target = PICTURES / picture.file
    command = ["npm", "exec", "--yes", *packages, "--", "mmdc", "--quiet", "--puppeteerConfigFile", str(browser)]
    command += [
        "--configFile",
        str(settings),
        "--backgroundColor",
        "white",
        "--input",
        str(source),
        "--output",
        str(target),
    ]
    subprocess.run(command, check=True, cwd=folder, env={**os.environ, "PUPPETEER_SKIP_DOWNLOAD": "1"})
    target.write_text(target.read_text().rstrip("\n") + "\n")


def main(arguments: list[str]) -> int:
    """Draw or check; the exit code."""
    wanted = {picture.file: picture for picture in pictures()}
    drawn = {path.name for path in PICTURES.glob("*.svg")}
    if "--check" in arguments:
        for name in sorted(wanted.keys() ^ drawn):
            state = "is missing" if name in wanted else "is shown by no page"
            sys.stderr.write(f"docs/pictures/{name} {state}; run: .venv/bin/python tools/site_pictures.py\n")
        return 1 if wanted.keys() != drawn else 0
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted(wanted.keys() - drawn):
            sys.stdout.write(f"docs/pictures/{name}\n")
            draw(wanted[name], pathlib.Path(folder))
    for name in drawn - wanted.keys():
        (PICTURES / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
