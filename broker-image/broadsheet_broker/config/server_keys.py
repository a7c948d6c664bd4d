"""Properties of the process: who it is, where it listens, how many clients it takes, the quorum, the controller."""

from __future__ import annotations

from broadsheet_broker.config.key import (
    BOOLEAN,
    CLUSTER_WIDE,
    INT,
    LIST,
    LONG,
    PER_BROKER,
    STRING,
    Key,
    at_least,
    one_of,
    some_of,
)

ALONE = "nodes do not work together yet: a cluster is one node"
_PROTOCOL_MAP = "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT"

IDENTITY = (
    Key("node.id", INT, None, "Number of this node, unique in the cluster.", at_least(0)),
    Key("broker.id", INT, "-1", "The old name of node.id; must agree with it when both are set."),
    Key("broker.rack", STRING, None, "The rack or zone of this broker; replicas are spread over racks."),
    Key("process.roles", LIST, None, "What this process is.", some_of("broker", "controller")),
)

LISTENERS = (
    Key(
        "listeners", LIST, "PLAINTEXT://:9092", "Where to listen: name://host:port; no host means every address.",
        update=PER_BROKER,
    ),
    Key(
        "advertised.listeners", LIST, None,
        "The addresses that clients are told, and other controllers for a controller listener; listeners when not set.",
    ),
    Key(
        "listener.security.protocol.map", STRING, _PROTOCOL_MAP, "The security protocol of each listener name.",
        update=PER_BROKER,
    ),
    Key("controller.listener.names", LIST, None, "Names of the listeners on which controllers talk."),
    Key("inter.broker.listener.name", STRING, None, "The listener on which brokers talk to each other."),
    Key(
        "security.inter.broker.protocol", STRING, "PLAINTEXT", "Chooses the inter-broker listener by its protocol.",
        one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    ),
)  # fmt: skip

NETWORK = (
    Key(
        "max.connections", INT, "2147483647", "Connections taken at a time; a further one is closed at once.",
        at_least(0), CLUSTER_WIDE,
    ),
    Key(
        "max.connections.per.ip", INT, "2147483647", "Connections taken at a time from one address.",
        at_least(0), CLUSTER_WIDE,
    ),
    Key(
        "max.connections.per.ip.overrides", STRING, "", "Limits for single addresses: address:number, by comma.",
        update=CLUSTER_WIDE,
    ),
    Key("connections.max.idle.ms", LONG, "600000", "A connection without a request for so long (ms) is closed."),
    Key(
        "socket.request.max.bytes", INT, "104857600", "The largest request; a larger one closes its connection.",
        at_least(1),
    ),
    Key(
        "socket.listen.backlog.size", INT, "1024",
        "Connections that may wait to be accepted; the system may allow fewer (net.core.somaxconn). Kafka's default is "
        "50: when many clients come back at once, those that find no room try again after a second.",
        at_least(1),
    ),
    Key("socket.send.buffer.bytes", INT, "102400", "SO_SNDBUF of each connection; -1: as the system has it."),
    Key("socket.receive.buffer.bytes", INT, "102400", "SO_RCVBUF of each connection; -1: as the system has it."),
    Key(
        "queued.max.request.bytes", LONG, "-1",
        "Bytes of unanswered requests of all connections above which no more are read; -1: no limit of this kind.",
    ),
    Key("request.timeout.ms", INT, "30000", "Time (ms) of an order for the controller that sets none."),
)  # fmt: skip

QUORUM = (
    Key("controller.quorum.voters", LIST, "", "A fixed quorum: id@host:port, by comma."),
    Key("controller.quorum.bootstrap.servers", LIST, "", "Addresses by which to find a quorum that may change."),
    Key("controller.quorum.election.timeout.ms", INT, "1000",
        "How long a voter without a leader waits before it asks for an election.", at_least(0)),
    Key("controller.quorum.fetch.timeout.ms", INT, "2000",
        "How long a voter waits for its leader, and 1.5 times so long a leader for its majority.", at_least(0)),
    Key("controller.quorum.election.backoff.max.ms", INT, "1000",
        "The longest pause after a lost election.", at_least(0)),
    Key("controller.quorum.append.linger.ms", INT, "25", "", at_least(0),
        no_effect="Appends of one turn of the event loop are flushed together at once."),
    Key("controller.quorum.request.timeout.ms", INT, "2000",
        "How long a request to another node of the quorum may take.", at_least(0)),
    Key("controller.quorum.retry.backoff.ms", INT, "20",
        "The first pause after a request that failed; it doubles up to half a second.", at_least(0)),
    Key("controller.quorum.fetch.max.bytes", INT, "1048576",
        "The most bytes of the metadata log in one fetch.", at_least(1)),
    Key("controller.quorum.fetch.snapshot.max.bytes", INT, "1048576",
        "The most bytes of a metadata snapshot in one fetch.", at_least(1)),
    Key("controller.quorum.auto.join.enable", BOOLEAN, "false", "",
        no_effect="Controllers join by kafka-metadata-quorum add-controller."),
    Key("metadata.log.dir", STRING, None, "Directory of the metadata log; the first of log.dirs when not set."),
    Key("metadata.log.segment.bytes", INT, "1073741824", "Size of a metadata log segment.", at_least(8388608)),
    Key("metadata.log.segment.ms", LONG, "604800000", "Age (ms) at which a metadata log segment is closed."),
    Key("metadata.max.retention.bytes", LONG, "104857600", "Bytes of metadata log and snapshots to keep."),
    Key("metadata.max.retention.ms", LONG, "604800000", "Age (ms) of metadata log and snapshots to keep."),
    Key("metadata.max.idle.interval.ms", INT, "500", "", at_least(0), no_effect=ALONE),
    Key(
        "metadata.log.max.record.bytes.between.snapshots", LONG, "20971520",
        "Bytes of metadata records after which a snapshot is written.", at_least(1),
    ),
    Key(
        "metadata.log.max.snapshot.interval.ms", LONG, "3600000",
        "Longest time (ms) without a snapshot; 0: none.", at_least(0),
    ),
)  # fmt: skip

