"""Reading what log directories hold."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from broadsheet_broker.__main__ import main
from broadsheet_broker.contents import Contents, read_contents
from broadsheet_broker.metadata.records import encode_record
from broadsheet_broker.raft.snapshot import encode_snapshot
from broadsheet_broker.raft.voters import VoterSet
from broadsheet_broker.seams import LocalFiles
from broadsheet_broker.wire.errors import KafkaError
from broadsheet_broker.wire.messages.access_control_entry_record import AccessControlEntryRecord
from broadsheet_broker.wire.messages.config_record import ConfigRecord
from broadsheet_broker.wire.messages.consumer_group_metadata_key import ConsumerGroupMetadataKey
from broadsheet_broker.wire.messages.feature_level_record import FeatureLevelRecord
from broadsheet_broker.wire.messages.group_metadata_key import GroupMetadataKey
from broadsheet_broker.wire.messages.remove_access_control_entry_record import RemoveAccessControlEntryRecord
from broadsheet_broker.wire.messages.remove_topic_record import RemoveTopicRecord
from broadsheet_broker.wire.messages.share_group_metadata_key import ShareGroupMetadataKey
from broadsheet_broker.wire.messages.topic_record import TopicRecord
from broadsheet_broker.wire.messages.transaction_log_key import TransactionLogKey
from broadsheet_broker.wire.messages.transaction_log_value import TransactionLogValue
from broadsheet_broker.wire.messages.user_scram_credential_record import UserScramCredentialRecord
from broadsheet_broker.wire.records import build_batch

TOPIC = UUID(int=7)


def key(type_: int, message: Any) -> bytes:
    return struct.pack(">h", type_) + b"".join(message.encode(0))


def segment(directory: Path, partition: str, rows: Sequence[tuple[bytes | None, bytes | None]], base: int = 0) -> Path:
    """A partition's log with one batch."""
    folder = directory / partition
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{base:020d}.log"
    file.write_bytes(build_batch([(1, k, v, ()) for k, v in rows], base_offset=base, leader_epoch=base))
    return file


def metadata(directory: Path, *records: Any, base: int = 0) -> Path:
    return segment(directory, "__cluster_metadata-0", [(None, encode_record(record)) for record in records], base)


def contents(*directories: Path) -> Contents:
    return read_contents(LocalFiles(), [str(directory) for directory in directories])


def test_finalized_features_and_what_nobody_here_enforces(tmp_path: Path) -> None:
    acl = AccessControlEntryRecord(id=TOPIC, resource_name="orders", principal="User:a", host="*")
    user = UserScramCredentialRecord(name="a", mechanism=1, salt=b"", stored_key=b"", server_key=b"", iterations=4096)
    remote = ConfigRecord(resource_type=2, resource_name="old", name="remote.storage.enable", value="true")
    topics = [TopicRecord(name=name, topic_id=UUID(int=id)) for id, name in enumerate(("old", "gone"), 7)]
    gone = ConfigRecord(resource_type=2, resource_name="gone", name="remote.storage.enable", value="true")
    levels = [FeatureLevelRecord(name="metadata.version", feature_level=30)]
    levels += [FeatureLevelRecord(name="share.version", feature_level=level) for level in (1, 0)]
    other = AccessControlEntryRecord(id=UUID(int=9), resource_name="x", principal="User:b", host="*")
    away = RemoveAccessControlEntryRecord(id=UUID(int=9))
    all_of_them = [*levels, *topics, acl, other, away, user, remote, gone, RemoveTopicRecord(topic_id=UUID(int=8))]
    metadata(tmp_path, *all_of_them)
    found = contents(tmp_path)
    assert found.features == {"metadata.version": 30}
    assert (found.acls, found.scram_users, found.client_quotas, found.tiered_topics) == (1, 1, 0, ["old"])
    assert found.metadata_records == {2: 0, 4: 0, 9: 0, 11: 0, 12: 0, 18: 0, 19: 0}


def test_a_snapshot_stands_for_what_was_before_it(tmp_path: Path) -> None:
    metadata(tmp_path, FeatureLevelRecord(name="group.version", feature_level=1))
    values = [encode_record(FeatureLevelRecord(name="metadata.version", feature_level=29))]
    snapshot = tmp_path / "__cluster_metadata-0" / f"{1:020d}-{0:010d}.checkpoint"
    snapshot.write_bytes(encode_snapshot(values, 0, 1, 1, VoterSet({})))
    metadata(tmp_path, FeatureLevelRecord(name="metadata.version", feature_level=30), base=1)
    assert contents(tmp_path).features == {"metadata.version": 30}
    snapshot.write_bytes(b"torn")
    assert contents(tmp_path).features == {"metadata.version": 30, "group.version": 1}


