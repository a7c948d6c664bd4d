"""franz-go's own test suite for its client, run against a broker.

The suite is pinned in go.mod. `tests.allow` lists the tests that must pass, `FINDINGS.md` says of each other test that
talks to a broker why it is not there. Run by hand:

    e2e/kgo/run [--broker apache] [NAME ...]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from e2e.apache.apache import CACHE, ApacheKafka
from e2e.go_programs import built_once, go
from tests.support.broadsheet import Broadsheet

HERE = Path(__file__).parent
PACKAGE = "github.com/twmb/franz-go/pkg/kgo"
RESULT = re.compile(r"^--- (PASS|FAIL|SKIP): (\w+) ", re.MULTILINE)
BROKERS = {"broadsheet": Broadsheet, "apache": ApacheKafka}


def names(file: str) -> list[str]:
    """The tests listed in a file of this directory, one a line; `#` starts a comment."""
    lines = (line.partition("#")[0].strip() for line in (HERE / file).read_text().splitlines())
    return [line for line in lines if line]


ALLOWED = names("tests.allow")


def binary() -> Path:
    """The compiled suite, built on first use."""

    def build(target: Path) -> None:
        go(HERE, "test", "-c", "-o", str(target), PACKAGE)

    return built_once("kgo-suite", (HERE / "go.sum").read_bytes(), build)


def run_suite(bootstrap: str, tests: Collection[str], timeout_s: int = 400) -> tuple[dict[str, str], str]:
    """Run the named tests; PASS, FAIL or SKIP of each that ended, and all that was printed."""
    settings = {
        "KGO_SEEDS": bootstrap,
        "KGO_TEST_RF": "1",
        "KGO_TEST_RECORDS": "10000",
        "KGO_LOG_LEVEL": "none",
    }
    done = subprocess.run(
        [str(binary()), "-test.v", f"-test.timeout={timeout_s}s", "-test.run", f"^({'|'.join(tests)})$"],
        cwd=CACHE,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s + 30,
        check=False,
    )
    return {name: result for result, name in RESULT.findall(done.stdout)}, done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(prog="e2e/kgo/run", description="franz-go's kgo suite against a broker")
    parser.add_argument("tests", nargs="*", default=ALLOWED, help="names of tests (those of tests.allow)")
    parser.add_argument("--broker", choices=sorted(BROKERS), default="broadsheet")
    parser.add_argument("--verbose", action="store_true", help="print all that the suite prints")
    options = parser.parse_args()
    with BROKERS[options.broker]() as broker:
        results, output = run_suite(broker.bootstrap, options.tests)
    if options.verbose:
        print(output)
    for name in options.tests:
        print(f"{results.get(name, 'DID NOT END'):<12} {name}")
    passed = sum(results.get(name) == "PASS" for name in options.tests)
    print(f"{passed} of {len(options.tests)} passed on {options.broker}")
    return 0 if passed == len(options.tests) else 1


if __name__ == "__main__":
    sys.exit(main())
