"""What happens to a cluster, and exactly which alerts fire at which minute.

Each case but the first ones begins its trouble at minute 60, so that every range of an expression is filled with a
cluster that is well. `BEFORE` of an alert's `for` nothing fires.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from e2e.monitoring.rules.worlds import (
    AT,
    CANARY,
    FOR_EVER,
    GONE,
    PODS,
    Clock,
    Series,
    apache_kafka,
    at,
    broker,
    broker_is_away,
    change,
    condition,
    counter,
    of,
    operators,
    operators_disk,
    ready,
    reconciliations,
    well,
    with_gaps,
)

Expected = Mapping[int, Iterable[str]]
START = 60
LAG = ("broadsheet_lag_wanted", "broadsheet_lag_groups")
"""Whether lag is to be known, and whether it is: neither of a cluster that cannot be reached."""


@dataclass(frozen=True)
class Case:
    """A world, and which alerts fire at which minute of it."""

    name: str
    make: Callable[[], Series]
    expected: Expected

    def world(self) -> Series:
        """Its series, as long as is asked for."""
        Clock.minutes = max(self.expected) + 2
        return self.make()


CASES: list[Case] = []


def case(expected: Expected) -> Callable[[Callable[[], Series]], Callable[[], Series]]:
    """A case, named as its function."""

    def add(make: Callable[[], Series]) -> Callable[[], Series]:
        CASES.append(Case(make.__name__, make, expected))
        return make

    return add


def quiet(*minutes: int) -> dict[int, list[str]]:
    return {minute: [] for minute in minutes}


# -- nothing fires -----------------------------------------------------------------------------------------------------


@case(quiet(0, 1, 10, 60, 240))
def a_quiet_day() -> Series:
    return well()


@case(quiet(*range(58, 82)))
def a_rolling_change() -> Series:
    """Each broker is away for two minutes, five minutes after the one before; the controller goes last."""
    world = well()
    for number, begin in ((1, 60), (2, 65), (0, 70)):
        broker_is_away(world, number, (begin, begin + 2))
    _misses_replicas(world, (60, 75), rolling=True)
    change(world, "broadsheet_cluster_ready_brokers", at(3, (60, 2), (62, 3), (65, 2), (67, 3), (70, 2), (72, 3)))
    change(world, "broadsheet_broker_restarts_total", at(0, (60, 1), (65, 2), (70, 3)))
    change(world, "kafka_controller_kafkacontroller_activecontrollercount", at(1, (70, GONE), (72, 0)), pod=0)
    change(world, "kafka_controller_kafkacontroller_activecontrollercount", at(0, (71, 1)), pod=1)
    change(world, "broadsheet_canary_broker_available", at(1, (60, 0), (64, 1)), broker="1")
    change(world, "kafka_consumergroup_group_max_lag_seconds", at(1, (60, 45), (75, 1)))
    return world


@case(quiet(*range(58, 200, 3)))
def a_drain_of_an_hour_and_a_half() -> Series:
    """Replicas move, and the broker that goes is missing at the end; the operator says that it is planned."""
    world = well()
    _misses_replicas(world, (60, 150), rolling=True)
    change(world, "kafka_cluster_partition_underreplicated", at(0, (60, 1), (80, 0)), pod=0)
    change(world, "kafka_cluster_partition_underreplicated", at(0, (81, 1), (105, 0)), pod=1)
    change(world, "broadsheet_cluster_ready_brokers", at(3, (145, 2)))
    change(world, "broadsheet_cluster_brokers", at(3, (147, 2)))
    return world


@case(quiet(*range(58, 70)))
def a_rolling_change_of_the_only_broker() -> Series:
    """Everything is away for four minutes: a new image is pulled, the volume is attached elsewhere."""
    world = well(brokers=1)
    broker_is_away(world, 0, (60, 64))
    change(world, "broadsheet_cluster_rolling", at(0, (60, 1), (65, 0)))
    change(world, "broadsheet_cluster_ready_brokers", at(1, (60, 0), (64, 1)))
    change(world, "broadsheet_cluster_reachable", at(1, (60, 0), (64, 1)))
    change(world, "broadsheet_canary_broker_available", at(1, (60, 0), (65, 1)))
    change(world, "broadsheet_canary_records_produced_total", counter(60, (60, 0), (64, 60)))
    change(world, "broadsheet_canary_records_failed_total", counter(0, (60, 60), (64, 0)))
    for name in ("kafka_consumergroup_members", "kafka_consumergroup_group_max_lag_seconds"):
        change(world, name, at(1, (60, GONE), (65, 1)))
    return world


@case(quiet(*range(58, 70)))
def a_pod_that_kubernetes_evicts() -> Series:
    """Nobody planned it, and it is back within three minutes."""
    world = well()
    broker_is_away(world, 1, (60, 62))
    _misses_replicas(world, (60, 63), rolling=False)
    change(world, "broadsheet_cluster_ready_brokers", at(3, (60, 2), (62, 3)))
    change(world, "broadsheet_canary_broker_available", at(1, (60, 0), (62, 1)), broker="1")
    return world


@case(quiet(*range(58, 70)))
def another_operator_leads() -> Series:
    """Two minutes without any figure of the operator, then those of another pod."""
    world = well()
    for key in [key for key in world if 'pod="operator-0"' in key and not key.startswith("up{")]:
        world[key.replace("operator-0", "operator-1")] = with_gaps(world[key], (0, 62))
        world[key] = with_gaps(world[key], (60, FOR_EVER))
    return world


@case(quiet(*range(58, 90, 2)))
def groups_that_nobody_runs() -> Series:
    """An undeclared group without members, far behind for ever; and one that is far behind and catches up."""
    world = well()
    group = f'{AT},consumergroup="old"'
    world[operators("kafka_consumergroup_members", group)] = at(0)
    world[operators("kafka_consumergroup_group_max_lag_seconds", group)] = counter(60)
    change(world, "kafka_consumergroup_group_max_lag_seconds", "0+0x59 9000-100x80", consumergroup="billing")
    return world


@case(quiet(300, 400, 640))
def a_topic_with_pauses() -> Series:
    """Records for two hours, a pause, records for five, and silence: a batch."""
    world = well()
    pauses = counter(100, (120, 0), (180, 100), (480, 0))
    change(world, "kafka_server_brokertopicmetrics_messagesin_total", pauses)
    return world


# -- something is wrong ------------------------------------------------------------------------------------------------


@case({64: [], 66: ["UnderReplicatedPartitions"], 100: []})
def replicas_are_missing() -> Series:
    world = well()
    change(world, "kafka_server_replicamanager_underreplicatedpartitions", at(0, (60, 4), (90, 0)), pod=0)
    return world


@case({89: [], 96: ["UnderReplicatedPartitions"]})
def replicas_are_missing_in_a_change_that_hangs() -> Series:
    world = well()
    _misses_replicas(world, (60, 300), rolling=True)
    change(world, "kafka_cluster_partition_underreplicated", at(0, (60, 1)), pod=0)
    return world


@case({60: [], 62: ["UnderMinIsrPartitionCount"], 120: []})
def too_few_replicas_for_producers() -> Series:
    world = well()
    change(world, "kafka_server_replicamanager_underminisrpartitioncount", at(0, (60, 2), (110, 0)), pod=0)
    return world


@case({74: [], 77: ["UnderMinIsrPartitionCount"]})
def too_few_replicas_in_a_change_that_hangs() -> Series:
    world = well()
    change(world, "broadsheet_cluster_rolling", at(0, (60, 1)))
    change(world, "kafka_server_replicamanager_underminisrpartitioncount", at(0, (60, 2)), pod=0)
    change(world, "kafka_cluster_partition_underminisr", at(0, (60, 1)), pod=0)
    return world


@case({60: [], 62: ["OfflinePartitions"], 120: []})
def partitions_without_a_leader() -> Series:
    world = well()
    change(world, "kafka_controller_kafkacontroller_offlinepartitionscount", at(0, (60, 3), (110, 0)), pod=0)
    return world


@case({74: [], 77: ["OfflinePartitions"]})
def partitions_without_a_leader_in_a_change_that_hangs() -> Series:
    world = well()
    change(world, "broadsheet_cluster_rolling", at(0, (60, 1)))
    change(world, "kafka_controller_kafkacontroller_offlinepartitionscount", at(0, (60, 3)), pod=0)
    return world


@case({59: [], 61: ["UncleanLeaderElection"], 80: []})
def an_unclean_election() -> Series:
    world = well()
    change(world, "kafka_controller_controllerstats_uncleanleaderelections_total", at(0, (60, 1)), pod=0)
    return world


@case({60: ["UncleanLeaderElection"], 80: []})
def an_unclean_election_before_the_first_scrape_of_a_controller() -> Series:
    world = well()
    change(world, "kafka_controller_controllerstats_uncleanleaderelections_total", at(GONE, (60, 1)), pod=0)
    return world


@case({550: [], 579: [], 585: ["NoMessageForTooLong"]})
def producers_that_fall_silent() -> Series:
    world = well()
    change(world, "kafka_server_brokertopicmetrics_messagesin_total", counter(100, (555, 0)))
    return world


@case({61: [], 63: ["AbnormalControllerState"], 68: ["AbnormalControllerState"], 130: []})
def no_controller() -> Series:
    """Two of three voters are away: the third looks for votes. It still names the leader that it had."""
    world = well()
    broker_is_away(world, 1, (60, 110))
    broker_is_away(world, 2, (60, 110))
    change(world, "kafka_controller_kafkacontroller_activecontrollercount", at(1, (60, 0), (110, 1)), pod=0)
    change(world, "kafka_server_raftmetrics_current_state", at(1, (60, GONE), (110, 1)))
    world[broker("kafka_server_raftmetrics_current_state", 0, current_state="prospective")] = at(GONE, (60, 1))
    return world


@case({61: [], 63: ["AbnormalControllerState"]})
def two_controllers() -> Series:
    world = well()
    change(world, "kafka_controller_kafkacontroller_activecontrollercount", at(0, (60, 1)), pod=1)
    return world


@case({61: [], 63: ["AbnormalControllerState"]})
def a_leader_of_the_quorum_that_does_not_act() -> Series:
    """All voters are scraped and name a leader, and none is the controller."""
    world = well()
    change(world, "kafka_controller_kafkacontroller_activecontrollercount", at(1, (60, 0)), pod=0)
    return world


@case({69: [], 71: ["ScrapeProblem"]})
def a_controller_that_is_not_scraped() -> Series:
    """Brokers name their leader, so there is one: the problem is the scrape, and only that is said."""
    world = well()
    broker_is_away(world, 0, (60, 200))
    return world


@case({69: [], 72: ["MetadataQuorumLagging"]})
def a_node_that_does_not_follow() -> Series:
    world = well()
    change(world, "kafka_server_raftmetrics_log_end_offset", counter(10, (60, 0)), pod=2)
    return world


@case({61: [], 63: ["MetadataNotWritten"]})
def a_node_that_cannot_store_the_metadata() -> Series:
    world = well()
    change(world, "broadsheet_metadata_is_behind", at(0, (60, 1)), pod=2)
    return world


@case({61: [], 63: ["MetadataNotWritten"]})
def a_node_of_apache_kafka_that_could_not_apply_a_record() -> Series:
    world = apache_kafka(well())
    change(world, "kafka_server_broker_metadata_metrics_metadata_apply_error_count", at(0, (60, 1)), pod=2)
    return world


@case({75: [], 82: ["BrokerOverloaded"]})
def request_handlers_of_apache_kafka_without_a_free_moment() -> Series:
    world = apache_kafka(well())
    change(world, "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent", at(0.8, (60, 0.02)), pod=0)
    return world


@case({60: [], 62: ["KafkaOutOfSpace"], 66: ["KafkaOutOfSpace", "KafkaRunningOutOfSpace"]})
def a_disk_of_apache_kafka_that_is_nearly_full() -> Series:
    """Its size comes from the operator, with the name of the pod."""
    world = apache_kafka(well())
    world[operators_disk("available", 0)] = at(60, (60, 2))
    return world


@case({64: [], 66: ["BrokerDown", "KafkaBrokerContainersDown"]})
def all_brokers_are_away() -> Series:
    world = well()
    change(world, "broadsheet_cluster_ready_brokers", at(3, (60, 0)))
    return world


@case({64: [], 66: ["KafkaBrokerContainersDown"]})
def all_brokers_are_away_in_a_change() -> Series:
    world = well()
    change(world, "broadsheet_cluster_rolling", at(0, (60, 1)))
    change(world, "broadsheet_cluster_ready_brokers", at(3, (60, 0)))
    change(world, "broadsheet_broker_restarts_total", at(0, (60, 1), (90, 2)))
    return world


@case({64: [], 66: ["BrokerDown"], 120: []})
def a_broker_is_away() -> Series:
    world = well()
    broker_is_away(world, 1, (60, 110))
    change(world, "broadsheet_cluster_ready_brokers", at(3, (60, 2), (110, 3)))
    return world


@case({64: [], 66: ["BrokerDown"]})
def a_broker_that_the_controller_keeps_out() -> Series:
    """It runs and is not fenced by the operator's count: only the controller knows."""
    world = well()
    change(world, "kafka_controller_kafkacontroller_fencedbrokercount", at(0, (60, 1)), pod=0)
    return world


