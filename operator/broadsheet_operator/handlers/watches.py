"""The watches: kopf's settings, one handler per kind, and how a quiet watch is told from a dead one.

kopf lists a kind once and then watches it from that version. When the API server ends the watch after its
`timeoutSeconds`, kopf begins it again from the last version that it has seen and does not list, so a kind whose objects
do not change brings no event for hours. What a live watch always brings is the API server's answer when it begins
again. kopf is therefore given an HTTP session that notes these answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from broadsheet_operator.handlers.operator import CHILDREN, Operator
from broadsheet_operator.kafka.dependents import DEPENDENTS
from broadsheet_operator.kubernetes import Kind, kind_of
from broadsheet_operator.reconcilers.provisioning import CLUSTER_LABEL
from broadsheet_operator.settings import OperatorSettings

WATCHED = (Kind.CLUSTER, *(kind_of(row.model) for row in DEPENDENTS), *CHILDREN, Kind.NAMESPACE)
GRACE_SECONDS = 30
"""How much longer than the API server kopf waits before it ends a watch itself."""


class WatchHealth:
    """When the API server last answered each list or watch of a kind that the operator watches."""

    def __init__(self, silent_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._silent_seconds = silent_seconds
        self._clock = clock
        self._answered: dict[str, tuple[Kind, float]] = {}
        """By URL path: one for each kind, or for each kind and namespace."""
        self.answers = 0
        self._login: Any = None
        self._credentials: Any = None

    def answered(self, path: str) -> None:
        """The API server has begun to answer a GET of this URL path."""
        kind = kind_of_collection(path)
        if kind is not None:
            self._answered[path] = kind, self._clock()
            self.answers += 1

    def complaint(self, count: Callable[[Kind], int]) -> str:
        """Why the process should be restarted: a kind whose watch the API server has not answered for too long.

        `count`: how many objects of a kind are known. A kind without any may have lost its definition, and kopf stops
        to watch it then.
        """
        now = self._clock()
        for path, (kind, at) in self._answered.items():
            if now - at > self._silent_seconds and count(kind):
                return f"the watch of {path} was not answered for {now - at:.0f} s"
        return ""

    async def login(self, **arguments: Any) -> Any:
        """kopf's credentials, with a session that reports its answers here. A session belongs to the running loop."""
        import aiohttp
        import kopf

        found = kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)
        if found is None or found == self._credentials:
            return self._login  # kopf recognises credentials that were refused already by this very object

        async def note(_session: Any, _context: Any, request: aiohttp.TraceRequestEndParams) -> None:
            if request.method == "GET" and request.response.status < 400:
                self.answered(request.url.path)

        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(note)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=found.as_ssl_context()),
            headers=found.as_http_headers(),
            proxy=found.proxy_url,
            trust_env=found.trust_env,
            trace_configs=[trace],
        )
        self._credentials = found
        self._login = kopf.AiohttpSession(
            aiohttp_session=session,
            server=found.server,
            default_namespace=found.default_namespace,
            priority=found.priority,
            expiration=found.expiration,
        )
        return self._login


def kind_of_collection(path: str) -> Kind | None:
    """The watched kind whose objects a URL path lists, in one namespace or in all; None for any other path."""
    for kind in WATCHED:
        before, _, rest = path.partition(kind.path().removesuffix(kind.plural))
        parts = rest.split("/")
        if (before != path) and parts[-1] == kind.plural and (len(parts) == 1 or parts[:-2] == ["namespaces"]):
            return kind
    return None


def configure_kopf(settings: Any, ours: OperatorSettings) -> None:
    """Watches that end, so that a dead one is noticed; no marks on objects; no events of kopf's own."""
    settings.posting.enabled = False
    settings.watching.server_timeout = ours.watch_seconds
    settings.watching.client_timeout = ours.watch_seconds + GRACE_SECONDS
    settings.watching.inactivity_timeout = ours.watch_seconds + GRACE_SECONDS
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30


def registry(operator: Operator, health: WatchHealth) -> Any:
    """One handler per kind: it takes note, and nothing else."""
    import kopf

    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers, id="login")(health.login)
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
