"""The operator's process: HTTP first, then the lease, then kopf.

A standby is Ready as soon as it answers: otherwise `helm --wait` never ends with two replicas. Liveness fails when a
watch of the leader is dead (`watches`).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
from collections.abc import Sequence
from typing import Any

from broadsheet_operator import log_lines
from broadsheet_operator.handlers.lease import Lease, lead
from broadsheet_operator.handlers.metrics import OperatorCollector, scrape
from broadsheet_operator.handlers.operator import Operator
from broadsheet_operator.handlers.watches import WatchHealth, configure_kopf, registry
from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.kafka.lane import GatewayFactory
from broadsheet_operator.kubernetes import ApiGateway
from broadsheet_operator.reconcilers.provisioning import Settings
from broadsheet_operator.settings import DEFAULTS, OperatorSettings

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="broadsheet operator", description="Run the operator on Kubernetes.")
    options.add_argument("--lease-name", default="broadsheet", help="name of the Lease that the leader holds")
    options.add_argument("--lease-namespace", default="default", help="namespace of the Lease")
    options.add_argument("--broker-image", required=True, help="image of the brokers of new Clusters")
    options.add_argument("--canary-image", default="", help="image of canaries: the operator's own")
    options.add_argument(
        "--jmx-agent-image",
        default="",
        help="image that brings the agent of Java's metrics to brokers of Apache Kafka; without it they have none",
    )
    options.add_argument(
        "--resync-seconds",
        type=float,
        default=DEFAULTS.resync_seconds,
        help="how often everything is read again",
    )
    options.add_argument(
        "--lag-names",
        default=DEFAULTS.lag_names,
        choices=["kafka-exporter", "kminion", "both"],
        help="whose names the metrics of consumer groups have",
    )
    options.add_argument(
        "--lag-partitions",
        type=int,
        default=DEFAULTS.lag_partitions,
        help="how many partitions all groups of a cluster may have in /metrics; groups beyond are left out",
    )
    options.add_argument("--namespace", action="append", default=[], help="watch only this one; may be repeated")
    options.add_argument(
        "--http-port", type=int, default=DEFAULTS.http_port, help="port of /healthz, /readyz and /metrics"
    )
    options.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    options.add_argument(
        "--log-format", default="text", choices=log_lines.FORMATS, help="json: one JSON object per line (default: text)"
    )
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal, or until the lease is lost; the exit code is not 0 in the second case."""
    options = parser().parse_args(arguments)
    log_lines.configure(options.log_level, options.log_format)
    for chatty in ("kopf", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # What does not answer is said once, in a condition: the client library says it with every try.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    settings = OperatorSettings(
        resync_seconds=options.resync_seconds,
        http_port=options.http_port,
        lag_names=options.lag_names,
        lag_partitions=options.lag_partitions,
    )
    return asyncio.run(Process(options, settings).run())


def connect_to_kafka(settings: OperatorSettings) -> GatewayFactory:
    """Gateways with kafka-python. Imported on first use: a standby needs no Kafka client."""

    def connect(servers: Sequence[str]) -> KafkaGateway:
        from broadsheet_operator.kafka.client import KafkaPythonGateway

        return KafkaPythonGateway(servers, settings.kafka_timeout_ms)

    return connect


class Process:
    """One operator, leading or standing by."""

    def __init__(
        self,
        options: argparse.Namespace,
        settings: OperatorSettings = DEFAULTS,
        gateway_factory: GatewayFactory | None = None,
    ) -> None:
        self.options = options
        self.settings = settings
        self.operator: Operator | None = None
        self.watches = WatchHealth(settings.silent_watch_seconds)
        self._factory = gateway_factory or connect_to_kafka(settings)
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """End soon: give the lease back, and stop watching."""
        self._stop.set()

    async def run(self, signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT)) -> int:
        """Stand by and lead until `stop`, or one of `signals`."""
        from kubernetes.aio import client, config

        loop = asyncio.get_running_loop()
        for number in signals:
            loop.add_signal_handler(number, self.stop)
        load: Any = config
        try:
            load.load_incluster_config()
        except load.ConfigException:
            await load.load_kube_config()
        runner = await self._serve_http()
        identity = os.environ.get("POD_NAME") or socket.gethostname()
        async with client.ApiClient() as api_client:
            gateway = ApiGateway(api_client, identity)
            place = self.options.lease_name, self.options.lease_namespace
            lease = Lease(gateway, *place, identity, self.settings, self.options.namespace)
            leading = asyncio.create_task(lead(lease, lambda: self._operate(api_client, identity)))
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait({leading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            told_to_stop = self._stop.is_set()
            self._stop.set()
            if told_to_stop and self.operator is None:
                leading.cancel()
            try:
                await asyncio.wait_for(leading, 20)
            except (asyncio.CancelledError, TimeoutError):
                logger.warning("stopped before everything was put away")
            except Exception:
                logger.exception("the operator failed")
                told_to_stop = False
            stopping.cancel()
        await runner.cleanup()
        return 0 if told_to_stop else 1

    async def _operate(self, api_client: Any, identity: str) -> None:
        """What the leader does."""
        import kopf

        operator = Operator(
            ApiGateway(api_client, identity),
            Settings(self.options.broker_image, self.options.canary_image, self.options.jmx_agent_image),
            self._factory,
            self.settings,
            lease=f"{self.options.lease_namespace}/{self.options.lease_name}",
            namespaces=self.options.namespace,
        )
        self.operator = operator
        settings = kopf.OperatorSettings()
        configure_kopf(settings, self.settings)
        stop_watching = asyncio.Event()
        own_name: Any = identity

        async def put_away() -> None:
            # Queues first: kopf waits for every task that it finds when it ends.
            await self._stop.wait()
            await operator.close()
            stop_watching.set()

        putting_away = asyncio.create_task(put_away(), name="put away")
        try:
            await kopf.operator(
                registry=registry(operator, self.watches),
                settings=settings,
                identity=own_name,  # by itself it asks for a user's name, and uid 1000 has none
                standalone=True,
                clusterwide=not self.options.namespace,
                namespaces=self.options.namespace,
                stop_flag=stop_watching,
            )
        finally:
            self.operator = None
            putting_away.cancel()
            await operator.close()

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    async def _serve_http(self) -> Any:
        from aiohttp import web
        from prometheus_client import CollectorRegistry
        from prometheus_client.process_collector import ProcessCollector

        metrics = CollectorRegistry()
        ProcessCollector(registry=metrics)
        collector: Any = OperatorCollector(lambda: self.operator)
        metrics.register(collector)

        async def healthz(request: web.Request) -> web.Response:
            complaint = self.watches.complaint(self.operator.store.count) if self.operator else ""
            return web.Response(status=503 if complaint else 200, text=(complaint or "ok") + "\n")

        async def readyz(request: web.Request) -> web.Response:
            return web.Response(text="leading\n" if self.operator else "standing by\n")

        async def show_metrics(request: web.Request) -> web.Response:
            # In a thread: tens of thousands of samples take longer than the loop may be held up.
            body = await asyncio.to_thread(scrape, metrics, self.operator)
            return web.Response(body=body, content_type="text/plain", charset="utf-8")

        app = web.Application()
        app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", show_metrics)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "0.0.0.0", self.settings.http_port).start()
        return runner
