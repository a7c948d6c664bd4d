"""The generator counts every answer, and notices what a broker gets wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from broadsheet_broker.wire.messages.fetch_response import FetchableTopicResponse, FetchResponse, PartitionData
from broadsheet_broker.wire.messages.produce_request import ProduceRequest
from broadsheet_broker.wire.records import check_batch, decode_records, parse_batch
from e2e.bench.core import generator
from e2e.bench.core.answers import BadAnswerError, cutter
from e2e.bench.core.batches import filled, single, text
from e2e.bench.core.frames import FETCH_VERSION, Ring, fetch_ring, produce_ring
from e2e.bench.core.generator import Lane, LostAnswersError, Window, closed_loop, open_loop
from e2e.bench.core.support import Answering, FakeBroker, framed, produced
from e2e.bench.core.topics import ShortLogError, Topic

NOT_LEADER = 6
BATCH = single(1024)


@pytest.fixture
def ring() -> Ring:
    return produce_ring("news", 0, BATCH, "1")


def run(answering: Answering, ring: Ring, depth: int = 8, total: int = 600) -> Lane:
    """A closed loop of `total` requests against a fake broker."""
    with FakeBroker(answering) as broker:
        lane = Lane(broker.address, ring)
        try:
            closed_loop([lane], depth, Window(0.0, 60.0), total)
        finally:
            lane.close()
    return lane


def test_every_answer_is_counted(ring: Ring) -> None:
    window = Window(0.0, 60.0)
    with FakeBroker(lambda number, id: produced("news", id)) as broker:
        lane = Lane(broker.address, ring)
        measured = closed_loop([lane], 8, window, 600)
        lane.close()
    assert lane.acknowledged == broker.requests == measured.answers == 600
    assert measured.payload_bytes == 600 * BATCH.size


def test_a_window_ends_after_its_bytes(ring: Ring) -> None:
    with FakeBroker(lambda number, id: produced("news", id)) as broker:
        lane = Lane(broker.address, ring)
        measured = closed_loop([lane], 8, Window(0.0, 60.0, max_bytes=100 * BATCH.size))
        lane.close()
    assert measured.answers >= 100
    assert lane.in_flight == 0, "answers that were outstanding at the end are waited for"


def test_an_error_code_among_good_answers_is_noticed(ring: Ring) -> None:
    with pytest.raises(BadAnswerError, match="error_code=6"):
        run(lambda number, id: produced("news", id, NOT_LEADER if number == 317 else 0), ring)


def test_an_error_with_a_message_is_noticed(ring: Ring) -> None:
    """Its answer is longer than a good one."""
    with pytest.raises(BadAnswerError, match="the batch is too old"):
        run(lambda number, id: produced("news", id, *((87, "the batch is too old") if number == 599 else ())), ring)


def test_a_lost_answer_is_noticed(ring: Ring) -> None:
    with pytest.raises(BadAnswerError, match="correlation id 62 where 61 was next"):
        run(lambda number, id: b"" if number == 317 else produced("news", id), ring)


def test_answers_that_never_come_are_noticed(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "LAST_ANSWERS_S", 0.2)
    with FakeBroker(lambda number, id: produced("news", id) if number < 100 else b"") as broker:
        lane = Lane(broker.address, ring)
        with pytest.raises(LostAnswersError, match="8 on news-0"):
            closed_loop([lane], 8, Window(0.0, 60.0, max_bytes=100 * BATCH.size))
        lane.close()


def test_a_closed_connection_is_noticed(ring: Ring) -> None:
    with pytest.raises(LostAnswersError, match="closed the connection"):
        run(lambda number, id: produced("news", id) if number < 100 else None, ring)


def test_a_short_end_offset_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    topic = Topic("news", [], [])
    monkeypatch.setattr(Topic, "ends", lambda self: [110, 219])
    topic.check_ends([10, 20], [100, 199])
    with pytest.raises(ShortLogError, match=r"news-1: 200 records .* from offset 20 on, .* ends at 219: 1 are missing"):
        topic.check_ends([10, 20], [100, 200])


def test_latency_counts_from_when_a_request_was_due(ring: Ring) -> None:
    """A broker that answers the first forty requests only when the fortieth has come has kept the first waiting."""
    held: list[bytes] = []

    def answering(number: int, id: int) -> bytes:
        held.append(produced("news", id))
        if number < 39:
            return b""
        answers = b"".join(held)
        held.clear()
        return answers

    with FakeBroker(answering) as broker:
        lane = Lane(broker.address, ring)
        measured = open_loop([lane], 400.0, Window(0.0, 0.2))
        lane.close()
    assert len(measured.latencies_s) == lane.given == lane.acknowledged >= 80
    assert max(measured.latencies_s) >= 39 / 400


def chunks(data: bytes, sizes: Sequence[int]) -> Iterator[memoryview]:
    """The data in pieces of these sizes, again and again."""
    view, number = memoryview(data), 0
    while view:
        size = sizes[number % len(sizes)]
        yield view[:size]
        view, number = view[size:], number + 1


def fetched(ring: Ring, correlation_id: int, code: int, records: bytes) -> bytes:
    row = PartitionData(partition_index=0, error_code=code, high_watermark=77, records=[records])
    answer = FetchResponse(responses=[FetchableTopicResponse(topic="news", partitions=[row])])
    return framed(correlation_id, b"".join(bytes(part) for part in answer.encode(FETCH_VERSION)))


@pytest.mark.parametrize("sizes", [[1], [3, 1], [7], [64, 5], [16_000, 1, 500], [1 << 20]])
def test_large_answers_are_counted_however_they_are_cut(sizes: Sequence[int]) -> None:
    batch = filled(4096)
    ring = fetch_ring("news", 0, batch, 2, 100)
    stream = b"".join(fetched(ring, ring.id_at(number), 0, batch.data * 2) for number in range(20))
    answers = cutter(ring, 0)
    assert sum(answers.take(chunk) for chunk in chunks(stream, sizes)) == 20


@pytest.mark.parametrize("sizes", [[1], [7], [64, 5], [1 << 20]])
@pytest.mark.parametrize(("code", "records"), [(3, b""), (0, b"short"), (6, filled(4096).data * 2)])
def test_a_large_answer_that_is_not_good_is_noticed(sizes: Sequence[int], code: int, records: bytes) -> None:
    batch = filled(4096)
    ring = fetch_ring("news", 0, batch, 2, 100)
    stream = fetched(ring, 0, 0, batch.data * 2) + fetched(ring, 1, code, records)
    answers = cutter(ring, 0)
    with pytest.raises(BadAnswerError, match="news-0"):
        for chunk in chunks(stream, sizes):
            answers.take(chunk)


def test_a_large_answer_out_of_turn_is_noticed() -> None:
    batch = filled(4096)
    ring = fetch_ring("news", 0, batch, 2, 100)
    answers = cutter(ring, 0)
    with pytest.raises(BadAnswerError, match="correlation id 2 where 1 was next"):
        answers.take(memoryview(fetched(ring, 0, 0, batch.data * 2) + fetched(ring, 2, 0, batch.data * 2)))


@pytest.mark.parametrize("size", [16 << 10, 64 << 10, 1 << 20])
def test_filled_batches_have_exactly_their_size(size: int) -> None:
    batch = filled(size)
    header = parse_batch(batch.data)
    check_batch(header, batch.data)
    records = decode_records(batch.data)
    assert len(batch.data) == size
    assert len(records) == batch.records == header.record_count == size // 1024
    assert header.max_timestamp == records[-1].timestamp
    assert header.base_offset == 0


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_text_compresses_to_about_a_quarter(codec: str) -> None:
    batch = text(64 << 10, codec)
    check_batch(parse_batch(batch.data), batch.data)
    assert len(decode_records(batch.data)) == batch.records == 64
    assert 2.5 <= batch.raw_bytes / batch.size <= 5.5


def test_a_ring_holds_requests_that_differ_in_their_correlation_ids(ring: Ring) -> None:
    ids = []
    for number in range(ring.frames):
        frame = ring.data[number * ring.frame_bytes : (number + 1) * ring.frame_bytes]
        assert int.from_bytes(frame[:4], "big") == ring.frame_bytes - 4
        ids.append(int.from_bytes(frame[8:12], "big"))
        request, end = ProduceRequest.decode(frame, 12, 20)
        assert end == ring.frame_bytes
        assert request.topic_data[0].partition_data[0].records == BATCH.data
    assert ids == [ring.id_at(number) for number in range(ring.frames)]
