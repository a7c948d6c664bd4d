"""Files of the quorum: quorum-state and snapshots, in Kafka's forms."""

from __future__ import annotations

import errno
import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.raft import quorum_state
from broadsheet_broker.raft.messages import ElectionState
from broadsheet_broker.raft.snapshot import Snapshot, SnapshotId, encode_snapshot, parse_file_name
from broadsheet_broker.raft.voters import ReplicaKey, Voter, VoterSet
from broadsheet_broker.wire.errors import KafkaError
from tests.support.memory_files import MemoryFiles

DIRECTORY = uuid.UUID("da7ca96d-b4eb-4ea1-83ab-cdbf63da1521")
STATIC = VoterSet({1: Voter(ReplicaKey(1), {})})
DYNAMIC = VoterSet({1: Voter(ReplicaKey(1, DIRECTORY), {"CONTROLLER": ("localhost", 9093)})}, dynamic=True)


def test_quorum_state_of_a_static_quorum_is_what_kafka_4_3_writes() -> None:
    written = quorum_state.encode(ElectionState(3, leader_id=1), STATIC).decode()
    assert written == (
        '{"clusterId":"","leaderId":1,"leaderEpoch":3,"votedId":-1,"appliedOffset":0,'
        '"currentVoters":[{"voterId":1}],"data_version":0}'
    )


def test_quorum_state_of_a_dynamic_quorum_names_the_directory_that_was_voted_for() -> None:
    state = ElectionState(7, None, ReplicaKey(1, DIRECTORY))
    written = json.loads(quorum_state.encode(state, DYNAMIC))
    assert written["data_version"] == 1 and "currentVoters" not in written
    assert quorum_state.decode(json.dumps(written).encode(), "f") == state


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b'{"data_version":9}', b'{"data_version":0,"votedId":-1}'])
def test_a_damaged_quorum_state_is_refused_rather_than_guessed(data: bytes) -> None:
    with pytest.raises(KafkaError, match="/data/quorum-state is not a quorum state"):
        quorum_state.decode(data, "/data/quorum-state")


def test_snapshot_names() -> None:
    id = SnapshotId(71, 3)
    assert id.file_name == "00000000000000000071-0000000003.checkpoint"
    assert parse_file_name(id.file_name) == id
    assert parse_file_name("00000000000000000071-0000000003.checkpoint.part") is None
    assert parse_file_name("bootstrap.checkpoint") is None


@given(st.lists(st.binary(max_size=40), max_size=2500), st.sampled_from([STATIC, DYNAMIC]))
def test_snapshots_hold_what_was_put_in(values: list[bytes], voters: VoterSet) -> None:
    data = encode_snapshot(values, 4, 123, 456, voters)
    snapshot = Snapshot(data, "s")
    assert snapshot.values == values
    assert snapshot.last_contained_timestamp == 123
    assert snapshot.voters == (voters if voters.dynamic else None)


@given(st.data())
def test_a_damaged_snapshot_is_noticed(data: st.DataObject) -> None:
    whole = encode_snapshot([b"one", b"two", b"three"], 1, 2, 3, STATIC)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(KafkaError, match=r"s\.checkpoint is damaged"):
        Snapshot(whole[:cut], "s.checkpoint")
    flipped = bytearray(whole)
    # The base offset and the leader epoch of a batch are outside its checksum.
    flipped[data.draw(st.sampled_from([22, 30, len(whole) - 1, len(whole) - 10]))] ^= 0x55
    with pytest.raises(KafkaError, match=r"s\.checkpoint is damaged"):
        Snapshot(bytes(flipped), "s.checkpoint")


def test_a_full_disk_takes_the_quorum_state_where_the_last_one_was() -> None:
    """A voter with a full disk ended at the next election, and again at every start until there was room."""
    files = MemoryFiles()
    files.make_directory("/data")
    quorum_state.store(files, "/data", ElectionState(3, leader_id=1), STATIC)  # type: ignore[arg-type]
    files.capacity = files.used_bytes()
    for epoch in (4, 5_000_000):
        state = ElectionState(epoch, leader_id=None)
        quorum_state.store(files, "/data", state, STATIC)  # type: ignore[arg-type]
        assert quorum_state.load(files, "/data") == state  # type: ignore[arg-type]
        assert files.nodes["/data/quorum-state"].durable == bytes(files.nodes["/data/quorum-state"].data)


def test_a_broken_disk_does_not_take_the_quorum_state_at_all() -> None:
    files = MemoryFiles()
    files.make_directory("/data")
    quorum_state.store(files, "/data", ElectionState(3, leader_id=1), STATIC)  # type: ignore[arg-type]
    files.fault = lambda operation, path: errno.EIO if operation == "replace" else None
    with pytest.raises(OSError):
        quorum_state.store(files, "/data", ElectionState(4), STATIC)  # type: ignore[arg-type]
    assert quorum_state.load(files, "/data").leader_epoch == 3  # type: ignore[arg-type]


def test_without_a_quorum_state_a_full_disk_is_an_error() -> None:
    files = MemoryFiles()
    files.make_directory("/data")
    files.capacity = files.used_bytes()
    with pytest.raises(OSError):
        quorum_state.store(files, "/data", ElectionState(4), STATIC)  # type: ignore[arg-type]
