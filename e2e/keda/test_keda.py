"""KEDA's Kafka scalers against our broker, and beside the lag that the operator exports; the manifests of the page."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from broadsheet_operator.kafka.client import KafkaPythonGateway
from broadsheet_operator.reconcilers.lag import lag_rows
from broadsheet_operator.reconcilers.observed import LagQuery, LagView
from e2e.apiserver.server import Api, ApiServer
from e2e.keda.program import Scaled, ask, module
from tests.support.broker_process import BrokerProcess
from tests.support.waiting import wait_until

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/autoscale.md"
TYPES = ["kafka", "apache-kafka"]
UNLIMITED = {"lagThreshold": "1000000", "allowIdleConsumers": "true"}
STRICT = "?dryRun=All&fieldValidation=Strict&fieldManager=test"


class Stage:
    """A topic with two partitions and a group that has committed in the first."""

    def __init__(self, broker: BrokerProcess, topic: str) -> None:
        self.bootstrap, self.topic, self.group = broker.bootstrap, topic, f"readers-{uuid.uuid4().hex[:8]}"

    def produce(self, partition: int, records: int) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap})
        for number in range(records):
            producer.produce(self.topic, b"%d" % number, partition=partition)
        assert producer.flush(30) == 0

    def commit(self, partition: int, offset: int) -> None:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.group})
        consumer.commit(offsets=[TopicPartition(self.topic, partition, offset)], asynchronous=False)
        consumer.close()

    def keda(self, type: str, **metadata: str) -> Scaled:
        """What a trigger of a ScaledObject gets."""
        where = {"bootstrapServers": self.bootstrap, "consumerGroup": self.group, "topic": self.topic}
        (found,) = ask([{"type": type, "metadata": {**where, **metadata}}])
        return found

    def ours(self) -> dict[int, int | None]:
        """The lag of each partition, as the operator exports it."""
        gateway = KafkaPythonGateway([self.bootstrap])
        try:

            def groups() -> LagView | None:
                seen = gateway.observe_lag(LagQuery(most_partitions=10_000, most_fetches=0))
                return seen if isinstance(seen, LagView) else None

            seen = wait_until(groups, "the groups")
            assert seen is not None
            (view,) = [view for view in seen.groups if view.group_id == self.group]
            return {row.at.partition: row.lag for row in lag_rows(view, 0)}
        finally:
            gateway.close()


@pytest.fixture
def stage(broker: BrokerProcess, new_topic: Callable[..., str]) -> Stage:
    return Stage(broker, new_topic(2))


@pytest.mark.parametrize("type", TYPES)
def test_keda_sees_the_lag_that_we_export(stage: Stage, type: str) -> None:
    stage.produce(0, 10)
    stage.produce(1, 5)
    stage.commit(0, 4)
    stage.commit(1, 5)
    assert stage.ours() == {0: 6, 1: 0}
    assert stage.keda(type, **UNLIMITED) == Scaled(6, True, "")
    assert stage.keda(type, **UNLIMITED, activationLagThreshold="6") == Scaled(6, False, "")
    assert stage.keda(type, lagThreshold="2") == Scaled(4, True, ""), "no more consumers than partitions"
    stage.commit(0, 10)
    assert stage.keda(type, **UNLIMITED) == Scaled(0, False, "")


@pytest.mark.parametrize("type", TYPES)
def test_where_nothing_is_committed_keda_does_what_its_policy_says(stage: Stage, type: str) -> None:
    stage.produce(0, 10)
    stage.produce(1, 7)
    stage.commit(0, 10)
    assert stage.ours() == {0: 0, 1: None}, "-1 in the metric"
    assert stage.keda(type, **UNLIMITED, offsetResetPolicy="latest") == Scaled(1, True, ""), "a first consumer starts"
    assert stage.keda(type, **UNLIMITED, offsetResetPolicy="earliest") == Scaled(7, True, "")
    to_zero = {**UNLIMITED, "scaleToZeroOnInvalidOffset": "true"}
    assert stage.keda(type, **to_zero) == Scaled(0, False, "")


@pytest.mark.parametrize("type", TYPES)
def test_keda_counts_records_that_were_deleted_and_we_do_not(stage: Stage, type: str, admin: AdminClient) -> None:
    stage.produce(0, 10)
    stage.commit(0, 2)
    stage.commit(1, 0)
    for deleted in admin.delete_records([TopicPartition(stage.topic, 0, 7)]).values():
        deleted.result(30)
    assert stage.ours() == {0: 3, 1: 0}
    assert stage.keda(type, **UNLIMITED) == Scaled(8, True, "")


def test_a_topic_that_is_not_there_is_an_error(stage: Stage) -> None:
    stage.topic = "nowhere"
    assert stage.keda("kafka", **UNLIMITED).error


# -- the page ----------------------------------------------------------------------------------------------------------


def manifests() -> dict[str, Any]:
    """The YAML of the page, by kind; prometheus-adapter's values have none."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), flags=re.S | re.M)
    return {body.get("kind", "values"): body for body in map(yaml.safe_load, blocks)}


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """An API server that knows KEDA's resources."""
    with ApiServer() as server:
        api = Api(server)
        definition = yaml.safe_load((module() / "config/crd/bases/keda.sh_scaledobjects.yaml").read_text())
        api.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        wait_until(lambda: api.answers("/apis/keda.sh/v1alpha1/scaledobjects"), "the resource of KEDA")
        yield api


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("ScaledObject", "/apis/keda.sh/v1alpha1/namespaces/default/scaledobjects"),
        ("HorizontalPodAutoscaler", "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"),
    ],
)
def test_the_manifests_of_the_page_are_valid(api: Api, kind: str, path: str) -> None:
    """Unknown fields are refused, too."""
    written = api.call("POST", path + STRICT, manifests()[kind])
    assert written["spec"]["maxReplicas" if kind.startswith("Horizontal") else "maxReplicaCount"] == 12


def test_the_trigger_of_the_page_works(stage: Stage) -> None:
    stage.produce(0, 150)
    stage.commit(0, 0)
    stage.commit(1, 0)
    (trigger,) = manifests()["ScaledObject"]["spec"]["triggers"]
    metadata = {k: v for k, v in trigger["metadata"].items() if k not in ("bootstrapServers", "consumerGroup", "topic")}
    assert stage.keda(trigger["type"], **metadata) == Scaled(150, True, "")
