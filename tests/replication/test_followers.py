"""Leaders and followers together: copies, high watermarks, ISRs, leaders that change."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.config_record import ConfigRecord
from broadsheet_broker.wire.messages.delete_records_request import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from broadsheet_broker.wire.messages.partition_change_record import PartitionChangeRecord
from broadsheet_broker.wire.messages.unfence_broker_record import UnfenceBrokerRecord
from tests.support.replica_cluster import Cluster, run
from tests.support.replica_services import Bench, batch
from tests.support.replica_services import run as run_rooms

ALL = (1, 2, 3)


def test_followers_copy_what_the_leader_has(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create()
        leader = cluster.brokers[1]
        row = await leader.produce(b"a", b"b")
        assert (row.error_code, row.base_offset) == (0, 0)
        for broker in cluster.brokers.values():
            assert broker.values() == [b"a", b"b"], "acknowledged with acks=all: everybody has it"
        assert leader.partition().high_watermark == 2
        await cluster.until(lambda: all(broker.partition().high_watermark == 2 for broker in cluster.brokers.values()))

    run(tmp_path, scenario)


def test_many_appends_in_flight_are_acknowledged_in_order(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create()
        rows = await asyncio.gather(*(cluster.brokers[1].produce(b"%d" % number) for number in range(200)))
        assert [row.base_offset for row in rows] == list(range(200))
        assert cluster.brokers[3].values() == [b"%d" % number for number in range(200)]

    run(tmp_path, scenario)


def test_partitions_of_one_leader_share_a_fetch(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create(partitions=50)
        await asyncio.gather(*(cluster.brokers[1].produce(b"x", index=index) for index in range(50)))
        follower = cluster.brokers[2]
        assert all(follower.values(index) == [b"x"] for index in range(50))
        assert follower.links.sent < 25

    run(tmp_path, scenario)


def test_without_enough_replicas_nothing_is_taken(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create(min_insync_replicas="2")
        cluster.change(isr=[1])
        row = await cluster.brokers[1].produce(b"a")
        # The followers that keep up are proposed at once, so it may have been too late for that refusal.
        await cluster.until(lambda: len(cluster.state.isr) == 3)
        assert row.error_code in (0, ErrorCode.NOT_ENOUGH_REPLICAS)
        assert (await cluster.brokers[1].produce(b"b")).error_code == 0

    run(tmp_path, scenario)


def test_a_follower_that_is_away_leaves_the_isr_and_comes_back(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create()
        leader = cluster.brokers[1]
        await leader.produce(b"a")
        cluster.unlink(1, 3)
        waiting = asyncio.ensure_future(leader.produce(b"b"))
        await cluster.until(lambda: cluster.brokers[2].values() == [b"a", b"b"])
        assert not waiting.done()
        cluster.now_ms += 31_000
        await cluster.until(lambda: cluster.brokers[2].links.sent and 2 in leader.replicas.last_fetch_ms)
        await cluster.until(lambda: leader.replicas.last_fetch_ms[2] == cluster.now_ms)
        leader.replicas._shrink()
        assert (await waiting).error_code == 0
        assert cluster.state.isr == (1, 2)
        cluster.cut.clear()
        await cluster.until(lambda: cluster.state.isr == (1, 2, 3))
        assert cluster.brokers[3].values() == [b"a", b"b"]

    run(tmp_path, scenario)


def test_until_a_shrink_is_confirmed_the_high_watermark_waits(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create()
        leader = cluster.brokers[1]
        await leader.produce(b"a")
        cluster.unlink(1, 3)
        cluster.hold_isr = True
        waiting = asyncio.ensure_future(leader.produce(b"b"))
        await cluster.until(lambda: cluster.brokers[2].values() == [b"a", b"b"])
        cluster.now_ms += 31_000
        await cluster.until(lambda: leader.replicas.last_fetch_ms[2] == cluster.now_ms)
        leader.replicas._shrink()
        (proposal,) = cluster.proposals
        assert [member.broker_id for member in proposal.isr] == [1, 2]
        await cluster.until(lambda: leader.partition().followers[2].log_end_offset == 2)
        assert not waiting.done()
        assert leader.partition().high_watermark == 1
        cluster.change(isr=[1, 2])  # the metadata tell it, the answer was lost
        assert (await waiting).error_code == 0

    run(tmp_path, scenario)


def test_a_fenced_broker_is_not_proposed(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create()
        cluster.fence(3)
        cluster.change(isr=[1, 2])
        await cluster.brokers[1].produce(b"a")
        await cluster.until_equal(1, 2, 3)
        await cluster.brokers[1].produce(b"b")
        assert cluster.proposals == []
        assert cluster.state.isr == (1, 2)

    run(tmp_path, scenario)


def test_a_refused_proposal_is_made_again_with_the_next_fetch(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        answers = [ErrorCode.INELIGIBLE_REPLICA, ErrorCode.UNKNOWN_SERVER_ERROR, None]
        cluster.on_proposal = lambda change: answers.pop(0) if answers else None
        cluster.create()
        cluster.change(isr=[1, 2])
        for _ in range(3):
            await cluster.brokers[1].produce(b"a")
        await cluster.until(lambda: cluster.state.isr == (1, 2, 3))
        assert not answers

    run(tmp_path, scenario)


def test_a_follower_of_a_quiet_partition_comes_back_although_nothing_is_written(tmp_path: Path) -> None:
    """A broker that was fenced for a while and whose fetch session is still good has nothing to tell of it."""

    async def scenario(cluster: Cluster) -> None:
        refusals = [ErrorCode.INELIGIBLE_REPLICA]
        cluster.on_proposal = lambda change: refusals.pop() if refusals else None
        cluster.create()
        leader = cluster.brokers[1]
        await leader.produce(b"a")
        sessions = leader.replicas.sessions._sessions
        await cluster.until(lambda: len(sessions) == 2 and not any(session.changed for session in sessions.values()))
        cluster.fence(3)
        cluster.change(isr=[1, 2])
        broker = cluster.image.brokers[3]
        cluster.replay(UnfenceBrokerRecord(id=3, epoch=broker.epoch))
        await cluster.until(lambda: cluster.state.isr == (1, 2, 3))
        assert not refusals

    run(tmp_path, scenario)


def test_when_the_leader_changes_waiting_appends_hear_it_and_readers_are_sent_on(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create()
        old, new = cluster.brokers[1], cluster.brokers[2]
        await old.produce(b"a")
        cluster.unlink(1, 3)
        waiting = asyncio.ensure_future(old.produce(b"b"))
        await cluster.until(lambda: new.values() == [b"a", b"b"])
        cluster.lead(2)
        assert (await waiting).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert (await old.produce(b"c")).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert (await new.produce(b"d")).base_offset == 2
        await cluster.until_equal(1, 2, 3)
        for broker in cluster.brokers.values():
            assert broker.values() == [b"a", b"b", b"d"]

    run(tmp_path, scenario)


def test_leadership_goes_round_under_load_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create(min_insync_replicas="2")
        acknowledged: list[bytes] = []
        done = False

        async def producer(name: int) -> None:
            number = 0
            while not done:
                value = b"%d-%d" % (name, number)
                row = await cluster.brokers[cluster.state.leader].produce(value, timeout_ms=2000)
                if not row.error_code:
                    acknowledged.append(value)
                    number += 1

        producers = [asyncio.ensure_future(producer(name)) for name in range(4)]
        for turn in range(12):
            heard = len(acknowledged)
            await cluster.until(lambda heard=heard: len(acknowledged) > heard + 20)  # type: ignore[misc]
            cluster.lead(ALL[turn % 3])
        done = True
        await asyncio.gather(*producers)
        await cluster.until_equal(*ALL)
        for broker in cluster.brokers.values():
            values = broker.values()
            assert values == cluster.brokers[1].values()
            positions = {value: index for index, value in enumerate(values)}
            assert [value for value in acknowledged if value not in positions] == []
            for name in range(4):
                own = [positions[v] for v in acknowledged if v.startswith(b"%d-" % name)]
                assert own == sorted(own)

    run(tmp_path, scenario)


def test_a_killed_follower_comes_back_and_joins(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create(min_insync_replicas="2")
        await cluster.brokers[1].produce(b"a")
        await cluster.kill(3)
        cluster.fence(3)
        cluster.change(isr=[1, 2])
        await cluster.brokers[1].produce(b"b", b"c")
        await cluster.start(3)
        await cluster.until(lambda: cluster.state.isr == (1, 2, 3))
        assert cluster.brokers[3].values() == [b"a", b"b", b"c"]
        assert cluster.proposals[-1].isr[-1].broker_epoch == cluster.image.brokers[3].epoch

    run(tmp_path, scenario)


def test_a_follower_without_its_disk_copies_everything_again(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create()
        for number in range(20):
            await cluster.brokers[1].produce(b"%d" % number)
        await cluster.kill(3)
        cluster.fence(3)
        cluster.change(isr=[1, 2])
        (tmp_path / "3").rename(tmp_path / "gone")
        await cluster.start(3)
        await cluster.until(lambda: cluster.state.isr == (1, 2, 3))
        assert cluster.brokers[3].values() == [b"%d" % number for number in range(20)]

    run(tmp_path, scenario)


def test_a_follower_below_the_leaders_start_begins_there(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create()
        await cluster.brokers[1].produce(b"a", b"b")
        cluster.unlink(1, 3)
        cluster.now_ms += 31_000
        cluster.change(isr=[1, 2])
        for number in range(5):
            await cluster.brokers[1].produce(b"%d" % number)
        cluster.brokers[1].partition().delete_records_before(6)
        await cluster.until(lambda: cluster.brokers[2].partition().log.log_start_offset == 6)
        cluster.cut.clear()
        await cluster.until(lambda: cluster.state.isr == (1, 2, 3))
        assert cluster.brokers[3].partition().log.log_start_offset == 6
        assert cluster.brokers[3].values() == [b"4"]

    run(tmp_path, scenario)


def test_a_follower_takes_over_a_batch_of_which_the_leader_has_deleted_the_first_records(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs hold whole batches: such a log begins before its start offset, and a new replica was stuck there."""

    async def scenario(cluster: Cluster) -> None:
        cluster.create((1, 2))
        await cluster.brokers[1].produce(b"a", b"b", b"c", b"d", b"e")
        cluster.brokers[1].partition().delete_records_before(3)
        await cluster.until(lambda: cluster.brokers[2].partition().log.log_start_offset == 3)
        cluster.change(replicas=[1, 2, 3], adding_replicas=[3])
        await cluster.until(lambda: cluster.state.isr == (1, 2, 3))
        await cluster.brokers[1].produce(b"f")
        new = cluster.brokers[3]
        assert (new.values(), new.partition().log.log_start_offset) == ([b"d", b"e", b"f"], 3)
        await cluster.until(lambda: new.partition().high_watermark == 6)

    run(tmp_path, scenario)
    assert "records were lost" not in caplog.text


