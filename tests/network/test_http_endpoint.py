"""Health and metrics over HTTP, and what is no HTTP."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from urllib.error import HTTPError

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broadsheet_broker.config.listeners import Listener
from broadsheet_broker.network.http import HttpEndpoint
from broadsheet_broker.network.process_metrics import register
from broadsheet_broker.network.prometheus import render
from broadsheet_broker.seams import Environment
from broadsheet_broker.seams.metrics import Family, Metrics

PHASES = ("queue", "local", "remote", "response")


def with_endpoint(work: Callable[[HttpEndpoint, Environment, list[str]], Awaitable[None]]) -> None:
    async def serve() -> None:
        environment = Environment(asyncio.get_running_loop())
        complaints: list[str] = []
        endpoint = HttpEndpoint(environment, Listener("HTTP", "127.0.0.1", 0), healthy=list, ready=lambda: complaints)
        await endpoint.start()
        await work(endpoint, environment, complaints)
        await endpoint.stop()

    asyncio.run(asyncio.wait_for(serve(), 20))


async def get(port: int, path: str) -> tuple[int, str]:
    def fetch() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as response:
                return response.status, response.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(fetch)


def test_health_and_readiness() -> None:
    async def work(endpoint: HttpEndpoint, environment: Environment, complaints: list[str]) -> None:
        assert await get(endpoint.port, "/healthz") == (200, "ok\n")
        assert await get(endpoint.port, "/readyz") == (200, "ok\n")
        complaints.append("broker 1 is fenced")
        assert await get(endpoint.port, "/readyz") == (503, "broker 1 is fenced\n")
        assert (await get(endpoint.port, "/elsewhere"))[0] == 404

    with_endpoint(work)


def test_metrics_are_what_prometheus_reads() -> None:
    async def work(endpoint: HttpEndpoint, environment: Environment, complaints: list[str]) -> None:
        register(environment)
        metrics = environment.metrics
        metrics.topic("orders").bytes_in += 100
        metrics.topic('we"ird\\').messages_in += 2
        metrics.topic("gone").bytes_in += 7
        metrics.forget_topic("gone")
        times = metrics.request_times("Produce")
        times.observe(received=1.0, begun=1.001, waited=-1.0, ready=1.002, sent=1.003)
        times.observe(received=2.0, begun=2.001, waited=2.002, ready=100.0, sent=101.0)
        metrics.counter("broadsheet_things_total", "Things.", (("kind", "a"),)).value += 3
        metrics.gauge("broadsheet_level", "Level.", lambda: 1.5)
        status, text = await get(endpoint.port, "/metrics?x=1")
        assert status == 200
        samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert samples["kafka_server_brokertopicmetrics_bytesin_total", (("topic", "orders"),)] == 100
        assert samples["kafka_server_brokertopicmetrics_bytesin_total", ()] == 107
        assert samples["kafka_server_brokertopicmetrics_messagesin_total", (("topic", 'we"ird\\'),)] == 2
        assert samples["broadsheet_request_seconds_count", (("request", "Produce"),)] == 2
        assert samples["broadsheet_request_seconds_bucket", (("le", "0.005"), ("request", "Produce"))] == 1
        assert samples["broadsheet_request_seconds_bucket", (("le", "+Inf"), ("request", "Produce"))] == 2
        phases = {
            (dict(labels)["phase"], name.removeprefix("broadsheet_request_phase_seconds_")): value
            for (name, labels), value in samples.items()
            if name in ("broadsheet_request_phase_seconds_sum", "broadsheet_request_phase_seconds_count")
        }
        assert {phase: phases[phase, "count"] for phase, _ in phases} == dict.fromkeys(PHASES, 2)
        sums = {phase: phases[phase, "sum"] for phase, _ in phases}
        assert sums == pytest.approx({"queue": 0.002, "local": 0.002, "remote": 97.998, "response": 1.001})
        at = (("le", "0.0001"), ("phase", "remote"), ("request", "Produce"))
        assert samples["broadsheet_request_phase_seconds_bucket", at] == 1, "one waited for nothing"
        assert samples["kafka_network_requestmetrics_requests_total", (("request", "Produce"),)] == 2
        assert samples["broadsheet_things_total", (("kind", "a"),)] == 3
        assert samples["broadsheet_level", ()] == 1.5
        assert samples["process_resident_memory_bytes", ()] > 1_000_000
        assert 0 <= samples["kafka_network_socketserver_networkprocessoravgidle_percent", ()] <= 1

    with_endpoint(work)


def test_a_request_behind_a_scrape_waits_for_it() -> None:
    """A scrape is answered in several turns of the loop."""

    async def work(endpoint: HttpEndpoint, environment: Environment, complaints: list[str]) -> None:
        many = [((("n", str(number)),), number) for number in range(5000)]
        environment.metrics.collector(lambda: [Family("many", "gauge", "Many.", many), None])
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        head = b"Host: x\r\n\r\n"
        writer.write(b"GET /metrics HTTP/1.1\r\n" + head + b"GET /healthz HTTP/1.1\r\nConnection: close\r\n" + head)
        text = await reader.read()
        assert text.count(b"HTTP/1.1 200 OK") == 2
        assert text.index(b'many{n="4999"} 4999\n') < text.rindex(b"HTTP/1.1") and text.endswith(b"\r\n\r\nok\n")
        writer.close()

    with_endpoint(work)


def test_a_scrape_that_fails_half_way_is_a_failure() -> None:
    async def work(endpoint: HttpEndpoint, environment: Environment, complaints: list[str]) -> None:
        def broken() -> Iterator[Family | None]:
            yield Family("fine", "gauge", "Fine.", [((), 1)])
            yield None
            raise OSError("no")

        environment.metrics.collector(broken)
        assert (await get(endpoint.port, "/metrics"))[0] == 503
        assert (await get(endpoint.port, "/healthz"))[0] == 200

    with_endpoint(work)


def test_families_of_one_name_from_two_collectors_are_merged() -> None:
    metrics = Metrics()
    for disk in ("a", "b"):
        metrics.collector(lambda disk=disk: [Family("bytes", "gauge", "Bytes.", [((("disk", disk),), 1.0)])])
    text = render(metrics.families()).decode()
    assert text.count("# TYPE bytes gauge") == 1
    assert 'bytes{disk="a"} 1.0\nbytes{disk="b"} 1.0\n' in text


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"GET /healthz HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", b"400"),
        (b"GET healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", b"400"),
        (b"GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"POST /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (bytes(range(256)) * 40, b"400"),
    ],
)
def test_what_is_not_well_formed_is_refused_and_closed(request_: bytes, status: bytes) -> None:
    async def work(endpoint: HttpEndpoint, environment: Environment, complaints: list[str]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        writer.write(request_)
        line = await reader.readline()
        assert line.split()[1] == status
        if status != b"200" or b"1.0" in request_:
            await reader.read()
        else:
            head = await reader.readuntil(b"\r\n\r\n")
            if request_.startswith(b"GET"):
                assert await reader.readexactly(3) == b"ok\n"
            assert b"Content-Length: 3\r\n" in head
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in await reader.readline()
        writer.close()
        await writer.wait_closed()

    with_endpoint(work)