@case({92: [], 97: ["BrokerDown"]})
def a_broker_that_does_not_return_in_a_rolling_change() -> Series:
    world = well()
    broker_is_away(world, 1, (60, 300))
    change(world, "broadsheet_cluster_rolling", at(0, (60, 1)))
    change(world, "broadsheet_broker_restarts_total", at(0, (60, 1)))
    change(world, "broadsheet_cluster_ready_brokers", at(3, (60, 2)))
    return world


@case({62: [], 66: ["BrokerRestartsOften"], 130: []})
def a_broker_that_crashes_again_and_again() -> Series:
    world = well()
    change(world, "process_start_time_seconds", at(100, (60, 3600), (62, 3720), (65, 3900)), pod=1)
    return world


@case(quiet(66, 80))
def four_rolling_changes_in_an_hour() -> Series:
    world = well()
    starts = at(100, (60, 3600), (62, 3720), (65, 3900), (70, 4200))
    change(world, "process_start_time_seconds", starts, pod=1)
    change(world, "broadsheet_broker_restarts_total", at(0, (60, 1), (62, 2), (65, 3), (70, 4)))
    return world


@case({75: [], 82: ["BrokerOverloaded"]})
def a_broker_without_a_free_moment() -> Series:
    world = well()
    change(world, "kafka_network_socketserver_networkprocessoravgidle_percent", at(0.8, (60, 0.02)), pod=0)
    return world


