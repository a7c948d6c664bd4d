#!/bin/bash
# Starts Apache Kafka in a broker's pod: checks the image, formats a new volume, runs the broker, says why it ended.
#
# From the environment: BROKER_ID, BROKER_RACK (optional), ADVERTISED_LISTENERS, CLUSTER_ID, KAFKA_VERSION, LOG_DIR, and
# what Kafka's own scripts read. Beside this file: server.properties, format-options, initial-controllers.
here=$(dirname "$0")
home=${KAFKA_HOME:-/opt/kafka}
message=${TERMINATION_LOG:-/dev/termination-log}
properties=$LOG_DIR/server.properties
errors=$LOG_DIR/errors.log
formatting=$LOG_DIR/format.log

say() { # LEVEL MESSAGE, in the form of the broker's own lines
    printf '{"time": "%s", "level": "%s", "logger": "start.sh", "message": "%s", "node_id": %s}\n' \
        "$(date -u +%Y-%m-%dT%H:%M:%S.000Z)" "$1" "$(printf %s "$2" | sed 's/["\\]/\\&/g')" "${BROKER_ID:-0}"
}

refuse() {
    say ERROR "$1"
    echo "$1" >"$message"
    exit 1
}

mkdir -p "$LOG_DIR" && rm -f "$errors"* "$formatting"

# -- the image --------------------------------------------------------------------------------------------------------

for script in kafka-server-start.sh kafka-storage.sh; do
    [ -x "$home/bin/$script" ] || refuse "the image has no $home/bin/$script, so it is not one of Apache Kafka: set\
 spec.image to apache/kafka:$KAFKA_VERSION or to one with the same layout"
done
found=$(ls "$home/libs" | sed -n 's/^kafka_[0-9.]*-\([0-9][0-9.]*[0-9]\).*[.]jar$/\1/p' | head -n 1)
[ "${found%.*}" = "${KAFKA_VERSION%.*}" ] || refuse "the image has Apache Kafka ${found:-of an unknown version}, and\
 engine.version is $KAFKA_VERSION: set engine.version to what spec.image has, or spec.image to one of $KAFKA_VERSION"

# -- the volume -------------------------------------------------------------------------------------------------------

{
    cat "$here/server.properties"
    echo "node.id=$BROKER_ID"
    echo "advertised.listeners=$ADVERTISED_LISTENERS"
    [ -z "$BROKER_RACK" ] || echo "broker.rack=$BROKER_RACK"
} >"$properties"
data=$(sed -n 's/^log[.]dirs=//p' "$properties")

# Kafka takes every directory there for a partition. This one comes with an empty ext4 file system, and is empty.
[ ! -d "$data/lost+found" ] || rmdir "$data/lost+found" 2>/dev/null ||
    refuse "$data/lost+found of the volume cannot be removed, and Kafka starts on no volume that has it: look into it\
 (it is not empty, or not writable for the group 1000)"

if [ -f "$data/meta.properties" ]; then
    owner=$(sed -n 's/^cluster[.]id=//p' "$data/meta.properties")
    [ "$owner" = "$CLUSTER_ID" ] || refuse "the volume belongs to the cluster ${owner:-without an id}, and this is\
 $CLUSTER_ID: mount the right volume"
else
    voters=$(cat "$here/initial-controllers" 2>/dev/null)
    case ,$voters in
        *",$BROKER_ID@"*) quorum=(--initial-controllers "$voters") ;;
        *) quorum=(--no-initial-controllers) ;;
    esac
    read -r -a options <"$here/format-options"
    [ ! -f "$home/storage.jsa" ] || archive=-XX:SharedArchiveFile=$home/storage.jsa
    KAFKA_OPTS='' KAFKA_HEAP_OPTS='' KAFKA_JVM_PERFORMANCE_OPTS="-XX:TieredStopAtLevel=1 $archive" \
        "$home/bin/kafka-storage.sh" format --config "$properties" --cluster-id "$CLUSTER_ID" --ignore-formatted "${quorum[@]}" "${options[@]}" >"$formatting" 2>&1 ||
        refuse "the volume cannot be formatted: $(grep -v '^[{]\|^[[:space:]]*at ' "$formatting" | tail -n 3 |
            sed 's/^Exception in thread "main" //' | tr '\n' ' ')"
    say INFO "$(tail -n 1 "$formatting")"
fi

# -- the broker -------------------------------------------------------------------------------------------------------

# The official image has the classes that a broker loads in a file: it starts in half of the time.
[ ! -f "$home/kafka.jsa" ] ||
    export KAFKA_JVM_PERFORMANCE_OPTS="$KAFKA_JVM_PERFORMANCE_OPTS -XX:SharedArchiveFile=$home/kafka.jsa"

"$home/bin/kafka-server-start.sh" "$properties" &
broker=$!
trap 'kill -TERM "$broker" 2>/dev/null' TERM INT
while kill -0 "$broker" 2>/dev/null; do
    wait "$broker"
    code=$?
done
# 143: it was told to stop. Otherwise its last error is what the Cluster's status shows; without one, the log's end is.
[ "$code" = 0 ] || [ "$code" = 143 ] || [ ! -s "$errors" ] || tail -n 3 "$errors" | tail -c 2000 >"$message"
exit "$code"
