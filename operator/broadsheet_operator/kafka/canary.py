"""Asks a canary how its cluster is, over HTTP, and removes its topic."""

from __future__ import annotations

import urllib.error
import urllib.request

from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.reconcilers.canary_health import CanaryHealth
from broadsheet_operator.reconcilers.canary_topic import is_ours
from broadsheet_operator.reconcilers.observed import TopicView
from broadsheet_operator.reconcilers.topic_actions import DeleteTopic

TIMEOUT_SECONDS = 2.0
MOST_BYTES = 64 * 1024
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""No proxy stands between an operator and a pod."""


def read_health(url: str) -> CanaryHealth | str:
    """What the canary says at its /status; or why it said nothing."""
    try:
        with _OPENER.open(url, timeout=TIMEOUT_SECONDS) as answer:
            return CanaryHealth.from_json(answer.read(MOST_BYTES))
    except urllib.error.URLError as error:
        return f"{url}: {error.reason}"
    except (OSError, ValueError) as error:
        return f"{url}: {error}"


def delete_topic(gateway: KafkaGateway, name: str) -> str:
    """Delete the topic of a canary that is not declared any more, if it was made for one. What became of it, to follow
    `the canary is removed`."""
    view = gateway.observe_topics([name])[name]
    if not isinstance(view, TopicView) or not is_ours(view):
        return f"; its topic {name} is not deleted" if view is not None else ""
    (failure,) = gateway.apply_topics([DeleteTopic(name, view.topic_id)])
    return f"; its topic stays: {failure.message}" if failure is not None else f", and its topic {name} is deleted"
