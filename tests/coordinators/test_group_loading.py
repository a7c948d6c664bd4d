"""A new coordinator takes over: what it reads from the log, and what it says meanwhile."""

from __future__ import annotations

import logging
import re
import struct
from pathlib import Path

import pytest

from broadsheet_broker.coordinators import groups
from broadsheet_broker.coordinators.groups import records
from broadsheet_broker.coordinators.groups.records import CommittedOffset
from broadsheet_broker.coordinators.runtime.partition import LOAD_RECORDS_A_TURN
from broadsheet_broker.coordinators.runtime.partitions import java_hash, partition_of
from broadsheet_broker.coordinators.runtime.storage import StoredBatch
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.primitives import ZERO_UUID
from tests.coordinators.support import GROUP, Bench, MemoryStorage

P0 = ("orders", 0)


def reload(bench: Bench, **settings: int) -> Bench:
    """Another coordinator over the same log."""
    return Bench(storage=bench.storage, **settings)


def foreign_key(type_: int, group_id: str) -> bytes:
    return struct.pack(">hh", type_, len(group_id)) + group_id.encode()


def committed(offset: int) -> CommittedOffset:
    return CommittedOffset(offset, -1, "", 1_700_000_000_000, -1, ZERO_UUID)


def test_groups_and_offsets_are_there_again() -> None:
    bench = Bench()
    a, b = bench.form("a", "b")
    generation = bench.group.generation
    bench.commit({P0: 7}, a, generation)
    after = reload(bench)
    assert after.state() == "Stable"
    assert after.heartbeat(a, generation) is ErrorCode.NONE
    assert after.sync(b, generation).one.assignment == b"b"
    assert after.fetch(P0) == {P0: 7}
    assert after.group.leader == a
    assert after.group.subscribes_to("orders")
    assert not after.group.subscribes_to("payments")
    assert after.group.members[a].client_id == "a"
    assert after.group.members[a].client_host == "/10.0.0.1"
    assert after.group.members[a].session_timeout_ms == 10_000
    assert after.group.members[a].rebalance_timeout_ms == 60_000


def test_members_of_a_loaded_group_get_a_session_to_show_up() -> None:
    bench = Bench()
    a, b = bench.form("a", "b", session_ms=10_000)
    after = reload(bench)
    after.loop.run_for(9)
    assert after.heartbeat(a, after.group.generation) is ErrorCode.NONE
    after.loop.run_for(2)
    assert set(after.group.members) == {a}
    assert b not in after.group.members


def test_a_group_over_its_size_is_made_smaller() -> None:
    bench = Bench()
    a, b = bench.form("a", "b")
    after = reload(bench, max_size=1)
    assert after.state() == "PreparingRebalance"
    waiting = after.join(a)
    assert after.join(b).one.error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
    after.loop.run_for(61)
    assert waiting.one.error_code == 0
    assert set(after.group.members) == {a}


def test_a_member_id_given_out_before_is_not_known_after() -> None:
    bench = Bench()
    pending = bench.join().one.member_id
    after = reload(bench)
    assert after.state() == "Empty"
    assert after.join(pending).one.error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_an_empty_group_and_a_deleted_one() -> None:
    bench = Bench()
    (a,) = bench.form("a")
    bench.leave((a, None))
    assert reload(bench).state() == "Empty"
    assert reload(bench).group.protocol_type == "consumer"
    bench.loop.run_for(601)
    assert bench.state() == "Dead"
    assert reload(bench).state() == "Dead"


def test_the_time_since_a_group_is_empty_survives() -> None:
    bench = Bench(offsets_retention_ms=3_600_000)
    (a,) = bench.form("a")
    bench.commit({P0: 1}, a, 1)
    bench.loop.run_for(5)
    bench.leave((a, None))
    since = bench.group.state_changed_ms
    after = reload(bench)
    assert after.group.state_changed_ms == since


def test_requests_are_put_off_while_the_log_is_loaded() -> None:
    storage = MemoryStorage()
    for number in range(3 * LOAD_RECORDS_A_TURN):
        storage.logs[0].append(StoredBatch([records.offset_commit(GROUP, "orders", number, committed(number))]))
    bench = Bench(storage=storage)
    bench.coordinator.partitions.on_resign(0)
    bench.coordinator.partitions.on_leader(0, 1)
    replies = bench.fetch_later(P0)
    assert replies.one.error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert bench.heartbeat("a", 1) is ErrorCode.NONE, "a heartbeat must not send members into a rebalance"
    assert bench.coordinator.list_groups().error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert bench.coordinator.describe([GROUP], 6)[0].error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert bench.states == {0: "loading"}
    bench.loop.settle()
    assert len(bench.fetch()) == 3 * LOAD_RECORDS_A_TURN
    assert bench.states == {0: "active"}


