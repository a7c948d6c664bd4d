"""Properties of Apache Kafka that a broker here accepts without acting on them, and those that it refuses.

A server.properties made for Kafka should start a broker here, so every property of Kafka 4.3 is known. What has no
effect says why. What people rely on to keep others out is refused when it is set to anything but Kafka's default,
since ignoring it would leave a door open that its owner believes to be locked.

The tables hold facts about Kafka: name, type, default (`null`: none, `-`: empty, `o.a.k.`: org.apache.kafka,
`rlm.`: o.a.k.server.log.remote.metadata), and how it may be changed while a broker runs when that is not `read-only`.
"""

from __future__ import annotations

from broadsheet_broker.config.key import READ_ONLY, Key, Kind

_NO_EFFECT: dict[str, str] = {
    "one event loop does the work of Kafka's thread pools": """
    background.threads int 10 cluster-wide
    group.coordinator.background.threads int 2
    group.coordinator.threads int 4
    num.io.threads int 8 cluster-wide
    num.network.threads int 3 cluster-wide
    num.replica.alter.log.dirs.threads int null
    queued.max.requests int 500
    """,
    "waiting requests are dropped when they are answered; there is no purgatory to purge": """
    delete.records.purgatory.purge.interval.requests int 1
    fetch.purgatory.purge.interval.requests int 1000
    producer.purgatory.purge.interval.requests int 1000
    share.fetch.purgatory.purge.interval.requests int 1000
    """,
    "metrics are served over HTTP; see broadsheet.http.listener": """
    kafka.metrics.polling.interval.secs int 10
    kafka.metrics.reporters list -
    metric.reporters list o.a.k.common.metrics.JmxReporter cluster-wide
    metrics.num.samples int 2
    metrics.recording.level string INFO
    metrics.sample.window.ms long 30000
    telemetry.max.bytes int 1048576
    """,
    "transactions are not built yet": """
    add.partitions.to.txn.retry.backoff.max.ms int 100
    add.partitions.to.txn.retry.backoff.ms int 20
    transaction.abort.timed.out.transaction.cleanup.interval.ms int 10000
    transaction.max.timeout.ms int 900000
    transaction.partition.verification.enable boolean true cluster-wide
    transaction.remove.expired.transaction.cleanup.interval.ms int 3600000
    transaction.state.log.load.buffer.size int 5242880
    transaction.two.phase.commit.enable boolean false
    transactional.id.expiration.ms int 604800000
    """,
    "the consumer group protocol of KIP-848 is not built yet": """
    group.consumer.assignment.interval.ms int 1000 cluster-wide
    group.consumer.assignors list uniform,range
    group.consumer.heartbeat.interval.ms int 5000
    group.consumer.max.assignment.interval.ms int 15000
    group.consumer.max.heartbeat.interval.ms int 15000
    group.consumer.max.session.timeout.ms int 60000
    group.consumer.max.size int 2147483647
    group.consumer.migration.policy string bidirectional
    group.consumer.min.assignment.interval.ms int 0
    group.consumer.min.heartbeat.interval.ms int 5000
    group.consumer.min.session.timeout.ms int 45000
    group.consumer.regex.refresh.interval.ms int 600000
    group.consumer.session.timeout.ms int 45000
    """,
    "share groups are not built": """
    group.share.assignment.interval.ms int 1000 cluster-wide
    group.share.assignors list simple
    group.share.delivery.count.limit int 5
    group.share.heartbeat.interval.ms int 5000
    group.share.initialize.retry.interval.ms int 30000
    group.share.max.assignment.interval.ms int 15000
    group.share.max.delivery.count.limit int 10
    group.share.max.heartbeat.interval.ms int 15000
    group.share.max.partition.max.record.locks int 4000
    group.share.max.record.lock.duration.ms int 60000
    group.share.max.session.timeout.ms int 60000
    group.share.max.share.sessions int 2000
    group.share.max.size int 200
    group.share.min.assignment.interval.ms int 0
    group.share.min.delivery.count.limit int 2
    group.share.min.heartbeat.interval.ms int 5000
    group.share.min.partition.max.record.locks int 100
    group.share.min.record.lock.duration.ms int 15000
    group.share.min.session.timeout.ms int 45000
    group.share.partition.max.record.locks int 2000
    group.share.persister.class.name string o.a.k.server.share.persister.DefaultStatePersister
    group.share.record.lock.duration.ms int 30000
    group.share.session.timeout.ms int 45000
    share.coordinator.append.linger.ms int -1
    share.coordinator.cached.buffer.max.bytes int 1048588 cluster-wide
    share.coordinator.cold.partition.snapshot.interval.ms int 300000
    share.coordinator.load.buffer.size int 5242880
    share.coordinator.snapshot.update.records.per.snapshot int 500
    share.coordinator.state.topic.compression.codec int 0
    share.coordinator.state.topic.prune.interval.ms int 300000
    share.coordinator.threads int 1
    share.coordinator.write.timeout.ms int 5000
    """,
    "streams groups are not built": """
    group.streams.assignment.interval.ms int 1000 cluster-wide
    group.streams.heartbeat.interval.ms int 5000
    group.streams.initial.rebalance.delay.ms int 3000
    group.streams.max.assignment.interval.ms int 15000
    group.streams.max.heartbeat.interval.ms int 15000
    group.streams.max.session.timeout.ms int 60000
    group.streams.max.size int 2147483647
    group.streams.max.standby.replicas int 2
    group.streams.min.assignment.interval.ms int 0
    group.streams.min.heartbeat.interval.ms int 5000
    group.streams.min.session.timeout.ms int 45000
    group.streams.num.standby.replicas int 0
    group.streams.session.timeout.ms int 45000
    """,
    "tiered storage is not built": """
    follower.fetch.last.tiered.offset.enable boolean false cluster-wide
    log.local.retention.bytes long -2 cluster-wide
    log.local.retention.ms long -2 cluster-wide
    remote.fetch.max.wait.ms int 500 cluster-wide
    remote.list.offsets.request.timeout.ms long 30000 cluster-wide
    remote.log.index.file.cache.total.size.bytes long 1073741824 cluster-wide
    remote.log.index.file.cache.ttl.ms long 900000
    remote.log.manager.copier.thread.pool.size int 10 cluster-wide
    remote.log.manager.copy.max.bytes.per.second long 9223372036854775807 cluster-wide
    remote.log.manager.copy.quota.window.num int 11
    remote.log.manager.copy.quota.window.size.seconds int 1
    remote.log.manager.expiration.thread.pool.size int 10 cluster-wide
    remote.log.manager.fetch.max.bytes.per.second long 9223372036854775807 cluster-wide
    remote.log.manager.fetch.quota.window.num int 11
    remote.log.manager.fetch.quota.window.size.seconds int 1
    remote.log.manager.follower.thread.pool.size int 2 cluster-wide
    remote.log.manager.task.interval.ms long 30000
    remote.log.manager.task.retry.backoff.max.ms long 30000
    remote.log.manager.task.retry.backoff.ms long 500
    remote.log.manager.task.retry.jitter double 0.2
    remote.log.manager.thread.pool.size int 2
    remote.log.metadata.custom.metadata.max.bytes int 128
    remote.log.metadata.manager.class.name string rlm.storage.TopicBasedRemoteLogMetadataManager
    remote.log.metadata.manager.class.path string null
    remote.log.metadata.manager.impl.prefix string rlmm.config.
    remote.log.metadata.manager.listener.name string null
    remote.log.reader.max.pending.tasks int 100
    remote.log.reader.threads int 10 cluster-wide
    remote.log.storage.manager.class.name string null
    remote.log.storage.manager.class.path string null
    remote.log.storage.manager.impl.prefix string rsm.config.
    """,
    "quotas are not built yet": """
    alter.log.dirs.replication.quota.window.num int 11
    alter.log.dirs.replication.quota.window.size.seconds int 1
    controller.quota.window.num int 11
    controller.quota.window.size.seconds int 1
    quota.window.num int 11
    quota.window.size.seconds int 1
    replication.quota.window.num int 11
    replication.quota.window.size.seconds int 1
    """,
    "the cleaner has no buffers and no throttle of this kind": """
    log.cleaner.io.buffer.load.factor double 0.9 cluster-wide
    log.cleaner.io.buffer.size int 524288 cluster-wide
    log.cleaner.io.max.bytes.per.second double 1.7976931348623157E308 cluster-wide
    """,
    "connections between nodes have fixed timeouts": """
    controller.socket.timeout.ms int 30000
    replica.socket.receive.buffer.bytes int 65536
    socket.connection.setup.timeout.max.ms long 30000
    socket.connection.setup.timeout.ms long 10000
    """,
    "internal to Apache Kafka": """
    controller.performance.always.log.threshold.ms long 2000
    controller.performance.sample.period.ms long 60000
    internal.metadata.delete.delay.millis long 60000
    internal.metadata.log.segment.bytes int null
    internal.metadata.max.batch.size.in.bytes int 8388608
    log.initial.task.delay.ms long 30000
    producer.id.expiration.check.interval.ms int 600000
    server.max.startup.time.ms long 9223372036854775807
    unclean.leader.election.interval.ms long 300000
    unstable.api.versions.enable boolean false
    unstable.feature.versions.enable boolean false
    """,
    "not built yet": """
    early.start.listeners list null
    group.coordinator.append.linger.ms int -1
    group.coordinator.cached.buffer.max.bytes int 1048588 cluster-wide
    log.dir.failure.timeout.ms long 30000
    log.preallocate boolean false cluster-wide
    max.connection.creation.rate int 2147483647 cluster-wide
    offsets.topic.compression.codec int 0
    """,
}

