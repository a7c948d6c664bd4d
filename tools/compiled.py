"""Compiles the broker's hot modules by mypyc, into a directory of its own: never beside the source.

.venv/bin/python tools/compiled.py [DIRECTORY]

The directory (build/compiled) then holds the whole package, Python files and compiled modules, to be put on PYTHONPATH.
Which modules are compiled is said in broker-image/broadsheet_broker/compiled.py. Nothing is done when the directory
holds what the sources say already; C that has not changed is not compiled again. Needs a C compiler, Python's headers,
mypy and setuptools. The wheel is built with it by tools/compiled_hook.py.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from importlib.metadata import version

ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCE = ROOT / "broker-image"
PACKAGE = "broadsheet_broker"
TARGET = ROOT / "build/compiled"
STAMP = ".sources"

_BUILD = """
import sys
from mypyc.build import mypycify
from setuptools import Distribution

work, library, *arguments = sys.argv[1:]
extensions = mypycify(arguments, target_dir=f"{work}/c", group_name=library, opt_level="3", debug_level="0")
command = Distribution({"name": "broadsheet", "ext_modules": extensions}).get_command_obj("build_ext")
command.build_lib, command.build_temp, command.inplace = f"{work}/lib", f"{work}/temp", False
command.ensure_finalized()
command.run()
"""
"""Run by an interpreter of its own: mypyc and setuptools change the process that they run in."""


def modules() -> tuple[tuple[str, ...], str]:
    """The names of the modules to compile, and of the library that holds them."""
    specification = importlib.util.spec_from_file_location("compiled_modules", SOURCE / PACKAGE / "compiled.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["compiled_modules"] = module
    specification.loader.exec_module(module)
    return module.MODULES, f"{PACKAGE}.{module.LIBRARY}"


def sources() -> Iterator[pathlib.Path]:
    """All that a compiled module depends on: types of modules that are not compiled are in its machine code."""
    yield from sorted((SOURCE / PACKAGE).rglob("*.py"))


def fingerprint() -> str:
    """A hash of the sources, the compiler and the interpreter's ABI."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    made_with = (_BUILD, version("mypy"), sysconfig.get_config_var("EXT_SUFFIX"), settings)
    digest = hashlib.sha256(repr(made_with).encode())
    for path in sources():
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def is_fresh(target: pathlib.Path = TARGET) -> bool:
    """Whether the directory holds what the sources say."""
    stamp = target / STAMP
    return stamp.exists() and stamp.read_text() == fingerprint()


def build(target: pathlib.Path = TARGET) -> pathlib.Path:
    """Compile if anything has changed; the directory. Raises CalledProcessError when a module does not compile."""
    if is_fresh(target):
        return target
    names, library = modules()
    work = target.with_name(target.name + ".work")
    files = [f"{PACKAGE}/{name.replace('.', '/')}.py" for name in names]
    # What is ignored for a package that is here may have no reason where the package is missing.
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--no-warn-unused-ignores", f"--cache-dir={work}/mypy"]
    before = fingerprint()
    subprocess.run(
        [sys.executable, "-c", _BUILD, str(work), library, *options, *files],
        cwd=SOURCE,
        env={**os.environ, "MYPYPATH": str(SOURCE)},
        stdout=sys.stderr,
        check=True,
    )
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(SOURCE / PACKAGE, target / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*names, f"{library.partition('.')[2]}__mypyc"):
        file = f"{PACKAGE}/{name.replace('.', '/')}{sysconfig.get_config_var('EXT_SUFFIX')}"
        shutil.copy2(work / "lib" / file, target / file)
    (target / STAMP).write_text(before)
    return target


def machine_code(directory: pathlib.Path = TARGET) -> list[pathlib.Path]:
    """The compiled modules in a directory."""
    return sorted(directory.rglob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"))


def main() -> None:
    target = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else TARGET
    sys.stdout.write(f"{build(target)}\n")


if __name__ == "__main__":
    main()
