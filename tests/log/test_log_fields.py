"""Who may change what of a log: the fields of its two parts are written by their own methods only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import broadsheet_broker
from tests.log.support import NOW_MS, batch, open_log
from tests.support.memory_environment import memory_environment

ROOT = Path(broadsheet_broker.__path__[0])


def slots(module: str, name: str) -> frozenset[str]:
    """The fields of a class, read from its source: a compiled class has no `__slots__`."""
    (found,) = (
        node
        for node in ast.parse((ROOT / module).read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == name
    )
    (fields,) = (
        node.value
        for node in found.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__slots__"
    )
    return frozenset(ast.literal_eval(fields))


OWNED = {"tail": slots("log/tail.py", "Tail"), "segments": slots("log/segments.py", "Segments")}
OBJECTS = frozenset(("environment", "epochs", "files", "pool", "producers"))
"""Fields whose methods are their own business."""
CHANGES = frozenset(("append", "clear", "extend", "insert", "pop", "remove", "sort", "update"))


def owner_of(value: ast.expr) -> str:
    """`tail` for `tail`, `self.tail`, `log.tail`; likewise `segments`."""
    return value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else ""


def writes(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
            targets = [node.func.value] if owner_of(node.func.value) not in OBJECTS else []
        for target in targets:
            while isinstance(target, ast.Subscript):
                target = target.value
            if isinstance(target, ast.Attribute) and target.attr in OWNED.get(owner_of(target.value), ()):
                yield f"line {node.lineno}: {ast.unparse(node)}"


def test_each_field_has_one_writer() -> None:
    """The callbacks apart, which the LogManager sets."""
    found = [
        f"{path.relative_to(ROOT)}: {write}"
        for path in sorted((ROOT).rglob("*.py"))
        for write in writes(ast.parse(path.read_text()))
        if ".on_failure = " not in write and ".on_full_disk = " not in write
    ]
    assert found == []


@pytest.mark.parametrize(
    "statement",
    [
        "tail.end = 3",
        "self.tail.pending.append(view)",
        "log.segments.generation += 1",
        "del segments.items[0]",
        "segments.hints[3] = 4",
    ],
)
def test_a_write_from_outside_is_found(statement: str) -> None:
    assert list(writes(ast.parse(statement)))


def test_there_is_a_mark_exactly_while_something_is_pending() -> None:
    log = open_log(memory_environment())
    tail = log.tail
    states = [(tail.mark is None, not tail.pending)]
    log.append_as_leader(batch("a"), 0, NOW_MS)
    states.append((tail.mark is None, not tail.pending))
    log.flush_appends()
    states.append((tail.mark is None, not tail.pending))
    log.append_as_leader(batch("b"), 0, NOW_MS)
    tail.forget()
    states.append((tail.mark is None, not tail.pending))
    assert states == [(True, True), (False, False), (True, True), (True, True)]
    assert tail.end == 1