_REFUSED = """
    alter.config.policy.class.name class null
    authorizer.class.name string -
    client.quota.callback.class class null
    config.providers list - cluster-wide
    connection.failed.authentication.delay.ms int 100
    connections.max.reauth.ms long 0
    cordoned.log.dirs list - per-broker
    create.topic.policy.class.name class null
    delegation.token.expiry.check.interval.ms long 3600000
    delegation.token.expiry.time.ms long 86400000
    delegation.token.max.lifetime.ms long 604800000
    delegation.token.secret.key password null
    principal.builder.class class o.a.k.common.security.authenticator.DefaultKafkaPrincipalBuilder per-broker
    remote.log.storage.system.enable boolean false
    sasl.client.callback.handler.class class null
    sasl.enabled.mechanisms list GSSAPI per-broker
    sasl.jaas.config password null per-broker
    sasl.kerberos.kinit.cmd string /usr/bin/kinit per-broker
    sasl.kerberos.min.time.before.relogin long 60000 per-broker
    sasl.kerberos.principal.to.local.rules list DEFAULT per-broker
    sasl.kerberos.service.name string null per-broker
    sasl.kerberos.ticket.renew.jitter double 0.05 per-broker
    sasl.kerberos.ticket.renew.window.factor double 0.8 per-broker
    sasl.login.callback.handler.class class null
    sasl.login.class class null
    sasl.login.connect.timeout.ms int null
    sasl.login.read.timeout.ms int null
    sasl.login.refresh.buffer.seconds short 300 per-broker
    sasl.login.refresh.min.period.seconds short 60 per-broker
    sasl.login.refresh.window.factor double 0.8 per-broker
    sasl.login.refresh.window.jitter double 0.05 per-broker
    sasl.login.retry.backoff.max.ms long 10000
    sasl.login.retry.backoff.ms long 100
    sasl.mechanism.controller.protocol string GSSAPI
    sasl.mechanism.inter.broker.protocol string GSSAPI per-broker
    sasl.oauthbearer.assertion.algorithm string RS256
    sasl.oauthbearer.assertion.claim.aud string null
    sasl.oauthbearer.assertion.claim.exp.seconds int 300
    sasl.oauthbearer.assertion.claim.iss string null
    sasl.oauthbearer.assertion.claim.jti.include boolean false
    sasl.oauthbearer.assertion.claim.nbf.seconds int 60
    sasl.oauthbearer.assertion.claim.sub string null
    sasl.oauthbearer.assertion.file string null
    sasl.oauthbearer.assertion.private.key.file string null
    sasl.oauthbearer.assertion.private.key.passphrase password null
    sasl.oauthbearer.assertion.template.file string null
    sasl.oauthbearer.client.credentials.client.id string null
    sasl.oauthbearer.client.credentials.client.secret password null
    sasl.oauthbearer.clock.skew.seconds int 30
    sasl.oauthbearer.expected.audience list -
    sasl.oauthbearer.expected.issuer string null
    sasl.oauthbearer.jwks.endpoint.refresh.ms long 3600000
    sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms long 10000
    sasl.oauthbearer.jwks.endpoint.retry.backoff.ms long 100
    sasl.oauthbearer.jwks.endpoint.url string null
    sasl.oauthbearer.jwt.retriever.class class o.a.k.common.security.oauthbearer.DefaultJwtRetriever
    sasl.oauthbearer.jwt.validator.class class o.a.k.common.security.oauthbearer.DefaultJwtValidator
    sasl.oauthbearer.scope string null
    sasl.oauthbearer.scope.claim.name string scope
    sasl.oauthbearer.sub.claim.name string sub
    sasl.oauthbearer.token.endpoint.url string null
    sasl.server.callback.handler.class class null
    sasl.server.max.receive.size int 524288
    security.providers string null
    ssl.allow.dn.changes boolean false
    ssl.allow.san.changes boolean false
    ssl.cipher.suites list - per-broker
    ssl.client.auth string none per-broker
    ssl.enabled.protocols list TLSv1.2,TLSv1.3 per-broker
    ssl.endpoint.identification.algorithm string https per-broker
    ssl.engine.factory.class class null per-broker
    ssl.key.password password null per-broker
    ssl.keymanager.algorithm string SunX509 per-broker
    ssl.keystore.certificate.chain password null per-broker
    ssl.keystore.key password null per-broker
    ssl.keystore.location string null per-broker
    ssl.keystore.password password null per-broker
    ssl.keystore.type string JKS per-broker
    ssl.principal.mapping.rules string DEFAULT
    ssl.protocol string TLSv1.3 per-broker
    ssl.provider string null per-broker
    ssl.secure.random.implementation string null per-broker
    ssl.trustmanager.algorithm string PKIX per-broker
    ssl.truststore.certificates password null per-broker
    ssl.truststore.location string null per-broker
    ssl.truststore.password password null per-broker
    ssl.truststore.type string JKS per-broker
"""

