"""`make bench`: our broker and Apache Kafka in turn, and one table of ratios."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from e2e.bench import report
from e2e.bench.measures import GROUPS, QUICK, Round, Sizes
from e2e.broadsheet import Broadsheet
from e2e.kafka.apache import VERSION, ApacheKafka, jars
from e2e.process import BrokerProcess

SHORT_RUN = "**A short run (`--quick`): a first impression. `make bench` takes three longer rounds of each broker.**"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m e2e.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, help="rounds on each broker (3; with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="one short round: a first impression, nothing to publish")
    parser.add_argument("--only", action="append", choices=GROUPS, help="measure this alone (may be repeated)")
    parser.add_argument("--control", action="store_true", help="Apache Kafka against itself: what the noise is")
    parser.add_argument(
        "--output", type=Path, help="where to write benchmarks.md and .json (docs/; partial runs: nowhere)"
    )
    return parser.parse_args()


def say(line: str) -> None:
    print(line, flush=True)


def one_round(kind: type[BrokerProcess], sizes: Sizes, groups: list[str]) -> dict[str, float]:
    """A fresh broker on a fresh directory, gone with its data afterwards."""
    broker = kind()
    try:
        return Round(broker, sizes, groups, say).run()
    except Exception:
        say(f"the last words of {broker.name}:\n{broker.last_words()}")
        raise
    finally:
        broker.close()


def main() -> int:
    options = arguments()
    groups = options.only or list(GROUPS)
    sizes = QUICK if options.quick else Sizes()
    rounds = options.rounds or (1 if options.quick else 3)
    sides: list[type[BrokerProcess]] = [ApacheKafka if options.control else Broadsheet, ApacheKafka]
    jars()
    began = time.monotonic()
    figures: list[list[dict[str, float]]] = [[], []]
    for number in range(rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):  # A B, B A, A B: neither is always second
            say(f"round {number + 1} of {rounds}: {sides[side].name}")
            figures[side].append(one_round(sides[side], sizes, groups))
    whole = not (options.quick or options.only or options.control)
    target = options.output or (report.DOCS if whole else Path(tempfile.mkdtemp(prefix="bench-")))
    remark = SHORT_RUN if options.quick else ""
    say("\n" + report.write(figures[0], figures[1], VERSION, target, remark))
    say(f"{(time.monotonic() - began) / 60:.1f} minutes; written to {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
