"""Where the brokers' pods may run: the parts of Kubernetes' Pod (core/v1) that a Cluster passes on, typed as there.

Unknown fields and values are refused when the Cluster is applied. Of the rules that need more than a field's type only
those of tolerations are checked here; the others are left to Kubernetes, whose answer becomes the Cluster's status.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from broadsheet_operator.api.meta import SpecModel

LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=317)]
LabelValue = Annotated[str, StringConstraints(max_length=63)]
Values = Annotated[list[LabelValue], Field(max_length=64, json_schema_extra={"x-atomic": True})]
NamespaceName = Annotated[str, StringConstraints(min_length=1, max_length=63)]
Weight = Annotated[int, Field(ge=1, le=100)]


class Toleration(SpecModel):
    """A taint that the pods tolerate."""

    key: Annotated[str, StringConstraints(max_length=317)] | None = None
    """The taint's key. Left out: every key, with operator Exists."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """Exists: whatever the taint's value is; Equal: only this value."""
    value: Annotated[str, StringConstraints(max_length=63)] | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect. Left out: every effect."""
    toleration_seconds: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    """With effect NoExecute: how many seconds a pod stays. Left out: for ever."""

    @model_validator(mode="after")
    def _agree(self) -> Toleration:
        if not self.key and self.operator != "Exists":
            raise ValueError("a toleration without a key tolerates every taint; write operator: Exists, or give a key")
        if self.value and self.operator == "Exists":
            raise ValueError("a toleration with operator: Exists has no value")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds goes with effect: NoExecute, and only with it")
        return self


TOLERATION_RULES = (
    (
        "(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')",
        "a toleration without a key tolerates every taint; write operator: Exists, or give a key",
    ),
    (
        "!has(self.value) || self.value == '' || !has(self.operator) || self.operator != 'Exists'",
        "a toleration with operator: Exists has no value",
    ),
    (
        "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        "tolerationSeconds goes with effect: NoExecute, and only with it",
    ),
)
"""The same for the API server: CEL and its message."""


class NodeRequirement(SpecModel):
    """What a label or field of a node must be."""

    key: LabelKey
    """The label's key."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    """How the label's value is compared."""
    values: Values | None = None
    """What it is compared with."""


NodeRequirements = Annotated[list[NodeRequirement], Field(max_length=16, json_schema_extra={"x-atomic": True})]


class NodeTerm(SpecModel):
    """Requirements that a node must meet, all of them."""

    match_expressions: NodeRequirements | None = None
    """About labels of the node."""
    match_fields: NodeRequirements | None = None
    """About fields of the node."""


class NodeSelector(SpecModel):
    """Nodes that fit one of these terms."""

    node_selector_terms: Annotated[
        list[NodeTerm], Field(min_length=1, max_length=16, json_schema_extra={"x-atomic": True})
    ]
    """The terms."""


class PreferredNodes(SpecModel):
    """Nodes that are preferred."""

    weight: Weight
    """How much, from 1 to 100."""
    preference: NodeTerm
    """Which nodes."""


class NodeAffinity(SpecModel):
    """Which nodes the pods may run on."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    """They must run there."""
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredNodes], Field(max_length=16, json_schema_extra={"x-atomic": True})] | None
    ) = None
    """They run there if they can."""


class LabelRequirement(SpecModel):
    """What a label must be."""

    key: LabelKey
    """The label's key."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How the label's value is compared."""
    values: Values | None = None
    """What it is compared with."""


class LabelSelector(SpecModel):
    """Objects by their labels."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=64)] | None = None
    """Labels that they must have."""
    match_expressions: (
        Annotated[list[LabelRequirement], Field(max_length=16, json_schema_extra={"x-atomic": True})] | None
    ) = None
    """Requirements that they must meet."""


Keys = Annotated[list[LabelKey], Field(max_length=16, json_schema_extra={"x-atomic": True})]


class PodTerm(SpecModel):
    """Pods to be near to, or away from."""

    topology_key: LabelKey
    """The node label by which two places are the same."""
    label_selector: LabelSelector | None = None
    """Which pods."""
    namespaces: Annotated[list[NamespaceName], Field(max_length=64, json_schema_extra={"x-atomic": True})] | None = None
    """Their namespaces. Left out: the Cluster's own."""
    namespace_selector: LabelSelector | None = None
    """Their namespaces by label."""
    match_label_keys: Keys | None = None
    """Labels that they must have with the value that the broker's pod has."""
    mismatch_label_keys: Keys | None = None
    """Labels that they must have with another value."""


class PreferredPods(SpecModel):
    """Pods that are preferred."""

    weight: Weight
    """How much, from 1 to 100."""
    pod_affinity_term: PodTerm
    """Which pods."""


class PodAffinity(SpecModel):
    """Which pods the brokers' pods are placed by."""

    required_during_scheduling_ignored_during_execution: (
        Annotated[list[PodTerm], Field(max_length=16, json_schema_extra={"x-atomic": True})] | None
    ) = None
    """This must hold."""
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredPods], Field(max_length=16, json_schema_extra={"x-atomic": True})] | None
    ) = None
    """This holds if it can."""


class Affinity(SpecModel):
    """Where pods are placed, by nodes and by other pods."""

    node_affinity: NodeAffinity | None = None
    """By the labels of nodes."""
    pod_affinity: PodAffinity | None = None
    """Near to other pods."""
    pod_anti_affinity: PodAffinity | None = None
    """Away from other pods."""
