"""The premise of the liveness probe: what a live watch brings although nothing changes."""

from __future__ import annotations

from dataclasses import replace

from broadsheet_operator.handlers.watches import WATCHED
from broadsheet_operator.kubernetes import Kind
from e2e.apiserver.operators import QUICK, Kubelet, OperatorThread
from e2e.apiserver.server import Api
from tests.support.waiting import wait_until


def test_watches_that_end_again_and_again_without_an_event_keep_the_leader_alive(api: Api, kubelet: Kubelet) -> None:
    """The leader was restarted every eight minutes: kopf does not list again when a watch ends."""
    quick = replace(QUICK, watch_seconds=1, silent_watch_seconds=6.0, cluster_ready_seconds=3600.0)
    with OperatorThread(api.namespace, quick) as operator:
        operator.kafka.pods = lambda: [0]
        process = operator.process
        assert process is not None and process.operator is not None
        api.resource("Cluster", "news", {"brokers": {"storage": {"size": "1Gi"}}})
        api.resource("Topic", "orders", {"cluster": "news", "partitions": 1})
        api.resource("ConsumerGroup", "readers", {"cluster": "news"})
        kubelet.run("news")
        api.ready("Cluster", "news")
        count = process.operator.store.count
        present = [kind for kind in WATCHED if count(kind)]
        assert {Kind.CONSUMER_GROUP, Kind.VOLUME_CLAIM, Kind.SERVICE_ACCOUNT} <= set(present)
        before = process.watches.answers
        ends = 8 * len(present)
        complaints: set[str] = set()

        def ended_often() -> bool:
            complaints.add(process.watches.complaint(count))
            return process.watches.answers >= before + ends

        wait_until(ended_often, "every watch to end eight times", 40, 0.1)
        assert complaints == {""}
