"""Large requests get room for all that they announce, in order, or wait."""

from __future__ import annotations

import asyncio
from typing import Any

from broadsheet_broker.apis.request import Request
from broadsheet_broker.network.admission import LARGE, LEAST_RATE, PATIENCE_SECONDS, Admission
from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest, SyncGroupRequestAssignment
from broadsheet_broker.wire.messages.sync_group_response import SyncGroupResponse
from tests.network.support import SYNC_GROUP, Run, serve
from tests.support.network import Client, api, frame
from tests.support.waiting import until

MIB = 1024 * 1024


class Timer:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def test_each_gets_all_it_needs_in_the_order_in_which_they_ask() -> None:
    admission: Admission[str] = Admission(250 * MIB, Timer())
    assert admission.admit("a", 100 * MIB, 0)
    assert admission.admit("b", 100 * MIB, 0)
    assert not admission.admit("c", 100 * MIB, 0)
    assert not admission.admit("d", 10 * MIB, 0), "c was there before"
    assert admission.admit("a", 100 * MIB, 0), "it has room already"
    assert admission.release("a") == ["c", "d"]
    assert not admission.admit("d", 10 * MIB, 0)
    assert admission.admit("c", 100 * MIB, 0)
    assert admission.admit("d", 10 * MIB, 0)
    assert admission.admitted_bytes == 210 * MIB
    for name in "bcd":
        assert admission.release(name) == []
    assert admission.admitted_bytes == 0


def test_what_is_unanswered_counts_and_one_is_always_let_in() -> None:
    admission: Admission[str] = Admission(250 * MIB, Timer())
    assert admission.admit("a", 100 * MIB, 240 * MIB)
    assert not admission.admit("b", 100 * MIB, 100 * MIB)
    assert admission.admit("b", 100 * MIB, 10 * MIB)
    admission.tight = True
    assert not admission.admit("c", 1, 0)
    admission.release("a")
    admission.release("b")
    assert admission.admit("c", 300 * MIB, 0)


def test_who_is_gone_keeps_nobody_waiting() -> None:
    admission: Admission[str] = Admission(MIB, Timer())
    assert admission.admit("a", MIB, 0)
    assert not admission.admit("b", MIB, 0)
    assert not admission.admit("c", MIB, 0)
    admission.release("b")
    admission.release("a")
    assert admission.admit("c", MIB, 0)
    assert admission.waiting == 0


def test_a_slow_sender_makes_room_if_others_wait() -> None:
    timer = Timer()
    admission: Admission[str] = Admission(MIB, timer)
    assert admission.admit("slow", 100 * MIB, 0)
    timer.time = PATIENCE_SECONDS + 100 * MIB / LEAST_RATE + 1
    assert admission.too_slow() == []
    assert not admission.admit("other", MIB, 0)
    assert admission.too_slow() == ["slow"]


def large(number: int, size: int) -> bytes:
    assignment = SyncGroupRequestAssignment(member_id="m", assignment=bytes(size))
    return frame(SYNC_GROUP, 0, number, SyncGroupRequest(assignments=[assignment]))


def test_large_requests_that_arrive_together_are_read_one_after_the_other(run: Run) -> None:
    """All of them were read at once, whatever that took."""
    size = 8 * MIB
    waiting: list[Request[Any]] = []

    async def work() -> None:
        limits = ("socket.request.max.bytes=10000000", "queued.max.request.bytes=20000000")
        server, first = await serve(api(SYNC_GROUP, lambda _, request: waiting.append(request)), overrides=limits)
        clients = [first, *[await Client.connect(server.bound_ports["PLAINTEXT"]) for _ in range(7)]]
        for number, client in enumerate(clients):
            client.send(large(number, size))
        most = 0
        for answered in range(len(clients)):
            await until(lambda answered=answered: len(waiting) > answered)
            for _ in range(20):
                held = server.queued_bytes + server.admission.admitted_bytes
                most = max(most, held, sum(c._received.buffer_bytes for c in server.connections))
                await asyncio.sleep(0)
            assert waiting[answered].body.assignments[0].assignment == bytes(size)
            waiting[answered].answer(SyncGroupResponse())
        assert most <= 20_000_000 + 8 * LARGE
        for client in clients:
            await client.receive()
            await client.close()
        await until(lambda: not server.connections)
        assert (server.queued_bytes, server.admission.admitted_bytes) == (0, 0)
        await server.stop()

    run(work())


def test_a_client_that_goes_in_the_middle_of_a_large_request_makes_room(run: Run) -> None:
    async def work() -> None:
        limits = ("socket.request.max.bytes=10000000", "queued.max.request.bytes=10000000")
        handler = api(SYNC_GROUP, lambda _, request: request.answer(SyncGroupResponse()))
        server, leaver = await serve(handler, overrides=limits)
        leaver.send(large(0, 8 * MIB)[: 5 * MIB])
        await until(lambda: server.admission.admitted_bytes > 0)
        other = await Client.connect(server.bound_ports["PLAINTEXT"])
        other.send(large(1, 8 * MIB))
        await until(lambda: server.admission.waiting == 1)
        await leaver.close()
        assert await other.receive()
        await other.close()
        await server.stop()

    run(work())
