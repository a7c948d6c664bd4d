"""The time of one record, read from the bytes of a fetch; kafka-python's builder is the oracle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kafka.record.memory_records import MemoryRecordsBuilder

from broadsheet_operator.kafka.record_times import time_at


def batch(times: list[int], *, base: int = 0, codec: int = 0) -> bytes:
    builder = MemoryRecordsBuilder(magic=2, compression_type=codec, batch_size=1 << 20)
    for time_ms in times:
        builder.append(timestamp=time_ms, key=b"k", value=b"v" * 10, headers=[])
    builder.close()
    data = bytearray(builder.buffer())
    # A broker writes the base offset; the CRC does not cover it.
    data[0:8] = base.to_bytes(8, "big")
    return bytes(data)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.integers(0, 2**40), st.data())
def test_the_time_of_the_very_record(times: list[int], base: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(times) - 1))
    assert time_at(batch(times, base=base), base + index) == times[index]


def test_batches_before_the_offset_are_passed_over() -> None:
    both = batch([1, 2], base=10) + batch([30, 40], base=12)
    assert [time_at(both, o) for o in (10, 11, 12, 13, 14)] == [1, 2, 30, 40, None]


def test_a_compacted_offset_gives_the_next_record() -> None:
    assert time_at(batch([7, 8], base=20), 15) == 7


def test_compressed_batches_give_the_time_of_their_first_record() -> None:
    assert time_at(batch([100, 200, 300], codec=1), 2) == 100


def test_a_batch_that_was_cut_off_gives_the_time_of_its_first_record() -> None:
    whole = batch([100, 200, 300])
    assert time_at(whole[:70], 2) == 100
    assert time_at(whole[:40], 2) is None


def test_control_batches_are_no_records() -> None:
    marker = bytearray(batch([5], base=3))
    marker[22] |= 0x20
    assert time_at(bytes(marker) + batch([9], base=4), 3) == 9


@given(st.binary(max_size=300), st.integers(0, 2**63 - 1))
def test_any_bytes_give_a_time_or_none(data: bytes, offset: int) -> None:
    found = time_at(data, offset)
    assert found is None or isinstance(found, int)


@given(st.binary(max_size=80), st.integers(0, 80))
def test_damaged_batches_give_a_time_or_none(noise: bytes, at: int) -> None:
    whole = bytearray(batch([1, 2, 3], base=5))
    whole[at : at + len(noise)] = noise
    found = time_at(bytes(whole), 6)
    assert found is None or isinstance(found, int)
