"""Writes the dashboards as JSON, or says which are stale."""

from __future__ import annotations

import json
import pathlib
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from tools.dashboards.board import Board
from tools.dashboards.boards import BOARDS

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "charts/broadsheet/files/dashboards"


def text(board: Board) -> str:
    """A dashboard as it is committed: sorted keys, so that a diff shows what changed."""
    plain = json.loads(JSONEncoder().encode(board.build()))
    return json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    wanted = {FOLDER / f"{board.name}.json": text(board) for board in BOARDS}
    stale = [path for path, words in wanted.items() if not path.exists() or path.read_text() != words]
    stale += [path for path in FOLDER.glob("*.json") if path not in wanted]
    if "--check" in arguments:
        for path in stale:
            sys.stderr.write(f"{path.name} is stale; write it with: .venv/bin/python -m tools.dashboards\n")
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in stale:
        if path in wanted:
            path.write_text(wanted[path])
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
