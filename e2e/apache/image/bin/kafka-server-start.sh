#!/bin/bash
# Runs a broker or controller in the foreground: kafka-server-start.sh server.properties [--override KEY=VALUE]...
# As Kafka's own script: a heap of 1 GiB, a log on the console and in LOG_DIR, a log of the garbage collector.
here=$(dirname "$0")
[ $# -gt 0 ] || { echo "usage: $0 server.properties [--override KEY=VALUE]..." >&2; exit 1; }
export KAFKA_LOG4J_OPTS=${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=$here/../config/log4j2.yaml}
export KAFKA_HEAP_OPTS=${KAFKA_HEAP_OPTS:--Xmx1G -Xms1G}
# EXTRA_ARGS may be set and empty.
# shellcheck disable=SC2086
exec "$here/kafka-run-class.sh" ${EXTRA_ARGS--name kafkaServer -loggc} kafka.Kafka "$@"
