"""Consumer groups: who is behind, in records and in seconds, since when, and is it the group or its producers?"""

from __future__ import annotations

from tools.dashboards.board import SELECTED, Board, Section, chosen, uid
from tools.dashboards.engines import any_of
from tools.dashboards.panels import Query, bars, lines, stat_panel, states, table_panel

S = f'{SELECTED}, consumergroup=~"$group"'
RATE = "[$__rate_interval]"
BY_GROUP = "by (namespace, cluster, consumergroup)"
GROUP = "{{namespace}}/{{cluster}} {{consumergroup}}"
VERDICTS = ("OK", "Warning", "Rewound", "Stopped", "Stalled")
"""From well to ill, as they are numbered in a state panel."""
TEXTS = {
    0: ("OK", "green"),
    1: ("Warning: falls behind", "yellow"),
    2: ("Rewound", "blue"),
    3: ("Stopped: no members", "orange"),
    4: ("Stalled: does not move", "red"),
}


def verdict_as_number(selected: str = S) -> str:
    """One sample per group whose value is the place of its verdict in `VERDICTS`."""
    parts = (
        f'{number} * max {BY_GROUP} (broadsheet_consumergroup_verdict{{{selected}, verdict="{name}"}} == 1)'
        for number, name in enumerate(VERDICTS)
    )
    return " or ".join(parts)


def groups_in(classic: tuple[str, ...], consumer: tuple[str, ...]) -> str:
    """Groups in these states of classic groups, or of the new protocol's, which only Apache Kafka has."""
    names = tuple(f"kafka_coordinator_group_groupmetadatamanager_numgroups{state}" for state in classic)
    states = "|".join(consumer)
    return (
        f"sum by (namespace, cluster) ({any_of(names, SELECTED)}"
        f' or kafka_server_group_coordinator_metrics_consumer_group_count{{{SELECTED}, state=~"{states}"}})'
    )


