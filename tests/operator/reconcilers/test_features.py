"""Features: finalized by an explicit field, when every broker knows the level, and never lowered by surprise."""

from __future__ import annotations

from broadsheet_operator.reconcilers.features import FeatureChange, FeatureStep, next_step
from broadsheet_operator.reconcilers.observed import FeaturesView

KNOWS_4_3 = {"metadata.version": (7, 30), "share.version": (0, 1), "group.version": (0, 1)}
KNOWS_4_4 = {"metadata.version": (7, 33), "share.version": (0, 2), "group.version": (0, 1)}
FINALIZED = {"metadata.version": 30, "share.version": 1}


def seen(*knows: dict[str, tuple[int, int]]) -> FeaturesView:
    return FeaturesView(FINALIZED, dict(enumerate(knows)))


def test_what_is_declared_already_needs_nothing() -> None:
    assert next_step(FINALIZED, seen(KNOWS_4_4), range(1), "") == FeatureStep()
    assert next_step({"group.version": 0}, seen(KNOWS_4_4), range(1), "") == FeatureStep(), "absent is level 0"
    assert next_step({}, seen(KNOWS_4_4), range(1), "") == FeatureStep()


def test_a_level_that_every_broker_knows_is_finalized() -> None:
    wanted = {"metadata.version": 33, "share.version": 2, "group.version": 1}
    step = next_step(wanted, seen(KNOWS_4_4, KNOWS_4_4), range(2), "")
    assert step.change == FeatureChange(wanted)
    assert step.words == "finalize group.version 1, metadata.version 4.4-IV2, share.version 2"


def test_nothing_is_finalized_while_brokers_are_rolled_or_silent() -> None:
    wanted = {"metadata.version": 33}
    rolling = next_step(wanted, seen(KNOWS_4_4, KNOWS_4_3), range(2), "waiting until every broker runs it")
    assert (rolling.change, rolling.words) == (
        None, "finalize metadata.version 4.4-IV2: waiting until every broker runs it",
    )  # fmt: skip
    silent = next_step(wanted, seen(KNOWS_4_4), range(3), "")
    assert (silent.change, silent.words) == (None, "finalize metadata.version 4.4-IV2: waiting for broker 1, 2")


def test_a_level_that_a_broker_does_not_know_is_refused_by_name() -> None:
    """An image may have another version than engine.version says."""
    step = next_step({"metadata.version": 33}, seen(KNOWS_4_4, KNOWS_4_3), range(2), "")
    assert step.change is None
    assert step.refusal == "metadata.version 4.4-IV2 cannot be finalized: broker 1 does not know it"


def test_a_metadata_version_is_never_lowered() -> None:
    step = next_step({"metadata.version": 29, "group.version": 1}, seen(KNOWS_4_3), range(1), "")
    assert step.change is None
    assert step.refusal == (
        "engine.metadataVersion is 4.2-IV1, and the cluster has finalized 4.3-IV0: a metadata.version is never "
        "lowered, since the log may hold what 4.2-IV1 cannot read; set it to 4.3-IV0, or leave it out"
    )


def test_another_feature_is_lowered_by_its_own_field_alone() -> None:
    """Kafka itself refuses where something would be lost."""
    step = next_step({"share.version": 0, "group.version": 1}, seen(KNOWS_4_3), range(1), "")
    assert step.change == FeatureChange({"share.version": 0, "group.version": 1}, frozenset({"share.version"}))
