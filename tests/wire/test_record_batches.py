"""Record batches: round trips, another implementation as the oracle, and bytes that are none."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.wire import compression
from broadsheet_broker.wire.compression import CompressionError
from broadsheet_broker.wire.record_parts import decode_in_parts
from broadsheet_broker.wire.records import (
    CONTROL_LEADER_CHANGE,
    HEADER_BYTES,
    CorruptRecordError,
    build_batch,
    build_control_batch,
    check_batch,
    crc32c,
    decode_records,
    iterate_batches,
    parse_batch,
    read_varint,
    seal_batch,
    write_varint,
)

fields = st.one_of(st.none(), st.binary(max_size=60))
headers = st.lists(st.tuples(st.text(max_size=8), fields), max_size=3)
rows = st.lists(st.tuples(st.integers(0, 2**45), fields, fields, headers), min_size=1, max_size=20)
codecs = st.integers(0, 4)


@given(rows, codecs, st.integers(0, 2**40))
def test_what_goes_in_comes_out(records: list[Any], codec: int, base_offset: int) -> None:
    batch = build_batch(records, compression=codec, base_offset=base_offset, leader_epoch=7)
    header = parse_batch(batch)
    check_batch(header, batch)
    assert (header.base_offset, header.record_count, header.compression) == (base_offset, len(records), codec)
    assert header.max_timestamp == max(row[0] for row in records)
    assert header.size == len(batch)
    assert [tuple(record[1:]) for record in decode_records(batch)] == records
    assert [record.offset for record in decode_records(batch)] == list(range(base_offset, base_offset + len(records)))


@given(rows)
def test_aiokafka_reads_our_batches(records: list[Any]) -> None:
    theirs = DefaultRecordBatch(bytes(build_batch(records, producer_id=3, producer_epoch=1, base_sequence=5)))
    assert theirs.validate_crc()
    read = [(r.timestamp, r.key, r.value, list(r.headers)) for r in theirs]
    assert read == [(t, k, v, h) for t, k, v, h in records]


@given(rows, st.sampled_from([0, 1]))
def test_we_read_the_batches_of_aiokafka(records: list[Any], codec: int) -> None:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=False,
        producer_id=3,
        producer_epoch=1,
        base_sequence=5,
        batch_size=10**6,
    )
    for offset, (timestamp, key, value, head) in enumerate(records):
        builder.append(offset, timestamp, key, value, head)
    batch = bytes(builder.build())
    header = parse_batch(batch)
    check_batch(header, batch)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (3, 1, 5)
    assert [tuple(record[1:]) for record in decode_records(batch)] == records


@given(st.binary(max_size=300))
def test_any_bytes_are_a_batch_or_a_corrupt_record(data: bytes) -> None:
    with contextlib.suppress(CorruptRecordError):
        for _, batch in iterate_batches(data):
            decode_records(batch)


@given(rows, codecs, st.data())
def test_a_damaged_payload_is_a_corrupt_record(records: list[Any], codec: int, data: st.DataObject) -> None:
    batch = build_batch(records, compression=codec)
    position = data.draw(st.integers(HEADER_BYTES - 4, len(batch) - 1))
    batch[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptRecordError):
        check_batch(parse_batch(batch), batch)
    seal_batch(batch)  # someone who also forges the CRC gets no further than this
    with contextlib.suppress(CorruptRecordError):
        decode_records(batch, limit_bytes=2**20)


def test_batches_are_cut_from_a_buffer_and_an_incomplete_one_is_left() -> None:
    parts = [build_batch([(1, b"k", b"v" * size, [])], base_offset=size) for size in range(5)]
    data = b"".join(parts)
    assert [header.base_offset for header, _ in iterate_batches(data[:-1])] == [0, 1, 2, 3]
    assert [bytes(view) for _, view in iterate_batches(data)] == [bytes(part) for part in parts]


def test_control_batches_say_their_type() -> None:
    batch = build_control_batch(CONTROL_LEADER_CHANGE, b"value", timestamp=5, base_offset=9, leader_epoch=2)
    (record,) = decode_records(batch)
    assert parse_batch(batch).is_control
    assert (record.key, record.value, record.offset) == (b"\x00\x00\x00\x02", b"value", 9)


@given(st.integers(-(2**63), 2**63 - 1))
def test_varints_round_trip(value: int) -> None:
    output = bytearray()
    write_varint(output, value)
    assert read_varint(output, 0) == (value, len(output))


def test_the_crc_is_castagnolis_for_any_size() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    data = bytes(range(256)) * 5000
    assert crc32c(memoryview(bytearray(data))) == crc32c(data)


@given(codecs, st.binary(max_size=5000))
def test_compression_round_trips(codec: int, data: bytes) -> None:
    assert compression.decompress(codec, compression.compress(codec, data)) == data


@pytest.mark.parametrize("codec", range(5))
def test_large_data_round_trips(codec: int) -> None:
    data = b"".join(str(number).encode() for number in range(200_000))
    assert compression.decompress(codec, compression.compress(codec, memoryview(data))) == data


@given(codecs, st.binary(min_size=1, max_size=200))
def test_any_bytes_decompress_or_are_an_error(codec: int, data: bytes) -> None:
    with contextlib.suppress(CompressionError):
        compression.decompress(codec, data, 10**6)


@pytest.mark.parametrize("codec", range(5))
def test_no_more_comes_out_than_is_allowed(codec: int) -> None:
    bomb = compression.compress(codec, bytes(5_000_000))
    with pytest.raises(CompressionError):
        compression.decompress(codec, bomb, 4_999_999)
    assert len(compression.decompress(codec, bomb, 5_000_000)) == 5_000_000


def test_bare_snappy_without_xerials_framing_is_read() -> None:
    import cramjam

    raw = bytes(cramjam.snappy.compress_raw(b"hello " * 100))
    assert compression.decompress(compression.SNAPPY, raw) == b"hello " * 100


@pytest.mark.parametrize("codec", range(5))
def test_records_are_decoded_in_parts(codec: int) -> None:
    batch = build_batch([(1000 + number, b"k", b"v", ()) for number in range(25)], compression=codec)
    parts = list(decode_in_parts(batch, 10))
    assert [len(part) for part in parts] == [10, 10, 5]
    assert [record for part in parts for record in part] == decode_records(batch)
    with pytest.raises(CorruptRecordError):
        list(decode_in_parts(build_batch([(1, b"k", b"v", ())])[:-3], 10))
