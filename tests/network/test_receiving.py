"""Many connections that send little share buffers, and none writes over what another has received."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.network.receiving import Received
from broadsheet_broker.seams.buffers import CHUNK, BufferPool


def arrive(received: Received, data: bytes) -> bytes:
    """One read of the event loop: what does not fit is returned."""
    room = received.room()
    size = min(len(room), len(data))
    room[:size] = data[:size]
    received.end += size
    return data[size:]


def cut(received: Received) -> list[memoryview]:
    """The whole requests that have arrived, as views."""
    requests = []
    while received.end - received.start >= 4:
        assert received.view is not None
        stop = received.start + 4 + struct.unpack_from(">i", received.view, received.start)[0]
        if stop > received.end:
            break
        requests.append(received.view[received.start : stop])
        received.start = stop
    received.keep_rest()
    return requests


def request(number: int, size: int) -> bytes:
    return struct.pack(">i", size) + bytes([number % 251]) * size


def test_a_thousand_connections_with_a_record_each_share_buffers() -> None:
    """As within one turn of the loop: the requests live until what they bring is written at its end."""
    made: list[int] = []
    pool = BufferPool(made.append)
    connections = [Received(pool) for _ in range(1000)]
    held: list[memoryview] = []
    for number, received in enumerate(connections):
        assert not arrive(received, request(number, 1100))
        held += cut(received)
    assert [bytes(view) for view in held] == [request(number, 1100) for number in range(1000)]
    assert sum(made) <= 40 * CHUNK, "not a buffer for each"
    assert not any(received.buffer_bytes for received in connections)


def test_connections_that_wait_for_their_turn_share_buffers() -> None:
    made: list[int] = []
    pool = BufferPool(made.append)
    connections = [Received(pool) for _ in range(1000)]
    for number, received in enumerate(connections):
        assert not arrive(received, request(number, 1100))
        received.lend_tail()
        assert not received.full
    for number, received in enumerate(connections[:500]):
        assert not arrive(received, request(number, 500))
    held = [cut(received) for received in connections]
    assert all(bytes(views[0]) == request(number, 1100) for number, views in enumerate(held))
    assert all(bytes(views[1]) == request(number, 500) for number, views in enumerate(held[:500]))
    assert len(made) <= 40 + 500, "only those that received twice have one of their own"


def test_a_connection_that_waits_for_more_shares_its_buffer_with_no_other() -> None:
    pool = BufferPool()
    first, second = Received(pool), Received(pool)
    whole = request(1, 5000)
    arrive(first, whole[:100])
    assert not cut(first)
    arrive(second, request(2, 300))
    (other,) = cut(second)
    arrive(first, whole[100:])
    (own,) = cut(first)
    assert bytes(own) == whole
    assert bytes(other) == request(2, 300)


def test_a_connection_that_brings_much_gets_whole_buffers() -> None:
    pool = BufferPool()
    much, little = Received(pool), Received(pool)
    for _ in range(3):
        assert not arrive(little, request(1, 500))
        cut(little)
        assert not arrive(much, request(2, 20_000))
        cut(much)
    assert not arrive(little, request(1, 500))
    cut(little)
    assert len(much.room()) == CHUNK
    assert len(little.room()) < CHUNK


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from([1, 40, 1100, 20_000, 40_000, 70_000, 200_000]),
            st.booleans(),
            st.booleans(),
        ),
        max_size=40,
    ),
    st.integers(1, 90_000),
)
def test_what_was_received_stays_as_it_is_while_it_is_viewed(
    steps: list[tuple[int, int, bool, bool]], read: int
) -> None:
    pool = BufferPool()
    connections = [Received(pool) for _ in range(4)]
    held: list[tuple[memoryview, bytes]] = []
    for number, (which, size, keep, lend) in enumerate(steps):
        received, data = connections[which], request(number, size)
        pending, views = data, []
        while pending:
            piece, pending = pending[:read], pending[read:]
            pending = arrive(received, piece) + pending
            if lend:
                received.lend_tail()
            views += cut(received)
        assert [bytes(view) for view in views] == [data]
        if keep:
            held.append((views[0], data))
        else:
            del held[: len(held) // 2]
        del views
    assert all(bytes(view) == data for view, data in held)