def test_loading_gives_way_to_other_work() -> None:
    storage = MemoryStorage()
    for number in range(4 * LOAD_RECORDS_A_TURN):
        storage.logs[0].append(StoredBatch([records.offset_commit(GROUP, "orders", number, committed(number))]))
    bench = Bench(storage=MemoryStorage())
    bench.coordinator.partitions.on_resign(0)
    bench.storage.logs = storage.logs
    bench.coordinator.partitions.on_leader(0, 1)
    seen = []
    for _ in range(20):
        bench.loop.call_soon(lambda: seen.append(bench.states[0]))
    bench.loop.settle()
    assert "loading" in seen


def test_whoever_waits_is_sent_away_when_the_partition_moves() -> None:
    bench = Bench()
    a, b = bench.form("a", "b")
    waiting = bench.join(a)
    bench.storage.hold = True
    commit = bench.commit({P0: 1}, b, bench.group.generation)
    bench.coordinator.partitions.on_leadership_change("__consumer_offsets", 0, None)
    assert waiting.one.error_code == ErrorCode.NOT_COORDINATOR
    assert commit.one.topics[0].partitions[0].error_code == ErrorCode.NOT_COORDINATOR
    assert bench.join(a).one.error_code == ErrorCode.NOT_COORDINATOR
    bench.storage.release()
    bench.loop.run_for(1_000)


def test_a_sync_that_waits_is_sent_away_when_the_partition_moves() -> None:
    bench = Bench()
    a = bench.join(version=3).one.member_id
    b = bench.join(version=3)
    bench.join(a)
    follower = bench.sync(b.one.member_id, 2)
    bench.storage.hold = True
    leader = bench.sync(a, 2, {})
    bench.coordinator.partitions.close()
    assert follower.one.error_code == leader.one.error_code == ErrorCode.NOT_COORDINATOR


def test_leading_again_reads_the_log_again() -> None:
    bench = Bench()
    bench.commit({P0: 1})
    bench.coordinator.partitions.on_leadership_change("__consumer_offsets", 0, None)
    bench.storage.logs[0].append(StoredBatch([records.offset_commit(GROUP, "orders", 0, committed(5))]))
    bench.coordinator.partitions.on_leadership_change("__consumer_offsets", 0, 3)
    bench.coordinator.partitions.on_leadership_change("orders", 0, 3)
    bench.loop.settle()
    assert bench.fetch(P0) == {P0: 5}


def test_a_log_that_cannot_be_read_hurts_its_own_groups_only(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MemoryStorage):
        broken = True

        def read(self, partition: int):  # type: ignore[no-untyped-def]
            if partition == 0 and self.broken:
                raise KafkaError(ErrorCode.CORRUPT_MESSAGE, "bad batch at 7")
            yield from super().read(partition)

    bench = Bench(storage=Broken(2))
    groups = {partition_of(name, 2): name for name in ("g1", "g2", "g3", "g4")}
    assert "bad batch at 7" in caplog.text
    assert bench.commit_error({P0: 1}, group_id=groups[0]) is ErrorCode.NOT_COORDINATOR
    assert bench.commit_error({P0: 1}, group_id=groups[1]) is ErrorCode.NONE
    assert isinstance(bench.storage, Broken)
    bench.storage.broken = False
    bench.coordinator.partitions.on_leader(0, 2)
    bench.loop.settle()
    assert bench.commit_error({P0: 1}, group_id=groups[0]) is ErrorCode.NONE