WELL = (
    stat_panel(
        "Groups",
        f"count(max {BY_GROUP} (kafka_consumergroup_members{{{S}}}))",
        "Consumer groups whose lag is known now.",
        width=3,
    ),
    stat_panel(
        "Clusters not reachable",
        f"sum(broadsheet_cluster_reachable{{{SELECTED}}} == bool 0)",
        "The lag of their groups is not known. It is missing on this page and not zero.",
        red=1,
        alerts=["ClusterUnreachable"],
        width=3,
    ),
    stat_panel(
        "Stalled groups",
        f'sum(broadsheet_consumergroup_verdict{{{S}, verdict="Stalled"}}) '
        f"or 0 * sum(broadsheet_consumergroup_verdict{{{S}}})",
        "Groups with members and unread records whose committed offsets do not move. Declared groups only.",
        red=1,
        alerts=["ConsumerGroupStalled"],
        width=3,
    ),
    stat_panel(
        "Stopped groups",
        f'sum(broadsheet_consumergroup_verdict{{{S}, verdict="Stopped"}}) '
        f"or 0 * sum(broadsheet_consumergroup_verdict{{{S}}})",
        "Groups without members that have unread records. Declared groups only.",
        yellow=1,
        width=3,
    ),
    stat_panel(
        "Oldest unread record",
        f"max(kafka_consumergroup_group_max_lag_seconds{{{S}}})",
        "Age of the oldest record that a selected group has not read.",
        unit="s",
        yellow=300,
        red=1800,
        alerts=["TooLargeConsumerGroupLag"],
        width=3,
    ),
    stat_panel(
        "Unread records",
        f"sum(kafka_consumergroup_lag_sum{{{S}}})",
        "Records that the selected groups have not read, added up.",
        width=3,
    ),
    stat_panel(
        "Groups without lag",
        f'sum(broadsheet_lag_groups{{{SELECTED}, result!="exported"}})',
        """Groups whose lag is missing on this page: their coordinator did not answer, or there are more partitions than
        --lag-partitions of the operator allows.""",
        yellow=1,
        alerts=["LagNotObserved"],
        width=3,
    ),
    stat_panel(
        "Lag observed",
        f"time() - min(broadsheet_lag_observed_timestamp_seconds{{{SELECTED}}})",
        """How long ago the operator last looked at the lag of all groups, in the cluster where that is longest ago.
        Declared groups are looked at every few seconds.""",
        unit="s",
        yellow=300,
        red=900,
        alerts=["LagNotObserved"],
        width=3,
    ),
)
WRONG = (
    table_panel(
        "Which group is behind?",
        Query(verdict_as_number(), "Verdict", texts=TEXTS),
        Query(f"max {BY_GROUP} (kafka_consumergroup_group_max_lag_seconds{{{S}}})", "Oldest unread", "s", red=1800),
        Query(f"sum {BY_GROUP} (kafka_consumergroup_lag_sum{{{S}}})", "Unread records"),
        Query(f"max {BY_GROUP} (kafka_consumergroup_members{{{S}}})", "Members"),
        Query(f"count {BY_GROUP} (kafka_consumergroup_lag{{{S}}} == -1)", "Partitions without offset"),
        labels={"namespace": "Namespace", "cluster": "Cluster", "consumergroup": "Group"},
        links={"consumergroup": uid("groups")},
        what="""One row per group. The verdict is that of the ConsumerGroup resource; it is empty for groups that
        are not declared. Read the age first: 10,000 unread records may be a second or a day.""",
        alerts=["TooLargeConsumerGroupLag", "ConsumerGroupStalled"],
        sort="Oldest unread",
        width=15,
    ),
    states(
        "Since when?",
        Query(verdict_as_number(), GROUP, texts=TEXTS),
        what="""The verdict of each declared group over time. A gap is a time in which the cluster could not be
        reached, or the operator was not scraped.""",
        alerts=["ConsumerGroupStalled"],
        width=9,
    ),
    lines(
        "How old is the oldest unread record?",
        Query(f"topk(10, max {BY_GROUP} (kafka_consumergroup_group_max_lag_seconds{{{S}}}))", GROUP),
        what="""The ten groups that are furthest behind. A straight line that rises one second per second is a
        group that reads nothing; a flat one keeps up, late.""",
        unit="s",
        yellow=300,
        red=1800,
        alerts=["TooLargeConsumerGroupLag"],
    ),
    lines(
        "How many records are unread?",
        Query(f"topk(10, sum {BY_GROUP} (kafka_consumergroup_lag_sum{{{S}}}))", GROUP),
        what="Unread records of the ten groups with most of them.",
        alerts=["TooLargeConsumerGroupLag"],
    ),
)
FAULT = (
    lines(
        "Does it read as fast as others write?",
        Query(
            f"sum by (namespace, cluster, consumergroup) (deriv(kafka_consumergroup_current_offset{{{S}}}{RATE}))",
            f"reads {GROUP}",
        ),
        Query(
            f"sum by (namespace, cluster, topic) (rate(kafka_server_brokertopicmetrics_messagesin_total"
            f'{{{SELECTED}, topic!=""}}{RATE}) and on (namespace, cluster, topic) '
            f"sum by (namespace, cluster, topic) (kafka_consumergroup_lag_sum{{{S}}}))",
            "writes {{namespace}}/{{cluster}} {{topic}}",
        ),
        what="""Records per second that the groups commit, and that producers write to the topics that these
        groups read. Writes above reads: the group needs more members, or the producers do too much.""",
        unit="cps",
    ),
    bars(
        "When has it caught up?",
        Query(
            f"(sum {BY_GROUP} (kafka_consumergroup_lag_sum{{{S}}}) "
            f"/ clamp_min(-sum {BY_GROUP} (deriv(kafka_consumergroup_lag_sum{{{S}}}[10m])), 0.001)) < 30 * 86400",
            GROUP,
        ),
        what="""Unread records divided by how fast they became fewer in the last ten minutes. A group that is
        missing here does not catch up.""",
        unit="s",
        width=6,
    ),
    lines(
        "Are members missing?",
        Query(f"max {BY_GROUP} (kafka_consumergroup_members{{{S}}})", GROUP),
        what="Members of each group. Steps down and up are rebalances: for some seconds, nobody reads.",
        steps=True,
        width=6,
    ),
    bars(
        "Which partition is behind?",
        Query(
            f"topk(15, max by (namespace, cluster, consumergroup, topic, partition) "
            f"(kafka_consumergroup_group_lag_seconds{{{S}}}) > 0)",
            "{{consumergroup}} {{topic}}-{{partition}}",
        ),
        what="""Age of the first unread record, the 15 worst partitions. One alone: a record that the consumer
        cannot process, or a key that is too frequent. All of one member: that member.""",
        unit="s",
        yellow=300,
        red=1800,
        alerts=["ConsumerGroupStalled"],
        width=8,
    ),
    lines(
        "Which topic is behind?",
        Query(
            f"topk(10, sum by (namespace, cluster, consumergroup, topic) (kafka_consumergroup_lag_sum{{{S}}}) > 0)",
            "{{consumergroup}} {{topic}}",
        ),
        what="Unread records by group and topic, the ten largest.",
        alerts=["TooLargeConsumerGroupLag"],
        width=8,
    ),
    lines(
        "Do groups rebalance all the time?",
        Query(
            groups_in(("preparingrebalance", "completingrebalance"), ("Assigning", "Reconciling")),
            "{{namespace}}/{{cluster}} in a rebalance",
        ),
        Query(
            groups_in(("stable",), ("Stable",)),
            "{{namespace}}/{{cluster}} stable",
        ),
        Query(
            groups_in(("empty",), ("Empty",)),
            "{{namespace}}/{{cluster}} empty",
        ),
        what="""Groups by state, all groups of a cluster. A group that is in a rebalance for long has a member
        that does not join: its processing takes longer than max.poll.interval.ms. Apache Kafka counts once a
        minute.""",
        width=8,
    ),
)
BOARD = Board(
    "groups",
    "Consumer groups",
    "Who is behind, in records and in seconds? Since when? Is it the group, a partition, or the producers?",
    [
        Section("Is it well?", WELL),
        Section("Who is behind, and since when?", WRONG),
        Section("Whose fault is it?", FAULT),
    ],
    [chosen("group", f"label_values(kafka_consumergroup_members{{{SELECTED}}}, consumergroup)", "Group")],
)
