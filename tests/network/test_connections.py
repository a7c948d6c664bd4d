"""Requests and answers over real sockets, on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broadsheet_broker.apis.api_versions import api_versions
from broadsheet_broker.apis.request import Request
from broadsheet_broker.network import ListenError
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.api_versions_request import ApiVersionsRequest
from broadsheet_broker.wire.messages.create_topics_request import CreatableTopic, CreateTopicsRequest
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.heartbeat_response import HeartbeatResponse
from broadsheet_broker.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from broadsheet_broker.wire.messages.produce_response import ProduceResponse
from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest
from broadsheet_broker.wire.messages.sync_group_response import SyncGroupResponse
from tests.network.support import Run, echo_generation, serve
from tests.support.network import Client, api, frame, make_config, make_server
from tests.support.waiting import until

PRODUCE, SYNC_GROUP, HEARTBEAT, API_VERSIONS, CREATE_TOPICS = 0, 14, 12, 18, 19
BROKER_HEARTBEAT = 63


def echo_sync(services: Any, request: Request[SyncGroupRequest]) -> None:
    request.answer(SyncGroupResponse(assignment=bytes(request.body.generation_id)))


def produce(records: bytes, acks: int = 1) -> ProduceRequest:
    data = [PartitionProduceData(index=0, records=records)]
    return ProduceRequest(acks=acks, timeout_ms=1000, topic_data=[TopicProduceData(name="orders", partition_data=data)])


def test_a_throttled_client_is_asked_to_pause_in_its_answer(run: Run) -> None:
    def throttled(services: Any, request: Request[HeartbeatRequest]) -> None:
        request.throttle_ms = 250
        request.answer(HeartbeatResponse())

    async def work() -> None:
        server, client = await serve(api(HEARTBEAT, throttled))
        for version, expected in ((0, 0), (4, 250)):  # version 0 has no room for it
            client.send(frame(HEARTBEAT, version, 7, HeartbeatRequest()))
            _, answer = await client.receive_message(HEARTBEAT, version)
            assert answer.throttle_time_ms == expected
        await client.close()
        await server.stop()

    run(work())


def test_many_requests_in_one_read_are_answered_in_order(run: Run) -> None:
    async def work() -> None:
        server, client = await serve(api(HEARTBEAT, echo_generation))
        client.send(b"".join(frame(HEARTBEAT, n % 5, n, HeartbeatRequest(generation_id=n)) for n in range(1000)))
        for n in range(1000):
            correlation_id, answer = await client.receive_message(HEARTBEAT, n % 5)
            assert correlation_id == n
            assert answer.throttle_time_ms == (n if n % 5 else 0)
        await client.close()
        await server.stop()

    run(work())


def test_answers_wait_for_those_of_earlier_requests(run: Run) -> None:
    held: list[Request[Any]] = []

    def hold(services: Any, request: Request[Any]) -> None:
        held.append(request)

    async def work() -> None:
        server, client = await serve(api(HEARTBEAT, hold))
        client.send(b"".join(frame(HEARTBEAT, 4, n, HeartbeatRequest()) for n in range(5)))
        await until(lambda: len(held) >= 5)
        for n in (3, 1, 4, 0, 2):
            held[n].answer(HeartbeatResponse(throttle_time_ms=n))
        for n in range(5):
            correlation_id, answer = await client.receive_message(HEARTBEAT, 4)
            assert (correlation_id, answer.throttle_time_ms) == (n, n)
        await client.close()
        await server.stop()

    run(work())


def test_a_request_may_come_byte_by_byte(run: Run) -> None:
    async def work() -> None:
        server, client = await serve(api(HEARTBEAT, echo_generation))
        for byte in frame(HEARTBEAT, 4, 9, HeartbeatRequest(generation_id=3, group_id="g" * 40)):
            client.send(bytes((byte,)))
            await client.writer.drain()
            await asyncio.sleep(0)
        assert (await client.receive_message(HEARTBEAT, 4))[1].throttle_time_ms == 3
        await client.close()
        await server.stop()

    run(work())


def test_records_of_any_size_arrive_whole_and_stay_valid_while_somebody_holds_them(run: Run) -> None:
    sizes = [1, 100, 70_000, 65_000, 1_000_000, 3, 5_000_000, 2_100_000, 20, 12_000_000]
    kept: list[memoryview] = []

    def keep(services: Any, request: Request[ProduceRequest]) -> None:
        records = request.body.topic_data[0].partition_data[0].records
        assert isinstance(records, memoryview)
        kept.append(records)
        request.answer(ProduceResponse())

    async def work() -> None:
        server, client = await serve(api(PRODUCE, keep))
        for n, size in enumerate(sizes):
            client.send(frame(PRODUCE, 9, n, produce(bytes([n]) * size)))
        for _ in sizes:
            await client.receive()
        for n, (size, records) in enumerate(zip(sizes, kept, strict=True)):
            assert records == bytes([n]) * size
        await client.close()
        await server.stop()

    run(work())


def test_an_answer_larger_than_any_buffer_arrives_whole(run: Run) -> None:
    async def work() -> None:
        server, client = await serve(api(SYNC_GROUP, echo_sync))
        for size in (0, 100_000, 30_000_000):
            answer = await client.call(SYNC_GROUP, 5, SyncGroupRequest(generation_id=size))
            assert len(answer.assignment) == size
        await client.close()
        await server.stop()

    run(work())


def test_a_failed_handler_is_answered_in_the_shape_of_its_api(run: Run) -> None:
    def fail(services: Any, request: Request[Any]) -> None:
        raise RuntimeError("on purpose")

    async def refuse(services: Any, request: Request[Any]) -> None:
        await asyncio.sleep(0)
        raise KafkaError(ErrorCode.POLICY_VIOLATION, "no")

    async def work() -> None:
        server, client = await serve(api(HEARTBEAT, fail), api(PRODUCE, fail), api(CREATE_TOPICS, refuse))
        assert (await client.call(HEARTBEAT, 3, HeartbeatRequest())).error_code == ErrorCode.UNKNOWN_SERVER_ERROR
        answer = await client.call(PRODUCE, 9, produce(b"x"))
        partition = answer.responses[0].partition_responses[0]
        assert (partition.error_code, partition.base_offset) == (ErrorCode.UNKNOWN_SERVER_ERROR, -1)
        answer = await client.call(CREATE_TOPICS, 7, CreateTopicsRequest(topics=[CreatableTopic(name="orders")]))
        assert answer.topics[0].error_code == ErrorCode.POLICY_VIOLATION
        client.send(frame(PRODUCE, 9, 5, produce(b"x", acks=0)))
        assert await client.ended()
        await server.stop()

    run(work())


def test_a_produce_without_acks_is_not_answered(run: Run) -> None:
    def silent(services: Any, request: Request[Any]) -> None:
        request.answer_nothing()

    async def work() -> None:
        server, client = await serve(api(PRODUCE, silent), api(HEARTBEAT, echo_generation))
        client.send(frame(PRODUCE, 9, 1, produce(b"x", acks=0)) + frame(HEARTBEAT, 4, 2, HeartbeatRequest()))
        assert (await client.receive_message(HEARTBEAT, 4))[0] == 2
        assert server.queued_bytes == 0
        await client.close()
        await server.stop()

    run(work())


def test_api_versions_of_the_future_hear_what_there_is(run: Run) -> None:
    async def work() -> None:
        server, client = await serve(api(API_VERSIONS, api_versions))
        client.send(frame(API_VERSIONS, 4, 3, ApiVersionsRequest()).replace(b"\0\x12\0\x04", b"\0\x12\0\x63"))
        correlation_id, answer = await client.receive_message(API_VERSIONS, 0)
        assert (correlation_id, answer.error_code) == (3, ErrorCode.UNSUPPORTED_VERSION)
        assert [(key.api_key, key.min_version, key.max_version) for key in answer.api_keys] == [(18, 0, 4)]
        body = ApiVersionsRequest(client_software_name="tests", client_software_version="1.0")
        answer = await client.call(API_VERSIONS, 4, body)
        assert answer.error_code == 0
        assert answer.finalized_features_epoch == 7
        supported = {"metadata.version", "kraft.version", "eligible.leader.replicas.version"}
        assert {f.name for f in answer.supported_features} == supported
        assert {f.name for f in (await client.call(API_VERSIONS, 3, body)).supported_features} == {"metadata.version"}
        odd = ApiVersionsRequest(client_software_name="-bad-", client_software_version="1.0")
        assert (await client.call(API_VERSIONS, 3, odd)).error_code == ErrorCode.INVALID_REQUEST
        await client.close()
        await server.stop()

    run(work())


@pytest.mark.parametrize(("key", "version"), [(HEARTBEAT, 5), (HEARTBEAT, -1), (PRODUCE, 9), (999, 0)])
def test_an_api_or_version_that_is_not_served_ends_the_connection(run: Run, key: int, version: int) -> None:
    async def work() -> None:
        server, client = await serve(api(HEARTBEAT, echo_generation))
        client.send(frame(HEARTBEAT, 3, 1, HeartbeatRequest())[:4] + key.to_bytes(2, "big"))
        client.send(version.to_bytes(2, "big", signed=True) + frame(HEARTBEAT, 3, 1, HeartbeatRequest())[8:])
        assert await client.ended()
        await server.stop()

    run(work())


def test_controller_listeners_serve_what_controllers_serve(run: Run) -> None:
    async def work() -> None:
        server, client = await serve(api(HEARTBEAT, echo_generation), api(API_VERSIONS, api_versions))
        other = await Client.connect(server.bound_ports["CONTROLLER"])
        assert (await other.call(API_VERSIONS, 0, ApiVersionsRequest())).error_code == 0
        other.send(frame(HEARTBEAT, 4, 1, HeartbeatRequest()))
        assert await other.ended()
        await client.call(HEARTBEAT, 4, HeartbeatRequest())
        await client.close()
        await server.stop()

    run(work())


def test_a_port_in_use_is_explained(run: Run) -> None:
    async def work() -> None:
        server, client = await serve(api(HEARTBEAT, echo_generation))
        port = server.bound_ports["PLAINTEXT"]
        other = make_server(Environment(asyncio.get_running_loop()), [], make_config(port=port))
        with pytest.raises(ListenError, match=f"PLAINTEXT://127.0.0.1:{port}: the port is in use; stop what listens"):
            await other.start()
        nowhere = make_server(Environment(asyncio.get_running_loop()), [], make_config(host="192.0.2.1"))
        with pytest.raises(ListenError, match=r"this machine has no such address"):
            await nowhere.start()
        await client.close()
        await server.stop()

    run(work())


def test_localhost_with_any_port_is_one_port(run: Run) -> None:
    async def work() -> None:
        server = make_server(
            Environment(asyncio.get_running_loop()), [api(HEARTBEAT, echo_generation)], make_config(host="localhost")
        )
        await server.start()
        client = await Client.connect(server.bound_ports["PLAINTEXT"], "localhost")
        await client.call(HEARTBEAT, 4, HeartbeatRequest())
        await client.close()
        await server.stop()

    run(work())


def test_stopping_ends_connections_and_waiting_handlers(run: Run) -> None:
    started = asyncio.Event()

    async def wait(services: Any, request: Request[Any]) -> None:
        started.set()
        await asyncio.Event().wait()

    async def work() -> None:
        server, client = await serve(api(HEARTBEAT, wait))
        client.send(frame(HEARTBEAT, 4, 1, HeartbeatRequest()))
        await started.wait()
        await server.stop()
        assert await client.ended()
        assert not server.connections

    run(work())
