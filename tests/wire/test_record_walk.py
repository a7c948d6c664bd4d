"""The walk over records, in whatever steps and pieces: what it says agrees with records that are built."""

from __future__ import annotations

import gc
import random
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.wire import compression
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.pieces import PIECE_BYTES, Payload
from broadsheet_broker.wire.record_walk import (
    KEY_MISSING,
    MOST_RECORD_ERRORS,
    TIMESTAMP_OUT_OF_RANGE,
    RecordWalk,
    walk,
)
from broadsheet_broker.wire.record_windows import RecordWindow
from broadsheet_broker.wire.records import CorruptRecordError, build_batch, decode_records, encode_record, write_varint

BASE = 1_700_000_000_000
FOREVER = 2**63
CODECS = (compression.GZIP, compression.SNAPPY, compression.LZ4, compression.ZSTD)

content = st.none() | st.binary(max_size=200)
rows = st.tuples(
    st.integers(BASE - 10_000, BASE + 10_000),
    content,
    content,
    st.lists(st.tuples(st.text(max_size=5), content), max_size=3),
)


def new_walk(count: int, *, keyed: bool = False, earliest: int = -FOREVER, latest: int = FOREVER) -> RecordWalk:
    return RecordWalk(count, BASE, False, keyed, earliest, latest)


def walk_over(pieces: list[bytes], state: RecordWalk, step: int = 10**9) -> int:
    """All of it, and how many bytes are left over."""
    window = RecordWindow(iter(pieces))
    while True:
        until = state.index + step
        window.position = walk(window.data, window.position, state, until)
        if until <= state.index < state.count:
            continue
        if window.ended or (state.index == state.count and window.rest):
            return window.rest
        while not window.advance():
            pass


def payload_of(records: list[Any]) -> bytes:
    payload = bytearray()
    for index, (timestamp, key, value, headers) in enumerate(records):
        encode_record(payload, timestamp - BASE, index, key, value, headers)
    return bytes(payload)


@given(st.lists(rows, min_size=1, max_size=30), st.integers(1, 7), st.integers(1, 300))
def test_any_steps_and_pieces_say_what_the_records_say(records: list[Any], step: int, piece: int) -> None:
    payload = payload_of(records)
    pieces = [payload[at : at + piece] for at in range(0, len(payload), piece)]
    state = new_walk(len(records), keyed=True, earliest=BASE - 5_000, latest=BASE + 5_000)
    assert walk_over(pieces, state, step) == 0
    state.finish(0)
    times = [row[0] for row in records]
    assert state.max_timestamp == max(times)
    assert state.latest_index == times.index(max(times))
    assert not state.renumber
    expected = [
        (index, KEY_MISSING if key is None else TIMESTAMP_OUT_OF_RANGE, timestamp)
        for index, (timestamp, key, _, _) in enumerate(records)
        if key is None or abs(timestamp - BASE) > 5_000
    ]
    assert (state.errors or []) == expected
    assert state.refused == len(expected)


@given(st.lists(rows, min_size=1, max_size=5), st.data())
def test_what_the_walk_takes_can_be_decoded_and_the_rest_is_refused_with_a_code(
    records: list[Any], data: st.DataObject
) -> None:
    """Any change of the bytes: records that pass are records to a reader too."""
    batch = build_batch(records)
    for _ in range(data.draw(st.integers(1, 3))):
        batch[data.draw(st.integers(61, len(batch) - 1))] = data.draw(st.integers(0, 255))
    state = new_walk(len(records))
    try:
        position = walk(bytes(batch[61:]), 0, state, 10**9)
        state.finish(len(batch) - 61 - position)
    except KafkaError as error:
        assert error.code in (ErrorCode.INVALID_RECORD, ErrorCode.UNKNOWN_SERVER_ERROR)
        return
    decoded = decode_records(batch)
    assert [record.offset for record in decoded] == list(range(len(records))) or state.renumber


def test_a_walk_stops_where_it_is_told_and_goes_on_there() -> None:
    payload = payload_of([(BASE + index, b"k", b"v", ()) for index in range(1000)])
    state = new_walk(1000)
    position, steps = 0, 0
    while state.index < 1000:
        before = state.index
        position = walk(payload, position, state, before + 64)
        assert state.index - before <= 64
        steps += 1
    assert (steps, position, state.max_timestamp) == (16, len(payload), BASE + 999)


