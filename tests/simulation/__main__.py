"""`python -m tests.simulation`: many seeds on all cores, and how to repeat what failed."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence

from tests.simulation.scenario import Run, run
from tests.simulation.shrink import shrink


def parse_seeds(text: str) -> range:
    """`1..500` (both included), or a count that begins at 1."""
    first, dots, last = text.partition("..")
    return range(int(first), int(last) + 1) if dots else range(1, int(first) + 1)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", default="100", help="1..500, or a count")
    parser.add_argument("--brokers", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--shrink", action="store_true", help="drop faults of what fails for as long as it still does")
    parser.add_argument("--verbose", action="store_true", help="every run, and what the brokers log")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.CRITICAL + 1, format="%(name)s %(message)s")
    if not options.verbose:
        logging.disable(logging.CRITICAL)
    seeds = parse_seeds(options.seeds)
    began, failed, steps, sends = time.monotonic(), [], 0, 0
    write = sys.stdout.write
    results = run_all(seeds, options.brokers, options.jobs)
    for result in results:
        steps += result.steps
        sends += len(result.history.sends)
        if not result.good:
            failed.append(result.seed)
        if options.shrink and not result.good:
            result = shrunk(result)
        if options.verbose or not result.good:
            write(result.report() + "\n")
            sys.stdout.flush()
    seconds = time.monotonic() - began
    write(
        f"{len(seeds)} runs of {options.brokers} broker(s) in {seconds:.1f} s ({len(seeds) / seconds:.1f} a second): "
        f"{sends} sends, {steps} steps, {len(failed)} failed{': ' if failed else ''}{', '.join(map(str, failed))}\n"
    )
    return 1 if failed else 0


def shrunk(failed: Run) -> Run:
    """The same seed with the fewest faults that still fail."""
    last = failed

    def fails(kept: Sequence[int]) -> bool:
        nonlocal last
        result = run(failed.seed, failed.brokers, kept)
        last = last if result.good else result
        return not result.good

    every = range(len(failed.schedule))
    shrink(every, fails)
    return last


def run_all(seeds: Sequence[int], brokers: int, jobs: int) -> Iterator[Run]:
    """The runs of these seeds, in their order, on several cores."""
    tasks = [(seed, brokers) for seed in seeds]
    if jobs == 1 or len(tasks) == 1:
        yield from map(_run, tasks)
    else:
        with multiprocessing.get_context("fork").Pool(jobs) as pool:
            yield from pool.imap(_run, tasks, chunksize=2)


def _run(task: tuple[int, int]) -> Run:
    return run(*task)


if __name__ == "__main__":
    sys.exit(main())