@case({60: [], 62: ["OfflineLogDirectoryCount"]})
def a_log_directory_that_failed() -> Series:
    world = well()
    change(world, "kafka_log_logmanager_offlinelogdirectorycount", at(0, (60, 1)), pod=0)
    return world


@case({64: [], 66: ["KafkaRunningOutOfSpace"], 100: []})
def a_disk_that_is_nearly_full() -> Series:
    world = well()
    change(world, "broadsheet_log_directory_available_bytes", at(60, (60, 14), (90, 40)), pod=1)
    return world


@case({60: [], 62: ["KafkaOutOfSpace"], 66: ["KafkaOutOfSpace", "KafkaRunningOutOfSpace"]})
def a_disk_that_is_full() -> Series:
    world = well()
    change(world, "broadsheet_log_directory_available_bytes", at(60, (60, 0)), pod=1)
    return world


@case({64: [], 66: ["ClusterUnreachable"]})
def a_cluster_that_does_not_answer() -> Series:
    """Its Topics are not Ready for that reason, and 500 of them would hide the one alert that says why."""
    world = well()
    change(world, "broadsheet_cluster_reachable", at(1, (60, 0)))
    change(world, "broadsheet_resource_ready", at(1, (60, 0)), kind="Topic")
    for name in ("kafka_consumergroup_members", "kafka_consumergroup_group_max_lag_seconds", *LAG):
        change(world, name, at(1, (60, GONE)))
    return world