CONTROLLER = (
    Key("num.partitions", INT, "1", "Partitions of a topic made without a number.", at_least(1)),
    Key("default.replication.factor", INT, "1", "Replicas of a topic made without a number."),
    Key("auto.create.topics.enable", BOOLEAN, "true", "Asking for a topic's metadata makes the topic."),
    Key("delete.topic.enable", BOOLEAN, "true", "Topics may be deleted."),
    Key("broker.heartbeat.interval.ms", INT, "2000", "How often (ms) a broker reports to the controller."),
    Key("broker.session.timeout.ms", INT, "9000", "Silence (ms) after which a broker counts as gone."),
    Key(
        "initial.broker.registration.timeout.ms", INT, "60000", "",
        no_effect="a broker tries to register for as long as it takes",
    ),
    Key("auto.leader.rebalance.enable", BOOLEAN, "true", "Leaderships go back to preferred leaders from time to time."),
    Key(
        "leader.imbalance.check.interval.seconds", LONG, "300",
        "How often (s) preferred leaders get their leaderships back.", at_least(1),
    ),
    Key("controlled.shutdown.enable", BOOLEAN, "true", "A broker that stops lets others take over first."),
)  # fmt: skip

REPLICATION = (
    Key(
        "num.replica.fetchers", INT, "1",
        "Connections over which partitions are copied, per leader.", at_least(1), CLUSTER_WIDE,
    ),
    Key("replica.lag.time.max.ms", LONG, "30000", "A follower behind for so long (ms) leaves the ISR."),
    Key("replica.fetch.max.bytes", INT, "1048576", "Most bytes per partition in one copying fetch.", at_least(0)),
    Key("replica.fetch.min.bytes", INT, "1", "A follower's fetch waits until so many bytes are there."),
    Key("replica.fetch.response.max.bytes", INT, "10485760", "Most bytes in one copying fetch.", at_least(0)),
    Key("replica.fetch.wait.max.ms", INT, "500", "How long (ms) a follower's fetch may wait for data."),
    Key("replica.fetch.backoff.ms", INT, "1000", "Longest pause (ms) after a fetch that failed.", at_least(0)),
    Key("replica.socket.timeout.ms", INT, "30000", "How long (ms) a follower waits for an answer."),
    Key("replica.high.watermark.checkpoint.interval.ms", LONG, "5000", "How often (ms) high watermarks are saved."),
    Key(
        "replica.selector.class", STRING, None,
        "Which replica consumers read from: o.a.k.common.replica.RackAwareReplicaSelector for one in their rack.",
        one_of(
            "org.apache.kafka.common.replica.RackAwareReplicaSelector",
            "org.apache.kafka.common.replica.LeaderSelector",
        ),
    ),
    Key(
        "leader.replication.throttled.rate", LONG, "9223372036854775807",
        "Bytes per second that leaders here send to throttled replicas out of sync.", at_least(0), PER_BROKER,
    ),
    Key(
        "follower.replication.throttled.rate", LONG, "9223372036854775807",
        "Bytes per second that throttled replicas out of sync here copy.", at_least(0), PER_BROKER,
    ),
    Key("fetch.max.bytes", INT, "57671680", "The most bytes that an answer to a fetch carries.", at_least(1024)),
    Key("max.incremental.fetch.session.cache.slots", INT, "1000", "Fetch sessions remembered (KIP-227).", at_least(0)),
    Key(
        "max.request.partition.size.limit", INT, "2000",
        "Partitions in one DescribeTopicPartitions answer.", at_least(1),
    ),
)  # fmt: skip

OURS = (
    Key("broadsheet.http.listener", STRING, None, "Serves /healthz, /readyz and /metrics: http://host:port."),
    Key("broadsheet.cluster.id", STRING, None, "Cluster id to format an empty directory with (base64url of a UUID)."),
    Key(
        "broadsheet.initial.controllers", LIST, "",
        "First voters of a quorum that may change, for an empty directory that is formatted at the start: "
        "id@host:port:directory-id, by comma. Take it away once the quorum exists: a node that has lost its directory "
        "must not pretend to be the voter that it was.",
    ),
    Key("broadsheet.auto.format", BOOLEAN, "false", "Format empty directories at the start, as `format` would."),
    Key(
        "broadsheet.min.insync.replicas.of.cluster", BOOLEAN, "false",
        "Whether the configured min.insync.replicas is the whole cluster's, set by each new active controller. Else a "
        "cluster with eligible leader replicas keeps the value of its first controller until kafka-configs changes it.",
    ),
    Key(
        "broadsheet.connection.max.requests", INT, "256",
        "Unanswered requests of one connection after which no more are read from it.", at_least(1),
    ),
    Key(
        "broadsheet.connection.max.bytes", INT, "33554432",
        "Bytes of unanswered requests of one connection after which no more are read from it.", at_least(1),
    ),
    Key(
        "broadsheet.log.level", STRING, "INFO",
        "Log lines from this level on.", one_of("DEBUG", "INFO", "WARNING", "ERROR"),
    ),
)  # fmt: skip

SERVER_KEYS = (*IDENTITY, *LISTENERS, *NETWORK, *QUORUM, *CONTROLLER, *REPLICATION, *OURS)
