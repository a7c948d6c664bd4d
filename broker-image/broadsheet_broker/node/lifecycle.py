"""The life of this broker in the cluster: it registers, sends heartbeats, is unfenced, and leaves in order.

(KIP-631, KIP-841; org.apache.kafka.server.BrokerLifecycleManager.)
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol
from uuid import UUID

from broadsheet_broker.config import BrokerConfig
from broadsheet_broker.controller.brokers import Registration
from broadsheet_broker.controller.heartbeats import least_session
from broadsheet_broker.node.absence import PAUSE, Absence
from broadsheet_broker.node.doubt import Doubt
from broadsheet_broker.node.forwarding import Call, error_code
from broadsheet_broker.node.registration import broker_message
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.broker_heartbeat_request import BrokerHeartbeatRequest
from broadsheet_broker.wire.messages.broker_heartbeat_response import BrokerHeartbeatResponse
from broadsheet_broker.wire.messages.broker_registration_response import BrokerRegistrationResponse

logger = logging.getLogger(__name__)

_EAGER: Final = 0.02
"""Seconds between heartbeats while this broker waits to be unfenced, or to stop."""
_RETRY: Final = 0.2
"""Seconds until a registration that was refused is tried again."""
_ATTEMPT: Final = 5.0
"""Seconds that an order to the controller may take before it counts as failed."""
_NO_ANSWER: Final = 2.0
"""Seconds without an answer after which a broker stops without a controlled shutdown."""

_LANE: Final = "heartbeat"
_HEARTBEAT_VERSION: Final = 1
_REGISTRATION_VERSION: Final = 4


class Metadata(Protocol):
    """What the lifecycle needs to know of this node's metadata."""

    def knows_broker(self, broker_id: int, epoch: int) -> bool: ...

    @property
    def offset(self) -> int:
        """Of the last record that was published here."""
        ...

    @property
    def is_behind(self) -> bool:
        """More is decided than could be written down here."""
        ...

    @property
    def is_lost(self) -> bool:
        """The metadata log can no longer be written."""
        ...


