"""An exception holds the frames that it passed, and with them the requests: none may be kept with its history."""

from __future__ import annotations

import ast
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

import broadsheet_broker
from broadsheet_broker.log import RecordValidationError, StorageError
from broadsheet_broker.wire.errors import ErrorCode, KafkaError

ROOT = Path(broadsheet_broker.__path__[0])


def faults(tree: ast.AST, caught: frozenset[str] = frozenset()) -> Iterator[str]:
    """Statements that raise an error which somebody keeps, or keep one that was caught."""
    if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        caught = frozenset()
    elif isinstance(tree, ast.ExceptHandler) and tree.name is not None:
        caught = caught | {tree.name}
    elif (isinstance(tree, ast.Raise) and not raises_new(tree.exc, caught)) or (
        isinstance(tree, ast.Assign | ast.AnnAssign) and tree.value is not None and keeps(tree.value, caught)
    ):
        yield f"line {tree.lineno}: {ast.unparse(tree)}"
    for child in ast.iter_child_nodes(tree):
        yield from faults(child, caught)


def raises_new(error: ast.expr | None, caught: frozenset[str]) -> bool:
    if isinstance(error, ast.Name):  # a class, or what the handler around it caught
        return error.id in caught or error.id.lstrip("_")[0].isupper()
    return error is None or isinstance(error, ast.Call)


def keeps(value: ast.expr, caught: frozenset[str]) -> bool:
    parts = value.elts if isinstance(value, ast.Tuple) else [value]
    return any(isinstance(part, ast.Name) and part.id in caught for part in parts)


def test_nobody_raises_an_error_that_is_kept() -> None:
    """`raise self.failure` grows with each request that it refuses; `failure = ...; raise failure` makes a cycle of the
    error and its frame. `raise kept.again()`, or a function that makes the error, holds nothing."""
    found = [
        f"{path.relative_to(ROOT)}: {fault}"
        for path in sorted(ROOT.rglob("*.py"))
        if "messages" not in path.parts
        for fault in faults(ast.parse(path.read_text()))
    ]
    assert found == []


@pytest.mark.parametrize(
    "statement",
    [
        "raise log.offline",
        "raise failure",
        "raise failed[1]",
        "try: f()\nexcept OSError as error: failure = error",
        "try: f()\nexcept OSError as error: self.failed = error",
        "try: f()\nexcept OSError as error: failed[key] = (path, error)",
    ],
)
def test_an_error_that_is_kept_is_found(statement: str) -> None:
    assert list(faults(ast.parse(statement)))


@pytest.mark.parametrize(
    "error",
    [
        KafkaError(ErrorCode.NOT_CONTROLLER),
        StorageError("/logs: no space left", OSError(28, "No space left on device")),
        RecordValidationError(ErrorCode.INVALID_RECORD, "no key", [(3, "no key")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_copy_of_an_error_says_the_same_and_has_no_history(error: KafkaError) -> None:
    with pytest.raises(KafkaError) as raised:
        raise error from ValueError("why")
    again = raised.value.again()
    assert type(again) is type(error)
    assert (str(again), again.code, vars(again)) == (str(error), error.code, vars(error))
    assert again.__traceback__ is again.__cause__ is again.__context__ is None


def test_what_is_raised_often_does_not_grow() -> None:
    kept = StorageError("/logs: lost")
    for _ in range(3):
        with pytest.raises(StorageError) as raised:
            raise kept.again()
    assert len(traceback.extract_tb(raised.value.__traceback__)) == 1
    assert kept.__traceback__ is None