def test_records_that_are_not_known_are_counted_by_number(tmp_path: Path) -> None:
    segment(tmp_path, "__cluster_metadata-0", [(None, b"\x01\x1d\x00future"), (None, b"\x01\x05\x09future")])
    segment(tmp_path, "__consumer_offsets-0", [(struct.pack(">h", 42) + b"\0\1a", b"\0\0")])
    found = contents(tmp_path)
    assert found.metadata_records == {29: 0, 5: 9}
    assert found.unknown_group_records == {42}


def test_groups_that_are_not_classic(tmp_path: Path) -> None:
    def consumer(id: str) -> bytes:
        return key(3, ConsumerGroupMetadataKey(group_id=id))

    classic = key(2, GroupMetadataKey(group="was-new"))
    empty = b"\0\3\0\x08consumer\0\0\0\1\xff\xff\xff\xff" + b"\0" * 8 + b"\0\0\0\0"
    rows: list[tuple[bytes | None, bytes | None]] = [
        (consumer("new"), b"\0\0"),
        (consumer("was-new"), b"\0\0"),
        (classic, empty),
        (consumer("deleted"), b"\0\0"),
        (consumer("deleted"), None),
        (key(11, ShareGroupMetadataKey(group_id="jobs")), b"\0\0"),
    ]
    segment(tmp_path, "__consumer_offsets-12", rows)
    assert contents(tmp_path).groups == {"new": "consumer", "jobs": "share"}


def test_transactional_ids(tmp_path: Path) -> None:
    def row(id: str, status: int | None) -> tuple[bytes, bytes | None]:
        state = TransactionLogValue(producer_id=1, producer_epoch=0, transaction_timeout_ms=1)
        state.transaction_status, state.transaction_partitions = status or 0, None
        value = None if status is None else b"\0\1" + b"".join(state.encode(1))
        return key(0, TransactionLogKey(transactional_id=id)), value

    segment(tmp_path, "__transaction_state-3", [row("a", 0), row("b", 1), row("c", 4), row("d", 2), row("d", None)])
    assert contents(tmp_path).transactional_ids == {"a": "", "b": "Ongoing", "c": ""}


def test_of_the_replicas_the_one_that_goes_furthest_is_read(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    group = key(3, ConsumerGroupMetadataKey(group_id="new"))
    segment(one, "__consumer_offsets-0", [(group, b"\0\0")])
    segment(other, "__consumer_offsets-0", [(group, b"\0\0"), (group, None)])
    assert contents(one, other).groups == contents(other, one).groups == {}
    assert contents(one).groups == {"new": "consumer"}


def test_what_is_being_appended_is_left_out_and_damage_is_not(tmp_path: Path) -> None:
    first = metadata(tmp_path, FeatureLevelRecord(name="metadata.version", feature_level=30))
    with first.open("ab") as file:
        file.write(b"\0" * 8 + b"half a batch")
    assert contents(tmp_path).features == {"metadata.version": 30}
    metadata(tmp_path, FeatureLevelRecord(name="group.version", feature_level=1), base=1)
    with pytest.raises(KafkaError, match="is damaged at byte"):
        contents(tmp_path)


def test_a_metadata_log_of_which_nothing_can_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    """It was: then nothing was in the way of an exchange."""
    file = metadata(tmp_path, FeatureLevelRecord(name="metadata.version", feature_level=33))
    whole = file.read_bytes()
    file.write_bytes(b"junk" * 40)
    with pytest.raises(KafkaError, match="__cluster_metadata-0 is damaged: none of its records can be read"):
        contents(tmp_path)
    file.write_bytes(whole[:62] + b"\xff" * (len(whole) - 62))
    with pytest.raises(KafkaError, match=r"0\.log is damaged in the batch at offset 0"):
        contents(tmp_path)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contents", f"{tmp_path}/none"]) == 1
    assert f"{tmp_path}/none: there is no such directory" in capsys.readouterr().err
    assert main(["contents", str(tmp_path)]) == 1
    assert f"{tmp_path} has no meta.properties: it is not a log directory" in capsys.readouterr().err
    (tmp_path / "meta.properties").touch()
    metadata(tmp_path, FeatureLevelRecord(name="metadata.version", feature_level=30))
    assert main(["contents", str(tmp_path), "--output", "json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["features"] == {"metadata.version": 30}
    assert printed["metadataRecords"] == [{"type": 12, "name": "FeatureLevelRecord", "version": 0}]
    assert main(["contents", str(tmp_path)]) == 0
    assert "finalized features: metadata.version 30\n" in capsys.readouterr().out
