"""What is installed where: `dependencies` for a broker, an extra for each other program, locks for the images."""

from __future__ import annotations

import ast
import pathlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)(?: ; .*)? \\$")


def wanted(*extras: str) -> dict[str, Requirement]:
    """Requirements of the distribution with these extras, by name."""
    texts = [*PROJECT["dependencies"], *(text for e in extras for text in PROJECT["optional-dependencies"][e])]
    found: dict[str, Requirement] = {}
    for requirement in map(Requirement, texts):
        if requirement.name == PROJECT["name"]:
            found |= wanted(*requirement.extras)
        else:
            found[canonicalize_name(requirement.name)] = requirement
    return found


def pins(lock: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / lock).read_text().splitlines()
    return {canonicalize_name(m[1]): m[2] for line in lines if (m := PIN.match(line))}


@pytest.mark.parametrize(("lock", "extras"), [("broker.lock", ()), ("operator.lock", ("operator",))])
def test_a_lock_satisfies_pyproject(lock: str, extras: tuple[str, ...]) -> None:
    pinned = pins(lock)
    wrong = [str(r) for name, r in wanted(*extras).items() if not r.specifier.contains(pinned.get(name, "none"), True)]
    assert not wrong, f"requirements/{lock} lacks these or has another version: make locks"


@pytest.mark.parametrize("lock", ["build.lock", "compiler.lock", "broker.lock", "operator.lock"])
def test_every_line_of_a_lock_has_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert blocks
    for block in blocks:
        assert PIN.match(block.splitlines()[0])
        assert "--hash=sha256:" in block
    assert "://" not in text


def test_the_brokers_image_has_what_a_broker_imports_and_no_more() -> None:
    assert set(pins("broker.lock")) == set(wanted())


def imported(package: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Modules of a package, and the other packages that each imports."""
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {package.name}:
                yield str(path.relative_to(package)), name


def test_a_broker_imports_its_dependencies_only() -> None:
    known = {name.replace("-", "_") for name in wanted()}
    assert known == {name for _, name in imported(ROOT / "broker-image/broadsheet_broker")}


WITHOUT = (
    "import sys; sys.modules |= dict.fromkeys({names!r}); from broadsheet_operator.cli import main; sys.exit(main())"
)
"""The command on an installation that lacks some packages."""


def run_without(names: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    code = WITHOUT.format(names=sorted(names))
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)


def modules(*extras: str) -> set[str]:
    """Names to import of what only these extras bring."""
    other = {"pyyaml": "yaml", "kafka-python": "kafka", "prometheus-client": "prometheus_client"}
    return {other.get(name, name) for name in set(wanted(*extras)) - set(wanted())}


@pytest.mark.parametrize(
    ("arguments", "extra", "package"),
    [
        (["up", "-f", "cluster.yaml"], "local", "pydantic|yaml"),
        (["get"], "local", r"\w+"),
        (["operator"], "operator", r"\w+"),
    ],
)
def test_a_command_without_its_extra_names_it(arguments: list[str], extra: str, package: str) -> None:
    done = run_without(modules(extra), *arguments)
    assert done.returncode == 1
    expected = (
        rf"broadsheet {arguments[0]}: the Python package \w+ is not installed; "
        rf"install the extra `{extra}`: pip install 'broadsheet\[{extra}\]'\n"
    )
    assert re.fullmatch(expected, done.stderr)


def test_the_extra_local_is_enough_to_look_at_resources(tmp_path: pathlib.Path) -> None:
    done = run_without(modules("operator") - modules("local"), "get", "--data", str(tmp_path), "-o", "json")
    assert "is not installed" not in done.stderr