def test_a_refusal_names_a_bounded_number_of_records() -> None:
    state = new_walk(5000, keyed=True)
    walk(payload_of([(BASE, None, b"v", ())] * 5000), 0, state, 5000)
    assert state.errors is not None
    assert (len(state.errors), state.refused) == (MOST_RECORD_ERRORS, 5000)


def test_no_timestamp_is_within_any_bounds() -> None:
    state = new_walk(2, earliest=BASE, latest=BASE)
    walk(payload_of([(-1, b"k", b"v", ())] * 2), 0, state, 2)
    assert (state.errors, state.max_timestamp) == (None, -1)


def test_timestamps_that_no_header_can_hold_are_out_of_range() -> None:
    state = RecordWalk(1, 2**63 - 1, False, False, -FOREVER, FOREVER)
    payload = bytearray()
    encode_record(payload, 2**62, 0, b"k", b"v", ())
    walk(bytes(payload), 0, state, 1)
    assert state.refused == 1


def record(body: bytes) -> bytes:
    output = bytearray()
    write_varint(output, len(body))
    return bytes(output + body)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"\x00\x00\x00\x02k\x02v\x00", None),
        (b"\x00\x00\x00\x01\x01\x00", None),
        (b"\x00\x00\x00\x02k\x20v\x00", ErrorCode.INVALID_RECORD),  # a value that is longer than its record
        (b"\x00\x00\x00\x20k\x02v\x00", ErrorCode.INVALID_RECORD),  # a key that is
        (b"\x00\x00\x00\x02k\x02v\x00\x00", ErrorCode.INVALID_RECORD),  # bytes behind the last field
        (b"\x00\x00\x00\x02k\x02v\x40", ErrorCode.INVALID_RECORD),  # headers that are not there
        (b"\x00\x00\x00\x02k\x02v\x01", ErrorCode.INVALID_RECORD),  # -1 headers
        (b"\x00\x00\x00\x02k\x02v\x02\x01\x02x", ErrorCode.INVALID_RECORD),  # a header without a key
        (b"\x00\x00\x00\x02k\x02v\x02\x02h\x01", None),  # a header without a value
        (b"\x00" + b"\xff" * 10 + b"\x00\x00\x02k\x02v\x00", ErrorCode.INVALID_RECORD),  # a timestamp without end
        (b"\x00\x00" + b"\xff" * 5 + b"\x00\x02k\x02v\x00", ErrorCode.INVALID_RECORD),  # an offset without end
        (b"", ErrorCode.INVALID_RECORD),
    ],
)
def test_one_record(body: bytes, code: ErrorCode | None) -> None:
    state = new_walk(1)
    payload = record(body)
    try:
        state.finish(len(payload) - walk(payload, 0, state, 1))
    except KafkaError as error:
        assert error.code == code
    else:
        assert code is None


