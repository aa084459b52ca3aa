#!/bin/bash
# Starts the broker: formats its data directory the first time, with the cluster's id, then runs it in this process.
# NODE_ID: 1, 2, ...; HOST: its name in the network; HOST_PORT: where this machine finds it on 127.0.0.1;
# CONTROLLERS: all brokers as id@host:port (each is a controller too); REPLICAS: of Kafka's own topics. At least half of
# them must have a record, there and in topics that say nothing of it.
# BROKER_HEAP: its heap, as KAFKA_HEAP_OPTS is that of the tools that people start in its container.
# PROPERTIES: more lines for the broker, such as TLS for a listener.
set -euo pipefail
host=${HOST:-kafka}
settings=/tmp/kafka.properties
# Of a property that is there twice, the last counts.
cat /etc/retail-stream/kafka.properties - > "$settings" <<END
node.id=$NODE_ID
controller.quorum.voters=${CONTROLLERS:-1@localhost:9093}
advertised.listeners=INSIDE://$host:9092,HOST://127.0.0.1:$HOST_PORT
offsets.topic.replication.factor=${REPLICAS:-1}
transaction.state.log.replication.factor=${REPLICAS:-1}
transaction.state.log.min.isr=$(( (${REPLICAS:-1} + 1) / 2 ))
min.insync.replicas=$(( (${REPLICAS:-1} + 1) / 2 ))
${PROPERTIES:-}
END
[ -e /var/lib/kafka/data/meta.properties ] ||
    /opt/kafka/bin/kafka-storage.sh format --cluster-id "$CLUSTER_ID" --config "$settings"
export KAFKA_HEAP_OPTS=$BROKER_HEAP
# Without -loggc, and with a log on standard output only: else up to 1 GB of log files would grow in LOG_DIR, which is
# memory here.
export EXTRA_ARGS="-name kafkaServer"
export KAFKA_LOG4J_OPTS="-Dlog4j2.configurationFile=/etc/retail-stream/kafka-log4j2.yaml"
exec /opt/kafka/bin/kafka-server-start.sh "$settings"
