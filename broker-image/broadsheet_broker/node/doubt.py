"""Why another broker may lead what this one led, although nothing that was published here says so.

While there is such a reason a broker answers for no group and for no partition that it leads beside other replicas: it
would answer from what may be out of date, and clients would take old offsets for new ones. What is safe goes on: copies
are sent to followers and taken from leaders, waiting acknowledgements arrive with the high watermark (nobody can move
it without the in-sync replicas), and a partition whose only replica is here is read and written as before.
tests/apis/test_doubt.py has the table: each reason, and what each API answers while it lasts.
"""

from __future__ import annotations

from enum import Enum


class Doubt(Enum):
    """The reasons, each with when it ends."""

    LEAVING = "it is stopping"
    """It asked for a controlled shutdown. Until the process ends."""
    ASIDE = "it asked to be fenced"
    """Its disk is full (stepping_aside). Until the controller answers a later heartbeat that it takes part."""
    FENCED = "the controller fenced it"
    """Until the controller answers that it takes part; that is not before it has published that it was fenced."""
    BEHIND = "it cannot write down what the metadata quorum decides"
    """Until it has everything that the quorum's leader says is committed."""
    METADATA_LOST = "its metadata log is lost"
    """Until the process ends, which is soon."""
    PAUSED = "it did not run for longer than its session"
    """Until the controller answers a later heartbeat that it takes part, or `absence.PATIENCE` is over."""
