"""What goes into the wheel: Python files, and the modules of tools/compiled.py when BROADSHEET_COMPILED is 1."""

from __future__ import annotations

import os
import pathlib
import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(pathlib.Path(__file__).parent))

WANTED = os.environ.get("BROADSHEET_COMPILED", "") not in ("", "0")


class CompiledHook(BuildHookInterface):
    """Adds the compiled modules to a wheel, and names its platform."""

    def dependencies(self) -> list[str]:
        return ["mypy>=2.4", "setuptools>=75"] if WANTED else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """An editable installation is always pure: its files are the source tree."""
        if not WANTED or version == "editable":
            return
        import compiled

        directory = compiled.build()
        for path in compiled.machine_code(directory):
            build_data["force_include"][str(path)] = path.relative_to(directory).as_posix()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
