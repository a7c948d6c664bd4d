#!/bin/bash
# Asks every broker and controller of this container to stop.
pids=$(pgrep -f '\bkafka\.Kafka\b') || { echo "No kafka server to stop" >&2; exit 1; }
kill -s "${SIGNAL:-TERM}" $pids
