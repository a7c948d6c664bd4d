"""What a canary may be told: ranges of its times, its memory and its topic, for the CRD, the models and the program.

The times have a form of their own, which CEL's duration() can read: no days and no weeks.
"""

from __future__ import annotations

import re

from broadsheet_operator.api.quantities import QUANTITY_PATTERN, parse_duration, parse_quantity

TIME_PATTERN = r"^([0-9]{1,7}ms|[0-9]{1,5}s|[0-9]{1,3}m|[0-9]{1,3}h){1,4}$"
LEAST_INTERVAL, MOST_INTERVAL = "100ms", "1h"
"""More often is a load test; less often, and the figures of five minutes have no record."""
LEAST_LATENCY, MOST_LATENCY = "1ms", "5s"
"""The histograms end at 10 s: a percentile above that is shown as 10 s, so a limit must be well below to be exceeded.
Records that take longer than 10 s count as failed or lost."""
INTERVAL_HELP = f"a time from {LEAST_INTERVAL} to {MOST_INTERVAL} in ms, s, m or h, as in 500ms or 1m30s"
LATENCY_HELP = f"a time from {LEAST_LATENCY} to {MOST_LATENCY} in ms or s, as in 500ms or 2s"
LEAST_MEMORY = "64Mi"
MEMORY_HELP = f"the memory limit of a canary is at least {LEAST_MEMORY}: with less it is killed again and again"
TOPIC_PATTERN = r"^__[a-zA-Z0-9][a-zA-Z0-9._-]{0,200}$"
TOPIC_HELP = "a topic of its own; its name begins with two underscores, as in __broadsheet_canary"
KAFKAS_TOPICS = ("__cluster_metadata", "__consumer_offsets", "__share_group_state", "__transaction_state")
KAFKAS_TOPICS_HELP = f"{', '.join(KAFKAS_TOPICS)} are Kafka's own topics; write {TOPIC_HELP}"


def interval_ms(text: str) -> int:
    """Milliseconds between two records of a broker. ValueError says what is allowed."""
    return _between(text, LEAST_INTERVAL, MOST_INTERVAL, INTERVAL_HELP)


def latency_ms(text: str) -> int:
    """Milliseconds that 99 % of the records may take. ValueError says what is allowed."""
    return _between(text, LEAST_LATENCY, MOST_LATENCY, LATENCY_HELP)


def _between(text: str, least: str, most: str, words: str) -> int:
    if re.match(TIME_PATTERN, text):
        found = parse_duration(text)
        if parse_duration(least) <= found <= parse_duration(most):
            return found
    raise ValueError(f"write {words}")


def topic_name(text: str) -> str:
    """The name of its topic. ValueError says what is allowed."""
    if text in KAFKAS_TOPICS:
        raise ValueError(KAFKAS_TOPICS_HELP)
    if not re.match(TOPIC_PATTERN, text):
        raise ValueError(f"write {TOPIC_HELP}")
    return text


def check_memory(limit: str | int) -> None:
    """ValueError if a memory limit is too low for a canary. What is not a quantity is refused elsewhere."""
    if re.match(QUANTITY_PATTERN, str(limit)) and parse_quantity(limit) < parse_quantity(LEAST_MEMORY):
        raise ValueError(f"{limit} is too little: {MEMORY_HELP}")


def _time_rule(field: str, least: str, most: str) -> str:
    inside = " && ".join(
        f"duration(self.{field}) {sign} duration('{limit}')" for sign, limit in ((">=", least), ("<=", most))
    )
    return f"!has(self.{field}) || !self.{field}.matches(r'{TIME_PATTERN}') || ({inside})"


RULES = (
    (_time_rule("interval", LEAST_INTERVAL, MOST_INTERVAL), f"write {INTERVAL_HELP}", ".interval"),
    (_time_rule("maxLatency", LEAST_LATENCY, MOST_LATENCY), f"write {LATENCY_HELP}", ".maxLatency"),
    (f"!has(self.topicName) || !(self.topicName in {list(KAFKAS_TOPICS)})", KAFKAS_TOPICS_HELP, ".topicName"),
    (
        "!has(self.resources) || !has(self.resources.limits) || !('memory' in self.resources.limits)"
        " || !isQuantity(string(self.resources.limits['memory']))"
        f" || quantity(string(self.resources.limits['memory'])).compareTo(quantity('{LEAST_MEMORY}')) >= 0",
        MEMORY_HELP,
        ".resources",
    ),
)
"""CEL rules of spec.canary, with words and field. A time of another form has a rule of its own."""
