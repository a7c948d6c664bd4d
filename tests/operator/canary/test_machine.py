"""The canary against a cluster in memory: brokers that die, stop or lie, a topic that goes, a day that passes."""

from __future__ import annotations

import re

import pytest

from broadsheet_operator.canary.ledger import Kind
from broadsheet_operator.canary.machine import Pace
from broadsheet_operator.canary.messages import Outcome, number_of, payload
from broadsheet_operator.canary.tally import MOST_SAMPLES
from broadsheet_operator.reconcilers.reasons import Reason
from tests.operator.canary.world import World

HOUR = 3600.0


def healthy(**more: object) -> World:
    world = World(**more)  # type: ignore[arg-type]
    assert world.run(60.0, lambda: world.judge.health.healthy is True)
    return world


def test_a_payload_is_recognised_by_its_session_and_partition_only() -> None:
    value = payload("run", 3, 17)
    assert number_of(value, "run", 3) == 17
    for session, partition in (("other", 3), ("run", 4)):
        assert number_of(value, session, partition) is None
    for foreign in (None, b"", b"orders", b"a b c d", value + b" x", value.replace(b"17", b"-1")):
        assert number_of(foreign, "run", 3) is None


def test_one_record_per_interval_passes_through_each_broker() -> None:
    world = healthy()
    world.run(100.0)
    for broker in range(3):
        assert 100 <= world.of(broker, Kind.PRODUCED) <= 165
        assert world.of(broker, Kind.PRODUCED) - world.of(broker, Kind.CONSUMED) in (0, 1)
        assert world.canary.is_available(broker, world.now)
        percentile = world.canary.tallies.brokers[broker].percentile(0.99)
        assert percentile is not None and percentile < 0.02
    assert world.judge.health.message == "records pass through 3 brokers; 99 % of them within 1s"


def test_what_was_written_before_and_by_others_is_not_read() -> None:
    world = World(1)
    world.logs[0].records += [payload("run", 0, 0), payload("before", 0, 1), b"other"]
    world.run(20.0)
    assert world.of(0, Kind.CONSUMED) == world.of(0, Kind.PRODUCED) > 10
    assert world.total(Kind.DUPLICATED) == world.total(Kind.LOST) == 0


def test_a_dead_broker_is_unavailable_and_its_records_go_to_the_next_leader() -> None:
    world = healthy()
    world.down = {1}
    world.run(3.0)
    world.fail_over(1)
    world.run(4.0)
    assert not world.canary.is_available(1, world.now)
    assert world.canary.is_available(0, world.now)
    assert world.total(Kind.FAILED) == world.total(Kind.LOST) == 0, "they were sent again in time"
    assert world.canary.tallies.brokers[1].connect_errors > 0
    world.run(60.0)
    assert world.judge.health.healthy is False
    assert world.judge.health.reason == Reason.CANARY_FAILING
    assert world.judge.health.message.startswith("broker 1 leads no partition of the canary's topic")
    world.down = set()
    world.give_back()
    assert world.run(400.0, lambda: world.judge.health.healthy is True)
    assert world.total(Kind.FAILED) == world.total(Kind.LOST) == 0


def test_a_restart_of_a_broker_is_no_complaint() -> None:
    world = healthy()
    for broker in range(3):
        world.fail_over(broker)  # a controlled shutdown gives its partitions away first
        world.down = {broker}
        world.run(15.0)
        world.down = set()
        world.give_back()
        world.run(15.0)
        assert world.judge.health.healthy is True
    assert world.total(Kind.FAILED) == world.total(Kind.LOST) == world.total(Kind.DUPLICATED) == 0


def test_a_paused_broker_fails_its_records_and_nobody_elses() -> None:
    world = healthy()
    before = world.of(0, Kind.PRODUCED)
    world.paused = {2}
    world.run(40.0)
    assert world.of(2, Kind.FAILED) > 20
    assert world.of(0, Kind.FAILED) == world.of(1, Kind.FAILED) == 0
    assert world.of(0, Kind.PRODUCED) - before >= 39
    open_records = len(world.canary.partitions[2].ledger.open)
    assert open_records <= 10
    assert "broker 2 takes no records: timed out" in world.judge.health.message


