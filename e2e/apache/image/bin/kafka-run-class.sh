#!/bin/bash
# Runs a class of Kafka: kafka-run-class.sh [-name NAME] [-loggc] CLASS [ARGUMENT...]
#
# Takes what Kafka's own script of this name takes from the environment, with its defaults: JAVA_HOME, CLASSPATH, LOG_DIR,
# KAFKA_HEAP_OPTS, KAFKA_JVM_PERFORMANCE_OPTS, KAFKA_GC_LOG_OPTS, KAFKA_JMX_OPTS, JMX_PORT, KAFKA_LOG4J_OPTS, KAFKA_OPTS.
home=$(dirname "$0")/..
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
[ $# -gt 0 ] || { echo "usage: $0 [-name NAME] [-loggc] CLASS [ARGUMENT...]" >&2; exit 1; }

for jar in "$home"/libs/*.jar; do CLASSPATH=${CLASSPATH:+$CLASSPATH:}$jar; done

LOG_DIR=${LOG_DIR:-$home/logs}
if [ -n "$KAFKA_LOG4J_OPTS" ]; then
    mkdir -p "$LOG_DIR"
else # a tool, which logs to the console
    KAFKA_LOG4J_OPTS=-Dlog4j2.configurationFile=$home/config/tools-log4j2.yaml
fi

jmx=-Dcom.sun.management.jmxremote
KAFKA_JMX_OPTS=${KAFKA_JMX_OPTS:-$jmx=true $jmx.authenticate=false $jmx.ssl=false}
if [ -n "$JMX_PORT" ]; then
    KAFKA_JMX_OPTS+=" $jmx.port=$JMX_PORT"
    [[ $KAFKA_JMX_OPTS == *"$jmx.rmi.port="* ]] || KAFKA_JMX_OPTS+=" $jmx.rmi.port=$JMX_PORT"
fi

name=
while true; do
    case $1 in
        -name) name=$2; shift 2 ;;
        -loggc) : "${KAFKA_GC_LOG_OPTS:=-Xlog:gc*:file=$LOG_DIR/$name-gc.log:time,tags:filecount=10,filesize=100M}"; shift ;;
        *) break ;;
    esac
done

: "${KAFKA_HEAP_OPTS:=-Xmx256M}"
: "${KAFKA_JVM_PERFORMANCE_OPTS:=-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true}"
# Unquoted: each holds several options.
# shellcheck disable=SC2086
exec "$java" $KAFKA_HEAP_OPTS $KAFKA_JVM_PERFORMANCE_OPTS $KAFKA_GC_LOG_OPTS $KAFKA_JMX_OPTS \
    -Dkafka.logs.dir="$LOG_DIR" $KAFKA_LOG4J_OPTS -cp "$CLASSPATH" $KAFKA_OPTS "$@"
