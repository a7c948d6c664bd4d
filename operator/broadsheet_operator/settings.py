"""The operator's intervals and limits: one value, passed in, so that a test can move every clock.

None of these is meant to be tuned on a healthy cluster. The command line sets those that have an option.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """Times are in seconds."""

    # -- how often things are looked at --------------------------------------------------------------------------------

    resync_seconds: float = 60.0
    """Every resource is reconciled again after this time, whether or not a watch reported a change."""
    cluster_ready_seconds: float = 15.0
    """How often a Cluster that is Ready is checked: its partitions change without any Kubernetes event."""
    cluster_unready_seconds: float = 1.0
    """How often a Cluster is checked while it is not Ready, or while something is going on in it."""
    cluster_sizes_seconds: float = 15.0
    """How often brokers are asked how many bytes they store."""
    group_seconds: float = 5.0
    """How often a consumer group is checked: its lag changes without any Kubernetes event."""
    absent_group_seconds: float = 10.0
    """How often a consumer group that does not exist in Kafka is looked up."""
    held_seconds: float = 15.0
    """How often a resource that waits for a maintenance window checks whether it has opened."""
    out_of_sync_seconds: float = 15.0
    """How often a Topic whose replicas are not all in sync is checked: they catch up without any Kubernetes event."""
    overdue_seconds: float = 600.0
    """How long a resource may be not Ready for a reason that a person should look at before it is Stalled, which Argo
    CD shows as Degraded and Flux as failed."""
    unfinished_seconds: float = 1.0
    """How often a Topic is checked while Kafka is still working on it (a reassignment, a creation)."""

    # -- the lag of consumer groups, for /metrics ----------------------------------------------------------------------

    lag_seconds: float = 15.0
    """How often the lag of groups that no resource declares is observed. An observation that takes long makes the next
    one later: it takes at most a tenth of the time."""
    lag_partitions: int = 20_000
    """The most partitions of all these groups of a cluster together. Groups beyond are left out, in the order of their
    ids; `broadsheet_lag_groups` counts them."""
    lag_fetches: int = 200
    """The most partitions that one observation reads, for the time of the first unread record. Of others
    `kafka_consumergroup_group_lag_seconds` is missing until a later observation."""
    lag_names: str = "kafka-exporter"
    """Whose names the metrics of groups have: kafka-exporter, kminion or both."""

    # -- batches and retries -------------------------------------------------------------------------------------------

    topic_linger_seconds: float = 0.02
    """How long the first changed Topic waits for others, so that many applied at once share a few requests."""
    group_linger_seconds: float = 0.2
    """The same for ConsumerGroups."""
    largest_batch: int = 200
    """The most Topics or ConsumerGroups of one cluster that are reconciled together."""
    first_backoff_seconds: float = 0.5
    """The pause before a failed reconcile is tried again; it doubles with each failure."""
    last_backoff_seconds: float = 60.0
    """The longest pause between two tries."""
    kafka_timeout_ms: int = 5000
    """How long a request to a broker may take, in milliseconds."""

    # -- the API server ------------------------------------------------------------------------------------------------

    watch_seconds: int = 120
    """The API server ends each watch after this time (`timeoutSeconds`); kopf then begins it again."""
    silent_watch_seconds: float = 480.0
    """Liveness fails when the API server has not answered the watch of a kind for this long. A live watch is answered
    every `watch_seconds`, when it begins again; this must be several times as long."""
    lease_seconds: float = 15.0
    """A standby takes over when the Lease has not been renewed for this long."""
    renew_deadline_seconds: float = 10.0
    """A leader that could not renew its Lease for this long stops: well before a standby may start."""
    lease_retry_seconds: float = 2.0
    """How often the leader renews the Lease, and a standby tries to take it."""
    http_port: int = 8080
    """Port of /healthz, /readyz and /metrics."""

    def __post_init__(self) -> None:
        if self.renew_deadline_seconds >= self.lease_seconds:
            raise ValueError(
                f"renew_deadline_seconds {self.renew_deadline_seconds} must be less than lease_seconds "
                f"{self.lease_seconds}: a leader must have stopped before a standby may start"
            )
        if self.lease_retry_seconds >= self.renew_deadline_seconds:
            raise ValueError(
                f"lease_retry_seconds {self.lease_retry_seconds} must be less than renew_deadline_seconds "
                f"{self.renew_deadline_seconds}: the leader would have no second try"
            )
        if self.silent_watch_seconds <= 2 * self.watch_seconds:
            raise ValueError(
                f"silent_watch_seconds {self.silent_watch_seconds} must be more than twice watch_seconds "
                f"{self.watch_seconds}: a healthy operator would be restarted"
            )


DEFAULTS = OperatorSettings()