@pytest.mark.parametrize("hours", [0.05, pytest.param(0.25, marks=pytest.mark.slow)])
def test_after_an_outage_of_all_brokers_nothing_is_lost_and_no_burst_comes(hours: float) -> None:
    world = healthy()
    lost_before, sent_before = world.total(Kind.LOST), world.sent
    world.down = {0, 1, 2}
    world.run(hours * HOUR)
    assert max(len(p.ledger) for p in world.canary.partitions.values()) < 600
    assert world.judge.health.healthy is False
    failed = world.total(Kind.FAILED)
    world.down = set()
    sent = world.sent
    assert world.run(20.0, lambda: all(world.canary.is_available(b, world.now) for b in range(3)))
    world.run(60.0)
    assert world.sent - sent < 3 * 110, "one record per interval and those that were on their way"
    assert world.total(Kind.LOST) == lost_before == 0
    assert world.total(Kind.FAILED) - failed <= 30
    assert world.run(400.0, lambda: world.judge.health.healthy is True)
    assert sent_before < sent


def test_a_canary_that_did_not_run_for_hours_blames_nobody() -> None:
    world = healthy()
    world.now += 5 * HOUR  # SIGSTOP: answers wait in the sockets
    world.run(60.0)
    assert world.total(Kind.FAILED) == world.total(Kind.LOST) == 0
    slowest = max(t.percentile(1.0) or 0.0 for t in world.canary.tallies.brokers.values())
    assert slowest < 1.0
    assert world.judge.health.healthy is True


def test_a_record_that_is_acknowledged_and_not_there_is_lost() -> None:
    world = healthy()
    world.swallow = lambda partition, number: partition == 1 and number % 50 == 0
    assert world.run(200.0, lambda: world.of(1, Kind.LOST) > 0)
    world.swallow = lambda partition, number: False
    world.run(10.0)
    assert (world.judge.health.healthy, world.judge.health.reason) == (False, Reason.RECORDS_LOST)
    assert world.judge.health.message == "acknowledged records are lost at broker 1"
    assert world.of(1, Kind.PRODUCED) - world.of(1, Kind.CONSUMED) in (1, 2)
    assert world.run(400.0, lambda: world.judge.health.healthy is True)


def test_a_log_that_was_cut_has_lost_what_was_read_too() -> None:
    world = healthy()
    log = world.logs[1]
    world.run(20.0)
    assert world.total(Kind.LOST) == 0
    gone = len(log.records) - 5
    del log.records[5:]  # an unclean election: acknowledged records are gone, and the canary has read them
    world.run(60.0)
    assert world.of(1, Kind.LOST) == world.total(Kind.LOST)
    assert gone - 1 <= world.total(Kind.LOST) <= gone, "the last one may not have been acknowledged yet"
    assert world.total(Kind.LATE) == 0
    assert (world.judge.health.healthy, world.judge.health.reason) == (False, Reason.RECORDS_LOST)
    assert world.canary.tallies.recreated == 0
    assert world.of(1, Kind.CONSUMED) >= 70
    assert world.canary.is_available(1, world.now)


def test_a_recreated_topic_is_noticed_and_is_no_loss() -> None:
    world = healthy()
    world.topic_id = None
    world.run(7.0)
    assert world.canary.trouble == "the topic does not exist"
    world.topic_id = "first"
    world.recreate()
    world.run(30.0)
    assert world.canary.tallies.recreated == 1
    assert world.total(Kind.LOST) == 0
    assert all(world.canary.is_available(b, world.now) for b in range(3))
    world.recreate()  # between two looks
    world.run(30.0)
    assert world.canary.tallies.recreated == 2
    assert world.total(Kind.LOST) == 0
    assert all(world.canary.is_available(b, world.now) for b in range(3))


