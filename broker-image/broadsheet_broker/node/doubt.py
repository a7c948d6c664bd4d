"""Why another broker may lead what this one led, although the metadata published here does not say so.

While there is such a reason, a broker does not answer for groups, nor for partitions that have other replicas: its
answers could be out of date, and clients would take old offsets for new ones. What is safe continues: replication in
both directions, acknowledgements that arrive with the high watermark (it moves only with the in-sync replicas), and
partitions whose only replica is here.

A controller that is silent while this process runs is not a reason. A broker cannot know whether it alone is cut off or
the whole quorum is down, and in the second case it would refuse for nothing. Apache Kafka goes on as well.

tests/apis/test_doubt.py has the table: each reason, and what each API answers while it lasts.
"""

from __future__ import annotations

from enum import Enum


class Doubt(Enum):
    """The reasons, each with when it ends."""

    LEAVING = "it is stopping"
    """It asked for a controlled shutdown. Until the process ends."""
    ASIDE = "it asked to be fenced"
    """Its disk is full (stepping_aside). Until the controller answers a later heartbeat that it is unfenced."""
    FENCED = "the controller fenced it"
    """Until the controller answers that it is unfenced, which is not before it has published that it was fenced."""
    BEHIND = "it cannot write down what the metadata quorum decides"
    """Until it has everything that the quorum's leader says is committed."""
    METADATA_LOST = "its metadata log is lost"
    """Until the process ends, which is soon."""
    PAUSED = "it did not run for longer than its session"
    """Until the controller answers a later heartbeat that it is unfenced, or `absence.PATIENCE` is over."""
