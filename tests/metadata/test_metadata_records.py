"""The frames of metadata records, against bytes that Apache Kafka 4.3.0 wrote."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.metadata.records import RECORD_TYPES, decode_record, encode_record
from broadsheet_broker.wire.errors import KafkaError, ProtocolError
from broadsheet_broker.wire.messages.broker_registration_change_record import BrokerRegistrationChangeRecord
from broadsheet_broker.wire.messages.feature_level_record import FeatureLevelRecord
from broadsheet_broker.wire.messages.partition_record import PartitionRecord


def test_feature_level_as_kafka_formats_it() -> None:
    # From a bootstrap.checkpoint of kafka-storage.sh 4.3.0.
    written = bytes.fromhex("010c00116d657461646174612e76657273696f6e001e00")
    record = FeatureLevelRecord(name="metadata.version", feature_level=30)
    assert encode_record(record) == written
    assert decode_record(written) == record


def test_versions_follow_the_metadata_version_of_the_cluster() -> None:
    record = PartitionRecord(partition_id=0, replicas=[1], isr=[1], directories=[uuid.UUID(int=5)])
    assert encode_record(record, 30)[2] == 2
    assert encode_record(record, 20)[2] == 1
    assert encode_record(record, 14)[2] == 0
    assert encode_record(BrokerRegistrationChangeRecord(fenced=1))[2] == 0
    assert encode_record(BrokerRegistrationChangeRecord(in_controlled_shutdown=1))[2] == 1
    assert encode_record(BrokerRegistrationChangeRecord(cordoned_log_dirs=[]))[2] == 3


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"", "ends within its frame"),
        (b"\x02\x0c\x00", "frame version 2"),
        (b"\x01\x63\x00", "has a record of type 99, which this version of Broadsheet does not know"),
        (b"\x01\x0c\x05", "a FeatureLevelRecord of version 5, which"),
        (bytes.fromhex("010c0002610001") + b"\x00\x00", "bytes follow"),
    ],
)
def test_what_is_no_record_is_refused(value: bytes, message: str) -> None:
    with pytest.raises(KafkaError, match=message):
        decode_record(value)


@given(st.sampled_from(sorted(RECORD_TYPES)), st.integers(0, 4), st.binary(max_size=60))
def test_any_bytes_are_a_record_or_an_error(key: int, version: int, body: bytes) -> None:
    try:
        decode_record(bytes((1, key, version)) + body)
    except (KafkaError, ProtocolError):
        return
