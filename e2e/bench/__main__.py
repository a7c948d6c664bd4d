"""`make bench`: our broker and Apache Kafka in turn, one broker each and three brokers each, and tables of ratios."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from e2e.apache.apache import VERSION, ApacheKafka, jars
from e2e.bench import one, report, three
from tests.support.broadsheet import Broadsheet
from tests.support.broker_process import BrokerProcess

SHORT_RUN = "**A short run (`--quick`): a first impression. `make bench` takes longer rounds, and more of them.**"
ROUNDS = {"one": 3, "three": 2}
GROUPS = {"one": one.GROUPS, "three": three.GROUPS}

Figures = dict[str, float]
TakeRound = Callable[[type[BrokerProcess]], Figures]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m e2e.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="`one` broker or `three` brokers (both)")
    parser.add_argument("--rounds", type=int, help="rounds of each (one broker: 3, three brokers: 2; with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="one short round: a first impression, nothing to publish")
    parser.add_argument(
        "--only",
        action="append",
        choices=sorted({*one.GROUPS, *three.GROUPS}),
        help="measure this alone (may be repeated)",
    )
    parser.add_argument("--control", action="store_true", help="Apache Kafka against itself: what the noise is")
    parser.add_argument("--ours", action="store_true", help="our broker alone, without a table: to find what is slow")
    parser.add_argument(
        "--output", type=Path, help="where to write benchmarks.md and .json (docs/; partial runs: nowhere)"
    )
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in ROUNDS]:
        parser.error(f"no such part: {', '.join(unknown)}; there are `one` and `three`")
    return options


def say(line: str) -> None:
    print(line, flush=True)


def one_broker(kind: type[BrokerProcess], sizes: one.Sizes, groups: list[str]) -> Figures:
    """A fresh broker on a fresh directory, gone with its data afterwards."""
    broker = kind()
    try:
        return one.Round(broker, sizes, groups, say).run()
    except Exception:
        say(f"the last words of {broker.name}:\n{broker.last_words()}")
        raise
    finally:
        broker.close()


def take_turns(name: str, sides: list[type[BrokerProcess]], rounds: int, take_round: TakeRound) -> list[list[Figures]]:
    """The rounds of each side: A B, B A, A B, so that neither is always second."""
    figures: list[list[Figures]] = [[] for _ in sides]
    for number in range(rounds):
        for side in range(len(sides)) if number % 2 == 0 else reversed(range(len(sides))):
            say(f"{name}, round {number + 1} of {rounds}: {sides[side].name}")
            figures[side].append(take_round(sides[side]))
    return figures


def round_of(part: str, quick: bool, groups: list[str]) -> TakeRound:
    if part == "one":
        one_sizes = one.QUICK if quick else one.Sizes()
        return lambda kind: one_broker(kind, one_sizes, groups)
    sizes = three.QUICK if quick else three.Sizes()
    return lambda kind: three.Round(kind, sizes, groups, say).run()


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # brokers are ended on the way out
    sides: list[type[BrokerProcess]] = [ApacheKafka if options.control else Broadsheet, ApacheKafka]
    if options.ours:
        sides = [Broadsheet]
    jars()
    began = time.monotonic()
    remark = SHORT_RUN if options.quick else ""
    measured: dict[str, report.Part] = {}
    for part in options.parts or list(ROUNDS):
        groups = [group for group in GROUPS[part] if group in (options.only or GROUPS[part])]
        if groups:
            rounds = options.rounds or (1 if options.quick else ROUNDS[part])
            figures = take_turns(part, sides, rounds, round_of(part, options.quick, groups))
            measured[part] = report.Part(figures[0], figures[-1], remark)
    if not options.ours:
        whole = not (options.quick or options.only or options.control)
        target = options.output or (report.DOCS if whole else Path(tempfile.mkdtemp(prefix="bench-")))
        say("\n" + report.write(measured, VERSION, three.SHORT_TIMEOUTS, target))
        say(f"written to {target}")
    say(f"{(time.monotonic() - began) / 60:.1f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
