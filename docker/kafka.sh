#!/bin/bash
# Starts the broker: formats its data directory the first time, with the cluster's id, then runs it in this process.
set -euo pipefail
settings=/etc/retail-stream/kafka.properties
/opt/kafka/bin/kafka-storage.sh format --ignore-formatted --cluster-id "$CLUSTER_ID" --config "$settings"
exec /opt/kafka/bin/kafka-server-start.sh "$settings" \
    --override "advertised.listeners=INSIDE://kafka:9092,HOST://127.0.0.1:$KAFKA_PORT"