class BrokerLifecycle:
    """`register`, `begin`, then `set_ready` and `joined`; at the end `leave` and `stop`."""

    def __init__(self, environment: Environment, config: BrokerConfig, metadata: Metadata, call: Call) -> None:
        self._environment = environment
        self._metadata = metadata
        self._call = call
        self._id = config.node_id
        self._interval = config.get_int("broker.heartbeat.interval.ms") / 1000
        self._shutdown_enabled = config.get_bool("controlled.shutdown.enable")
        self.epoch = -1
        """Of this life; -1 before the registration."""
        self._registration: Registration | None = None
        self._cluster_id = ""
        self._ready = False
        self._fenced = True
        self._aside = False
        self._wished_at: float | None = None
        """When it asked last to be fenced, or no longer to be; None once the controller has answered that it is
        unfenced."""
        self._leaving = False
        self._offline: list[UUID] = []
        self._answered_at = 0.0
        session = config.get_int("broker.session.timeout.ms") / 1000
        interval = config.get_int("broker.heartbeat.interval.ms") / 1000
        self._absence = Absence(least_session(session, interval), environment.monotonic())
        self._tick: asyncio.TimerHandle | None = None
        self._in_hurry = False
        self._wake: asyncio.Future[None] | None = None
        self._joined: asyncio.Future[None] = environment.loop.create_future()
        self._gone: asyncio.Future[None] = environment.loop.create_future()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_fenced(self) -> bool:
        """As of the last heartbeat that was answered."""
        return self._fenced

    async def register(self, registration: Registration, cluster_id: str) -> None:
        """Register this process; retries for as long as it takes, and logs why.

        Raises KafkaError for a refusal that no retry will change.
        """
        self._registration, self._cluster_id = registration, cluster_id
        logged: ErrorCode | None = None
        while True:
            try:
                answer = await self._call(
                    broker_message(registration, cluster_id),
                    BrokerRegistrationResponse,
                    _REGISTRATION_VERSION,
                    _ATTEMPT,
                    _LANE,
                )
                code = error_code(answer.error_code)
                if code is ErrorCode.NONE:
                    self.epoch = answer.broker_epoch
                    return
                error = KafkaError(code, code.message)
            except KafkaError as refusal:
                error = refusal.again()
            if error.code in _FINAL:
                raise error.again()
            if error.code is not logged:
                logger.warning("This broker is not registered yet: %s", error.message)
                logged = error.code
            await asyncio.sleep(_RETRY)

    def adopt(self, epoch: int) -> None:
        """This node is the active controller and registered itself: it is unfenced already."""
        self.epoch = epoch
        self._ready, self._fenced = True, False
        self._joined.set_result(None)

    def begin(self) -> None:
        """Send heartbeats from now on."""
        self._answered_at = self._environment.monotonic()
        self._absence.heard(self._answered_at)
        self._notice_pauses()
        self._task = self._environment.loop.create_task(self._report())

    def doubt(self) -> Doubt | None:
        """Why others may lead what this broker led; None: there is no reason. Asked for each request, so that a pause
        is noticed before the first answer after it."""
        if self._is_absent():
            return Doubt.PAUSED
        if self._leaving:
            return Doubt.LEAVING
        if self._wished_at is not None:
            return Doubt.ASIDE
        if self._fenced:
            return Doubt.FENCED
        if self._metadata.is_behind:
            return Doubt.BEHIND
        return Doubt.METADATA_LOST if self._metadata.is_lost else None

    def _is_absent(self) -> bool:
        return self._absence.may_be_replaced(self._environment.monotonic())

    def _notice_pauses(self) -> None:
        if self._is_absent():
            logger.info("This process did not run for longer than its session: asking the controller for its state")
            self._hurry()
        self._tick = self._environment.loop.call_later(PAUSE / 2, self._notice_pauses)

    def set_ready(self) -> None:
        """Clients are served: this broker may lead."""
        self._ready = True
        self._hurry()

    async def joined(self) -> None:
        """Wait until the controller has unfenced this broker."""
        await asyncio.shield(self._joined)

    def news(self) -> None:
        """There is another controller, or newer metadata: send a heartbeat soon if this broker waits for a change."""
        if self._fenced or self._leaving:
            self._hurry()

    def directory_failed(self, directory_id: UUID) -> None:
        """A log directory is offline: others must lead what is in it (KIP-858)."""
        if directory_id not in self._offline:
            self._offline.append(directory_id)
        self._hurry()

    async def leave(self, most: float) -> bool:
        """Controlled shutdown: ask for it, and wait until others lead what this broker led. False when it took more
        than `most` seconds, or no controller answered."""
        if not self._shutdown_enabled or self._task is None or self._task.done() or self._fenced:
            return False
        self._leaving = True
        self._answered_at = self._environment.monotonic()
        self._hurry()
        deadline = self._environment.monotonic() + most
        while not self._gone.done():
            now = self._environment.monotonic()
            if now > deadline or now - self._answered_at > _NO_ANSWER:
                logger.warning(
                    "Stopping without a controlled shutdown: the controller did not answer or complete it in time"
                )
                return False
            await asyncio.wait([self._gone], timeout=min(_EAGER, deadline - now + _EAGER))
        return True

    async def stop(self) -> None:
        """Send no more heartbeats."""
        self.kill()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def kill(self) -> None:
        """End as a killed process would."""
        if self._tick is not None:
            self._tick.cancel()
        if self._task is not None:
            self._task.cancel()

    def step_aside(self, wish: bool) -> None:
        """Ask to be fenced although this broker runs, or to be unfenced again."""
        self._aside = wish
        self._wished_at = self._environment.monotonic()
        self._hurry()

    # Heartbeats.

    def report_soon(self) -> None:
        """Send a heartbeat soon: the controller waits for something that it reports."""
        self._hurry()

    def _hurry(self) -> None:
        self._in_hurry = True
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _report(self) -> None:
        while True:
            self._in_hurry = False
            try:
                if await self._heartbeat():
                    return
                delay = (
                    _EAGER if self._leaving or (self._ready and self._fenced and not self._aside) else self._interval
                )
            except KafkaError as error:
                delay = await self._failed(error)
            if not self._in_hurry:
                self._wake = self._environment.loop.create_future()
                await asyncio.wait([self._wake], timeout=delay)

    async def _heartbeat(self) -> bool:
        """One heartbeat; True when this broker may stop."""
        request = BrokerHeartbeatRequest(
            broker_id=self._id,
            broker_epoch=self.epoch,
            current_metadata_offset=self._metadata.offset,
            want_fence=self._aside or not (self._ready and self._metadata.knows_broker(self._id, self.epoch)),
            want_shut_down=self._leaving,
            offline_log_dirs=list(self._offline),
        )
        asked_at = self._environment.monotonic()
        answer = await self._call(request, BrokerHeartbeatResponse, _HEARTBEAT_VERSION, _ATTEMPT, _LANE)
        if answer.error_code:
            raise KafkaError(error_code(answer.error_code))
        self._answered_at = self._environment.monotonic()
        was_fenced, self._fenced = self._fenced, answer.is_fenced
        if not self._fenced:
            self._absence.heard(asked_at)
            if not self._aside and self._wished_at is not None and asked_at >= self._wished_at:
                self._wished_at = None
        if not self._fenced and not self._joined.done():
            self._joined.set_result(None)
        if self._fenced and not was_fenced and not self._leaving and not self._aside:
            logger.warning("The controller has fenced this broker")
        if self._leaving and answer.should_shut_down:
            if not self._gone.done():
                self._gone.set_result(None)
            return True
        return False

    async def _failed(self, error: KafkaError) -> float:
        """What to do about a heartbeat that was refused; returns the pause (seconds) before the next."""
        if error.code in (ErrorCode.STALE_BROKER_EPOCH, ErrorCode.BROKER_ID_NOT_REGISTERED) and self._registration:
            logger.warning("The controller no longer knows this broker (%s): registering again", error.message)
            self._fenced = True
            await self.register(self._registration, self._cluster_id)
            return _EAGER
        logger.debug("A heartbeat was not answered: %s", error.message)
        return _RETRY


_FINAL: Final = frozenset(
    (
        ErrorCode.INCONSISTENT_CLUSTER_ID,
        ErrorCode.UNSUPPORTED_VERSION,
        ErrorCode.INVALID_REGISTRATION,
        ErrorCode.INVALID_REQUEST,
    )
)
