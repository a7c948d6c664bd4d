"""From a frame to its handler: header, version, body, call; and an answer in the API's own shape when that fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from broadsheet_broker.apis.registry import Api, Handler, Refuse
from broadsheet_broker.network.waiting import finish
from broadsheet_broker.wire.api_messages import flexible_from, request_class
from broadsheet_broker.wire.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.network.pending import PendingRequest
    from broadsheet_broker.seams.loop_monitor import Work
    from broadsheet_broker.seams.metrics import Metrics, RequestTimes
    from broadsheet_broker.wire.schema import Message

logger = logging.getLogger(__name__)


class ServedApi:
    """One API of a server, with everything that the path of a request looks up."""

    __slots__ = (
        "_message",
        "flexible_from",
        "flexible_header_from",
        "handler",
        "highest",
        "key",
        "lowest",
        "name",
        "refuse",
        "times",
    )

    def __init__(self, api: Api, metrics: Metrics) -> None:
        self.key = api.key
        self.name = api.name
        self.lowest = api.lowest
        self.highest = api.highest
        self.handler: Handler = api.handler
        self.refuse: Refuse = api.refuse
        self.times: RequestTimes = metrics.request_times(api.name)
        self.flexible_from = flexible_from(api.key)
        """Versions from here on have tagged fields in the header of the request."""
        self.flexible_header_from = 32767 if api.key == API_VERSIONS else self.flexible_from
        """Versions from here on have tagged fields in the header of the answer."""
        self._message: type[Message] | None = None

    @property
    def message(self) -> type[Message]:
        """The class of the request, imported when the first one comes."""
        if self._message is None:
            self._message = request_class(self.key)
        return self._message


API_VERSIONS: Final = 18

MOST_TASKS: Final = 10_000
"""Most handlers that wait at a time (for the controller, for example), including those of clients that are gone."""


_TOO_MANY: Final = f"{MOST_TASKS} requests wait on this broker already, mostly for the controller; try again."


class Dispatcher:
    """Calls handlers, and answers for the ones that fail."""

    __slots__ = (
        "_between_nodes",
        "_loop",
        "_now",
        "_services",
        "_tasks",
        "_work",
        "apis",
        "controller_apis",
        "most_tasks",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
        services: Services,
        work: Work,
        registry: Mapping[int, Api],
        metrics: Metrics,
        controller_keys: frozenset[int],
        controller_only: frozenset[int] = frozenset(),
    ) -> None:
        self._loop = loop
        self._now = now
        self._services = services
        self._work = work
        self._tasks: set[asyncio.Task[None]] = set()
        self.most_tasks = MOST_TASKS
        self._between_nodes = controller_only
        """Never refused for the number of requests that wait: heartbeats must not suffer from clients."""
        every = {key: ServedApi(api, metrics) for key, api in registry.items()}
        self.apis = {key: api for key, api in every.items() if key not in controller_only}
        self.controller_apis = {key: api for key, api in every.items() if key in controller_keys}
        """What is served on the listeners of controllers."""

    def call(self, api: ServedApi, request: PendingRequest) -> None:
        """Run the handler of a decoded request; never raises."""
        self._work.name = api.name
        try:
            result = api.handler(self._services, cast("Request[Any]", request))
        except Exception as error:
            self._failed(api, request, error)
            return
        if not request.waits_since and not request.answered:
            request.waits_since = self._now()
        if result is not None:
            assert isinstance(result, Coroutine)
            if len(self._tasks) >= self.most_tasks and api.key not in self._between_nodes:
                result.close()
                self._failed(api, request, KafkaError(ErrorCode.REQUEST_TIMED_OUT, _TOO_MANY))
                return
            task = self._loop.create_task(finish(result, partial(self._failed, api, request)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: result.close())  # it may be cancelled before it has begun

    def _failed(self, api: ServedApi, request: PendingRequest, error: Exception) -> None:
        if not isinstance(error, KafkaError):
            logger.error(
                "%s version %d from client %r at %s failed", api.name, request.version, request.client_id,
                request.connection.host, exc_info=error,
            )  # fmt: skip
            error = KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR)
        if request.answered:
            return
        try:
            answer = api.refuse(request.body, request.version, error)
            if answer is not None:
                request.answer(answer)
                return
        except Exception:
            logger.exception(
                "the refusal of %s version %d could not be built; the connection is closed", api.name, request.version
            )
        request.hang_up()

    async def close(self) -> None:
        """Cancel the handlers that still wait."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
