"""The operator and canaries: what it makes, what it says, and that it removes what it made."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from broadsheet_operator.handlers.canaries import Canaries
from broadsheet_operator.kubernetes import Kind
from broadsheet_operator.reconcilers.canary_health import CanaryHealth
from broadsheet_operator.reconcilers.canary_topic import CONFIGS
from broadsheet_operator.settings import OperatorSettings
from tests.operator.handlers.test_operator_metrics import Scrape
from tests.operator.support import BROKERS, Stage, status

FAST = OperatorSettings(resync_seconds=3600.0, cluster_ready_seconds=0.05)
TOPIC = "__broadsheet_canary"
WELL = CanaryHealth(True, "RecordsPass", "records pass through 1 broker; 99 % of them within 1s")
SLOW = CanaryHealth(False, "RecordsSlow", "records through broker 0 take 3.2 s at p99, the limit is 1s")


class CanaryStage(Stage):
    """With an operator that knows an image, and canaries that say what the test wants."""

    said: CanaryHealth | str = WELL

    async def __aenter__(self) -> CanaryStage:
        self.settings = replace(self.settings, canary_image="operator:1")
        await super().__aenter__()
        canaries = Canaries(
            self.kubernetes, self.operator.store, self.operator.writer, "operator:1", lambda url: self.said
        )
        self.operator.clusters._canaries = canaries
        return self

    def declare(self, **more: Any) -> None:
        self.apply("Cluster", "news", {**BROKERS, **more})

    def run_pod(self) -> None:
        """What the Deployment's controller would do."""
        template = self.kubernetes.one(Kind.DEPLOYMENT, "news-canary")["spec"]["template"]
        metadata = {"name": "news-canary-1", "namespace": "paper", "labels": template["metadata"]["labels"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": {"podIP": "10.0.0.9"}}
        self.kubernetes.put(pod)

    def condition(self) -> dict[str, Any]:
        conditions = status(self).get("conditions", ())
        return next((c for c in conditions if c["type"] == "CanaryHealthy"), {})

    async def condition_is(self, truth: str) -> dict[str, Any]:
        await self.until(lambda: self.condition().get("status") == truth, f"CanaryHealthy {truth}")
        return self.condition()


def test_a_canary_from_its_declaration_to_its_removal() -> None:
    async def scene() -> None:
        async with asyncio.timeout(60), CanaryStage(FAST) as stage:
            stage.declare(canary={})
            await stage.reason(Kind.CLUSTER, "news", "Ready")
            await stage.until(lambda: TOPIC in stage.kafka.topics, "the topic")
            assert CONFIGS.items() <= stage.kafka.topics[TOPIC][1].items()
            assert stage.condition()["reason"] == "CanaryStarting"
            labels = {"condition": "CanaryHealthy", "reason": "CanaryStarting"}
            assert len(Scrape(stage).of("broadsheet_resource_condition", kind="Cluster", **labels)) == 1
            stage.run_pod()
            assert (await stage.condition_is("True"))["message"] == WELL.message
            assert status(stage)["topics"] == 0, "the canary's own topic is not counted"
            assert stage.kubernetes.reason(Kind.CLUSTER, "news") == "Ready"

            stage.declare()
            await stage.until(
                lambda: (Kind.DEPLOYMENT, "paper", "news-canary") not in stage.kubernetes.objects, "its end"
            )
            await stage.until(lambda: not stage.condition(), "the end of the condition")
            assert (Kind.NETWORK_POLICY, "paper", "news-canary") not in stage.kubernetes.objects
            assert (Kind.NETWORK_POLICY, "paper", "news-brokers") in stage.kubernetes.objects
            assert TOPIC not in stage.kafka.topics
            await stage.until(lambda: "CanaryRemoved" in stage.reasons_of("news"), "the event")

    asyncio.run(scene())


def test_the_topic_of_a_new_cluster_waits_for_all_its_brokers() -> None:
    async def scene() -> None:
        async with asyncio.timeout(60), CanaryStage(FAST) as stage:
            stage.kubernetes.pods_ready = False
            stage.apply("Cluster", "news", {"brokers": {"replicas": 3, "storage": {"size": "1Gi"}}, "canary": {}})
            await stage.reason(Kind.CLUSTER, "news", "Creating")
            stage.kafka.pods = lambda: [0, 1]
            ready = {"conditions": [{"type": "Ready", "status": "True"}]}
            for number in (0, 1):
                stage.kubernetes.put({**stage.kubernetes.one(Kind.POD, f"news-brokers-{number}"), "status": ready})
            calls = stage.kafka.calls.count("topics")
            await stage.until(lambda: stage.kafka.calls.count("topics") > calls, "a look at the topic")
            assert TOPIC not in stage.kafka.topics
            stage.kafka.pods = lambda: [0, 1, 2]
            stage.kubernetes.put({**stage.kubernetes.one(Kind.POD, "news-brokers-2"), "status": ready})
            await stage.until(lambda: TOPIC in stage.kafka.topics, "the topic", 30)

    asyncio.run(scene())


def test_a_slow_cluster_is_ready_nevertheless_and_is_written_once() -> None:
    async def scene() -> None:
        async with asyncio.timeout(60), CanaryStage(FAST) as stage:
            stage.said = SLOW
            stage.declare(canary={})
            await stage.reason(Kind.CLUSTER, "news", "Ready")
            stage.run_pod()
            assert (await stage.condition_is("False"))["reason"] == "RecordsSlow"
            assert stage.kubernetes.reason(Kind.CLUSTER, "news") == "Ready"
            calls, writes = len(stage.kafka.calls), len(stage.kubernetes.writes)
            await stage.until(lambda: len(stage.kafka.calls) > calls + 20, "some rounds")
            assert stage.kubernetes.writes[writes:] == [], "nothing is written at rest"

    asyncio.run(scene())


def test_a_canary_that_does_not_answer_and_a_topic_of_somebody_else() -> None:
    async def scene() -> None:
        async with asyncio.timeout(60), CanaryStage(FAST) as stage:
            stage.kafka.topics[TOPIC] = (1, {})
            stage.kafka.made[TOPIC] = 1
            stage.declare(canary={})
            await stage.reason(Kind.CLUSTER, "news", "Ready")
            await stage.until(lambda: stage.condition().get("reason") == "TopicExists", "the refusal")
            assert "was not made for a canary" in stage.condition()["message"]
            stage.declare()
            await stage.until(
                lambda: (Kind.DEPLOYMENT, "paper", "news-canary") not in stage.kubernetes.objects, "its end"
            )
            assert TOPIC in stage.kafka.topics, "it was not ours"

    asyncio.run(scene())


def test_a_topic_resource_cannot_declare_the_canarys_topic() -> None:
    async def scene() -> None:
        async with asyncio.timeout(60), CanaryStage(FAST) as stage:
            stage.declare(canary={})
            await stage.reason(Kind.CLUSTER, "news", "Ready")
            stage.apply("Topic", "mine", {"cluster": "news", "topicName": TOPIC, "partitions": 9})
            body = await stage.reason(Kind.TOPIC, "mine", "ResourceConflict")
            message = next(c["message"] for c in body["status"]["conditions"] if c["type"] == "Ready")
            assert "is the topic of the Cluster's canary" in message
            assert stage.kafka.topics[TOPIC][0] != 9

    asyncio.run(scene())
