"""A paused cluster of `broadsheet up` says what was changed with the pause, as one on Kubernetes does."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.local.cluster import LocalCluster
from tests.support.ports import free_port

IDLE = [sys.executable, "-c", "import time; time.sleep(60)"]
"""Takes no requests, and ends when it is asked to."""


def test_what_was_changed_with_the_pause_is_named_and_not_done(tmp_path: Path) -> None:
    listeners = [{"name": "plain", "port": free_port()}]

    def declared(**spec: Any) -> Cluster:
        metadata = {"name": "local"}
        return Cluster.model_validate({"metadata": metadata, "spec": {"brokers": {}, "listeners": listeners, **spec}})

    def told() -> list[tuple[str, str, str]]:
        return [(c.type, c.reason, c.message) for c in cluster.status(datetime.now(UTC)).conditions]

    cluster = LocalCluster(declared(), tmp_path, lambda what, words: None, lambda path: IDLE)
    cluster.start()
    try:
        pid = cluster.brokers[0].pid
        cluster.change(declared(paused=True, config={"num.io.threads": "20"}))
        words = "changed, and not carried out while spec.paused is true: spec.config.num.io.threads"
        assert told() == [("Ready", "Paused", words), ("Paused", "Paused", words)]
        assert cluster.brokers[0].pid == pid
        cluster.change(declared(paused=True))
        assert [(kind, reason) for kind, reason, _ in told()] == [("Ready", "Creating"), ("Paused", "Paused")]
    finally:
        cluster.begin_to_stop()
        cluster.wait_until_stopped()
