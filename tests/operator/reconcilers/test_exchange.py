"""What keeps another engine from taking a cluster's directories over, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from broadsheet_broker.metadata.records import RECORD_TYPES
from broadsheet_broker.wire import messages
from broadsheet_operator.api.engine_versions import VERSIONS
from broadsheet_operator.reconcilers.engines.apache_kafka import ApacheKafka
from broadsheet_operator.reconcilers.engines.broadsheet import Broadsheet
from broadsheet_operator.reconcilers.exchange import METADATA_RECORDS, Stored, refusal

OURS = {"metadata.version": 30, "eligible.leader.replicas.version": 1}
OF_4_3 = {**OURS, "group.version": 1, "share.version": 1, "streams.version": 1, "transaction.version": 2}
OF_4_4 = {**OF_4_3, "metadata.version": 33, "share.version": 2}


@pytest.mark.parametrize("target", [Broadsheet(), ApacheKafka("4.3.0"), ApacheKafka("4.4.0")], ids=lambda t: t.title)
@pytest.mark.parametrize("features", [{}, OURS, OF_4_3])
def test_what_every_engine_knows_is_no_obstacle(target: Any, features: dict[str, int]) -> None:
    assert refusal(target, Stored(features=features, metadata_records={12: 0, 0: 4, 5: 2})) == ""


def test_a_newer_engine_reads_what_it_finalized() -> None:
    assert refusal(ApacheKafka("4.4.0"), Stored(features=OF_4_4, metadata_records={29: 0})) == ""


@pytest.mark.parametrize("target", [Broadsheet(), ApacheKafka("4.3.0")], ids=lambda target: target.title)
def test_a_finalized_level_that_the_target_does_not_know(target: Any) -> None:
    said = refusal(target, Stored(features=OF_4_4, metadata_records={29: 0}))
    assert f"metadata.version is finalized at 4.4-IV2, and {target.title} knows it up to 4.3-IV0" in said
    assert "kafka-features.sh downgrade --metadata 4.3-IV0" in said
    assert f"share.version is finalized at 2, and {target.title} knows it up to 1" in said
    assert "downgrade --feature share.version=1" in said
    assert "records of type 29 in version 0" in said


def test_a_feature_that_the_target_has_never_heard_of() -> None:
    said = refusal(ApacheKafka("4.4.0"), Stored(features={"tomorrow.version": 1}))
    assert said == "feature tomorrow.version is finalized at 1, and Apache Kafka 4.4.0 does not know it"


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({"groups": {"new": "consumer"}}, "groups of type consumer, and there are new: restart their consumers with"),
        ({"groups": {"jobs": "share"}}, "groups of type share, and there are jobs: delete these groups"),
        ({"groups": {str(n): "streams" for n in range(5)}}, "of type streams, and there are 0, 1, 2 and 2 more"),
        ({"unknown_group_records": [42]}, "__consumer_offsets has records of type 42"),
        ({"transactional_ids": {"tx": "Ongoing"}}, r"transactions of tx \(Ongoing\) are open"),
        ({"transactional_ids": {"tx": ""}}, "transactional ids tx: stop their producers, and wait until the ids have"),
        ({"acls": 1}, "there is 1 ACL, which Broadsheet would not enforce"),
        ({"scram_users": 2}, "there are 2 SCRAM credentials, which Broadsheet would not enforce"),
        ({"delegation_tokens": 3}, "3 delegation tokens"),
        ({"tiered_topics": ["old"]}, "records of old are in a remote storage"),
    ],
)
def test_what_only_apache_kafka_serves(stored: dict[str, Any], said: str) -> None:
    found = Stored(features=OF_4_3, **stored)
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(refusal(Broadsheet(), found))
    assert refusal(ApacheKafka("4.3.0"), found) == "", "its own program has no trouble with it"


def test_the_tables_of_records_are_those_of_the_versions() -> None:
    assert METADATA_RECORDS.keys() == VERSIONS.keys()
    known = {
        key: getattr(__import__(f"{messages.__name__}.{_snake(name)}", fromlist=[name]), name).HIGHEST_VERSION
        for key, name in RECORD_TYPES.items()
    }
    assert METADATA_RECORDS["4.3"] == known, "our messages are made from the descriptions of 4.3"


def _snake(name: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")
