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

_PROTOCOL_MAP = "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT"

IDENTITY = (
    Key("node.id", INT, None, "Number of this node, unique in the cluster.", at_least(0)),
    Key("broker.id", INT, "-1", "The old name of node.id. If both are set, they must be equal."),
    Key("broker.rack", STRING, None, "The rack or zone of this broker; replicas are spread over racks."),
    Key("process.roles", LIST, None, "The roles of this process.", some_of("broker", "controller")),
)

LISTENERS = (
    Key(
        "listeners", LIST, "PLAINTEXT://:9092", "Listeners: name://host:port. Without a host, all addresses.",
        update=PER_BROKER,
    ),
    Key(
        "advertised.listeners", LIST, None,
        "The addresses that are published to clients, and those of controller listeners to other controllers. Default: "
        "listeners.",
    ),
    Key(
        "listener.security.protocol.map", STRING, _PROTOCOL_MAP, "The security protocol of each listener name.",
        update=PER_BROKER,
    ),
    Key("controller.listener.names", LIST, None, "Names of the listeners that controllers use."),
    Key("inter.broker.listener.name", STRING, None, "Name of the listener that brokers use among themselves."),
    Key(
        "security.inter.broker.protocol", STRING, "PLAINTEXT", "Selects the inter-broker listener by its protocol.",
        one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    ),
)  # fmt: skip

NETWORK = (
    Key(
        "max.connections", INT, "2147483647", "Maximum number of connections. Further ones are closed at once.",
        at_least(0), CLUSTER_WIDE,
    ),
    Key(
        "max.connections.per.ip", INT, "2147483647", "Maximum number of connections from one address.",
        at_least(0), CLUSTER_WIDE,
    ),
    Key(
        "max.connections.per.ip.overrides", STRING, "",
        "Limits for single addresses: address:number, separated by commas.",
        update=CLUSTER_WIDE,
    ),
    Key("connections.max.idle.ms", LONG, "600000", "A connection without a request for this time (ms) is closed."),
    Key(
        "socket.request.max.bytes", INT, "104857600",
        "The largest request in bytes. A larger one closes its connection.",
        at_least(1),
    ),
    Key(
        "socket.listen.backlog.size", INT, "1024",
        "Connections that may wait to be accepted. The system may allow fewer (net.core.somaxconn). Kafka's default is "
        "50. When many clients reconnect at once, those that do not fit try again after a second.",
        at_least(1),
    ),
    Key("socket.send.buffer.bytes", INT, "102400", "SO_SNDBUF of each connection; -1: the system's default."),
    Key("socket.receive.buffer.bytes", INT, "102400", "SO_RCVBUF of each connection; -1: the system's default."),
    Key(
        "queued.max.request.bytes", LONG, "-1",
        "Bytes of unanswered and large arriving requests of all connections above which no more are read; -1: a third "
        "of broadsheet.memory.target, and one request of socket.request.max.bytes at least; no limit where there is no "
        "target.",
    ),
    Key("request.timeout.ms", INT, "30000", "Default timeout (ms) of requests to the controller."),
)  # fmt: skip