@case({69: [], 71: ["KafkaNotReady"]})
def a_cluster_that_is_not_ready() -> Series:
    world = well()
    world[ready("Cluster", "news")] = at(1, (60, 0))
    return world


@case({119: [], 131: ["KafkaNotReady"]})
def a_cluster_that_is_not_ready_in_a_change_that_hangs() -> Series:
    world = well()
    world[ready("Cluster", "news")] = at(1, (60, 0))
    change(world, "broadsheet_cluster_rolling", at(0, (60, 1)))
    return world


@case({69: [], 71: ["KafkaTopicNotReady"]})
def a_topic_that_is_not_ready() -> Series:
    world = well()
    world[ready("Topic", "orders")] = at(1, (60, 0))
    return world


@case({69: ["ClusterUnreachable"], 71: ["ClusterUnreachable", "KafkaTopicNotReady"]})
def a_topic_of_a_cluster_whose_namesake_cannot_be_reached() -> Series:
    """The namesake, in another namespace, silences nothing of the cluster that answers."""
    world = a_topic_that_is_not_ready()
    world[condition("Topic", "orders", "Ready", "InvalidConfig")] = at(GONE, (60, 1))
    world[operators("broadsheet_cluster_reachable", 'namespace="other",cluster="news"')] = at(1, (60, 0))
    return world