def test_a_recreated_topic_is_no_loss_while_metadata_still_shows_the_former_one() -> None:
    """The leader had the new log when another broker still answered with the old id: what was read counted as lost."""
    world = healthy()
    world.metadata_lag = 1.5
    world.recreate()
    world.run(30.0)
    assert (world.canary.tallies.recreated, world.total(Kind.LOST)) == (1, 0)
    assert all(world.canary.is_available(b, world.now) for b in range(3))


@pytest.mark.parametrize("tenths", range(0, 50, 5))
def test_what_was_on_its_way_when_a_topic_was_made_again_is_read_in_the_new_one(tenths: int) -> None:
    """It was the first record of the new log, which was read from its end: acknowledged and not there."""
    world = healthy()
    world.delay = 0.9
    world.run(20.0 + tenths / 10)
    world.recreate()  # at any time between two looks
    world.run(40.0)
    assert (world.canary.tallies.recreated, world.total(Kind.LOST)) == (1, 0)


def test_min_isr_is_said_in_kafkas_words() -> None:
    world = healthy()
    world.refusal = (Outcome.NOT_STORED, "NOT_ENOUGH_REPLICAS (fewer replicas are in sync than ...)")
    world.run(60.0)
    assert "broker 0 takes no records: NOT_ENOUGH_REPLICAS" in world.judge.health.message
    world.refusal = (Outcome.FINAL, "TOPIC_AUTHORIZATION_FAILED (the canary may not use the topic)")
    world.run(10.0)
    assert world.canary.tallies.brokers[0].trouble.startswith("TOPIC_AUTHORIZATION_FAILED")


def test_slow_brokers_are_named_with_their_latency_and_the_words_stay() -> None:
    world = healthy()
    world.delay = 1.6
    assert world.run(400.0, lambda: world.judge.health.healthy is False)
    first = world.judge.health
    assert first.reason == Reason.CANARY_SLOW
    assert re.fullmatch(r"records (through broker \d take [1-5]\.\d s(, )?){3} at p99, the limit is 1s", first.message)
    world.delay = 1.9
    world.run(200.0)
    assert world.judge.health == first, "a status is not written again for every figure"
    world.delay = 0.004
    assert world.run(500.0, lambda: world.judge.health.healthy is True)


def test_a_broker_that_joins_and_one_that_leaves() -> None:
    world = healthy(brokers=2)
    world.logs[2] = type(world.logs[0])(2, 2)
    assert world.run(20.0, lambda: 2 in world.canary.tallies.brokers and world.canary.is_available(2, world.now))
    world.logs[2].preferred = world.logs[2].leader = 0
    world.run(20.0)
    assert world.canary.expected == {0, 1}
    assert world.judge.health.healthy is True


@pytest.mark.slow
def test_a_day_passes_without_drift_or_growth() -> None:
    world = healthy(pace=Pace(interval=5.0))
    start, produced = world.now, world.total(Kind.PRODUCED)
    sizes = []
    for hour in range(24):
        world.run(HOUR - 120.0)
        world.fail_over(hour % 3)
        world.down = {hour % 3}
        world.run(60.0)
        world.down = set()
        world.give_back()
        world.run(60.0)
        for log in world.logs.values():  # retention
            gone = max(0, len(log.records) - 600)
            log.start += gone
            del log.records[:gone]
        sizes.append(sum(len(p.ledger) + len(p.deadlines) + len(p.again) for p in world.canary.partitions.values()))
    seconds = world.now - start
    assert world.total(Kind.PRODUCED) - produced == pytest.approx(3 * seconds / 5, rel=0.002)
    assert world.total(Kind.LOST) == world.total(Kind.DUPLICATED) == world.total(Kind.FAILED) == 0
    assert max(sizes) <= max(sizes[:3]) + 10
    for tally in world.canary.tallies.brokers.values():
        assert len(tally.latencies) <= min(MOST_SAMPLES, 140)
    for partition in world.canary.partitions.values():
        assert abs(partition.send_at - world.now) <= 5.0


def test_a_fast_canary_keeps_its_pace() -> None:
    world = healthy(pace=Pace(interval=0.1))
    before = world.total(Kind.PRODUCED)
    world.run(100.0)
    assert world.total(Kind.PRODUCED) - before == pytest.approx(3000, rel=0.02)
