"""Large answers and slow readers: what is in memory, what is read from files and when, counted in bytes and turns."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broadsheet_broker.apis.request import Request
from broadsheet_broker.network import Server
from broadsheet_broker.network.connection import MOST_UNSENT, KafkaConnection
from broadsheet_broker.network.sending import IN_A_ROW, MOST_STUCK, PIECE, SHORT_PIECE
from broadsheet_broker.seams import Environment
from broadsheet_broker.seams.files import MOST_KEPT_OPEN, LocalFiles, StoredBytes
from broadsheet_broker.wire.messages.fetch_request import FetchRequest
from broadsheet_broker.wire.messages.fetch_response import FetchableTopicResponse, FetchResponse, PartitionData
from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest
from broadsheet_broker.wire.messages.sync_group_response import SyncGroupResponse
from tests.support.memory_files import MemoryFiles
from tests.support.network import api, frame, make_config, make_server

FETCH, SYNC_GROUP = 1, 14
MANY = 10_000_000


class Reader:
    """A client's socket, of which the transport gets rid of `takes` bytes at a time when the client reads."""

    def __init__(self, *, slow: bool) -> None:
        self.slow = slow
        self.unread = 0
        self.most_unread = 0
        self.received = bytearray()
        self.reading = True
        self.aborted = False
        self.connection: KafkaConnection

    def get_extra_info(self, name: str) -> Any:
        return ("10.0.0.1", 5000) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def write(self, data: bytes) -> None:
        self.writelines([data])

    def writelines(self, buffers: Any) -> None:
        for data in buffers:
            assert not isinstance(data, StoredBytes)
            self.received += data
            self.unread += len(data)
        self.most_unread = max(self.most_unread, self.unread)
        if not self.slow:
            self.unread = 0
        elif self.unread > self.high:
            self.connection.pause_writing()

    def take(self) -> None:
        """The client reads all that has been sent."""
        self.unread = 0
        self.connection.resume_writing()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        return

    def abort(self) -> None:
        self.aborted = True