@case({64: [], 66: ["ClusterUnreachable"], 90: ["ClusterUnreachable"]})
def resources_of_a_cluster_that_cannot_be_reached() -> Series:
    """One alert for the cluster, and none for each of its resources, though all of them are Stalled in the end."""
    world = well()
    change(world, "broadsheet_cluster_reachable", at(1, (60, 0)))
    for kind, name, reason in (("Topic", "orders", "Timeout"), ("ConsumerGroup", "billing", "ClusterNotReady")):
        world[ready(kind, name)] = at(1, (60, 0))
        world[condition(kind, name, "Ready", reason)] = at(GONE, (60, 1))
        world[condition(kind, name, "Stalled", reason)] = at(GONE, (70, 1))
    return world


@case({64: [], 66: ["ResourceStalled"], 100: []})
def a_resource_that_waits_for_a_person() -> Series:
    world = well()
    world[condition("Topic", "orders", "Stalled", "InvalidConfig")] = at(GONE, (60, 1), (90, GONE))
    return world


@case({120: [], 196: ["ChangeTakesTooLong"]})
def a_change_that_takes_hours() -> Series:
    world = well()
    change(world, "broadsheet_cluster_rolling", at(0, (60, 1)))
    return world


@case(
    {
        64: [],
        66: ["OperatorNotReconciling"],
        69: ["OperatorNotReconciling"],
        80: ["OperatorNotReconciling", "ScrapeProblem"],
    }
)
def an_operator_that_is_down() -> Series:
    """Its pod is there and does not answer."""
    world = well()
    _operator_is_away(world)
    change(world, "up", at(1, (60, 0)), job="broadsheet-operator")
    return world


@case({64: [], 66: ["OperatorNotReconciling"], 200: ["OperatorNotReconciling"]})
def an_operator_that_is_gone() -> Series:
    """There is no pod at all, for hours."""
    world = well()
    _operator_is_away(world)
    change(world, "up", at(1, (60, GONE)), job="broadsheet-operator")
    return world


@case({64: [], 66: ["OperatorNotReconciling"]})
def operators_of_which_none_leads() -> Series:
    world = well()
    change(world, "broadsheet_operator_leading", at(1, (60, 0)))
    return world


@case({71: [], 75: ["OperatorNotReconciling"]})
def an_operator_that_hangs() -> Series:
    """It answers and leads, and its last pass is long ago: eight minutes for an interval of one."""
    world = well()
    change(world, "broadsheet_operator_last_resync_timestamp_seconds", counter(60, (60, 0)))
    return world


@case({70: [], 90: ["ReconciliationsFail"]})
def reconciliations_that_fail() -> Series:
    world = well()
    world[reconciliations("failed")] = counter(0, (60, 10))
    return world


@case({69: [], 71: ["ScrapeProblem"]})
def brokers_that_nobody_scrapes() -> Series:
    """No target, no series at all; the operator counts ready brokers."""
    world = well()
    for key in [key for key in world if 'job="broadsheet-broker"' in key]:
        world[key] = with_gaps(world[key], (START, FOR_EVER))
    return world


