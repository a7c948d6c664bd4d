"""Where tests and what they share may stand."""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1]


def imports(path: pathlib.Path) -> Iterator[str]:
    """The full names of the modules that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_tests_import_nothing_from_e2e() -> None:
    """Tests need Python only; what both use is in tests/support."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / "tests").rglob("*.py")
        for name in imports(path)
        if name.split(".")[0] == "e2e"
    ]
    assert not wrong


def test_what_several_packages_need_is_in_support() -> None:
    """A folder of tests imports from itself and from tests/support; e2e from the latter only."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for top in ("tests", "e2e")
        for path in (ROOT / top).rglob("*.py")
        for name in imports(path)
        if name.startswith("tests.")
        and name.split(".")[1] not in ("support", path.relative_to(ROOT).parts[1] if top == "tests" else "support")
    ]
    assert not wrong


def test_operator_is_a_folder_and_not_a_package() -> None:
    """With an `__init__.py` it could hide the standard library's `operator`."""
    assert not (ROOT / "operator/__init__.py").exists()


def test_the_logger_of_a_module_is_called_logger() -> None:
    """`log` is a partition's log in the broker, and a reader should not have to look up which one is meant."""
    packages = ("broker-image/broadsheet_broker", "operator/broadsheet_operator")
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line}"
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.match(r"\s*\w+\s*(:[^=]*)?=\s*logging\.getLogger\(", line) and not re.match(r"logger\b", line)
    ]
    assert not wrong