def test_records_of_unknown_kinds_are_left_alone_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    storage = MemoryStorage()
    rows: list[tuple[bytes | None, bytes | None]] = [
        (foreign_key(3, "modern"), b"\x00\x00\x00\x00\x00\x07"),
        (foreign_key(8, "modern"), b"\x00\x00"),
        records.offset_commit("modern", "orders", 0, committed(3)),
        (foreign_key(99, "future"), b"\x00\x00"),
        (b"\x00", b""),
        (b"\x00\x01\x00\x50", b"\x00\x01"),
        (None, b"without a key"),
        (records.offset_key(GROUP, "orders", 1), b"\x00\x63 a version from the future"),
        records.offset_commit(GROUP, "orders", 0, committed(4)),
    ]
    storage.logs[0].append(StoredBatch(rows))
    with caplog.at_level(logging.WARNING):
        bench = Bench(storage=storage)
    assert len(caplog.records) == 1
    assert bench.fetch(P0) == {P0: 4}
    assert bench.fetch(P0, group_id="modern") == {P0: 3}
    listed = {group.group_id: (group.group_type, group.group_state) for group in bench.coordinator.list_groups().groups}
    assert listed == {"modern": ("consumer", "Unknown"), GROUP: ("classic", "Empty")}
    assert bench.join(version=3, group_id="modern").one.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert bench.commit_error({P0: 9}, "a", 7, group_id="modern") is ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.heartbeat("a", 7, group_id="modern") is ErrorCode.UNKNOWN_MEMBER_ID
    bench.loop.run_for(30 * 24 * 3600)
    assert bench.fetch(P0, group_id="modern") == {P0: 3}
    bench.coordinator.on_topics_deleted(["orders"])
    bench.loop.settle()
    assert bench.fetch(P0, group_id="modern") == {P0: 3}


def test_a_foreign_group_that_ended_is_gone() -> None:
    storage = MemoryStorage()
    storage.logs[0].append(StoredBatch([(foreign_key(3, "modern"), b"\x00\x00"), (foreign_key(3, "modern"), None)]))
    assert Bench(storage=storage).coordinator.list_groups().groups == []


def test_offsets_of_transactions_count_when_they_are_committed() -> None:
    storage = MemoryStorage()
    storage.logs[0] += [
        StoredBatch([records.offset_commit(GROUP, "orders", 0, committed(1))], producer_id=7),
        StoredBatch([records.offset_commit(GROUP, "orders", 1, committed(1))], producer_id=8),
        StoredBatch([records.offset_commit(GROUP, "orders", 2, committed(1))], producer_id=9),
        StoredBatch((), producer_id=7, commits=True),
        StoredBatch((), producer_id=8, commits=False),
    ]
    assert Bench(storage=storage).fetch() == {P0: 1}


def test_offsets_of_old_versions_are_read() -> None:
    key = records.offset_key(GROUP, "orders", 0)
    legacy = b"\x00\x00" + key[2:]
    body = struct.pack(">q", 11) + b"\x00\x01m" + struct.pack(">q", 5)
    with_expiry = body + struct.pack(">q", 77)
    for stored_key, value, expire_ms in (
        (legacy, b"\x00\x00" + body, -1),
        (key, b"\x00\x01" + with_expiry, 77),
        (key, b"\x00\x02" + body, -1),
        (key, b"\x00\x03" + struct.pack(">qi", 11, 4) + b"\x00\x01m" + struct.pack(">q", 5), -1),
    ):
        record = records.read(stored_key, value)
        assert isinstance(record, records.OffsetRecord)
        assert (record.group_id, record.topic, record.partition) == (GROUP, "orders", 0)
        assert record.value is not None
        assert (record.value.offset, record.value.metadata, record.value.expire_ms) == (11, "m", expire_ms)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("example-consumer", -1_114_182_407),
        ("a", 97),
        ("polygenelubricants", -(1 << 31)),
        ("\N{GRINNING FACE}", 1_772_899),
    ],
)
def test_the_hash_is_javas(text: str, expected: int) -> None:
    assert java_hash(text) == expected
    assert 0 <= partition_of(text, 50) < 50


def test_groups_are_counted_by_state() -> None:
    bench = Bench(partitions=3)
    bench.form("a", "b")
    bench.commit({P0: 1, ("orders", 1): 2}, group_id="simple")
    environment = bench.coordinator._environment
    values = {family.name.rpartition("_")[2]: family.samples for family in environment.metrics.families()}
    assert {name: samples[0][1] for name, samples in values.items() if name.startswith(("num", "members"))} == {
        "numgroups": 2,
        "numoffsets": 2,
        "numgroupspreparingrebalance": 0,
        "numgroupscompletingrebalance": 0,
        "numgroupsstable": 1,
        "numgroupsempty": 1,
        "members": 2,
    }


def test_groups_answer_for_themselves() -> None:
    """The shard asks a group what it does, and never which kind it is: a further kind is a class, and no branch."""
    sources = Path(groups.__path__[0]).glob("*.py")
    assert not [path.name for path in sources if re.search(r"isinstance\([^)]*Group\)", path.read_text("utf-8"))]