def test_a_cut_below_the_high_watermark_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create(leader=2)
        partition = bench.replicas.partition("orders", 0)
        partition.append_fetched(batch(b"a", b"b", leader_epoch=0))
        partition.follow_marks(2, 0)
        partition.truncate_to(0)
        assert partition.high_watermark == 0

    run_rooms(tmp_path, scenario)
    assert "orders-0 is cut to offset 0, below its high watermark 2: records were lost" in caplog.text


def test_delete_records_waits_until_every_living_replica_has_deleted(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create()
        await cluster.brokers[1].produce(b"a")
        await cluster.brokers[1].produce(b"b")
        topic = DeleteRecordsTopic(name="orders", partitions=[DeleteRecordsPartition(partition_index=0, offset=1)])
        body = DeleteRecordsRequest(topics=[topic], timeout_ms=10_000)
        row = (await cluster.brokers[1].call(2, body)).topics[0].partitions[0]
        assert (row.error_code, row.low_watermark) == (0, 1)
        assert all(broker.partition().log.log_start_offset == 1 for broker in cluster.brokers.values())
        cluster.unlink(1, 2)
        topic.partitions[0].offset = 2
        body.timeout_ms = 50
        row = (await cluster.brokers[1].call(2, body)).topics[0].partitions[0]
        assert (row.error_code, row.low_watermark) == (ErrorCode.REQUEST_TIMED_OUT, 1)
        cluster.fence(2)
        body.timeout_ms = 10_000
        row = (await cluster.brokers[1].call(2, body)).topics[0].partitions[0]
        assert (row.error_code, row.low_watermark) == (0, 2)

    run(tmp_path, scenario)


def test_a_reassignment_fills_the_new_replica_and_clears_the_old_one(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create((1, 2))
        await cluster.brokers[1].produce(b"a", b"b")
        cluster.change(replicas=[1, 2, 3], adding_replicas=[3])
        await cluster.until(lambda: cluster.state.isr == (1, 2, 3))
        cluster.change(replicas=[1, 3], isr=[1, 3], adding_replicas=[], removing_replicas=[])
        assert cluster.brokers[3].values() == [b"a", b"b"]
        assert not (tmp_path / "2" / "orders-0").exists()
        assert (await cluster.brokers[1].produce(b"c")).error_code == 0

    run(tmp_path, scenario)


def test_what_was_taken_from_a_broker_while_it_was_away_is_set_aside(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create((1, 2), partitions=2)
        await cluster.brokers[1].produce(b"a")
        await cluster.brokers.pop(2).stop()
        cluster.change(replicas=[1, 3], isr=[1, 3])
        broker = await cluster.start(2)
        broker.replicas.set_strays_aside()
        names = sorted(path.name for path in (tmp_path / "2").iterdir() if path.is_dir())
        assert [name.partition(".")[0] for name in names] == ["orders-0", "orders-1"]
        assert names[0].endswith("-stray")
        assert names[1] == "orders-1"
        assert broker.logs.get("orders", 0) is None

    run(tmp_path, scenario)


def test_a_throttled_replica_copies_at_its_rate_and_others_are_not_held_back(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.replay(
            ConfigRecord(resource_type=4, name="follower.replication.throttled.rate", value="20000"),
        )
        cluster.create((1, 2), follower_replication_throttled_replicas="0:3")
        big = b"x" * 10_000
        for _ in range(10):
            await cluster.brokers[1].produce(big)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        cluster.change(replicas=[1, 2, 3], adding_replicas=[3])
        third = cluster.brokers[3]
        await cluster.until(lambda: third.partition().log.log_end_offset > 0)
        await cluster.brokers[1].produce(b"small")
        await cluster.until(lambda: cluster.state.isr == (1, 2, 3))
        assert loop.time() - begun > 1.5

    run(tmp_path, scenario, replica_fetch_max_bytes="20000")


def test_consumers_read_from_a_replica_in_their_rack(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        for node_id, rack in ((1, "a"), (2, "b")):
            await cluster.start(node_id, rack=rack)
        cluster.create((1, 2))
        await cluster.brokers[1].produce(b"x")
        assert bytes((await cluster.brokers[1].consume(0, rack="a")).records)
        assert bytes((await cluster.brokers[1].consume(0, rack="c")).records)
        sent_on = await cluster.brokers[1].consume(0, rack="b", max_wait_ms=60_000)
        assert (sent_on.preferred_read_replica, bytes(sent_on.records)) == (2, b"")
        row = await cluster.brokers[2].consume(0, rack="b", max_wait_ms=5_000)
        assert bytes(row.records)
        cluster.change(isr=[1])
        cluster.unlink(1, 2)
        assert (await cluster.brokers[1].consume(0, rack="b")).preferred_read_replica == -1

    rack_aware = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
    run(tmp_path, scenario, brokers=0, replica_selector_class=rack_aware)


def test_a_follower_keeps_its_high_watermark_over_a_stop(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create()
        await cluster.brokers[1].produce(b"a", b"b")
        await cluster.until(lambda: cluster.brokers[2].partition().high_watermark == 2)
        await cluster.brokers.pop(2).stop()
        cluster.unlink(1, 2)
        broker = await cluster.start(2)
        assert broker.partition().high_watermark == 2

    run(tmp_path, scenario)


def test_a_full_disk_of_a_follower_holds_up_that_partition_only_for_a_while(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create(partitions=2)
        follower = cluster.brokers[2].partition(0)
        failures = 3
        write = follower.log.flush_appends

        class Failing:
            """The log, whose writes fail some times."""

            def __getattr__(self, name: str) -> object:
                return getattr(log, name)

            def flush_appends(self) -> None:
                nonlocal failures
                if failures and log.has_pending:
                    failures -= 1
                    log.tail.forget()
                    raise OSError(28, "No space left on device")
                write()

        log = follower.log
        follower.log = Failing()  # type: ignore[assignment]
        rows = await asyncio.gather(*(cluster.brokers[1].produce(b"x", index=index) for index in (0, 1)))
        assert [row.error_code for row in rows] == [0, 0]
        assert failures == 0
        assert cluster.brokers[2].values() == [b"x"]

    run(tmp_path, scenario)


def test_a_leader_does_not_commit_alone_by_a_min_isr_that_is_no_more(tmp_path: Path) -> None:
    """A larger `min.insync.replicas` and a smaller ISR in one piece: the ISR was taken up first, and by the old value
    one replica was enough, while the controller already counted on the other having every committed record."""

    async def scenario(cluster: Cluster) -> None:
        cluster.create((1, 2))
        await cluster.brokers[1].produce(b"a")
        await cluster.until_equal(1, 2)
        cluster.unlink(1, 2)
        leader = cluster.brokers[1].partition()
        assert (await cluster.brokers[1].produce(b"b", acks=1)).error_code == 0
        cluster.now_ms += 31_000
        cluster.replay(
            ConfigRecord(resource_type=2, resource_name="orders", name="min.insync.replicas", value="2"),
            PartitionChangeRecord(partition_id=0, topic_id=cluster.topic_id, isr=[1], eligible_leader_replicas=[2]),
        )
        assert (leader.isr, leader.high_watermark) == ((1,), 1)

    run(tmp_path, scenario, brokers=2)
