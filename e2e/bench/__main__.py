"""`make bench`: our broker and Apache Kafka in turn, one broker each and three brokers each, and tables of ratios."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2e.apache.apache import VERSION, ApacheKafka, jars
from e2e.bench import five, one, report, three
from e2e.bench.core import tables
from e2e.bench.core.part import CorePart
from e2e.bench.core.rows import ROWS
from e2e.bench.core.sides import CODES, RELEASES, sides
from tests.support.broadsheet import Broadsheet
from tests.support.broker_process import BrokerProcess

SHORT_RUN = "**A short run (`--quick`): a first impression. `make bench` takes longer rounds, and more of them.**"
ROUNDS = {"core": 3, "core-three": 3, "one": 3, "three": 2}
GROUPS = {**{part: [row.key for row in rows] for part, rows in ROWS.items()}, "one": one.GROUPS, "three": three.GROUPS}

Figures = dict[str, float]
TakeRound = Callable[[type[BrokerProcess]], Figures]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m e2e.bench", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help="`core` and `core-three`: one and three brokers at saturation; `one` and `three`: what a Java client sees",
    )
    parser.add_argument("--rounds", type=int, help="rounds of each (3, but three: 2; with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="one short round: a first impression, nothing to publish")
    parser.add_argument(
        "--only",
        action="append",
        choices=sorted({group for groups in GROUPS.values() for group in groups}),
        help="measure this row or group alone (may be repeated)",
    )
    parser.add_argument("--control", action="store_true", help="one, three: Apache Kafka against itself, for the noise")
    parser.add_argument("--ours", action="store_true", help="our broker alone, without a table: to find what is slow")
    parser.add_argument(
        "--python",
        action="append",
        type=Path,
        help="core: an interpreter with Broadsheet in it (may be repeated; the first is compared; default: this one)",
    )
    parser.add_argument(
        "--code",
        action="append",
        choices=CODES,
        help="core: the compiled modules or the pure ones (may be repeated; both, and the first is compared)",
    )
    parser.add_argument("--kafka", action="append", help=f"core: a release (may be repeated; {' and '.join(RELEASES)})")
    parser.add_argument(
        "--output", type=Path, help="where to write benchmarks.md and .json (docs/; partial runs: nowhere)"
    )
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in GROUPS]:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    options.parts = [
        part for part in options.parts or GROUPS if not options.only or set(options.only) & set(GROUPS[part])
    ]
    if not options.parts:
        parser.error(f"no part that was named has {', '.join(options.only)}")
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


def take_turns(name: str, kinds: list[type[BrokerProcess]], rounds: int, take_round: TakeRound) -> list[list[Figures]]:
    """The rounds of each side: A B, B A, A B, so that neither is always second."""
    figures: list[list[Figures]] = [[] for _ in kinds]
    for number in range(rounds):
        for side in range(len(kinds)) if number % 2 == 0 else reversed(range(len(kinds))):
            say(f"{name}, round {number + 1} of {rounds}: {kinds[side].name}")
            figures[side].append(take_round(kinds[side]))
    return figures


def round_of(part: str, quick: bool, groups: list[str]) -> TakeRound:
    if part == "one":
        one_sizes = one.QUICK if quick else one.Sizes()
        return lambda kind: one_broker(kind, one_sizes, groups)
    sizes = three.QUICK if quick else three.Sizes()
    return lambda kind: three.Round(kind, sizes, groups, say).run()


def at_saturation(part: str, options: argparse.Namespace, rounds: int) -> dict[str, Any]:
    """The document of `core` or `core-three`."""
    releases = [] if options.ours else options.kafka or RELEASES
    compared = sides(options.python or [Path(sys.executable)], options.code or CODES, releases)
    results = CorePart(part, compared, options.only, options.quick, say).run(rounds)
    for result in results:
        say(tables.summary(result, [side.name for side in compared]))
    remark = SHORT_RUN if options.quick else ""
    return tables.document(compared, results, rounds, remark, report.machine())


def as_a_client_sees(part: str, options: argparse.Namespace, rounds: int) -> report.Part:
    """`one` or `three`."""
    kinds: list[type[BrokerProcess]] = [ApacheKafka if options.control else Broadsheet, ApacheKafka]
    if options.ours:
        kinds = [Broadsheet]
    groups = [group for group in GROUPS[part] if group in (options.only or GROUPS[part])]
    figures = take_turns(part, kinds, rounds, round_of(part, options.quick, groups))
    return report.Part(figures[0], figures[-1], SHORT_RUN if options.quick else "")


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # brokers are ended on the way out
    jars()
    began = time.monotonic()
    core: dict[str, dict[str, Any]] = {}
    seen: dict[str, report.Part] = {}
    for part in options.parts:
        rounds = options.rounds or (1 if options.quick else ROUNDS[part])
        if part in ROWS:
            core[part] = at_saturation(part, options, rounds)
        else:
            seen[part] = as_a_client_sees(part, options, rounds)
    if not options.ours:
        whole = not (options.quick or options.only or options.control)
        target = options.output or (report.DOCS if whole else Path(tempfile.mkdtemp(prefix="bench-")))
        say("\n" + report.write(seen, core, VERSION, three.SHORT_TIMEOUTS, target))
        say(f"written to {target}; its lines for the README, Apache Kafka's figures in brackets:")
        say("\n".join(five.lines(json.loads((target / report.JSON).read_text())["parts"])))
    say(f"{(time.monotonic() - began) / 60:.1f} minutes")
    return 1 if any(row["failures"] for part in core.values() for row in part["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