class Bench:
    """A server whose Fetch answers with ten million bytes of a file, and SyncGroup with as many as are asked for."""

    def __init__(self) -> None:
        self.files = MemoryFiles()
        self.content = os.urandom(1000) * (MANY // 1000)
        file = self.files.open("/segment", create=True)
        file.append([self.content])
        self.file = file
        self.reads: list[int] = []
        read = file.read_shared

        def counted(offset: int, size: int) -> Any:
            self.reads.append(size)
            return read(offset, size)

        file.read_shared = counted  # type: ignore[method-assign]
        self.handled = 0
        self.loop = asyncio.new_event_loop()
        config = make_config("broadsheet.answers.max.bytes=1000000")
        handlers = [api(FETCH, self._fetch), api(SYNC_GROUP, self._sync)]
        self.server: Server = make_server(Environment(self.loop), handlers, config)

    def _fetch(self, services: Any, request: Request[FetchRequest]) -> None:
        self.handled += 1
        records: Any = self.file.stored(0, MANY)
        row = PartitionData(partition_index=0, high_watermark=9, records=records)
        request.answer(FetchResponse(responses=[FetchableTopicResponse(topic="t", partitions=[row])]))

    def _sync(self, services: Any, request: Request[SyncGroupRequest]) -> None:
        self.handled += 1
        request.answer(SyncGroupResponse(assignment=bytes(request.body.generation_id)))

    def connect(self, *, slow: bool) -> tuple[KafkaConnection, Reader]:
        connection, reader = KafkaConnection(self.server, "PLAINTEXT"), Reader(slow=slow)
        reader.connection = connection
        connection.connection_made(reader)  # type: ignore[arg-type]
        return connection, reader

    def fetch(self, connection: KafkaConnection, requests: int = 1) -> None:
        self._feed(connection, frame(FETCH, 4, 1, FetchRequest(max_wait_ms=1, min_bytes=1)) * requests)

    def sync(self, connection: KafkaConnection, size: int, requests: int = 1) -> None:
        self._feed(connection, frame(SYNC_GROUP, 0, 1, SyncGroupRequest(generation_id=size)) * requests)

    def _feed(self, connection: KafkaConnection, data: bytes) -> None:
        buffer = connection.get_buffer(-1)
        buffer[: len(data)] = data
        del buffer
        connection.buffer_updated(len(data))

    def turn(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def rest(self) -> None:
        for _ in range(200):
            self.turn()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.loop.close()


def test_a_slow_reader_holds_a_piece_of_its_answer(bench: Bench) -> None:
    """Two hundred of them once held 740 MB."""
    readers = [bench.connect(slow=True) for _ in range(50)]
    for connection, _ in readers:
        bench.fetch(connection)
    bench.rest()
    assert sum(bench.reads) <= 50 * SHORT_PIECE
    assert max(reader.most_unread for _, reader in readers) <= SHORT_PIECE
    assert bench.server.unsent_bytes < 50 * 1000
    connection, reader = readers[7]
    for _ in range(MANY // SHORT_PIECE + 2):
        reader.take()
        bench.turn()
    assert reader.received[-MANY:] == bench.content
    assert connection._unsent_bytes == 0


def test_an_answer_does_not_hold_up_the_loop_while_it_is_read(bench: Bench) -> None:
    connection, reader = bench.connect(slow=False)
    bench.fetch(connection)
    turns = 0
    while len(reader.received) < MANY and turns < MANY // SHORT_PIECE:
        before = len(reader.received)
        bench.turn()
        turns += 1
        assert len(reader.received) - before <= IN_A_ROW + PIECE
    assert turns >= MANY // (IN_A_ROW + PIECE)
    bench.rest()
    assert reader.received[-MANY:] == bench.content


def test_answers_behind_a_large_one_keep_their_order(bench: Bench) -> None:
    connection, reader = bench.connect(slow=True)
    bench.fetch(connection)
    bench.sync(connection, 10)
    for _ in range(MANY // SHORT_PIECE + 5):
        reader.take()
        bench.turn()
    assert bench.handled == 2
    assert reader.received.endswith(bytes(10))
    begin = reader.received.index(bench.content[:100])
    assert reader.received[begin : begin + MANY] == bench.content


def test_who_does_not_take_a_large_answer_has_no_more_requests_handled(bench: Bench) -> None:
    connection, reader = bench.connect(slow=True)
    bench.fetch(connection, 256)
    bench.rest()
    assert bench.handled == 1
    assert not reader.reading
    connection.connection_lost(None)
    assert bench.server.unsent_bytes == 0


def test_answers_in_memory_have_a_budget_for_all_connections_and_one_that_has_none_goes_on(bench: Bench) -> None:
    size = MOST_UNSENT - 1000
    slow = [bench.connect(slow=True) for _ in range(40)]
    for connection, _ in slow:
        for _ in range(4):
            bench.sync(connection, size)
    bench.rest()
    assert bench.server.unsent_bytes <= 1_000_000 + 40 * MOST_UNSENT
    assert bench.handled <= 40 * 2
    connection, reader = bench.connect(slow=False)
    bench.sync(connection, 100)
    assert len(reader.received) > 100
    for _, reader in slow:
        for _ in range(100):
            reader.take()
            bench.turn()
    assert bench.handled == 161
    assert bench.server.unsent_bytes == 0


def test_what_was_cut_from_its_file_ends_the_connection(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    connection, reader = bench.connect(slow=True)
    bench.fetch(connection)
    bench.file.truncate(MANY // 2)
    for _ in range(MANY // SHORT_PIECE):
        if reader.aborted:
            break
        reader.take()
        bench.turn()
    assert reader.aborted
    assert "cannot be read" in caplog.text


def test_a_file_that_cannot_be_read_ends_the_connection(bench: Bench) -> None:
    connection, reader = bench.connect(slow=True)
    bench.fetch(connection)
    bench.files.fault = lambda operation, path: errno.EIO if operation == "read" else None
    reader.take()
    assert reader.aborted


def test_a_file_that_was_closed_and_removed_is_read_to_the_end(tmp_path: Path) -> None:
    files = LocalFiles()
    file = files.open(str(tmp_path / "segment"), create=True)
    file.append([b"some news of yesterday"])
    stored = file.stored(5, 4)
    assert stored is not None
    file.close()
    (tmp_path / "segment").unlink()
    assert bytes(stored) == b"news"
    descriptor = file._fd
    del stored
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_files_that_are_kept_open_are_bounded(tmp_path: Path) -> None:
    files = LocalFiles()
    kept = []
    for number in range(MOST_KEPT_OPEN):
        file = files.open(str(tmp_path / str(number)), create=True)
        kept.append(file.stored(0, 0))
        file.close()
    last = files.open(str(tmp_path / "last"), create=True)
    assert last.stored(0, 0) is None
    kept.pop()
    assert last.stored(0, 0) is not None
    last.close()


def test_pieces_grow_for_who_keeps_up_until_too_many_bytes_are_stuck(bench: Bench) -> None:
    connection, _ = bench.connect(slow=False)
    bench.fetch(connection)
    bench.rest()
    assert bench.reads[0] < SHORT_PIECE  # the header is in the first piece
    assert max(bench.reads) == PIECE
    bench.server.stuck_bytes = MOST_STUCK + 1
    bench.reads.clear()
    bench.fetch(connection)
    bench.rest()
    assert max(bench.reads) <= SHORT_PIECE


def test_bytes_that_are_stuck_are_counted_until_they_are_taken_or_the_client_is_gone(bench: Bench) -> None:
    readers = [bench.connect(slow=True) for _ in range(3)]
    for connection, _ in readers:
        bench.fetch(connection)
    bench.rest()
    assert bench.server.stuck_bytes == 3 * SHORT_PIECE
    readers[0][1].take()
    assert bench.server.stuck_bytes == 3 * SHORT_PIECE, "it has the next one"
    for connection, _ in readers:
        connection.connection_lost(None)
    assert bench.server.stuck_bytes == 0
