"""The operator's process: HTTP first, then the lease, then kopf.

A standby is Ready as soon as it answers: otherwise `helm --wait` never ends with two replicas. Liveness fails when a
watch of a leader has been silent for longer than it can be.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from broadsheet_operator.handlers.lease import Lease, lead
from broadsheet_operator.handlers.metrics import OperatorCollector
from broadsheet_operator.handlers.operator import CHILDREN, DEPENDENTS, Operator
from broadsheet_operator.kubernetes import ApiGateway, Kind
from broadsheet_operator.reconcilers.provisioning import CLUSTER_LABEL, Settings

logger = logging.getLogger(__name__)

HTTP_PORT = 8080
WATCH_SECONDS = 120
"""The API server ends each watch after this; kopf starts it again. A watch that lives longer is dead."""
WATCHED = (Kind.CLUSTER, *DEPENDENTS, *CHILDREN, Kind.NAMESPACE)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="broadsheet operator", description="Run the operator on Kubernetes.")
    options.add_argument("--lease-name", default="broadsheet", help="name of the Lease that the leader holds")
    options.add_argument("--lease-namespace", default="default", help="namespace of the Lease")
    options.add_argument("--broker-image", required=True, help="image of the brokers of new Clusters")
    options.add_argument("--resync-seconds", type=float, default=60.0, help="how often everything is read again")
    options.add_argument("--namespace", action="append", default=[], help="watch only this one; may be repeated")
    options.add_argument("--http-port", type=int, default=HTTP_PORT, help="port of /healthz, /readyz and /metrics")
    options.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop, or until the lease is lost; the exit code is not 0 in the second case."""
    options = parser().parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True
    )
    for chatty in ("kopf", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # What does not answer is said once, in a condition: the client library says it with every try.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    return asyncio.run(Process(options).run())


class Process:
    """One operator, leading or standing by."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.operator: Operator | None = None
        self._stop = asyncio.Event()

    async def run(self) -> int:
        from kubernetes.aio import client, config

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        load: Any = config
        try:
            load.load_incluster_config()
        except load.ConfigException:
            await load.load_kube_config()
        runner = await self._serve_http()
        identity = os.environ.get("POD_NAME") or socket.gethostname()
        async with client.ApiClient() as api_client:
            lease = Lease(
                ApiGateway(api_client, identity), self.options.lease_name, self.options.lease_namespace, identity
            )
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

        from broadsheet_operator.kafka.client import KafkaPythonGateway

        operator = Operator(
            ApiGateway(api_client, identity),
            Settings(image=self.options.broker_image),
            lambda servers: KafkaPythonGateway(servers, 5000),
            self.options.resync_seconds,
        )
        self.operator = operator
        settings = kopf.OperatorSettings()
        configure_kopf(settings)
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
                registry=registry(operator),
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
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.process_collector import ProcessCollector

        metrics = CollectorRegistry()
        ProcessCollector(registry=metrics)
        collector: Any = OperatorCollector(lambda: self.operator)
        metrics.register(collector)

        async def healthz(request: web.Request) -> web.Response:
            complaint = self._silent_watch()
            return web.Response(status=503 if complaint else 200, text=(complaint or "ok") + "\n")

        async def readyz(request: web.Request) -> web.Response:
            return web.Response(text="leading\n" if self.operator else "standing by\n")

        async def show_metrics(request: web.Request) -> web.Response:
            return web.Response(body=generate_latest(metrics), content_type="text/plain", charset="utf-8")

        app = web.Application()
        app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", show_metrics)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "0.0.0.0", self.options.http_port).start()
        return runner

    def _silent_watch(self) -> str:
        """Why the process should be restarted: a kind that has objects and of which nothing is heard any more.

        Watches end every WATCH_SECONDS and begin with a list, so an object that exists is heard of at least that often.
        """
        operator = self.operator
        if operator is None:
            return ""
        now = time.monotonic()
        for kind in WATCHED:
            heard = operator.store.last_event.get(kind)
            if heard is not None and operator.store.count(kind) and now - heard > 4 * WATCH_SECONDS:
                return f"nothing was heard of {kind.plural} for {now - heard:.0f} s"
        return ""


def configure_kopf(settings: Any) -> None:
    """Watches that end, so that a dead one is noticed; no marks on objects; no events of kopf's own."""
    settings.posting.enabled = False
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.client_timeout = WATCH_SECONDS + 30
    settings.watching.inactivity_timeout = WATCH_SECONDS + 30
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30


def registry(operator: Operator) -> Any:
    """One handler per kind: it takes note, and nothing else."""
    import kopf

    handlers = kopf.OperatorRegistry()
    for login in (kopf.login_with_service_account, kopf.login_with_kubeconfig):
        kopf.on.login(registry=handlers, id=login.__name__)(login)
    for kind in WATCHED:
        group, _, version = kind.api_version.rpartition("/")
        selector: dict[str, Any] = {"group": group, "version": version, "plural": kind.plural}
        labels = {CLUSTER_LABEL: kopf.PRESENT} if kind in CHILDREN else None
        kopf.on.event(registry=handlers, id=kind.plural, labels=labels, **selector)(_observer(operator, kind))
    return handlers


def _observer(operator: Operator, kind: Kind) -> Callable[..., Any]:
    async def observe(event: dict[str, Any], **_: Any) -> None:
        body = event["object"]
        operator.observe(kind, event["type"], {"apiVersion": kind.api_version, "kind": kind.kind, **body})

    return observe
