"""Runs of seeds as part of the tests; `make simulate` for more. And that the runs notice what they should."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from broadsheet_broker.log.producer_state import ProducerState
from broadsheet_broker.metadata.delta import merge_partition
from broadsheet_broker.metadata.image import PartitionImage
from broadsheet_broker.raft import quorum_state
from broadsheet_broker.replication.partition import Partition
from broadsheet_broker.replication.position_reader import PositionReader
from tests.simulation.__main__ import parse_seeds, run_all
from tests.simulation.faults import make_schedule
from tests.simulation.scenario import Run, run

SECONDS = float(os.environ.get("BROADSHEET_SIMULATION_SECONDS") or 90)
"""Seconds of CPU for the seeds, shared among the pieces; those that went wrong once run in any case."""

PIECES = [*((1, 1, piece, 2) for piece in range(2)), *((3, 4, piece, 5) for piece in range(5)), (5, 1, 0, 1)]
"""Tests that the seeds are spread over: brokers, share of the time, the first seed and the step to the next."""

LEAST_SEEDS = {1: 20, 3: 12, 5: 4}
"""Of a piece, by the number of brokers, however slow the machine is."""

JOBS = 1 if "PYTEST_XDIST_WORKER" in os.environ else os.cpu_count() or 1
"""Processes for a list of seeds: the workers of pytest-xdist are one for each core already."""

ONCE_WRONG = (
    106,
    212,
    338,
    364,
    438,
    499,
    750,
    820,
    1044,
    1373,
    1620,
    1753,
    1786,
    1883,
    1971,
    2056,
    7404,
    8303,
    30630,
    31015,
)
"""Runs of three brokers that went wrong once. The schedules of some have changed since; defects of the broker have
tests of their own besides."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Brokers in trouble log much, and making the lines takes time."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("brokers", "share", "first", "step"), PIECES)
def test_brokers_keep_their_promises(brokers: int, share: int, first: int, step: int) -> None:
    end = time.process_time() + SECONDS * share / sum(piece[1] for piece in PIECES)
    for number, seed in enumerate(itertools.count(1 + first, step)):
        if number >= LEAST_SEEDS[brokers] and time.process_time() > end:
            break
        result = run(seed, brokers)
        assert result.good, result.report()


def test_what_went_wrong_once_goes_well() -> None:
    for result in run_all(ONCE_WRONG, 3, JOBS):
        assert result.good, result.report()


def trace_in_another_process(seed: int, brokers: int, hash_seed: str) -> str:
    program = f"from tests.simulation.scenario import run; r = run({seed}, {brokers}); print(r.trace, r.steps)"
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True, timeout=120
    )
    return done.stdout.strip()


@pytest.mark.parametrize(("seed", "brokers"), [(2, 1), (11, 1), (5, 3), (26, 3)])
def test_the_same_seed_gives_the_same_run_in_any_process(seed: int, brokers: int) -> None:
    here = run(seed, brokers)
    again = run(seed, brokers)
    assert (again.trace, again.steps) == (here.trace, here.steps)
    for hash_seed in ("0", "1"):
        assert trace_in_another_process(seed, brokers, hash_seed) == f"{here.trace} {here.steps}"
    assert run(seed + 1, brokers).trace != here.trace


# A harness that finds nothing may be one that looks at nothing: brokers with a defect must be noticed.

DEFECT = "a method of a compiled class cannot be made defective"


def first_complaint(seeds: int, brokers: int = 1) -> str:
    """What is wrong with the first of this many runs that is not good; empty when all are."""
    for result in run_all(range(1, seeds + 1), brokers, JOBS):
        if not result.good:
            return result.complaints[0]
    return ""


@pytest.mark.pure(DEFECT)
def test_a_broker_that_acknowledges_what_it_does_not_write_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    flush = Partition.flush

    def forgetful(self: Partition) -> None:
        log: Any = self.log
        if log.log_end_offset % 37 == 5 and log.tail.pending:
            log.tail.pending.clear()
        flush(self)

    monkeypatch.setattr(Partition, "flush", forgetful)
    assert first_complaint(10)


@pytest.mark.pure(DEFECT)
def test_a_broker_that_takes_retries_for_new_records_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProducerState, "find_duplicate", lambda *_: None)
    monkeypatch.setattr(ProducerState, "check", lambda *_, **__: None)
    assert "duplicate" in first_complaint(30)


def test_a_controller_that_forgets_its_epoch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quorum_state, "load", lambda *_: quorum_state.ElectionState())
    monkeypatch.setattr("broadsheet_broker.raft.storage.MetadataLog.last_epoch", 0)
    assert "epoch" in first_complaint(30)


@pytest.mark.pure(DEFECT)
def test_a_leader_that_commits_without_its_isr_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(self: Partition) -> bool:
        moves = self.flushed_end_offset > self.high_watermark
        if moves:
            self._move_high_watermark(self.flushed_end_offset)
        return moves

    monkeypatch.setattr(Partition, "_advance_high_watermark", hasty)
    assert "of the ISR" in first_complaint(5, brokers=3)


@pytest.mark.pure(DEFECT)
def test_a_leader_that_does_not_answer_where_logs_part_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PositionReader, "_diverges", lambda *_: False)
    assert "replicas differ" in run(2, brokers=3).complaints[0]


def test_a_controller_that_forgets_who_is_eligible_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker leads again that has lost its power, although another one has more."""
    monkeypatch.setattr("broadsheet_broker.controller.elections.eligible_replicas.is_on", lambda image: False)
    assert "was committed" in run(438, brokers=3).complaints[0]


@pytest.mark.pure(DEFECT)
def test_a_follower_that_takes_its_high_watermark_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    move = Partition._move_high_watermark

    def moody(self: Partition, mark: int) -> None:
        move(self, mark)
        if not self.is_leader and mark % 7 == 0:
            self.high_watermark = 0

    monkeypatch.setattr(Partition, "_move_high_watermark", moody)
    assert "take its high watermark back" in first_complaint(5, brokers=3)


def test_a_controller_that_lets_a_fenced_broker_lead_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broadsheet_broker.controller.brokers.broker_went", lambda *_, **__: [])
    assert "led by a broker that is fenced" in first_complaint(5, brokers=3)


def test_a_node_that_reads_other_metadata_from_the_same_log_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second change of a partition turns its directories round, so the nodes' images of one offset differ."""
    calls = itertools.count()

    def merge(partition: PartitionImage, change: Any) -> PartitionImage:
        merged = merge_partition(partition, change)
        return merged._replace(directories=merged.directories[::-1]) if next(calls) % 2 else merged

    monkeypatch.setattr("broadsheet_broker.metadata.delta.merge_partition", merge)
    assert "has other metadata at offset" in first_complaint(3, brokers=3)


# The parts.


def test_seeds_are_a_count_or_a_range() -> None:
    assert list(parse_seeds("3")) == [1, 2, 3]
    assert list(parse_seeds("7..9")) == [7, 8, 9]


def test_a_failed_run_tells_its_schedule_and_how_to_repeat_it() -> None:
    schedule = make_schedule(Random(1), 3, 3.0, 15.0)
    text = Run(12, 3, schedule=schedule, complaints=["lost write"]).report()
    assert "WRONG: lost write" in text
    assert "make simulate SEEDS=12..12 BROKERS=3 VERBOSE=1" in text
    assert all(fault.kind in text for fault in schedule)