QUORUM = (
    Key("controller.quorum.voters", LIST, "", "Voters of a static quorum: id@host:port, separated by commas."),
    Key("controller.quorum.bootstrap.servers", LIST, "",
        "Addresses through which a dynamic quorum is found: host:port, separated by commas."),
    Key("controller.quorum.election.timeout.ms", INT, "1000",
        "How long (ms) a voter without a leader waits before it starts an election.", at_least(0)),
    Key("controller.quorum.fetch.timeout.ms", INT, "2000",
        "How long (ms) a voter waits for its leader. A leader waits 1.5 times as long for its majority.", at_least(0)),
    Key("controller.quorum.election.backoff.max.ms", INT, "1000",
        "Longest pause (ms) after a lost election.", at_least(0)),
    Key("controller.quorum.append.linger.ms", INT, "25", "", at_least(0),
        no_effect="appends of one turn of the event loop are flushed together"),
    Key("controller.quorum.request.timeout.ms", INT, "2000",
        "Timeout (ms) of requests to other nodes of the quorum.", at_least(0)),
    Key("controller.quorum.retry.backoff.ms", INT, "20",
        "First pause (ms) after a failed request. It doubles up to half a second.", at_least(0)),
    Key("controller.quorum.fetch.max.bytes", INT, "1048576",
        "Maximum bytes of the metadata log in one fetch.", at_least(1)),
    Key("controller.quorum.fetch.snapshot.max.bytes", INT, "1048576",
        "Maximum bytes of a metadata snapshot in one fetch.", at_least(1)),
    Key("controller.quorum.auto.join.enable", BOOLEAN, "false", "",
        no_effect="controllers join with kafka-metadata-quorum add-controller"),
    Key("metadata.log.dir", STRING, None, "Directory of the metadata log. Default: the first of log.dirs."),
    Key("metadata.log.segment.bytes", INT, "1073741824",
        "Size in bytes at which a segment of the metadata log is closed.", at_least(8388608)),
    Key("metadata.log.segment.ms", LONG, "604800000", "Age (ms) at which a metadata log segment is closed."),
    Key("metadata.max.retention.bytes", LONG, "104857600",
        "Size of metadata log and snapshots above which the oldest are deleted."),
    Key("metadata.max.retention.ms", LONG, "604800000", "Age (ms) above which metadata log and snapshots are deleted."),
    Key("metadata.max.idle.interval.ms", INT, "500", "", at_least(0),
        no_effect="the metadata leader writes no records to show that it is alive"),
    Key(
        "metadata.log.max.record.bytes.between.snapshots", LONG, "20971520",
        "Bytes of metadata records after which a snapshot is written.", at_least(1),
    ),
    Key(
        "metadata.log.max.snapshot.interval.ms", LONG, "3600000",
        "Longest time (ms) between snapshots; 0: no limit.", at_least(0),
    ),
)  # fmt: skip

CONTROLLER = (
    Key("num.partitions", INT, "1", "Partitions of a topic that is created without a number of them.", at_least(1)),
    Key("default.replication.factor", INT, "1", "Replicas of a topic that is created without a number of them."),
    Key("auto.create.topics.enable", BOOLEAN, "true", "A metadata request creates the topics that do not exist."),
    Key("delete.topic.enable", BOOLEAN, "true", "Whether topics can be deleted."),
    Key("broker.heartbeat.interval.ms", INT, "2000", "How often (ms) a broker reports to the controller."),
    Key("broker.session.timeout.ms", INT, "9000", "Time (ms) without a heartbeat after which a broker is fenced."),
    Key(
        "initial.broker.registration.timeout.ms", INT, "60000", "",
        no_effect="a broker retries its registration without a limit",
    ),
    Key("auto.leader.rebalance.enable", BOOLEAN, "true",
        "Whether preferred leaders get their leaderships back automatically."),
    Key(
        "leader.imbalance.check.interval.seconds", LONG, "300",
        "How often (s) preferred leaders get their leaderships back.", at_least(1),
    ),
    Key("controlled.shutdown.enable", BOOLEAN, "true", "Whether a broker that stops hands over its leaderships first."),
)  # fmt: skip