@pytest.mark.parametrize(("there", "said"), [(2, 3), (4, 3)])
def test_more_or_fewer_records_than_said(there: int, said: int) -> None:
    payload = payload_of([(BASE, b"k", b"v", ())] * there)
    state = new_walk(said)
    with pytest.raises(KafkaError) as refusal:
        state.finish(len(payload) - walk(payload, 0, state, said))
    assert refusal.value.code == ErrorCode.INVALID_RECORD


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [0, 1, 1000, 300_000, 3_000_000])
@pytest.mark.parametrize("kind", ["zeros", "noise", "words"])
def test_pieces_are_the_payload_and_none_is_large(codec: int, size: int, kind: str) -> None:
    source = random.Random(size)
    if kind == "words":
        data = b"".join(b"%d " % source.randrange(1000) for _ in range(size // 4))[:size]
    else:
        data = bytes(size) if kind == "zeros" else source.randbytes(size)
    payload = Payload(codec, memoryview(compression.compress(codec, data)))
    room = payload.room()
    if room is not None:
        assert room.size >= len(data) > 1024 * 1024
        assert room.run is not None
        room.run()
    pieces = list(payload.pieces())
    assert b"".join(pieces) == data
    assert all(len(piece) <= max(PIECE_BYTES, 1024 * 1024) for piece in pieces)


@given(st.sampled_from(CODECS), st.binary(max_size=300))
def test_any_bytes_are_a_payload_or_an_error(codec: int, data: bytes) -> None:
    try:
        payload = Payload(codec, memoryview(data))
        if payload.room() is None:
            b"".join(payload.pieces())
    except compression.CompressionError:
        pass


@given(st.sampled_from(CODECS), st.binary(min_size=20, max_size=3000), st.data())
def test_a_cut_payload_is_an_error(codec: int, data: bytes, draw: st.DataObject) -> None:
    whole = compression.compress(codec, data)
    cut = draw.draw(st.integers(1, len(whole) - 1))
    if codec == compression.SNAPPY and cut == 16:
        return  # xerial's header alone is the empty payload
    with pytest.raises(compression.CompressionError):
        b"".join(Payload(codec, memoryview(whole[:cut])).pieces())


@pytest.mark.parametrize("codec", CODECS)
def test_a_hundred_megabytes_need_room_or_come_in_pieces(codec: int) -> None:
    data = compression.compress(codec, bytes(100 * 1024 * 1024))
    payload = Payload(codec, memoryview(data))
    room = payload.room()
    if codec == compression.ZSTD:
        assert room is not None
        assert room.size == 2 * 100 * 1024 * 1024
    else:
        assert room is None
        assert len(next(payload.pieces())) <= PIECE_BYTES


def test_more_than_can_be_opened_at_once_is_refused_before_anything_is_allocated() -> None:
    frame = compression.compress(compression.ZSTD, bytes(200 * 1024 * 1024))
    with pytest.raises(compression.CompressionError, match="at once"):
        Payload(compression.ZSTD, memoryview(frame))


def test_lz4_frames_that_kafkas_clients_cannot_read_are_refused() -> None:
    import cramjam

    dependent = bytes(cramjam.lz4.compress(b"one two three"))
    with pytest.raises(compression.CompressionError, match="dependent"):
        Payload(compression.LZ4, memoryview(dependent))


def test_lz4_frames_with_checksums_of_their_data_are_checked() -> None:
    import cramjam

    stream = cramjam.lz4.Compressor(level=1, content_checksum=True, block_linked=False)
    stream.compress(b"one two three" * 1000)
    frame = bytearray(bytes(stream.finish()))
    assert b"".join(Payload(compression.LZ4, memoryview(bytes(frame))).pieces()) == b"one two three" * 1000
    frame[-1] ^= 1
    with pytest.raises(compression.CompressionError):
        b"".join(Payload(compression.LZ4, memoryview(bytes(frame))).pieces())


def test_a_record_longer_than_a_piece_is_put_together_once() -> None:
    payload = payload_of([(BASE, b"k", bytes(1_000_000), ()), (BASE + 1, b"k", b"v", ())])
    pieces = [payload[at : at + 1000] for at in range(0, len(payload), 1000)]
    window = RecordWindow(iter(pieces))
    assert window.advance()
    calls = 1
    while not window.advance():
        calls += 1
    assert calls == len(pieces) - 1
    state = new_walk(2)
    assert walk(window.data, 0, state, 2) == len(window.data)


def test_a_record_that_claims_more_than_can_be_opened_is_refused() -> None:
    claim = bytearray()
    write_varint(claim, 2**30)
    window = RecordWindow(iter([bytes(claim), b"x"]))
    assert window.advance()
    assert [room.size > 2**30 for room in window.make_room() if room is not None] == [True]
    with pytest.raises(compression.CompressionError):
        window.advance()


def test_corrupt_is_no_name_for_records_that_cannot_be_read() -> None:
    with pytest.raises(KafkaError) as refusal:
        walk(b"\x99" * 50, 0, new_walk(1), 1)
    assert refusal.value.code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert not isinstance(refusal.value, CorruptRecordError)


def test_an_opened_payload_is_freed_without_the_cycle_collector() -> None:
    """That collector comes late on purpose, and 60 batches of 100 MB took 1.7 GB."""
    payload = Payload(compression.ZSTD, memoryview(compression.compress(compression.ZSTD, bytes(2 * 1024 * 1024))))
    room = payload.room()
    assert room is not None
    assert room.run is not None
    room.run()
    held = gc.get_referents(payload)
    (whole,) = [each for each in held if isinstance(each, bytearray)]
    del held, room
    gc.disable()
    try:
        before = sys.getrefcount(whole)
        del payload
        assert sys.getrefcount(whole) == before - 1
    finally:
        gc.enable()
