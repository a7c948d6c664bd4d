"""`make scale`: how far one operator and three brokers go, and where their curves bend; written to docs/scale.md."""

from __future__ import annotations

import argparse
import signal
import sys
import time

from e2e.scale import brokers, operator, report

PARTS = ("operator", "brokers")
QUICK = 10
"""`--quick` takes this part of every size."""


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.scale", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"which: {', '.join(PARTS)}; without one, all of them")
    parser.add_argument("--quick", action="store_true", help=f"a {QUICK}th of every size; the page is not written")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is ended on the way out
    began = time.monotonic()
    for part in options.parts or PARTS:
        less = QUICK if options.quick else 1
        rows = operator.run(less, say) if part == "operator" else brokers.run(less, say)
        say("\n" + report.table(part, rows))
        if not options.quick:
            report.write(part, rows)
    say(f"{(time.monotonic() - began) / 60:.1f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
