"""Keeps the canary's topic in a cluster without an operator: the same plan as the operator's, carried out from here."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from broadsheet_operator.kafka.client import KafkaPythonGateway
from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.reconcilers import canary_topic
from broadsheet_operator.reconcilers.observed import Failure

logger = logging.getLogger(__name__)

KEEP_SECONDS = 5.0
TIMEOUT_MS = 5000


def keep_topic(servers: Sequence[str], topic: str, stop: threading.Event) -> None:
    """Create the topic and have each broker lead a partition of it, until `stop`."""
    gateway = KafkaPythonGateway(servers, TIMEOUT_MS)
    said = ""
    try:
        while not stop.is_set():
            words = keep_once(gateway, topic)
            if words and words != said:
                logger.warning("%s", words)
            said = words
            stop.wait(KEEP_SECONDS)
    finally:
        gateway.close()


def keep_once(gateway: KafkaGateway, name: str) -> str:
    """One look and what follows; why the topic is not as it should be, if so."""
    view = gateway.observe_cluster()
    if isinstance(view, Failure):
        return view.message
    topic = gateway.observe_topics([name])[name]
    if isinstance(topic, Failure):
        return topic.message
    plan = canary_topic.plan(name, topic, view.brokers)
    for action, failure in zip(plan.actions, gateway.apply_topics(plan.actions), strict=True):
        if failure is not None:
            return failure.message
        logger.info("%s: %s", name, action.words())
    return plan.refusal