REMOVED = {
    "zookeeper.connect": "Kafka 4 has no ZooKeeper: controllers keep the metadata (process.roles)",
    "zookeeper.connection.timeout.ms": "Kafka 4 has no ZooKeeper",
    "zookeeper.session.timeout.ms": "Kafka 4 has no ZooKeeper",
    "control.plane.listener.name": "removed in Kafka 4: use controller.listener.names",
    "inter.broker.protocol.version": "removed in Kafka 4: metadata.version is a feature of the cluster",
    "log.message.format.version": "removed in Kafka 4: batches have one format",
    "log.message.downconversion.enable": "removed in Kafka 4: batches have one format",
    "log.message.timestamp.difference.max.ms": "removed in Kafka 4: see log.message.timestamp.before.max.ms",
    "delegation.token.master.key": "removed in Kafka 4: use delegation.token.secret.key",
    "offsets.commit.required.acks": "removed in Kafka 4: a commit waits for its replicas",
    "broker.id.generation.enable": "removed in Kafka 4: set node.id",
    "reserved.broker.max.id": "removed in Kafka 4: set node.id",
    "super.users": "a property of the authorizer, which is not built yet",
    "allow.everyone.if.no.acl.found": "a property of the authorizer, which is not built yet",
}
"""Names found in older files: a warning says more than that they are unknown."""


def _long(name: str) -> str:
    name = name.replace("rlm.", "o.a.k.server.log.remote.metadata.") if name.startswith("rlm.storage.") else name
    return name.replace("o.a.k.", "org.apache.kafka.")


def _read(table: str, no_effect: str) -> list[Key]:
    keys = []
    for line in table.strip().splitlines():
        name, kind, default, *update = line.split()
        text = {"null": None, "-": ""}.get(default, _long(default))
        keys.append(
            Key(name, Kind[kind.upper()], text, "", None, update[0] if update else READ_ONLY, no_effect=no_effect)
        )
    return keys


PASSIVE_KEYS = [key for reason, table in _NO_EFFECT.items() for key in _read(table, reason)]
REFUSED_KEYS = _read(_REFUSED, "not built yet: a broker refuses to start when it is set")