REPLICATION = (
    Key(
        "num.replica.fetchers", INT, "1",
        "Connections per leader over which partitions are replicated.", at_least(1), CLUSTER_WIDE,
    ),
    Key("replica.lag.time.max.ms", LONG, "30000", "Time (ms) after which a follower that is behind leaves the ISR."),
    Key("replica.fetch.max.bytes", INT, "1048576",
        "Maximum bytes per partition in one fetch of a follower.", at_least(0)),
    Key("replica.fetch.min.bytes", INT, "1", "A fetch of a follower waits for this number of bytes."),
    Key("replica.fetch.response.max.bytes", INT, "10485760", "Maximum bytes in one fetch of a follower.", at_least(0)),
    Key("replica.fetch.wait.max.ms", INT, "500", "How long (ms) a fetch of a follower waits for data."),
    Key("replica.fetch.backoff.ms", INT, "1000", "Longest pause (ms) after a failed fetch.", at_least(0)),
    Key("replica.socket.timeout.ms", INT, "30000", "How long (ms) a follower waits for a response."),
    Key("replica.high.watermark.checkpoint.interval.ms", LONG, "5000", "How often (ms) high watermarks are saved."),
    Key(
        "replica.selector.class", STRING, None,
        "The replica that consumers read from: o.a.k.common.replica.RackAwareReplicaSelector for one in their rack.",
        one_of(
            "org.apache.kafka.common.replica.RackAwareReplicaSelector",
            "org.apache.kafka.common.replica.LeaderSelector",
        ),
    ),
    Key(
        "leader.replication.throttled.rate", LONG, "9223372036854775807",
        "Bytes per second that leaders on this broker send to throttled replicas outside of the ISR.",
        at_least(0), PER_BROKER,
    ),
    Key(
        "follower.replication.throttled.rate", LONG, "9223372036854775807",
        "Bytes per second that throttled replicas on this broker fetch while outside of the ISR.",
        at_least(0), PER_BROKER,
    ),
    Key("fetch.max.bytes", INT, "57671680",
        "Maximum bytes of records in one response to a fetch; the first batch comes in any case.", at_least(1024)),
    Key("max.incremental.fetch.session.cache.slots", INT, "1000",
        "Maximum number of fetch sessions (KIP-227).", at_least(0)),
    Key(
        "max.request.partition.size.limit", INT, "2000",
        "Maximum partitions in one DescribeTopicPartitions response.", at_least(1),
    ),
)  # fmt: skip

OURS = (
    Key("broadsheet.http.listener", STRING, None, "Address of /healthz, /readyz and /metrics: http://host:port."),
    Key("broadsheet.cluster.id", STRING, None,
        "Cluster id with which empty directories are formatted (base64url of a UUID)."),
    Key(
        "broadsheet.initial.controllers", LIST, "",
        "First voters of a dynamic quorum, for an empty directory that is formatted at start: "
        "id@host:port:directory-id, separated by commas. Remove it once the quorum exists: a node that has lost its "
        "directory must not reuse its old voter identity.",
    ),
    Key("broadsheet.auto.format", BOOLEAN, "false",
        "Whether empty directories are formatted at start, as `format` does."),
    Key(
        "broadsheet.min.insync.replicas.of.cluster", BOOLEAN, "false",
        "Whether each new active controller sets the configured min.insync.replicas for the whole cluster. Otherwise a "
        "cluster with eligible leader replicas keeps the value of its first controller until kafka-configs changes it.",
    ),
    Key(
        "broadsheet.connection.max.requests", INT, "256",
        "Unanswered requests of one connection above which no more are read from it.", at_least(1),
    ),
    Key(
        "broadsheet.connection.max.bytes", INT, "33554432",
        "Bytes of unanswered requests of one connection above which no more are read from it.", at_least(1),
    ),
    Key(
        "broadsheet.memory.target", LONG, "-1",
        "Size of the process (bytes) above which it sheds load: little is read from clients, and at a tenth more "
        "connections that hold much are closed. -1: 80 % of the memory limit of the cgroup (the pod), where there is "
        "one; 0: none.", at_least(-1),
    ),
    Key(
        "broadsheet.answers.max.bytes", INT, "67108864",
        "Bytes of answers in memory that clients have not taken, above which connections with such answers are not "
        "read.", at_least(1),
    ),
    Key(
        "broadsheet.loop.slow.turn.ms", INT, "100",
        "A turn of the event loop that takes longer (ms) is logged with what it was at work on; 0: turns are not "
        "measured.", at_least(0),
    ),
    Key(
        "broadsheet.log.level", STRING, "INFO",
        "Least level of the log lines that are written.", one_of("DEBUG", "INFO", "WARNING", "ERROR"),
    ),
    Key(
        "broadsheet.log.format", STRING, "text",
        "How log lines are written: text, or json for one JSON object per line. The operator sets json on Kubernetes.",
        one_of("text", "json"),
    ),
)  # fmt: skip

SERVER_KEYS = (*IDENTITY, *LISTENERS, *NETWORK, *QUORUM, *CONTROLLER, *REPLICATION, *OURS)
