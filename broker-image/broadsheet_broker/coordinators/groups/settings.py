"""Settings of the group coordinator, and the context of a request."""

from __future__ import annotations

from dataclasses import dataclass, field

from broadsheet_broker.coordinators.runtime.settings import IntegerSettings, RuntimeSettings


@dataclass(slots=True)
class Context:
    """The client of a request, and the version of the API."""

    client_id: str
    client_host: str
    """Address without port."""
    version: int


@dataclass(slots=True)
class GroupSettings:
    """Kafka's properties of the group coordinator, with its defaults."""

    min_session_timeout_ms: int = 6_000
    max_session_timeout_ms: int = 1_800_000
    max_size: int = 2_147_483_647
    initial_rebalance_delay_ms: int = 3_000
    new_member_join_timeout_ms: int = 300_000
    """How long a new member may wait in its first join. Kafka has no property for it."""
    offset_metadata_max_bytes: int = 4_096
    offsets_retention_ms: int = 7 * 24 * 3_600_000
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)

    @classmethod
    def of(cls, config: IntegerSettings) -> GroupSettings:
        """From the broker's configuration."""
        get = config.get_int
        return cls(
            min_session_timeout_ms=get("group.min.session.timeout.ms"),
            max_session_timeout_ms=get("group.max.session.timeout.ms"),
            max_size=get("group.max.size"),
            initial_rebalance_delay_ms=get("group.initial.rebalance.delay.ms"),
            offset_metadata_max_bytes=get("offset.metadata.max.bytes"),
            offsets_retention_ms=get("offsets.retention.minutes") * 60_000,
            runtime=RuntimeSettings(
                write_timeout_ms=get("offsets.commit.timeout.ms"),
                cleanup_interval_ms=get("offsets.retention.check.interval.ms"),
                topic_partitions=get("offsets.topic.num.partitions"),
            ),
        )
