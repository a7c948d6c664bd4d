"""Measures rows on all sides in turn: for each row, rounds A B C, B C A, C A B, so that none is always first."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from e2e.bench.core.measurement import Figures, Prepared, Times
from e2e.bench.core.rows import ROWS, Row, kib16
from e2e.bench.core.sides import BUILD, TMPFS, Side

SIZES = {"core": 1, "core-three": 3}
WARM_UP = (
    Row("warm-produce", "", kib16, 16, acks="all", seconds=8.0),
    Row("warm-fetch", "", kib16, 4, fetched=4, seconds=4.0),
)
"""What every broker is given before the first row, so that a JVM has compiled what it needs."""


@dataclass
class Result:
    """The figures of a row: for each side and each figure, one value for each round."""

    row: Row
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    rate: float = 0.0
    """Requests/s of the open loop."""
    failures: list[str] = field(default_factory=list)

    def add(self, side: str, figures: Mapping[str, float]) -> None:
        for key, value in figures.items():
            self.figures.setdefault(side, {}).setdefault(key, []).append(value)

    def median(self, side: str, key: str) -> float | None:
        """None if the side was not measured."""
        values = self.figures.get(side, {}).get(key)
        return statistics.median(values) if values else None

    def document(self) -> dict[str, Any]:
        """For benchmarks.json."""
        return {"key": self.row.key, "rate": self.rate, "figures": self.figures, "failures": self.failures}


class CorePart:
    """One broker a side (`core`), or three (`core-three`)."""

    def __init__(
        self, name: str, sides: Sequence[Side], only: Sequence[str] | None, quick: bool, say: Callable[[str], None]
    ) -> None:
        self.name = name
        self.sides = sides
        self.rows = [row for row in ROWS[name] if not only or row.key in only]
        self.times = Times(0.3, 1.0, 0.5, 2.0) if quick else Times()
        self.quick = quick
        self.say = say

    def run(self, rounds: int) -> list[Result]:
        """Measure the rows, those on a tmpfs with brokers of their own."""
        results: list[Result] = []
        for tmpfs in (False, True):
            rows = [row for row in self.rows if row.tmpfs == tmpfs]
            if rows:
                results += self._on(rows, tmpfs, rounds)
        keys = [row.key for row in self.rows]
        return sorted(results, key=lambda result: keys.index(result.row.key))

    def _on(self, rows: Sequence[Row], tmpfs: bool, rounds: int) -> list[Result]:
        try:
            for side in self.sides:
                self.say(f"{self.name}: {side.label} starts{' on a tmpfs' if tmpfs else ''}")
                side.start(SIZES[self.name], TMPFS if tmpfs else BUILD)
                self._warm_up(side, rows)
                side.pause()
            return [self._row(row, rounds) for row in rows]
        except Exception:
            for side in self.sides:
                self.say(f"the last words of {side.name}:\n{side.last_words()}")
            raise
        finally:
            for side in self.sides:
                side.close()

    def _warm_up(self, side: Side, rows: Sequence[Row]) -> None:
        for row in WARM_UP:
            if bool(row.fetched) in {bool(other.fetched) for other in rows}:
                with _prepared(row, side, self.times) as prepared:
                    prepared.saturation(row.seconds / 4 if self.quick else row.seconds)

    def _row(self, row: Row, rounds: int) -> Result:
        result = Result(row)
        prepared: dict[str, Prepared] = {}
        try:
            for side in self.sides:
                with self._awake(side, row, result):
                    prepared[side.name] = Prepared(row, side, self.times)
                    prepared[side.name].saturation(1.0 if self.quick else 2.0)
            self._rounds(row, result, prepared, rounds, "saturation", lambda one: one.saturation())
            rates = [rate for side in prepared if (rate := result.median(side, "rate"))]
            if row.latency and rates:
                result.rate = min(rates) / 2
                self._rounds(row, result, prepared, rounds, "latency", lambda one: one.latency(result.rate))
        finally:
            for side in self.sides:
                if side.name in prepared:
                    with self._awake(side, row, result):
                        prepared[side.name].close()
        return result

    def _rounds(
        self,
        row: Row,
        result: Result,
        prepared: Mapping[str, Prepared],
        rounds: int,
        what: str,
        measure: Callable[[Prepared], Figures],
    ) -> None:
        for number in range(rounds):
            turn = number % len(self.sides)
            for side in [*self.sides[turn:], *self.sides[:turn]]:
                if side.name in prepared:
                    with self._awake(side, row, result):
                        figures = measure(prepared[side.name])
                        result.add(side.name, figures)
                        told = "  ".join(f"{key} {value:,.2f}" for key, value in figures.items())
                        self.say(f"{row.key:>12} {what} {number + 1}/{rounds}  {side.name:<14} {told}")

    @contextmanager
    def _awake(self, side: Side, row: Row, result: Result) -> Iterator[None]:
        """The side runs, the others stand still. What goes wrong with it is noted, and the others are measured."""
        side.resume()
        gc.collect()
        gc.disable()
        try:
            yield
        except (RuntimeError, OSError, ValueError, TimeoutError) as error:
            result.failures.append(f"{side.name}: {error}")
            self.say(f"{row.key:>12} FAILED  {side.name}: {error}\n{side.last_words()}")
        finally:
            gc.enable()
            side.pause()


@contextmanager
def _prepared(row: Row, side: Side, times: Times) -> Iterator[Prepared]:
    prepared = Prepared(row, side, times)
    try:
        yield prepared
    finally:
        prepared.close()