@case({79: [], 82: ["TooLargeConsumerGroupLag"]})
def a_group_that_reads_nothing() -> Series:
    """A second more each second from minute 60 on: ten minutes behind at minute 70."""
    world = well()
    change(world, "kafka_consumergroup_group_max_lag_seconds", counter(0, (60, 60)))
    return world


@case({69: [], 80: ["TooLargeConsumerGroupLag"], 110: ["TooLargeConsumerGroupLag"], 119: ["TooLargeConsumerGroupLag"]})
def a_group_that_stays_half_an_hour_behind() -> Series:
    """Its lag wavers by ten seconds, as that of a group which commits in batches."""
    world = well()
    wave = [(minute, 1800 + (0, 10, 0, -10)[(minute // 3) % 4]) for minute in range(60, 122)]
    change(world, "kafka_consumergroup_group_max_lag_seconds", at(1, *wave))
    return world


@case(quiet(80, 100, 119))
def a_group_that_catches_up() -> Series:
    """An hour behind, and thirty seconds less each minute."""
    world = well()
    wave = [(minute, 3600 - 30 * (minute - 60)) for minute in range(60, 122)]
    change(world, "kafka_consumergroup_group_max_lag_seconds", at(1, *wave))
    return world


@case({79: [], 82: ["TooLargeConsumerGroupLag"]})
def a_declared_group_without_members() -> Series:
    world = well()
    change(world, "kafka_consumergroup_members", at(2, (60, 0)))
    change(world, "kafka_consumergroup_group_max_lag_seconds", counter(0, (60, 60)))
    return world


@case({61: [], 63: ["ConsumerGroupStalled"], 100: []})
def a_group_that_stalls() -> Series:
    world = well()
    labels = f'{AT},consumergroup="billing",verdict'
    world[operators("broadsheet_consumergroup_verdict", f'{labels}="OK"')] = at(1, (60, GONE), (90, 1))
    world[operators("broadsheet_consumergroup_verdict", f'{labels}="Stalled"')] = at(GONE, (60, 1), (90, GONE))
    return world


@case({70: [], 72: ["LagNotObserved"], 120: []})
def lag_that_cannot_be_observed() -> Series:
    """Observations fail: what was seen is exported for a minute, and then nothing."""
    world = well()
    change(world, "broadsheet_lag_groups", at(1, (61, GONE), (100, 1)), result="exported")
    for result in ("left_out", "failed"):
        change(world, "broadsheet_lag_groups", at(0, (61, GONE), (100, 0)), result=result)
    return world


@case({69: [], 71: ["LagNotObserved"], 120: []})
def groups_that_are_left_out() -> Series:
    world = well()
    change(world, "broadsheet_lag_groups", at(0, (60, 7), (100, 0)), result="left_out")
    return world


@case({69: [], 71: ["LagNotObserved"]})
def a_group_whose_coordinator_does_not_answer() -> Series:
    world = well()
    change(world, "broadsheet_lag_groups", at(0, (60, 1)), result="failed")
    return world


@case(quiet(62, 66, 69, 75))
def coordinators_that_load_in_a_rolling_change() -> Series:
    """Now of one broker, now of another, with observations between that find everything."""
    world = well()
    change(world, "broadsheet_lag_groups", at(0, (60, 3), (63, 0), (65, 2), (69, 0)), result="failed")
    return world


@case(quiet(0, 30, 60, 90, 150))
def lag_that_is_not_wanted() -> Series:
    """spec.metrics.consumerGroups: None, or Declared and none is declared; of the latter the operator counts 0."""
    world = well()
    for key in [key for key in world if key.startswith(LAG)]:
        del world[key]
    world[operators("broadsheet_lag_groups", f'{AT},result="exported"')] = at(GONE, (60, 0))
    world[operators("broadsheet_lag_groups", f'{AT},result="failed"')] = at(GONE, (60, 0))
    return world


@case(quiet(0, 1, 3, 5, 11, 30))
def the_first_minutes_of_an_operator() -> Series:
    """A cluster that is new to it: lag is wanted at once, and observed after some minutes."""
    world = well()
    for key in of(world, "broadsheet_lag_groups"):
        world[key] = with_gaps(world[key], (0, 5))
    return world


@case({59: [], 61: ["CanaryRecordsLost"], 80: []})
def a_record_that_is_lost() -> Series:
    world = well()
    change(world, "broadsheet_canary_records_lost_total", at(0, (60, 1)), broker="1")
    return world


@case(quiet(61, 63, 70, 74))
def records_that_a_young_canary_found_late() -> Series:
    """Its series are minutes old, so nothing can be said of how they grew."""
    world = well()
    for name in ("lost", "late"):
        for key in of(world, f"broadsheet_canary_records_{name}_total"):
            world[key] = at(GONE, (60, 3))
    return world


@case({61: [], 63: ["CanaryBrokerUnavailable"], 100: []})
def a_broker_that_does_not_serve() -> Series:
    world = well()
    change(world, "broadsheet_canary_broker_available", at(1, (60, 0), (90, 1)), broker="1")
    return world


@case({88: [], 93: ["CanaryBrokerUnavailable"]})
def a_broker_that_does_not_serve_in_a_change_that_hangs() -> Series:
    world = well()
    change(world, "broadsheet_cluster_rolling", at(0, (60, 1)))
    change(world, "broadsheet_canary_broker_available", at(1, (60, 0)), broker="1")
    return world


@case({69: [], 75: ["CanaryLatencyHigh"]})
def records_that_take_long() -> Series:
    world = well()
    for limit in ("0.1", "1.0"):
        change(world, "broadsheet_canary_end_to_end_latency_seconds_bucket", counter(60, (60, 0)), le=limit)
    return world


@case(quiet(70, 75, 90))
def records_that_may_take_long() -> Series:
    """As spec.canary.maxLatency says."""
    world = records_that_take_long()
    change(world, "broadsheet_canary_max_latency_seconds", at(5))
    return world


@case(quiet(70, 75, 90))
def records_that_take_long_in_a_change() -> Series:
    world = records_that_take_long()
    change(world, "broadsheet_cluster_rolling", at(0, (60, 1)))
    return world


@case({70: [], 77: ["CanarySilent"]})
def a_canary_that_does_nothing() -> Series:
    world = well()
    change(world, "broadsheet_canary_records_produced_total", counter(60, (60, 0)))
    return world


@case({69: [], 76: ["CanarySilent"]})
def a_canary_that_never_reached_its_cluster() -> Series:
    """It knows no broker, so it has no series of one."""
    world = well()
    for key in [key for key in world if key.startswith("broadsheet_canary_") and "broker=" in key]:
        del world[key]
    del world[f"broadsheet_canary_last_round_timestamp_seconds{{{CANARY}}}"]
    world[f"broadsheet_canary_last_round_timestamp_seconds{{{CANARY}}}"] = at(GONE, (60, 3600))
    return world


@case({69: [], 71: ["CanarySilent"]})
def a_canary_without_a_pod() -> Series:
    """Only the operator knows that it should be there."""
    world = well()
    for key in [key for key in world if CANARY in key]:
        del world[key]
    world[condition("Cluster", "news", "CanaryHealthy", "CanaryNotRunning")] = at(GONE, (60, 1))
    return world


@case({69: [], 71: ["ScrapeProblem"]})
def a_canary_that_does_not_answer() -> Series:
    world = well()
    world[f"up{{{CANARY}}}"] = at(1, (60, 0))
    return world


def _misses_replicas(world: Series, time: tuple[int, int], *, rolling: bool) -> None:
    """What a broker that is away brings with it: replicas that are missing, and a fenced broker."""
    begin, end = time
    gone = at(0, (begin, 5), (end, 0))
    for pod in PODS:
        change(world, "kafka_controller_kafkacontroller_fencedbrokercount", at(0, (begin, 1), (end, 0)), pod=pod)
    change(world, "kafka_server_replicamanager_underreplicatedpartitions", gone, pod=0)
    if rolling:
        change(world, "broadsheet_cluster_rolling", at(0, (begin, 1), (end + 2, 0)))


def _operator_is_away(world: Series) -> None:
    """None of its figures from minute 60 on."""
    for key in [key for key in world if 'pod="operator-0"' in key and not key.startswith("up{")]:
        world[key] = with_gaps(world[key], (START, FOR_EVER))
