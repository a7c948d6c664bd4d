"""No module is pure where it should be compiled, or the other way round, without anybody noticing.

`make test-compiled` runs the tests on the compiled modules, with BROADSHEET_CODE=compiled.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import pathlib
import subprocess
import sys
from types import ModuleType

import pytest

from broadsheet_broker import compiled
from broadsheet_broker.compiled import MODULES, Build

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "broker-image/broadsheet_broker"
EXPECTED = os.environ.get("BROADSHEET_CODE", "pure")


def builder() -> ModuleType:
    specification = importlib.util.spec_from_file_location("compiled_builder", ROOT / "tools/compiled.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_these_tests_run_on_the_code_that_was_asked_for() -> None:
    made = compiled.build()
    assert made.code == EXPECTED, f"not compiled: {made.missing}"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_what_the_program_says(name: str) -> None:
    module = importlib.import_module(f"broadsheet_broker.{name}")
    assert module.__file__ is not None
    assert module.__file__.endswith(".py") == (EXPECTED == "pure")
    assert compiled.is_compiled(name) == (EXPECTED == "compiled")


def test_the_compiled_modules_are_those_of_the_source() -> None:
    assert EXPECTED == "pure" or builder().is_fresh(), "the source has changed: make compiled"


def test_each_module_is_there() -> None:
    assert [name for name in MODULES if not (SOURCE / f"{name.replace('.', '/')}.py").exists()] == []
    assert len(set(MODULES)) == len(MODULES)


def test_nothing_compiled_is_beside_the_source() -> None:
    """Pure tests would take it without noticing, and it would be old after the next change."""
    assert [path for path in SOURCE.rglob("*") if path.suffix in (".so", ".c", ".o")] == []


def test_an_installation_that_lacks_a_module_says_so(tmp_path: pathlib.Path) -> None:
    """As after a wheel of another interpreter was unpacked over a pure one."""
    for name in MODULES:
        path = tmp_path / "broadsheet_broker" / name.replace(".", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = ".py" if name == MODULES[0] else importlib.machinery.EXTENSION_SUFFIXES[0]
        path.with_name(path.name + suffix).touch()
    (tmp_path / "broadsheet_broker/compiled.py").write_text((SOURCE / "compiled.py").read_text())
    (tmp_path / "broadsheet_broker/__init__.py").touch()
    code = "from broadsheet_broker.compiled import build; made = build(); print(made.code, *made.missing)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"mixed {MODULES[0]}\n"


def test_what_a_program_is_made_of_is_one_line() -> None:
    assert str(Build("compiled", (), "CPython 3.12.4", True)) == "compiled, CPython 3.12.4 (optimized)"
    assert str(Build("pure", (), "CPython 3.12.4", False)).endswith("(built without profile-guided optimization)")
