"""A metadata quorum that went with its volumes: what is waited for in vain, and what a person can do. Pure.

A broker that comes back with an empty volume asks the others for the metadata and gets its vote back from the operator.
That works while a majority of the voters has what it had. Of two brokers only one votes, so its volume is the majority.
"""

from __future__ import annotations

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.reconcilers.provisioning import FORMED, QUORUM, Existing, begins_again


def lost_quorum(cluster: Cluster, existing: Existing) -> str:
    """Why no controller can be elected, and the ways out; empty while one may be.

    Call it only while no broker sees a quorum: a volume is marked by the operator when it sees one.
    """
    brokers, voters = cluster.spec.brokers, (cluster.status.voters if cluster.status else None) or []
    if brokers is None or not voters or begins_again(brokers):
        return ""
    marked = {
        claim["metadata"]["name"]
        for claim in existing.claims
        if claim["metadata"].get("annotations", {}).get(QUORUM) == FORMED
    }
    lost = [id for id in sorted(voters) if _claim(cluster, id) not in marked]
    if len(voters) - len(lost) > len(voters) // 2:
        return ""
    one = len(lost) == 1
    who = f"broker {lost[0]}" if one else f"brokers {', '.join(map(str, lost))}"
    vote = "the only vote" if len(voters) == 1 else f"{len(lost)} of {len(voters)} votes"
    claims = ", ".join(_claim(cluster, id) for id in lost)
    return (
        f"{who} came back with {'an empty volume' if one else 'empty volumes'}, and {vote} of the metadata quorum went "
        "with what was lost, so no controller can be elected: put the old "
        f"{'volume' if one else 'volumes'} back from a snapshot ({claims}, while the Cluster is deleted with "
        "deletionPolicy Retain), or give the records up: delete the Cluster and all its volume claims, and apply it "
        "again"
    )


def _claim(cluster: Cluster, broker: int) -> str:
    return f"data-{cluster.metadata.name}-brokers-{broker}"
